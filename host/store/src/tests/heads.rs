//! Known heads, events of the host's own, marks and leases.

use std::time::Duration;

use penstock_model::event::Sweep;
use penstock_model::host_event::{HostEvent, is_host_hook};
use penstock_model::id::{ProjectId, Timestamp};
use penstock_model::lane::Subject;

use super::bed::Bed;
use super::on_both;
use super::world::{commit, decision, delivery, key, lane, of, ordering, status};
use crate::{Ages, DecidedHead, Head, KnownProject, Move, NewHostEvent, Queue};

on_both![
    a_decision_makes_its_head_known,
    a_sweep_is_kept_with_its_head_once,
    a_sweep_of_a_head_that_moved_on_is_not_kept,
    a_sweep_is_not_kept_while_a_delivery_about_its_head_waits,
    what_comes_after_a_sweep_waits_until_it_is_due,
    heads_are_taken_for_known_without_an_event,
    what_waits_and_what_was_told_is_found_by_its_subject,
    comments_that_deliveries_told_of_are_found,
    a_comment_that_was_decided_is_found_and_one_that_waits_is_not,
    an_event_of_the_host_is_found_by_the_beginning_of_its_id_while_it_may_do_something,
    an_event_of_the_host_that_came_to_nothing_stands_in_nobody_s_way,
    heads_that_are_gone_are_forgotten_in_the_end,
    a_lease_is_one_worker_s_until_it_ends,
    a_mark_is_the_last_that_was_noted,
];

const MAIN: &str = "refs/heads/main";

fn sweep(id: &str, from: Head, to: Head) -> NewHostEvent {
    let sweep = Sweep {
        ref_name: MAIN.into(),
        merge_request: None,
        last_decided: from.clone(),
        found: to.clone(),
    };
    NewHostEvent {
        id: id.to_owned(),
        header: "Sweep",
        event: HostEvent::sweep(of(), sweep, None),
        lane: lane(1, "main"),
        moves: Some(Move { from, to }),
        not_before: Timestamp(0),
    }
}

async fn head(bed: &Bed) -> Option<Head> {
    bed.store
        .head_of(&"main".into(), ProjectId(1), MAIN)
        .await
        .unwrap()
}

async fn a_decision_makes_its_head_known(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut decided = decision("d1", "r");
    decided.head = Some(DecidedHead {
        project: ProjectId(1),
        subject: MAIN.to_owned(),
        head: Some(commit('a')),
    });
    assert_eq!(head(&bed).await, None);
    bed.store.commit(&claim, decided, bed.now()).await.unwrap();
    assert_eq!(head(&bed).await, Some(Some(commit('a'))));
}

async fn a_sweep_is_kept_with_its_head_once(bed: Bed) {
    let new = sweep("sweep:1", None, Some(commit('b')));
    assert_eq!(
        bed.store.append_host(new.clone(), bed.now()).await,
        Ok(true)
    );
    assert_eq!(bed.store.append_host(new, bed.now()).await, Ok(false));
    assert_eq!(head(&bed).await, Some(Some(commit('b'))));
    let claim = bed.claim(Queue::Dispatch).await;
    let pending = bed.head(&claim).await;
    assert!(is_host_hook(&pending.delivery.hook));
    assert!(!pending.routed);
    assert_eq!(pending.delivery.kind, "sweep");
    assert_eq!(pending.delivery.lane, lane(1, "main"));
    let lately = bed.store.found_since(bed.now()).await;
    assert_eq!(lately, Ok(true));
}

async fn a_sweep_is_not_kept_while_a_delivery_about_its_head_waits(bed: Bed) {
    let new = sweep("sweep:1", None, Some(commit('b')));
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let kept = bed.store.append_host(new.clone(), bed.now()).await;
    assert_eq!(kept, Ok(false));
    bed.store
        .commit(&claim, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.append_host(new, bed.now()).await, Ok(true));
}

async fn what_comes_after_a_sweep_waits_until_it_is_due(bed: Bed) {
    let mut new = sweep("sweep:1", None, Some(commit('b')));
    new.not_before = bed.now().plus(Duration::from_secs(1));
    bed.store.append_host(new, bed.now()).await.unwrap();
    bed.append("d1").await;
    let claim = bed.claim(Queue::Dispatch).await;
    let due = bed.store.head(&claim, bed.now()).await;
    assert_eq!(due, Ok(None), "neither of them");
    bed.release(claim).await;
    bed.pass(Duration::from_secs(1));
    let claim = bed.claim(Queue::Dispatch).await;
    assert_eq!(bed.head(&claim).await.delivery.key, key("sweep:1"));
}

