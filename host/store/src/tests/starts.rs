//! Starts that cross what is seen of them in the cluster, a crash of their worker, or a cancel.

use penstock_model::admit::{Order, StopOrder, Task};
use penstock_model::effect::CancelScope;
use penstock_model::id::Digest;
use penstock_model::run::RunState;

use super::bed::{Bed, TTL};
use super::on_both;
use super::world::{cancel, commit, delivery, lane, ordering, start, status};
use crate::{ActError, Claim, Created, CreatedRun, EffectState, Queue, RunObservation};

on_both![
    no_running_status_follows_a_run_that_was_seen_to_end,
    a_run_that_was_seen_is_never_created_again,
    a_dead_start_whose_run_is_seen_is_done,
    what_waits_behind_a_start_goes_on_when_its_run_is_seen,
    a_run_whose_creation_was_never_answered_is_stopped,
    a_run_that_only_waited_for_its_turn_is_not_stopped,
    a_crash_is_not_forgotten_when_the_start_then_waits,
    a_withdrawn_run_that_is_seen_alive_is_stopped_by_its_uid,
    a_start_that_is_committed_after_a_later_cancel_is_withdrawn,
    a_start_that_no_later_cancel_is_about_goes_on,
    a_start_that_somebody_asked_for_again_outlives_the_cancel,
    a_worker_whose_claim_ended_is_given_no_start,
];

