//! That a run waits is told of once, and only while it does.

use std::time::Duration;

use penstock_model::admit::Order;
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::runs::queued;
use super::world::status;
use crate::{EffectState, WaitsFor};

on_both![
    a_run_that_waits_is_told_of_once,
    nothing_tells_that_a_run_waits_which_does_no_more,
];

fn pending() -> Order {
    status("d1", "pending", 'a')
}

async fn a_run_that_waits_is_told_of_once(bed: Bed) {
    let run = queued(&bed, "d1", 'a').await.id;
    let waiting = async |after| {
        let before = bed.now().plus(Duration::from_secs(1));
        bed.store.runs_waiting(after, before, 10).await.unwrap()
    };
    assert_eq!(
        bed.store.runs_waiting(0, bed.now(), 10).await.unwrap(),
        [],
        "only what waits since before"
    );
    let found = waiting(0).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].waits_for, WaitsFor::Others);
    assert_eq!(found[0].run.run.id, run.hex());
    assert!(waiting(found[0].seq).await.is_empty());

    // A try that failed is another reason.
    let claim = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order.id, run);
    let later = bed.now().plus(Duration::from_secs(60));
    bed.store
        .effect_retry(&claim, &run, later, "away", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    assert_eq!(waiting(0).await[0].waits_for, WaitsFor::Another);

    let tell = async || bed.store.tell_waiting(&run, pending(), bed.now()).await;
    assert_eq!(tell().await, Ok(true));
    assert_eq!(tell().await, Ok(false));
    assert!(waiting(0).await.is_empty());
    let claim = bed.claim_lane("status:").await;
    let told = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(told.unwrap().order.id, pending().id);
    bed.release(claim).await;
}

async fn nothing_tells_that_a_run_waits_which_does_no_more(bed: Bed) {
    let tell = async |id| bed.store.tell_waiting(id, pending(), bed.now()).await;
    // Given up: the run is queued still, and a failed status says so.
    let dead = queued(&bed, "d2", 'b').await;
    let claim = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order.id, dead.id);
    bed.store
        .effect_dead(&claim, &dead.id, "a day", vec![], bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let explained = bed
        .store
        .explain(None, &"d2".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(explained.effects[0].state, EffectState::Dead);
    assert_eq!(explained.runs[0].run.state, RunState::Queued);
    assert_eq!(tell(&dead.id).await, Ok(false));
    // Seen in its cluster.
    let seen = queued(&bed, "d1", 'a').await;
    bed.store
        .run_observed(seen.clone(), bed.now())
        .await
        .unwrap();
    assert_eq!(tell(&seen.id).await, Ok(false));
}
