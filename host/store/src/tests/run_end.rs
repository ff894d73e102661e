//! A run's end, given to the plugin that started it.

use penstock_model::admit::{Order, Task};
use penstock_model::effect::CancelScope;
use penstock_model::event::EventKind;
use penstock_model::host_event::{Failed, HostEvent, is_host_hook};
use penstock_model::run::{Run, RunState};

use super::bed::Bed;
use super::on_both;
use super::world::{cancel, delivery, ordering, start};
use crate::{Decision, DeliveryKey, Mode, Pending, Queue, RunObservation};

on_both![
    an_end_comes_to_the_route_that_started_the_run_in_the_lane_of_its_event,
    an_end_that_nobody_wants_is_told_to_nobody,
    the_same_end_twice_is_one_event,
    a_run_that_is_withdrawn_has_ended_too,
    a_run_that_is_refused_and_tried_again_ends_twice,
    an_end_that_is_told_is_decided_once,
    a_run_that_was_not_admitted_has_an_end_too,
];

fn wanted(mut order: Order, depth: u32) -> Order {
    if let Task::StartRun(run) = &mut order.task {
        run.end_at_depth = Some(depth);
    }
    order
}

fn seen(order: &Order, state: RunState) -> RunObservation {
    RunObservation {
        id: order.id,
        cluster: "prod".into(),
        uid: "uid-1".to_owned(),
        state,
        reason: "task `test` failed".to_owned(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![("digest".to_owned(), "sha256:1".to_owned())],
        failed_task: Some("test".to_owned()),
        follow_ups: vec![],
    }
}

async fn started(bed: &Bed, id: &str, order: &Order) {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, ordering(id, "r", vec![order.clone()]), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
}

/// What waits to be decided, and the host's event in it.
async fn told(bed: &Bed) -> Vec<(Pending, HostEvent)> {
    let mut all = Vec::new();
    for claim in bed.claim_all(Queue::Dispatch).await {
        if let Some(pending) = bed.store.head(&claim, bed.now()).await.unwrap() {
            let body = bed
                .store
                .body(&pending.delivery.key)
                .await
                .unwrap()
                .unwrap();
            all.push((pending, serde_json::from_slice(&body).unwrap()));
        }
        bed.release(claim).await;
    }
    all
}

async fn an_end_comes_to_the_route_that_started_the_run_in_the_lane_of_its_event(bed: Bed) {
    let order = wanted(start("d1", "run", 'a', "main"), 2);
    started(&bed, "d1", &order).await;
    assert!(told(&bed).await.is_empty());
    assert_eq!(bed.store.keep_excerpt(&order.id, "boom").await, Ok(true));
    let observed = bed
        .store
        .run_observed(seen(&order, RunState::Failed), bed.now())
        .await;
    assert_eq!(observed, Ok(true));
    let all = told(&bed).await;
    let [(pending, event)] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert!(is_host_hook(&pending.delivery.hook));
    assert!(pending.routed, "it is for one route alone");
    assert_eq!(pending.routes.len(), 1);
    assert_eq!(pending.routes[0].route.as_str(), "r");
    assert_eq!(pending.routes[0].attempt, 1);
    let origin = delivery("d1", bed.now());
    assert_eq!(pending.delivery.lane, origin.lane);
    assert_eq!(pending.delivery.tenant, origin.tenant);
    assert_eq!(pending.delivery.project, origin.project);
    let EventKind::RunFinished(finished) = &event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(finished.depth, 2);
    assert_eq!(finished.log_excerpt.as_deref(), Some("boom"));
    assert_eq!(finished.failed_task.as_deref(), Some("test"));
    assert_eq!(finished.run.state, RunState::Failed);
    assert_eq!(finished.run.results.len(), 1);
    assert_eq!(finished.run.id, order.id.hex());
    assert_eq!(event.most, penstock_model::scope::Trust::Member);
}

async fn an_end_that_nobody_wants_is_told_to_nobody(bed: Bed) {
    let order = start("d1", "run", 'a', "main");
    started(&bed, "d1", &order).await;
    bed.store
        .run_observed(seen(&order, RunState::Failed), bed.now())
        .await
        .unwrap();
    assert!(told(&bed).await.is_empty());
}

async fn the_same_end_twice_is_one_event(bed: Bed) {
    let order = wanted(start("d1", "run", 'a', "main"), 0);
    started(&bed, "d1", &order).await;
    for state in [
        RunState::Running,
        RunState::Failed,
        RunState::Failed,
        RunState::Succeeded,
    ] {
        bed.store
            .run_observed(seen(&order, state), bed.now())
            .await
            .unwrap();
        bed.pass(std::time::Duration::from_secs(1));
    }
    assert_eq!(told(&bed).await.len(), 1);
    let all = bed
        .store
        .deliveries(crate::DeliveryFilter::default())
        .await
        .unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
}

async fn a_run_that_is_withdrawn_has_ended_too(bed: Bed) {
    let order = wanted(start("d1", "run", 'a', "main"), 0);
    started(&bed, "d1", &order).await;
    let claim = bed.routed(delivery("d2", bed.now()), &["r"]).await;
    let cancelling = cancel("d2", CancelScope::Earlier, "main", None);
    bed.store
        .commit(&claim, ordering("d2", "r", vec![cancelling]), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let all = told(&bed).await;
    let [(_, event)] = all.as_slice() else {
        panic!("{all:?}")
    };
    let EventKind::RunFinished(finished) = &event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(finished.run.state, RunState::Canceled);
}

async fn a_run_that_is_refused_and_tried_again_ends_twice(bed: Bed) {
    let order = wanted(start("d1", "run", 'a', "main"), 0);
    started(&bed, "d1", &order).await;
    for _ in 0..2 {
        let claim = bed.claim_lane("run:").await;
        bed.store
            .next_effect(&claim, bed.now())
            .await
            .unwrap()
            .unwrap();
        bed.store
            .effect_refused(&claim, &order.id, "denied", Vec::new(), bed.now())
            .await
            .unwrap();
        bed.release(claim).await;
        bed.pass(std::time::Duration::from_secs(1));
        bed.store.retry_effect(&order.id, bed.now()).await.unwrap();
    }
    let all = bed
        .store
        .deliveries(crate::DeliveryFilter::default())
        .await
        .unwrap();
    let ends = all.iter().filter(|it| is_host_hook(&it.hook)).count();
    assert_eq!(ends, 2, "{all:?}");
}

async fn an_end_that_is_told_is_decided_once(bed: Bed) {
    let order = wanted(start("d1", "run", 'a', "main"), 0);
    started(&bed, "d1", &order).await;
    bed.store
        .run_observed(seen(&order, RunState::Succeeded), bed.now())
        .await
        .unwrap();
    let claim = bed.claim(Queue::Dispatch).await;
    let pending = bed.head(&claim).await;
    let DeliveryKey { id, .. } = &pending.delivery.key;
    let next = wanted(start(id.as_str(), "run", 'a', "main"), 1);
    bed.store
        .commit(&claim, ordering(id.as_str(), "r", vec![next]), bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.head(&claim, bed.now()).await, Ok(None));
    bed.release(claim).await;
}

async fn a_run_that_was_not_admitted_has_an_end_too(bed: Bed) {
    let order = start("d1", "run", 'a', "main");
    let Task::StartRun(run) = &order.task else {
        panic!("{order:?}")
    };
    let refused = HostEvent::run_finished(
        run.of.clone(),
        Run {
            id: order.id.hex(),
            plugin: run.plugin.clone(),
            key: order.key.clone(),
            pipeline: run.pipeline.clone(),
            place: "".into(),
            ref_name: run.ref_name.clone(),
            merge_request: None,
            commit: run.commit.clone(),
            state: RunState::Refused,
            reason: "not admitted: the image is not allowed".to_owned(),
            web_url: None,
            created_at: bed.now(),
            started_at: None,
            finished_at: Some(bed.now()),
            results: vec![],
        },
        Failed::default(),
        0,
        None,
        run.trust,
    );
    for (id, mode) in [("d1", Mode::Observe), ("d2", Mode::Act)] {
        let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
        let decision = Decision {
            mode,
            refused_ends: vec![refused.clone()],
            ..ordering(id, "r", vec![])
        };
        bed.store.commit(&claim, decision, bed.now()).await.unwrap();
        bed.release(claim).await;
        let told = told(&bed).await;
        assert_eq!(told.len(), usize::from(mode == Mode::Act), "{mode:?}");
        if let Some((pending, event)) = told.first() {
            assert_eq!(*event, refused);
            assert!(is_host_hook(&pending.delivery.hook));
            assert_eq!(pending.routes[0].route.as_str(), "r");
        }
    }
}