async fn a_sweep_of_a_head_that_moved_on_is_not_kept(bed: Bed) {
    let to = |c| Some(commit(c));
    let known = vec![(MAIN.to_owned(), to('b'))];
    bed.store
        .take_heads_for_known(&"main".into(), ProjectId(1), known, bed.now())
        .await
        .unwrap();
    let stale = sweep("sweep:2", to('a'), to('c'));
    assert_eq!(bed.store.append_host(stale, bed.now()).await, Ok(false));
    assert_eq!(head(&bed).await, Some(to('b')));
}

async fn heads_are_taken_for_known_without_an_event(bed: Bed) {
    let moved = sweep("sweep:1", None, Some(commit('b')));
    bed.store.append_host(moved, bed.now()).await.unwrap();
    let given = vec![
        (MAIN.to_owned(), Some(commit('c'))),
        ("!7".to_owned(), Some(commit('d'))),
        ("refs/tags/v1".to_owned(), None),
    ];
    bed.store
        .take_heads_for_known(&"main".into(), ProjectId(1), given, bed.now())
        .await
        .unwrap();
    let all = bed.store.heads(&"main".into(), ProjectId(1)).await.unwrap();
    assert_eq!(all[MAIN], Some(commit('c')));
    assert_eq!(all["!7"], Some(commit('d')));
    assert_eq!(all["refs/tags/v1"], None);
}

fn project(path: &str) -> KnownProject {
    KnownProject {
        id: ProjectId(1),
        path: path.into(),
    }
}

