//! The journal of credentials with which runs clone.

use std::time::Duration;

use penstock_model::admit::Order;
use penstock_model::id::{EffectId, ProjectId};
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{delivery, ordering, start};
use crate::clone::{LEASE, TAKES_RUNS};
use crate::{CloneAnswer, CloneToken, Queue, RunObservation, SecretFor};

on_both![
    a_project_has_one_token_that_its_runs_share,
    a_token_takes_runs_for_an_hour,
    a_token_is_idle_when_its_last_run_has_ended,
    a_maker_that_died_is_followed_by_another_who_knows,
    two_that_come_first_make_one_token,
    a_run_that_is_refused_or_given_up_leaves_nothing,
    what_is_gone_is_forgotten_after_a_while_and_what_is_not_never,
];

fn secret(order: &Order) -> SecretFor {
    SecretFor {
        run: order.id,
        name: format!("penstock-clone-{}-0", order.key),
        cluster: "prod".into(),
        namespace: "ci-acme".to_owned(),
        creator: "penstock".to_owned(),
    }
}

/// Orders these runs and claims the lane that starts them.
async fn ordered(bed: &Bed, keys: &[&str]) -> (crate::Claim, Vec<Order>) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let orders: Vec<Order> = keys
        .iter()
        .map(|key| start("d1", key, 'a', "main"))
        .collect();
    bed.store
        .commit(&claim, ordering("d1", "r", orders.clone()), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    (bed.claim(Queue::Act).await, orders)
}

async fn begin(bed: &Bed, order: &Order, name: &str) -> CloneAnswer {
    bed.store
        .clone_begin(
            &"main".into(),
            ProjectId(1),
            &secret(order),
            name,
            bed.now(),
        )
        .await
        .unwrap()
}

fn made(answer: CloneAnswer) -> (u64, String, bool) {
    match answer {
        CloneAnswer::Make { seq, name, begun } => (seq, name, begun),
        other => panic!("{other:?}"),
    }
}

async fn make(bed: &Bed, answer: CloneAnswer) -> u64 {
    let (seq, name, _) = made(answer);
    let token = CloneToken {
        seq,
        name,
        username: "gitlab+deploy-token-1".to_owned(),
        sealed: b"sealed".to_vec(),
    };
    let expires = bed.now().plus(Duration::from_secs(86_400));
    bed.store.clone_made(token, 7, expires).await.unwrap();
    seq
}

