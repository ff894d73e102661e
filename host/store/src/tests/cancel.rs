//! Cancels, resolved in the transaction of their decision.

use std::time::Duration;

use penstock_model::admit::{Order, StopHow, Task};
use penstock_model::effect::{CancelScope, StatusState};
use penstock_model::id::Digest;
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{cancel, delivery, lane, ordering, start};
use crate::{Committed, Created, CreatedRun, EffectState, Queue};

on_both![
    a_run_that_was_not_started_is_withdrawn_and_its_status_says_so,
    a_run_that_was_created_gets_an_order_to_stop_it,
    a_run_that_is_cancelled_while_it_is_created_is_stopped_after_all,
    a_run_whose_creation_was_tried_is_withdrawn_and_stopped,
    a_run_whose_creator_died_meanwhile_is_stopped_in_case_it_is_there,
    superseded_are_those_of_other_commits_than_the_head,
    without_a_confirmed_head_nothing_is_superseded,
    a_cancel_leaves_its_own_plan_later_runs_and_other_lanes_alone,
    runs_are_cancelled_by_ref_commit_and_id,
    a_stop_goes_before_starts_that_wait,
    an_event_that_came_late_cancels_nothing,
    a_stop_at_once_is_due_after_its_grace_and_holds_up_nothing,
];

async fn an_event_that_came_late_cancels_nothing(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    for scope in [
        CancelScope::Superseded,
        CancelScope::Earlier,
        CancelScope::Runs(vec![run.id.hex()]),
    ] {
        let id = format!("late-{scope:?}").replace(['(', ')', '[', ']', '"'], "");
        let mut order = cancel(&id, scope, "main", Some('b'));
        if let Task::CancelRuns(cancel) = &mut order.task {
            cancel.past = true;
        }
        let newer = start(&id, "run", 'b', "main");
        let committed = decided(&bed, &id, "main", vec![order, newer.clone()]).await;
        assert_eq!(committed, Committed::default());
        assert_eq!(
            state(&bed, &newer).await,
            RunState::Queued,
            "it starts all the same"
        );
    }
    assert_eq!(state(&bed, &run).await, RunState::Queued);
}

