//! Finished runs that are kept, and those that are not.

use std::time::Duration;

use penstock_model::admit::{Order, Task};
use penstock_model::id::{Digest, EffectId};
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{delivery, effect_id, lane, ordering, start};
use crate::{CreatedRun, EffectFilter, EffectState, Queue, RunObservation};

on_both![
    the_oldest_finished_runs_of_the_pipeline_are_deleted,
    a_run_that_was_deleted_is_never_made_again,
    without_a_number_nothing_is_deleted,
];

fn keeping(id: &str, pipeline: &str, keep: Option<u32>) -> Order {
    let mut order = start(id, "run", 'a', id);
    if let Task::StartRun(run) = &mut order.task {
        run.pipeline = pipeline.to_owned();
        run.keep = keep;
    }
    order
}

/// Decides, creates and ends a run.
async fn ran(bed: &Bed, id: &str, pipeline: &str, keep: Option<u32>) {
    let order = keeping(id, pipeline, keep);
    let mut new = delivery(id, bed.now());
    new.lane = lane(1, id);
    let claim = bed.routed(new, &["r"]).await;
    bed.store
        .commit(&claim, ordering(id, "r", vec![order.clone()]), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let claim = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order.id, order.id);
    let made = CreatedRun {
        id: order.id,
        uid: format!("uid-{id}"),
        stored_digest: Digest::of(b"spec"),
        web_url: None,
        follow_ups: vec![],
    };
    bed.store
        .run_created(&claim, made, bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    bed.pass(Duration::from_secs(1));
    bed.store.run_observed(seen(id), bed.now()).await.unwrap();
}

fn seen(id: &str) -> RunObservation {
    RunObservation {
        id: effect_id(id, "r", "run"),
        cluster: "prod".into(),
        uid: format!("uid-{id}"),
        state: RunState::Succeeded,
        reason: "Succeeded".to_owned(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![],
        failed_task: None,
        follow_ups: vec![],
    }
}

/// Runs whose deletion was ordered, in order, with their UIDs.
async fn deleted(bed: &Bed) -> Vec<(EffectId, String)> {
    let filter = EffectFilter {
        kind: Some("delete-run".to_owned()),
        ..EffectFilter::default()
    };
    let mut found = bed.store.effects(filter).await.unwrap();
    found.reverse();
    found
        .into_iter()
        .map(|effect| match effect.order.unwrap().task {
            Task::DeleteRun(delete) => (delete.run, delete.uid),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn named(ids: &[&str]) -> Vec<(EffectId, String)> {
    ids.iter()
        .map(|id| (effect_id(id, "r", "run"), format!("uid-{id}")))
        .collect()
}

async fn the_oldest_finished_runs_of_the_pipeline_are_deleted(bed: Bed) {
    // One that asks for no number counts too.
    ran(&bed, "d1", "build", None).await;
    ran(&bed, "d2", "build", Some(2)).await;
    ran(&bed, "d3", "lint", Some(2)).await;
    assert_eq!(deleted(&bed).await, []);
    ran(&bed, "d4", "build", Some(2)).await;
    assert_eq!(deleted(&bed).await, named(&["d1"]));
    // Fewer from now on; what was ordered is not ordered twice.
    ran(&bed, "d5", "build", Some(1)).await;
    assert_eq!(deleted(&bed).await, named(&["d1", "d4", "d2"]));
    bed.store.run_observed(seen("d5"), bed.now()).await.unwrap();
    assert_eq!(deleted(&bed).await.len(), 3);
}

async fn a_run_that_was_deleted_is_never_made_again(bed: Bed) {
    ran(&bed, "d1", "build", Some(1)).await;
    ran(&bed, "d2", "build", Some(1)).await;
    let claim = bed.claim_lane("delete:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    let id = effect.unwrap().order.id;
    bed.store
        .effect_done(&claim, &id, serde_json::Value::Null, bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let run = bed.store.run(&effect_id("d1", "r", "run")).await.unwrap();
    assert_eq!(run.unwrap().run.state, RunState::Succeeded);
    let explained = bed.store.explain(None, &"d1".into()).await.unwrap();
    let effects = explained.unwrap().effects;
    assert!(effects.iter().all(|it| it.state == EffectState::Done));
    assert!(
        bed.store
            .retry_effect(&effect_id("d1", "r", "run"), bed.now())
            .await
            .is_err()
    );
    assert_eq!(bed.claim_all(Queue::Act).await, []);
}

async fn without_a_number_nothing_is_deleted(bed: Bed) {
    for id in ["d1", "d2", "d3"] {
        ran(&bed, id, "build", None).await;
    }
    assert_eq!(deleted(&bed).await, []);
}
