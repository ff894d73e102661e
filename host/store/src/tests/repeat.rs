//! Statuses that a newer pipeline is given again.

use std::time::Duration;

use penstock_model::admit::{Order, Task};
use penstock_model::id::{EffectId, ProjectId};
use serde_json::json;

use super::bed::Bed;
use super::on_both;
use super::world::{commit, delivery, ordering, status};
use crate::{NewPipeline, Queue, StatusesOf};

on_both![
    the_last_status_of_each_name_is_repeated_once_for_each_pipeline,
    statuses_of_branches_of_other_requests_and_of_other_tenants_are_left_alone,
    what_waits_finds_the_pipeline_by_itself_unless_it_is_under_way,
    what_gitlab_refused_is_not_replaced_by_what_was_before,
];

fn of_request(mut order: Order, iid: Option<u64>) -> Order {
    if let Task::SetStatus(status) = &mut order.task {
        status.merge_request = iid;
        status.name = "build".to_owned();
    }
    order
}

fn about(tenant: &str) -> StatusesOf {
    StatusesOf {
        instance: "main".into(),
        tenant: tenant.into(),
        code: ProjectId(1),
        commit: commit('a'),
    }
}

fn new(pipeline: u64) -> NewPipeline {
    NewPipeline {
        of: about("acme/**"),
        project: ProjectId(1),
        merge_request: 4,
        pipeline,
    }
}

async fn order(bed: &Bed, id: &str, orders: Vec<Order>) {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, ordering(id, "r", orders), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
}

/// Does all that waits, in this pipeline; the effects.
async fn all_done(bed: &Bed, pipeline: u64) -> Vec<EffectId> {
    let mut ids = Vec::new();
    for claim in bed.claim_all(Queue::Act).await {
        while let Some(effect) = bed.store.next_effect(&claim, bed.now()).await.unwrap() {
            let id = effect.order.id;
            ids.push(id);
            let result = json!({ "pipeline": pipeline });
            bed.store
                .effect_done(&claim, &id, result, bed.now())
                .await
                .unwrap();
        }
        bed.release(claim).await;
    }
    ids
}

async fn again(bed: &Bed, pipeline: u64) -> usize {
    bed.store
        .repeat_statuses(new(pipeline), bed.now())
        .await
        .unwrap()
}

async fn the_last_status_of_each_name_is_repeated_once_for_each_pipeline(bed: Bed) {
    let orders = ["first", "last"].map(|key| of_request(status("d1", key, 'a'), Some(4)));
    order(&bed, "d1", orders.to_vec()).await;
    assert_eq!(all_done(&bed, 100).await.len(), 2);
    let lacks = async |pipeline| {
        let found = bed.store.statuses_elsewhere(about("acme/**"), pipeline);
        found.await.unwrap().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(lacks(100).await, []);
    assert_eq!(lacks(200).await, [(ProjectId(1), 4)]);
    let since = async |at| bed.store.has_statuses(about("acme/**"), at).await;
    assert_eq!(since(bed.now()).await, Ok(true));
    assert_eq!(
        since(bed.now().plus(Duration::from_secs(1))).await,
        Ok(false)
    );
    assert_eq!(again(&bed, 100).await, 0, "it is there");
    assert_eq!(again(&bed, 200).await, 1);
    assert_eq!(again(&bed, 200).await, 0, "ordered already");
    assert_eq!(all_done(&bed, 200).await.len(), 1);
    assert_eq!(again(&bed, 200).await, 0);
    assert_eq!(again(&bed, 300).await, 1);
    assert_eq!(all_done(&bed, 300).await.len(), 1);
}

async fn statuses_of_branches_of_other_requests_and_of_other_tenants_are_left_alone(bed: Bed) {
    let orders =
        [("one", None), ("two", Some(5))].map(|(key, iid)| of_request(status("d1", key, 'a'), iid));
    order(&bed, "d1", orders.to_vec()).await;
    all_done(&bed, 100).await;
    assert_eq!(again(&bed, 200).await, 0);
    let foreign = bed.store.statuses_elsewhere(about("other/**"), 200);
    assert!(foreign.await.unwrap().is_empty());
}

async fn what_waits_finds_the_pipeline_by_itself_unless_it_is_under_way(bed: Bed) {
    let orders = ["first", "last"].map(|key| of_request(status("d1", key, 'a'), Some(4)));
    order(&bed, "d1", orders.to_vec()).await;
    assert_eq!(again(&bed, 200).await, 0, "nobody has asked GitLab yet");
    let claim = bed.claim_lane("status:").await;
    let first = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(again(&bed, 200).await, 0, "the last waits behind it");
    bed.store
        .effect_done(&claim, &first.unwrap().order.id, json!({}), bed.now())
        .await
        .unwrap();
    bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(again(&bed, 200).await, 1, "it may have asked too early");
    bed.release(claim).await;
    assert_eq!(all_done(&bed, 200).await.len(), 2);
    assert_eq!(again(&bed, 200).await, 0);
}

async fn what_gitlab_refused_is_not_replaced_by_what_was_before(bed: Bed) {
    let orders = ["first", "last"].map(|key| of_request(status("d1", key, 'a'), Some(4)));
    order(&bed, "d1", orders.to_vec()).await;
    let claim = bed.claim_lane("status:").await;
    for refused in [false, true] {
        let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
        let id = effect.unwrap().order.id;
        let now = bed.now();
        if refused {
            let told = bed
                .store
                .effect_refused(&claim, &id, "403", Vec::new(), now);
            told.await.unwrap();
        } else {
            let result = json!({ "pipeline": 100 });
            let told = bed.store.effect_done(&claim, &id, result, now);
            told.await.unwrap();
        }
    }
    bed.release(claim).await;
    assert_eq!(again(&bed, 200).await, 0);
}