async fn a_stop_at_once_is_due_after_its_grace_and_holds_up_nothing(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .run_created(&claim, created(&run), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let order = cancel("d2", CancelScope::Earlier, "main", None);
    decided(&bed, "d2", "main", vec![order]).await;
    let claim = bed.claim_lane("run:").await;
    let soft = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    let soft = soft.unwrap().order;
    let at = bed.now().plus(Duration::from_secs(300));
    // The answer was lost once: it is said twice.
    for _ in 0..2 {
        bed.store.stop_later(&soft, at, bed.now()).await.unwrap();
    }
    bed.store
        .effect_done(&claim, &soft.id, serde_json::Value::Null, bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    // The lane goes on meanwhile.
    let next = start("d3", "run", 'b', "main");
    decided(&bed, "d3", "main", vec![next.clone()]).await;
    let claim = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order.id, next.id);
    bed.store
        .run_created(&claim, created(&next), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    assert_eq!(bed.claim_all(Queue::Act).await, []);
    bed.pass(Duration::from_secs(300));
    let claim = bed.claim(Queue::Act).await;
    let hard = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    let Task::StopRun(stop) = hard.unwrap().order.task else {
        panic!("no stop");
    };
    assert_eq!((stop.run, stop.how), (run.id, StopHow::AtOnce));
}

/// Decides a delivery on a branch with these orders.
async fn decided(bed: &Bed, id: &str, branch: &str, orders: Vec<Order>) -> Committed {
    let mut new = delivery(id, bed.now());
    new.lane = lane(1, branch);
    let claim = bed.routed(new, &["r"]).await;
    let committed = bed
        .store
        .commit(&claim, ordering(id, "r", orders), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    committed
}

async fn state(bed: &Bed, order: &Order) -> RunState {
    bed.store.run(&order.id).await.unwrap().unwrap().run.state
}

fn created(order: &Order) -> CreatedRun {
    CreatedRun {
        id: order.id,
        uid: "uid-1".to_owned(),
        stored_digest: Digest::of(b"spec"),
        web_url: None,
        follow_ups: vec![],
    }
}

async fn a_run_that_was_not_started_is_withdrawn_and_its_status_says_so(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let committed = decided(
        &bed,
        "d2",
        "main",
        vec![cancel("d2", CancelScope::Earlier, "main", None)],
    )
    .await;
    assert_eq!(committed.withdrawn, [run.id]);
    assert_eq!(committed.stopping, []);
    assert_eq!(state(&bed, &run).await, RunState::Canceled);
    let claim = bed.claim_lane("status:").await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    let Task::SetStatus(status) = effect.order.task else {
        panic!("no status: {effect:?}");
    };
    assert_eq!(status.state, StatusState::Canceled);
    assert_eq!(status.description, "a newer commit was pushed");
    assert_eq!(status.run, Some(run.id));
    // Nothing is left in the run's lane: not the start, and no stop of what never was.
    let left: Vec<_> = bed
        .claim_all(Queue::Act)
        .await
        .into_iter()
        .filter(|claim| claim.lane.starts_with("run:"))
        .collect();
    for claim in left {
        assert_eq!(bed.store.next_effect(&claim, bed.now()).await, Ok(None));
    }
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(explained.effects[0].state, EffectState::Withdrawn);
}

async fn a_run_that_was_created_gets_an_order_to_stop_it(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .run_created(&claim, created(&run), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let order = cancel("d2", CancelScope::Earlier, "main", None);
    let committed = decided(&bed, "d2", "main", vec![order.clone()]).await;
    assert_eq!(committed.withdrawn, []);
    assert_eq!(committed.stopping, [run.id]);
    assert_eq!(
        state(&bed, &run).await,
        RunState::Running,
        "until the cluster says otherwise"
    );
    let claim = bed.claim_lane("run:").await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    let Task::StopRun(stop) = effect.order.task else {
        panic!("no stop: {effect:?}");
    };
    assert_eq!((stop.run, stop.uid.as_deref()), (run.id, Some("uid-1")));
    assert_eq!(stop.creator, "penstock");
    let explained = bed
        .store
        .explain(None, &"d2".into())
        .await
        .unwrap()
        .unwrap();
    let cancelling = &explained.effects[0];
    assert_eq!(
        (cancelling.id, cancelling.state),
        (order.id, EffectState::Done)
    );
    assert_eq!(
        cancelling.result,
        Some(serde_json::json!({"withdrawn": [], "stopping": [run.id.hex()]}))
    );
}

async fn a_run_that_is_cancelled_while_it_is_created_is_stopped_after_all(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert!(effect.is_some());
    let committed = decided(
        &bed,
        "d2",
        "main",
        vec![cancel("d2", CancelScope::Earlier, "main", None)],
    )
    .await;
    assert_eq!(committed.withdrawn, [run.id]);
    let made = bed
        .store
        .run_created(&claim, created(&run), bed.now())
        .await;
    assert_eq!(made, Ok(Created::Withdrawn));
    assert_eq!(state(&bed, &run).await, RunState::Canceled);
    let mut uids = Vec::new();
    while let Some(effect) = bed.store.next_effect(&claim, bed.now()).await.unwrap() {
        let Task::StopRun(stop) = &effect.order.task else {
            panic!("no stop: {effect:?}");
        };
        uids.push(stop.uid.clone());
        bed.store
            .effect_done(&claim, &effect.order.id, serde_json::Value::Null, bed.now())
            .await
            .unwrap();
    }
    assert!(uids.contains(&Some("uid-1".to_owned())), "{uids:?}");
}

async fn a_run_whose_creation_was_tried_is_withdrawn_and_stopped(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    let later = bed.now().plus(std::time::Duration::from_secs(60));
    bed.store
        .effect_retry(&claim, &run.id, later, "the answer was lost", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    decided(
        &bed,
        "d2",
        "main",
        vec![cancel("d2", CancelScope::Earlier, "main", None)],
    )
    .await;
    let claim = bed.claim_lane("run:").await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(effect.order.task, Task::StopRun(_)), "{effect:?}");
}

async fn a_run_whose_creator_died_meanwhile_is_stopped_in_case_it_is_there(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let dead = bed.claim(Queue::Act).await;
    bed.store.next_effect(&dead, bed.now()).await.unwrap();
    let order = cancel("d2", CancelScope::Earlier, "main", None);
    let committed = decided(&bed, "d2", "main", vec![order]).await;
    assert_eq!(committed.withdrawn, [run.id]);
    bed.pass(super::bed::TTL);
    let claim = bed.claim_lane(&dead.lane).await;
    let effect = bed.store.next_effect(&claim, bed.now()).await;
    let Some(crate::Effect { order, .. }) = effect.unwrap() else {
        panic!("nothing stops it");
    };
    assert!(matches!(order.task, Task::StopRun(stop) if stop.run == run.id && stop.uid.is_none()));
}

async fn superseded_are_those_of_other_commits_than_the_head(bed: Bed) {
    let old = start("d1", "run", 'a', "main");
    let same = start("d2", "run", 'b', "main");
    decided(&bed, "d1", "main", vec![old.clone()]).await;
    decided(&bed, "d2", "main", vec![same.clone()]).await;
    let committed = decided(
        &bed,
        "d3",
        "main",
        vec![cancel("d3", CancelScope::Superseded, "main", Some('b'))],
    )
    .await;
    assert_eq!(committed.withdrawn, [old.id]);
    assert_eq!(state(&bed, &same).await, RunState::Queued);
}

async fn without_a_confirmed_head_nothing_is_superseded(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let committed = decided(
        &bed,
        "d2",
        "main",
        vec![cancel("d2", CancelScope::Superseded, "main", None)],
    )
    .await;
    assert_eq!(committed, Committed::default());
}

async fn a_cancel_leaves_its_own_plan_later_runs_and_other_lanes_alone(bed: Bed) {
    let mut early = delivery("d1", bed.now());
    early.lane = lane(1, "main");
    let claim = bed.routed(early, &["r"]).await;
    let other = start("d2", "run", 'a', "other");
    decided(&bed, "d2", "other", vec![other.clone()]).await;
    let own = start("d1", "run", 'a', "main");
    let scope = CancelScope::Commit(super::world::commit('a'));
    let orders = vec![cancel("d1", scope, "main", None), own.clone()];
    let committed = bed
        .store
        .commit(&claim, ordering("d1", "r", orders), bed.now())
        .await
        .unwrap();
    assert_eq!(committed, Committed::default(), "d2 came after d1");
    bed.release(claim).await;
    let committed = decided(
        &bed,
        "d3",
        "main",
        vec![cancel("d3", CancelScope::Earlier, "main", None)],
    )
    .await;
    assert_eq!(committed.withdrawn, [own.id]);
    assert_eq!(state(&bed, &other).await, RunState::Queued);
}

async fn runs_are_cancelled_by_ref_commit_and_id(bed: Bed) {
    let [a, b, c] = [('a', "one"), ('b', "two"), ('c', "three")]
        .map(|(commit, branch)| start(&format!("d-{branch}"), "run", commit, branch));
    for (order, branch) in [(&a, "one"), (&b, "two"), (&c, "three")] {
        decided(&bed, &format!("d-{branch}"), branch, vec![order.clone()]).await;
    }
    let scopes = [
        ("x1", CancelScope::Ref("refs/heads/one".into()), a.id),
        ("x2", CancelScope::Commit(super::world::commit('b')), b.id),
        ("x3", CancelScope::Runs(vec![c.id.hex()]), c.id),
    ];
    for (id, scope, run) in scopes {
        let committed = decided(&bed, id, "main", vec![cancel(id, scope, "main", None)]).await;
        assert_eq!(committed.withdrawn, [run]);
    }
}

async fn a_stop_goes_before_starts_that_wait(bed: Bed) {
    let first = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![first.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .run_created(&claim, created(&first), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let orders = vec![
        start("d2", "run", 'b', "main"),
        cancel("d2", CancelScope::Earlier, "main", None),
    ];
    decided(&bed, "d2", "main", orders).await;
    let claim = bed.claim_lane("run:").await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(effect.order.task, Task::StopRun(_)), "{effect:?}");
}