async fn what_waits_and_what_was_told_is_found_by_its_subject(bed: Bed) {
    let waiting = async || {
        let found = bed.store.waiting(&"main".into(), ProjectId(1)).await;
        found.unwrap()
    };
    let told = async |path: &str, subject: &str, after: u64| {
        let (main, project) = ("main".into(), project(path));
        let found = bed.store.told(&main, &project, subject, after);
        found.await.unwrap().len()
    };
    assert!(waiting().await.subjects.is_empty());
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let found = waiting().await;
    assert_eq!(found.subjects.into_iter().collect::<Vec<_>>(), [MAIN]);
    let before = found.settled_to;
    bed.store
        .commit(&claim, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    let found = waiting().await;
    assert!(found.subjects.is_empty());
    assert_eq!(found.settled_to, before + 1);
    assert_eq!(told("acme/api", MAIN, before).await, 1);
    assert_eq!(told("acme/api", MAIN, found.settled_to).await, 0);
    assert_eq!(told("acme/api", "refs/heads/other", before).await, 0);
    // The body names the project's id, and its hook may speak for another path alone.
    assert_eq!(told("other/api", MAIN, before).await, 0);
    // What the host found is nobody's word for it.
    let found = sweep("sweep:1", None, Some(commit('b')));
    bed.store.append_host(found, bed.now()).await.unwrap();
    assert_eq!(told("acme/api", MAIN, before).await, 1);
}

async fn comments_that_deliveries_told_of_are_found(bed: Bed) {
    let mut note = delivery("n1", bed.now());
    note.kind = "note".to_owned();
    note.lane.subject = Subject::MergeRequest(4);
    bed.append_this(note).await;
    let told = async |subject: &str, since| {
        let (main, project) = ("main".into(), project("acme/api"));
        let found = bed.store.notes_about(&main, &project, subject, since);
        found.await.unwrap().len()
    };
    assert_eq!(told("!4", bed.now()).await, 1);
    assert_eq!(told("!5", bed.now()).await, 0);
    let later = bed.now().plus(Duration::from_secs(1));
    assert_eq!(told("!4", later).await, 0);
}

async fn a_comment_that_was_decided_is_found_and_one_that_waits_is_not(bed: Bed) {
    let note = |id: &str| {
        let mut note = delivery(id, bed.now());
        note.kind = "note".to_owned();
        note.lane.subject = Subject::MergeRequest(4);
        note
    };
    let found = async |path: &str, since| {
        let (main, project) = ("main".into(), project(path));
        let found = bed.store.notes_decided(&main, &project, "!4", since);
        let ids = found.await.unwrap().into_iter();
        ids.map(|(id, _)| id.to_string()).collect::<Vec<_>>()
    };
    let claim = bed.routed(note("n1"), &["r"]).await;
    assert!(found("acme/api", bed.now()).await.is_empty(), "it waits");
    bed.store
        .commit(&claim, decision("n1", "r"), bed.now())
        .await
        .unwrap();
    bed.append_this(note("n2")).await;
    bed.store
        .unrouted(&claim, &key("n2"), "no route", bed.now())
        .await
        .unwrap();
    assert_eq!(found("acme/api", bed.now()).await, ["n1"]);
    assert!(found("other/api", bed.now()).await.is_empty());
    let later = bed.now().plus(Duration::from_secs(1));
    assert!(found("acme/api", later).await.is_empty());
}

async fn an_event_of_the_host_is_found_by_the_beginning_of_its_id_while_it_may_do_something(
    bed: Bed,
) {
    let found = sweep("sweep:1:x:abc:17", None, Some(commit('b')));
    bed.store.append_host(found, bed.now()).await.unwrap();
    // A delivery whose id somebody chose is no event of the host's.
    bed.append("sweep:1:x:abd:17").await;
    let find = async |prefix: &str| {
        let id = bed.store.host_event(&"main".into(), prefix).await.unwrap();
        id.map(|id| id.to_string())
    };
    let id = Some("sweep:1:x:abc:17".to_owned());
    assert_eq!(find("sweep:1:x:abc:").await, id);
    assert_eq!(find("sweep:1:x:ab:").await, None);
    assert_eq!(find("sweep:1:x:abd:").await, None);
    assert_eq!(find("sweep:2").await, None);
    let claim = bed.claim(Queue::Dispatch).await;
    let mut decided = ordering("sweep:1:x:abc:17", "r", Vec::new());
    bed.store
        .route(&claim, &decided.delivery, vec!["r".into()], bed.now())
        .await
        .unwrap();
    decided.orders = vec![status("sweep:1:x:abc:17", "s", 'b')];
    bed.store.commit(&claim, decided, bed.now()).await.unwrap();
    assert_eq!(find("sweep:1:x:abc:").await, id, "it ordered a status");
}

async fn an_event_of_the_host_that_came_to_nothing_stands_in_nobody_s_way(bed: Bed) {
    let found = sweep("sweep:1:x:abc:17", None, Some(commit('b')));
    bed.store.append_host(found, bed.now()).await.unwrap();
    let claim = bed.claim(Queue::Dispatch).await;
    let key = key("sweep:1:x:abc:17");
    let settled = bed.store.unrouted(&claim, &key, "no route", bed.now());
    settled.await.unwrap();
    let found = bed.store.host_event(&"main".into(), "sweep:1:x:abc:").await;
    assert_eq!(found, Ok(None));
}

async fn heads_that_are_gone_are_forgotten_in_the_end(bed: Bed) {
    let given = vec![
        (MAIN.to_owned(), Some(commit('c'))),
        ("refs/heads/gone".to_owned(), None),
    ];
    bed.store
        .take_heads_for_known(&"main".into(), ProjectId(1), given, bed.now())
        .await
        .unwrap();
    let purge = async || bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!(purge().await.heads, 0);
    bed.pass(Duration::from_secs(91 * 24 * 60 * 60));
    assert_eq!(purge().await.heads, 1);
    assert_eq!(head(&bed).await, Some(Some(commit('c'))));
}

async fn a_lease_is_one_worker_s_until_it_ends(bed: Bed) {
    let ttl = Duration::from_secs(60);
    let lease = async |worker: &str| {
        bed.store
            .lease("reconcile", worker, ttl, bed.now())
            .await
            .unwrap()
    };
    assert!(lease("one").await);
    assert!(!lease("two").await);
    bed.pass(Duration::from_secs(30));
    assert!(lease("one").await, "kept for another minute");
    bed.pass(Duration::from_secs(59));
    assert!(!lease("two").await);
    bed.pass(Duration::from_secs(1));
    assert!(lease("two").await);
    assert!(!lease("one").await);
    bed.store.end_lease("reconcile", "one").await.unwrap();
    assert!(!lease("one").await, "only its holder gives it back");
    bed.store.end_lease("reconcile", "two").await.unwrap();
    assert!(lease("one").await);
}

async fn a_mark_is_the_last_that_was_noted(bed: Bed) {
    assert_eq!(bed.store.mark("hook/a").await, Ok(None));
    for value in ["one", "two"] {
        bed.store
            .set_mark("hook/a", value, bed.now())
            .await
            .unwrap();
        bed.pass(Duration::from_secs(1));
    }
    bed.store.set_mark("hooks", "no", bed.now()).await.unwrap();
    let (value, _) = bed.store.mark("hook/a").await.unwrap().unwrap();
    assert_eq!(value, "two");
    let (other, _) = bed.store.mark("hooks").await.unwrap().unwrap();
    assert_eq!(other, "no");
}