async fn ends(bed: &Bed, id: EffectId) {
    let seen = RunObservation {
        id,
        cluster: "prod".into(),
        uid: id.hex(),
        state: RunState::Succeeded,
        reason: String::new(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![],
        failed_task: None,
        follow_ups: vec![],
    };
    assert!(bed.store.run_observed(seen, bed.now()).await.unwrap());
}

async fn idle_tokens(bed: &Bed) -> Vec<u64> {
    let idle = bed.store.clone_idle_tokens(bed.now(), 10).await.unwrap();
    idle.iter().map(|it| it.seq).collect()
}

async fn idle_secrets(bed: &Bed) -> Vec<SecretFor> {
    let idle = bed.store.clone_idle_secrets(bed.now(), 10).await.unwrap();
    idle.into_iter().map(|it| it.secret).collect()
}

async fn a_project_has_one_token_that_its_runs_share(bed: Bed) {
    let (_, orders) = ordered(&bed, &["one", "two"]).await;
    let answer = begin(&bed, &orders[0], "penstock-1").await;
    assert_eq!(
        begin(&bed, &orders[1], "penstock-2").await,
        CloneAnswer::Busy
    );
    let seq = make(&bed, answer).await;
    for order in &orders {
        let CloneAnswer::Ready(token) = begin(&bed, order, "penstock-3").await else {
            panic!("it is there")
        };
        assert_eq!((token.seq, token.name.as_str()), (seq, "penstock-1"));
        assert_eq!(token.sealed, b"sealed");
    }
    let other = bed
        .store
        .clone_begin(
            &"main".into(),
            ProjectId(2),
            &secret(&orders[0]),
            "penstock-4",
            bed.now(),
        )
        .await
        .unwrap();
    assert_eq!(made(other).1, "penstock-4", "of another project");
}

async fn a_token_takes_runs_for_an_hour(bed: Bed) {
    let (_, orders) = ordered(&bed, &["one", "two"]).await;
    let first = begin(&bed, &orders[0], "penstock-1").await;
    let first = make(&bed, first).await;
    bed.pass(TAKES_RUNS);
    let second = begin(&bed, &orders[1], "penstock-2").await;
    let second = make(&bed, second).await;
    assert_ne!(first, second);
    assert_eq!(idle_tokens(&bed).await, [0; 0], "both are in use");
    ends(&bed, orders[0].id).await;
    assert_eq!(idle_tokens(&bed).await, [first]);
}

async fn a_token_is_idle_when_its_last_run_has_ended(bed: Bed) {
    let (_, orders) = ordered(&bed, &["one", "two"]).await;
    let answer = begin(&bed, &orders[0], "penstock-1").await;
    let seq = make(&bed, answer).await;
    begin(&bed, &orders[1], "penstock-2").await;
    ends(&bed, orders[0].id).await;
    assert_eq!(idle_tokens(&bed).await, [0; 0]);
    assert_eq!(idle_secrets(&bed).await, [secret(&orders[0])]);
    assert_eq!(idle_secrets(&bed).await, [], "it is somebody's for a while");
    bed.store
        .clone_secret_gone(&secret(&orders[0]))
        .await
        .unwrap();
    ends(&bed, orders[1].id).await;
    assert_eq!(idle_tokens(&bed).await, [seq]);
    assert_eq!(
        idle_tokens(&bed).await,
        [0; 0],
        "it is somebody's for a while"
    );
    bed.pass(LEASE);
    assert_eq!(idle_tokens(&bed).await, [seq], "who had it said nothing");
    bed.store.clone_revoked(seq).await.unwrap();
    bed.pass(LEASE);
    assert_eq!(idle_tokens(&bed).await, [0; 0]);
    let left = bed.store.clone_figures().await.unwrap();
    assert_eq!((left.tokens, left.secrets), (0, 1), "the second's Secret");
    // Whoever begins now does not get what is being taken away.
    let (.., begun) = made(begin(&bed, &orders[1], "penstock-3").await);
    assert!(!begun);
}

async fn a_maker_that_died_is_followed_by_another_who_knows(bed: Bed) {
    let (_, orders) = ordered(&bed, &["one"]).await;
    let (seq, name, begun) = made(begin(&bed, &orders[0], "penstock-1").await);
    assert!(!begun);
    assert_eq!(
        begin(&bed, &orders[0], "penstock-2").await,
        CloneAnswer::Busy
    );
    bed.pass(LEASE);
    let again = made(begin(&bed, &orders[0], "penstock-3").await);
    assert_eq!(again, (seq, name, true), "the same name is looked for");
    bed.store
        .clone_put_off(seq, bed.now(), "GitLab is away")
        .await
        .unwrap();
    let again = made(begin(&bed, &orders[0], "penstock-4").await);
    assert_eq!((again.0, again.2), (seq, true));
    // The run ends without it: what may have been made is taken away.
    ends(&bed, orders[0].id).await;
    bed.pass(LEASE);
    let idle = bed.store.clone_idle_tokens(bed.now(), 10).await.unwrap();
    assert_eq!((idle[0].seq, idle[0].gitlab_id), (seq, None));
}

async fn two_that_come_first_make_one_token(bed: Bed) {
    let (_, orders) = ordered(&bed, &["one", "two"]).await;
    let (one, two) = tokio::join!(
        begin(&bed, &orders[0], "penstock-1"),
        begin(&bed, &orders[1], "penstock-2")
    );
    let makes = [&one, &two]
        .iter()
        .filter(|it| matches!(it, CloneAnswer::Make { .. }))
        .count();
    assert_eq!(makes, 1, "{one:?} {two:?}");
}

async fn a_run_that_is_refused_or_given_up_leaves_nothing(bed: Bed) {
    let (claim, orders) = ordered(&bed, &["one", "two"]).await;
    let answer = begin(&bed, &orders[0], "penstock-1").await;
    let seq = make(&bed, answer).await;
    begin(&bed, &orders[1], "penstock-2").await;
    assert_eq!(idle_secrets(&bed).await, []);
    bed.store
        .effect_refused(&claim, &orders[0].id, "RBAC: no", vec![], bed.now())
        .await
        .unwrap();
    bed.store
        .effect_dead(&claim, &orders[1].id, "away", vec![], bed.now())
        .await
        .unwrap();
    let mut gone = idle_secrets(&bed).await;
    gone.sort_by_key(|it| it.name.clone());
    assert_eq!(gone, [secret(&orders[0]), secret(&orders[1])]);
    assert_eq!(idle_tokens(&bed).await, [seq]);
    for it in &gone {
        bed.store.clone_secret_gone(it).await.unwrap();
    }
    // Tried again, it needs all of it again.
    bed.store
        .retry_effect(&orders[1].id, bed.now())
        .await
        .unwrap();
    let (.., begun) = made(begin(&bed, &orders[1], "penstock-3").await);
    assert!(!begun, "under a new name");
}

async fn what_is_gone_is_forgotten_after_a_while_and_what_is_not_never(bed: Bed) {
    let (_, orders) = ordered(&bed, &["one", "two"]).await;
    let first = begin(&bed, &orders[0], "penstock-1").await;
    let first = make(&bed, first).await;
    bed.pass(TAKES_RUNS);
    let second = begin(&bed, &orders[1], "penstock-2").await;
    make(&bed, second).await;
    ends(&bed, orders[0].id).await;
    bed.store
        .clone_secret_gone(&secret(&orders[0]))
        .await
        .unwrap();
    bed.store.clone_revoked(first).await.unwrap();
    let ages = crate::Ages::default();
    let soon = bed.store.purge(bed.now(), ages).await.unwrap();
    assert_eq!(soon.credentials, 0);
    bed.pass(ages.contents + Duration::from_secs(1));
    let later = bed.store.purge(bed.now(), ages).await.unwrap();
    assert_eq!(
        later.credentials, 1,
        "the Secret and the token of the first"
    );
    let left = bed.store.clone_figures().await.unwrap();
    assert_eq!((left.tokens, left.secrets), (1, 1));
}
