//! What people try again.

use penstock_model::admit::{Order, Refusal, Task};
use penstock_model::id::{EffectId, RouteName};
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{decision, delivery, key, ordering, start, status};
use crate::{DeliveryOutcome, EffectState, Queue, RetriedEffect, RetryError};

on_both![
    a_refused_run_is_queued_again,
    a_refused_status_is_set_again,
    a_dead_status_that_a_newer_one_overtook_is_withdrawn,
    a_decision_with_refusals_is_made_again,
    a_decision_without_refusals_is_not_made_again,
    a_delivery_without_a_path_is_found_by_its_own_lane,
    a_new_attempt_doubles_no_run_of_an_earlier_one,
];

async fn a_refused_run_is_queued_again(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let order = start("d1", "run", 'a', "main");
    bed.store
        .commit(&claim, ordering("d1", "r", vec![order.clone()]), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .effect_refused(&claim, &order.id, "RBAC: no", vec![], bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    bed.store.retry_effect(&order.id, bed.now()).await.unwrap();
    let run = bed.store.run(&order.id).await.unwrap().unwrap().run;
    assert_eq!(
        (run.state, run.reason.as_str(), run.finished_at),
        (RunState::Queued, "", None)
    );
    let unfinished = bed.store.runs_unfinished(&"prod".into()).await.unwrap();
    assert_eq!(unfinished.len(), 1);
    let claim = bed.claim(Queue::Act).await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order, order);
}

async fn a_refused_status_is_set_again(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let order = status("d1", "one", 'a');
    bed.store
        .commit(&claim, ordering("d1", "r", vec![order.clone()]), bed.now())
        .await
        .unwrap();
    let act = bed.claim(Queue::Act).await;
    bed.store
        .effect_refused(&act, &order.id, "403", vec![], bed.now())
        .await
        .unwrap();
    bed.store.retry_effect(&order.id, bed.now()).await.unwrap();
    let effect = bed.store.next_effect(&act, bed.now()).await.unwrap();
    assert_eq!(effect.unwrap().order, order);
    let again = bed.store.retry_effect(&order.id, bed.now()).await;
    let said = again.unwrap_err().to_string();
    assert!(said.ends_with("failed, died or was refused can be tried again"));
}

async fn a_dead_status_that_a_newer_one_overtook_is_withdrawn(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut orders = [status("d1", "one", 'a'), status("d1", "two", 'a')].to_vec();
    let mut other = status("d1", "three", 'a');
    for (order, name) in orders.iter_mut().chain([&mut other]).zip(["x", "x", "y"]) {
        if let Task::SetStatus(status) = &mut order.task {
            name.clone_into(&mut status.name);
        }
    }
    let [older, newer] = [orders[0].id, orders[1].id];
    orders.push(other.clone());
    bed.store
        .commit(&claim, ordering("d1", "r", orders), bed.now())
        .await
        .unwrap();
    let act = bed.claim(Queue::Act).await;
    for id in [older, newer, other.id] {
        bed.store
            .effect_dead(&act, &id, "a day", vec![], bed.now())
            .await
            .unwrap();
    }
    // Of each name the newest goes again, and then nothing older.
    for (id, became) in [
        (newer, RetriedEffect::Again),
        (older, RetriedEffect::Overtaken),
        (other.id, RetriedEffect::Again),
    ] {
        let found = bed.store.retry_effect(&id, bed.now()).await.unwrap();
        assert_eq!(found, became);
    }
    let explained = bed.store.explain(None, &"d1".into()).await.unwrap();
    let effects = explained.unwrap().effects;
    let states: Vec<_> = effects.iter().map(|it| it.state).collect();
    let waits = EffectState::Waiting;
    assert_eq!(states, [EffectState::Withdrawn, waits, waits]);
}

async fn a_decision_with_refusals_is_made_again(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r", "s"]).await;
    let mut decided = decision("d1", "r");
    decided.admitted.refused.push(Refusal {
        key: "deploy".into(),
        path: "place".to_owned(),
        rule: "there is no place `prod`".to_owned(),
        remedy: "name another".to_owned(),
        status_name: None,
    });
    bed.store.commit(&claim, decided, bed.now()).await.unwrap();
    bed.store
        .commit(&claim, decision("d1", "s"), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let retried = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await
        .unwrap();
    assert_eq!(retried.routes, [("r".into(), 2)]);
    let claim = bed.claim(Queue::Dispatch).await;
    let pending = bed.head(&claim).await;
    assert_eq!(pending.delivery.outcome, DeliveryOutcome::Waiting);
    assert_eq!((pending.routes.len(), pending.routes[0].attempt), (1, 2));
    let again = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await;
    assert!(
        matches!(again, Err(RetryError::NothingToRetry { .. })),
        "its new attempt waits: {again:?}"
    );
}

async fn a_decision_without_refusals_is_not_made_again(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    let retried = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await;
    assert!(matches!(retried, Err(RetryError::NothingToRetry { .. })));
}

async fn a_delivery_without_a_path_is_found_by_its_own_lane(bed: Bed) {
    let mut new = delivery("d1", bed.now());
    new.project = None;
    bed.append_this(new).await;
    let claim = bed.claim(Queue::Dispatch).await;
    let lane = claim.lane.clone();
    bed.store
        .unrouted(&claim, &key("d1"), "no route", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    bed.store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await
        .unwrap();
    let claim = bed.claim(Queue::Dispatch).await;
    assert_eq!(claim.lane, lane);
    assert_eq!(bed.head(&claim).await.delivery.key, key("d1"));
}

/// The order of an attempt after the first.
fn at_attempt(order: &Order, delivery: &str, attempt: u32) -> Order {
    let route: RouteName = "r".into();
    let id = EffectId::new(
        &"main".into(),
        &delivery.into(),
        &route,
        attempt,
        &order.key,
    );
    let mut again = order.clone();
    again.id = id;
    if let Task::StartRun(run) = &mut again.task {
        run.name = id.object_name("build");
    }
    again
}

async fn a_new_attempt_doubles_no_run_of_an_earlier_one(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let (made, withdrawn, denied) = (
        start("d1", "run/made", 'a', "main"),
        start("d1", "run/waits", 'a', "main"),
        start("d1", "run/denied", 'a', "main"),
    );
    let mut first = ordering(
        "d1",
        "r",
        vec![made.clone(), withdrawn.clone(), denied.clone()],
    );
    first.admitted.refused.push(Refusal {
        key: "run/refused".into(),
        path: "place".to_owned(),
        rule: "there is no place `prod`".to_owned(),
        remedy: "name another".to_owned(),
        status_name: None,
    });
    bed.store.commit(&claim, first, bed.now()).await.unwrap();
    bed.release(claim).await;
    let act = bed.claim(Queue::Act).await;
    bed.store
        .effect_done(&act, &made.id, serde_json::json!({}), bed.now())
        .await
        .unwrap();
    bed.store
        .effect_refused(&act, &denied.id, "RBAC: no", vec![], bed.now())
        .await
        .unwrap();
    bed.release(act).await;

    bed.store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await
        .unwrap();
    let claim = bed.claim(Queue::Dispatch).await;
    let again = |order: &Order| at_attempt(order, "d1", 2);
    let refused = again(&start("d1", "run/refused", 'a', "main"));
    let mut second = ordering(
        "d1",
        "r",
        vec![
            again(&made),
            again(&withdrawn),
            again(&denied),
            refused.clone(),
        ],
    );
    second.attempt = 2;
    bed.store.commit(&claim, second, bed.now()).await.unwrap();

    let told = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    let keys = |attempt: u32| -> Vec<&str> {
        let of = told.effects.iter().filter(|it| it.attempt == attempt);
        of.map(|it| it.key.as_str()).collect()
    };
    assert_eq!(keys(1), ["run/made", "run/waits", "run/denied"]);
    assert_eq!(
        keys(2),
        ["run/denied", "run/refused"],
        "only what there is no run of"
    );
    let route = told.routes.iter().find(|it| it.attempt == 2).unwrap();
    assert_eq!(route.admitted.len(), 4, "all of it was admitted");
    assert!(bed.store.run(&again(&made).id).await.unwrap().is_none());
    assert!(bed.store.run(&refused.id).await.unwrap().is_some());
}