/// Decides a delivery on a branch with these orders.
async fn decided(bed: &Bed, id: &str, branch: &str, orders: Vec<Order>) {
    let mut new = delivery(id, bed.now());
    new.lane = lane(1, branch);
    let claim = bed.routed(new, &["r"]).await;
    bed.store
        .commit(&claim, ordering(id, "r", orders), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
}

fn created(order: &Order) -> CreatedRun {
    CreatedRun {
        id: order.id,
        uid: "uid-1".to_owned(),
        stored_digest: Digest::of(b"spec"),
        web_url: None,
        follow_ups: vec![status("d1", "running", 'a')],
    }
}

fn seen(order: &Order, state: RunState) -> RunObservation {
    RunObservation {
        id: order.id,
        cluster: "prod".into(),
        uid: "uid-1".to_owned(),
        state,
        reason: "as seen".to_owned(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![],
        failed_task: None,
        follow_ups: vec![],
    }
}

/// Takes the start of a run, as a worker that is about to create it.
async fn handed_out(bed: &Bed, order: &Order) -> Claim {
    let claim = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order.id, order.id);
    claim
}

async fn state(bed: &Bed, id: &str) -> EffectState {
    let explained = bed.store.explain(None, &id.into()).await.unwrap().unwrap();
    explained.effects[0].state
}

/// Stops that wait, in any lane.
async fn stops(bed: &Bed) -> Vec<StopOrder> {
    let all = bed.store.effects(crate::EffectFilter::default()).await;
    all.unwrap()
        .into_iter()
        .filter(|effect| effect.state == EffectState::Waiting)
        .filter_map(|effect| match effect.order.unwrap().task {
            Task::StopRun(stop) => Some(stop),
            _ => None,
        })
        .collect()
}

async fn cancelled(bed: &Bed) {
    let order = cancel("d2", CancelScope::Earlier, "main", None);
    decided(bed, "d2", "main", vec![order]).await;
}

async fn no_running_status_follows_a_run_that_was_seen_to_end(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = handed_out(&bed, &run).await;
    let mut end = seen(&run, RunState::Succeeded);
    end.follow_ups = vec![status("d1", "success", 'a')];
    assert_eq!(bed.store.run_observed(end, bed.now()).await, Ok(true));
    let made = bed
        .store
        .run_created(&claim, created(&run), bed.now())
        .await;
    assert_eq!(made, Ok(Created::Recorded));
    let explained = bed.store.explain(None, &"d1".into()).await.unwrap();
    let keys: Vec<_> = explained
        .unwrap()
        .effects
        .into_iter()
        .map(|effect| effect.key.as_str().to_owned())
        .collect();
    assert_eq!(keys, ["run", "success"]);
    let run = bed.store.run(&run.id).await.unwrap().unwrap();
    assert_eq!(run.run.state, RunState::Succeeded);
    assert_eq!(run.stored_digest, Some(Digest::of(b"spec")));
}

async fn a_run_that_was_seen_is_never_created_again(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = handed_out(&bed, &run).await;
    let running = seen(&run, RunState::Running);
    assert_eq!(bed.store.run_observed(running, bed.now()).await, Ok(true));
    assert_eq!(state(&bed, "d1").await, EffectState::Done);
    assert_eq!(bed.store.next_effect(&claim, bed.now()).await, Ok(None));
    let mut other = created(&run);
    other.uid = "uid-2".to_owned();
    let other = bed.store.run_created(&claim, other, bed.now()).await;
    assert!(
        matches!(other, Err(ActError::NotWaiting { .. })),
        "{other:?}"
    );
    let made = bed
        .store
        .run_created(&claim, created(&run), bed.now())
        .await;
    assert_eq!(made, Ok(Created::Recorded));
    bed.release(claim).await;
    assert_eq!(bed.claim_all(Queue::Act).await, []);
}

async fn a_dead_start_whose_run_is_seen_is_done(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = handed_out(&bed, &run).await;
    bed.store
        .effect_dead(&claim, &run.id, "no answer for a day", vec![], bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let running = seen(&run, RunState::Running);
    assert_eq!(bed.store.run_observed(running, bed.now()).await, Ok(true));
    assert_eq!(state(&bed, "d1").await, EffectState::Done);
    assert!(bed.store.retry_effect(&run.id, bed.now()).await.is_err());
}

async fn what_waits_behind_a_start_goes_on_when_its_run_is_seen(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    let next = start("d1", "next", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone(), next.clone()]).await;
    let claim = handed_out(&bed, &run).await;
    let later = bed.now().plus(TTL);
    bed.store
        .effect_retry(&claim, &run.id, later, "the answer was lost", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    assert_eq!(bed.claim_all(Queue::Act).await, []);
    let running = seen(&run, RunState::Running);
    bed.store.run_observed(running, bed.now()).await.unwrap();
    handed_out(&bed, &next).await;
}

async fn a_run_whose_creation_was_never_answered_is_stopped(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = handed_out(&bed, &run).await;
    // The worker gives the lane back without a word.
    bed.release(claim).await;
    cancelled(&bed).await;
    assert_eq!(state(&bed, "d1").await, EffectState::Withdrawn);
    let stops = stops(&bed).await;
    assert_eq!(stops.len(), 1, "{stops:?}");
    assert_eq!((stops[0].run, stops[0].uid.as_deref()), (run.id, None));
}

async fn a_run_that_only_waited_for_its_turn_is_not_stopped(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let claim = handed_out(&bed, &run).await;
    bed.store
        .effect_wait(&claim, &run.id, bed.now(), "20 are in flight", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    cancelled(&bed).await;
    assert_eq!(state(&bed, "d1").await, EffectState::Withdrawn);
    assert_eq!(stops(&bed).await, []);
}

async fn a_crash_is_not_forgotten_when_the_start_then_waits(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    handed_out(&bed, &run).await;
    bed.pass(TTL);
    let claim = handed_out(&bed, &run).await;
    bed.store
        .effect_wait(&claim, &run.id, bed.now(), "20 are in flight", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    cancelled(&bed).await;
    assert_eq!(stops(&bed).await.len(), 1);
}

async fn a_withdrawn_run_that_is_seen_alive_is_stopped_by_its_uid(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    cancelled(&bed).await;
    assert_eq!(stops(&bed).await, []);
    let ended = seen(&run, RunState::Succeeded);
    assert_eq!(bed.store.run_observed(ended, bed.now()).await, Ok(false));
    assert_eq!(stops(&bed).await, [], "there is nothing to stop");
    for _ in 0..2 {
        let running = seen(&run, RunState::Running);
        assert_eq!(bed.store.run_observed(running, bed.now()).await, Ok(false));
    }
    let stops = stops(&bed).await;
    assert_eq!(stops.len(), 1, "{stops:?}");
    assert_eq!(stops[0].uid.as_deref(), Some("uid-1"));
    bed.claim_lane("run:").await;
    let run = bed.store.run(&run.id).await.unwrap().unwrap();
    assert_eq!(run.run.state, RunState::Canceled);
}

/// Starts a run of commit `a` on `main` after a later delivery's cancel was committed, and says where the start stands.
async fn started_late(bed: &Bed, scope: CancelScope, head: Option<char>) -> EffectState {
    let early = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut new = delivery("d2", bed.now());
    new.lane = lane(1, "other");
    let later = bed.routed(new, &["r"]).await;
    let order = cancel("d2", scope, "main", head);
    bed.store
        .commit(&later, ordering("d2", "r", vec![order]), bed.now())
        .await
        .unwrap();
    let run = start("d1", "run", 'a', "main");
    bed.store
        .commit(&early, ordering("d1", "r", vec![run]), bed.now())
        .await
        .unwrap();
    bed.release(early).await;
    bed.release(later).await;
    state(bed, "d1").await
}

async fn a_start_that_is_committed_after_a_later_cancel_is_withdrawn(bed: Bed) {
    let stands = started_late(&bed, CancelScope::Ref("refs/heads/main".into()), None).await;
    assert_eq!(stands, EffectState::Withdrawn);
    let run = start("d1", "run", 'a', "main");
    let run = bed.store.run(&run.id).await.unwrap().unwrap().run;
    assert_eq!(
        (run.state, run.reason.as_str()),
        (RunState::Canceled, "a newer commit was pushed")
    );
    assert_eq!(stops(&bed).await, []);
    let claim = bed.claim_lane("status:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order.key.as_str(), "penstock/withdrawn");
}

async fn a_start_that_no_later_cancel_is_about_goes_on(bed: Bed) {
    let stands = started_late(&bed, CancelScope::Superseded, Some('a')).await;
    assert_eq!(stands, EffectState::Waiting, "its commit is the head");
    let before = cancel("d0", CancelScope::Commit(commit('b')), "main", None);
    decided(&bed, "d0", "more", vec![before]).await;
    let run = start("d3", "run", 'b', "main");
    decided(&bed, "d3", "main", vec![run]).await;
    assert_eq!(state(&bed, "d3").await, EffectState::Waiting);
}

async fn a_start_that_somebody_asked_for_again_outlives_the_cancel(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut failed = super::world::decision("d1", "r");
    failed.settlement = crate::Settlement::Failed;
    bed.store.commit(&claim, failed, bed.now()).await.unwrap();
    bed.release(claim).await;
    cancelled(&bed).await;
    bed.store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await
        .unwrap();
    let claim = bed.claim(Queue::Dispatch).await;
    let mut again = ordering("d1", "r", vec![start("d1", "run", 'a', "main")]);
    again.attempt = 2;
    bed.store.commit(&claim, again, bed.now()).await.unwrap();
    assert_eq!(state(&bed, "d1").await, EffectState::Waiting);
}

async fn a_worker_whose_claim_ended_is_given_no_start(bed: Bed) {
    let run = start("d1", "run", 'a', "main");
    decided(&bed, "d1", "main", vec![run.clone()]).await;
    let old = bed.claim(Queue::Act).await;
    bed.pass(TTL);
    assert_eq!(bed.store.next_effect(&old, bed.now()).await, Ok(None));
    handed_out(&bed, &run).await;
}
