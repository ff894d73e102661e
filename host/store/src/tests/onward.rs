//! Several steps of a lane in one transaction: drawing with what is first, answering and going on.

use penstock_model::admit::Task;
use penstock_model::id::Digest;
use serde_json::json;

use super::bed::{Bed, MANY, TTL};
use super::on_both;
use super::world::{decision, delivery, key, ordering, record, start, status};
use crate::{
    ActError, CommitError, CreatedRun, DeliveryOutcome, Drawn, Effect, EffectState, Onward,
    Pending, Queue, Settlement, Store, Then,
};

on_both![
    a_draw_brings_the_delivery_and_its_body,
    a_large_body_is_left_where_it_is,
    a_delivery_is_routed_and_decided_at_once,
    what_a_decision_leaves_of_the_routes_waits,
    routes_and_decision_are_written_together_or_not_at_all,
    a_delivery_says_which_routes_earlier_ones_wait_for,
    after_a_decision_the_lane_goes_on_or_is_given_back,
    a_draw_hands_a_start_out,
    after_an_effect_the_lane_goes_on_or_is_given_back,
    who_gives_a_lane_back_with_its_answer_leaves_the_rest_to_others,
    who_lost_the_claim_goes_on_with_nothing,
];

async fn deliveries(bed: &Bed) -> Vec<Drawn<Pending>> {
    bed.store
        .draw_deliveries("worker", TTL, MANY, 100, bed.now())
        .await
        .unwrap()
}

async fn effects(bed: &Bed) -> Vec<Drawn<Effect>> {
    bed.store
        .draw_effects("worker", TTL, MANY, 100, bed.now())
        .await
        .unwrap()
        .into_iter()
        .map(|Drawn { claim, first }| Drawn {
            claim,
            first: first.expect("nothing is limited here"),
        })
        .collect()
}

async fn a_draw_brings_the_delivery_and_its_body(bed: Bed) {
    let new = delivery("d1", bed.now());
    let body = new.body.to_vec();
    bed.append_this(new).await;
    let drawn = deliveries(&bed).await.pop().unwrap();
    assert_eq!(drawn.first.delivery.key, key("d1"));
    assert_eq!(drawn.first.delivery.body, Some(body));
    assert!(!drawn.first.routed && drawn.first.behind.is_empty());
    assert_eq!(deliveries(&bed).await, [], "it is held");
}

async fn a_large_body_is_left_where_it_is(bed: Bed) {
    let mut new = delivery("d1", bed.now());
    new.body = vec![b' '; 70_000].into();
    bed.append_this(new).await;
    let drawn = deliveries(&bed).await.pop().unwrap();
    assert_eq!(drawn.first.delivery.body, None);
    let body = bed.store.body(&key("d1")).await.unwrap();
    assert_eq!(body.unwrap().len(), 70_000);
}

async fn a_delivery_is_routed_and_decided_at_once(bed: Bed) {
    bed.append("d1").await;
    let drawn = deliveries(&bed).await.pop().unwrap();
    let decided = ordering("d1", "r", vec![start("d1", "run", 'a', "main")]);
    let routes = Some(vec!["r".into()]);
    let done = bed
        .store
        .commit_then(&drawn.claim, decided, routes, Then::GoOn, bed.now())
        .await;
    assert_eq!(done.unwrap().1, Onward::GivenBack);
    let explained = bed.store.explain(None, &"d1".into()).await.unwrap();
    let explained = explained.unwrap();
    assert_eq!(explained.delivery.outcome, DeliveryOutcome::Decided);
    assert_eq!(explained.routes.len(), 1);
    assert_eq!(explained.runs.len(), 1);
    let known = bed.store.record(&key("d1"), &"r".into(), 1).await.unwrap();
    assert_eq!(
        known.unwrap().canonical().unwrap(),
        record("d1").canonical().unwrap()
    );
    assert_eq!(deliveries(&bed).await, []);
}

async fn what_a_decision_leaves_of_the_routes_waits(bed: Bed) {
    bed.append("d1").await;
    let drawn = deliveries(&bed).await.pop().unwrap();
    let routes = Some(vec!["one".into(), "two".into()]);
    let mut failed = decision("d1", "one");
    failed.settlement = Settlement::Failed;
    let done = bed
        .store
        .commit_then(&drawn.claim, failed, routes, Then::GoOn, bed.now())
        .await;
    let Onward::Next(next) = done.unwrap().1 else {
        panic!("the other route waits");
    };
    assert!(next.routed);
    let waiting: Vec<_> = next.routes.iter().map(|it| it.route.as_str()).collect();
    assert_eq!(waiting, ["two"]);
    let found = bed.store.delivery(None, &"d1".into()).await.unwrap();
    assert_eq!(found.unwrap().outcome, DeliveryOutcome::Waiting);
    bed.store
        .commit(&drawn.claim, decision("d1", "two"), bed.now())
        .await
        .unwrap();
    let found = bed.store.delivery(None, &"d1".into()).await.unwrap();
    assert_eq!(found.unwrap().outcome, DeliveryOutcome::Failed);
}

async fn routes_and_decision_are_written_together_or_not_at_all(bed: Bed) {
    bed.append("d1").await;
    let drawn = deliveries(&bed).await.pop().unwrap();
    let mut conflicting = decision("d1", "r");
    conflicting.state = super::world::writes("k", 7, Some("v"));
    let routes = Some(vec!["r".into()]);
    let done = bed
        .store
        .commit_then(
            &drawn.claim,
            conflicting,
            routes.clone(),
            Then::GoOn,
            bed.now(),
        )
        .await;
    assert!(
        matches!(done, Err(CommitError::Conflict { .. })),
        "{done:?}"
    );
    let still = bed.head(&drawn.claim).await;
    assert!(!still.routed && still.routes.is_empty(), "{still:?}");
    bed.store
        .commit_then(
            &drawn.claim,
            decision("d1", "r"),
            routes.clone(),
            Then::Stay,
            bed.now(),
        )
        .await
        .unwrap();
    let again = bed
        .store
        .commit_then(
            &drawn.claim,
            decision("d1", "r"),
            routes,
            Then::Stay,
            bed.now(),
        )
        .await;
    assert!(again.is_err(), "{again:?}");
}

async fn a_delivery_says_which_routes_earlier_ones_wait_for(bed: Bed) {
    bed.append("d1").await;
    bed.append("d2").await;
    let drawn = deliveries(&bed).await.pop().unwrap();
    let claim = &drawn.claim;
    let names = vec!["one".into(), "two".into()];
    bed.store
        .route(claim, &key("d1"), names, bed.now())
        .await
        .unwrap();
    let later = bed.now().plus(TTL);
    bed.store
        .postpone(
            claim,
            &key("d1"),
            Some(&"one".into()),
            later,
            "away",
            bed.now(),
        )
        .await
        .unwrap();
    bed.store
        .commit(claim, decision("d1", "two"), bed.now())
        .await
        .unwrap();
    let next = bed.head(claim).await;
    assert_eq!((next.delivery.key, next.routed), (key("d2"), false));
    assert_eq!(next.behind, ["one".into()]);
}

async fn after_a_decision_the_lane_goes_on_or_is_given_back(bed: Bed) {
    for id in ["d1", "d2"] {
        bed.append(id).await;
    }
    let drawn = deliveries(&bed).await.pop().unwrap();
    let commit = async |id: &str| {
        let routes = Some(vec!["r".into()]);
        let done = bed
            .store
            .commit_then(
                &drawn.claim,
                decision(id, "r"),
                routes,
                Then::GoOn,
                bed.now(),
            )
            .await;
        done.unwrap().1
    };
    match commit("d1").await {
        Onward::Next(next) => assert_eq!(next.delivery.key, key("d2")),
        other => panic!("{other:?}"),
    }
    assert_eq!(commit("d2").await, Onward::GivenBack);
    bed.append("d3").await;
    let again = deliveries(&bed).await.pop().unwrap();
    assert_eq!(again.first.delivery.key, key("d3"));
}

/// Commits a decision with these orders.
async fn decided(bed: &Bed, id: &str, orders: Vec<penstock_model::admit::Order>) {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    let done = bed
        .store
        .commit_then(
            &claim,
            ordering(id, "r", orders),
            None,
            Then::GoOn,
            bed.now(),
        )
        .await;
    assert_eq!(done.unwrap().1, Onward::GivenBack);
}

async fn a_draw_hands_a_start_out(bed: Bed) {
    decided(&bed, "d1", vec![start("d1", "run", 'a', "main")]).await;
    let drawn = effects(&bed).await.pop().unwrap();
    assert!(matches!(drawn.first.order.task, Task::StartRun(_)));
    // Cancelled now, it may be there already: a stop is ordered beside the withdrawal.
    let mut cancelling = ordering("d2", "r", Vec::new());
    cancelling.admitted.orders = vec![super::world::cancel(
        "d2",
        penstock_model::effect::CancelScope::Earlier,
        "main",
        None,
    )];
    let claim = bed.routed(delivery("d2", bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, cancelling, bed.now())
        .await
        .unwrap();
    let stops = bed
        .store
        .next_effect(&drawn.claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(stops.order.task, Task::StopRun(_)), "{stops:?}");
}

fn created(order: &penstock_model::admit::Order) -> CreatedRun {
    CreatedRun {
        id: order.id,
        uid: "uid-1".to_owned(),
        stored_digest: Digest::of(b"spec"),
        web_url: None,
        follow_ups: vec![status("d1", "running", 'a')],
    }
}

async fn after_an_effect_the_lane_goes_on_or_is_given_back(bed: Bed) {
    let orders = vec![
        start("d1", "one", 'a', "main"),
        start("d1", "two", 'a', "main"),
    ];
    decided(&bed, "d1", orders.clone()).await;
    let drawn = effects(&bed).await.pop().unwrap();
    assert_eq!(drawn.first.order.id, orders[0].id);
    let next = bed
        .store
        .run_created_then(&drawn.claim, created(&orders[0]), Then::GoOn, bed.now())
        .await;
    let Ok(Onward::Next(next)) = next else {
        panic!("{next:?}");
    };
    assert_eq!(next.order.id, orders[1].id);
    let last = CreatedRun {
        follow_ups: Vec::new(),
        uid: "uid-2".to_owned(),
        ..created(&orders[1])
    };
    let done = bed
        .store
        .run_created_then(&drawn.claim, last, Then::GoOn, bed.now())
        .await;
    assert_eq!(done, Ok(Onward::GivenBack));
    // What followed is in a lane of its own.
    let drawn = effects(&bed).await.pop().unwrap();
    let id = drawn.first.order.id;
    let done = bed
        .store
        .effect_done_then(&drawn.claim, &id, json!({}), Then::GoOn, bed.now())
        .await;
    assert_eq!(done, Ok(Onward::GivenBack));
    assert_eq!(effects(&bed).await, []);
}

async fn who_gives_a_lane_back_with_its_answer_leaves_the_rest_to_others(bed: Bed) {
    let orders = vec![status("d1", "one", 'a'), status("d1", "two", 'a')];
    decided(&bed, "d1", orders.clone()).await;
    let drawn = effects(&bed).await.pop().unwrap();
    let done = bed
        .store
        .effect_done_then(
            &drawn.claim,
            &orders[0].id,
            json!({}),
            Then::GiveBack,
            bed.now(),
        )
        .await;
    assert_eq!(done, Ok(Onward::GivenBack));
    let again = effects(&bed).await.pop().unwrap();
    assert_eq!(again.first.order.id, orders[1].id);
    assert!(again.claim.epoch > drawn.claim.epoch);
}

async fn who_lost_the_claim_goes_on_with_nothing(bed: Bed) {
    decided(&bed, "d1", vec![start("d1", "run", 'a', "main")]).await;
    let old = effects(&bed).await.pop().unwrap();
    bed.pass(TTL + std::time::Duration::from_secs(1));
    let new = effects(&bed).await.pop().unwrap();
    let late = created(&old.first.order);
    let answer = bed
        .store
        .run_created_then(&old.claim, late, Then::GoOn, bed.now())
        .await;
    assert!(matches!(answer, Err(ActError::Fenced { .. })), "{answer:?}");
    let found = bed
        .store
        .effects(crate::EffectFilter::default())
        .await
        .unwrap();
    assert!(found.iter().all(|it| it.state == EffectState::Waiting));
    let done = bed
        .store
        .run_created_then(&new.claim, created(&new.first.order), Then::GoOn, bed.now())
        .await;
    assert_eq!(done, Ok(Onward::GivenBack));
}

/// The file lock proves that nobody else works: nothing waits for the end of a claim.
#[tokio::test]
async fn a_server_takes_over_at_once_what_one_that_died_had_in_hand() {
    let bed = Bed::sqlite().await;
    bed.append("d1").await;
    let held = bed.claim(Queue::Dispatch).await;
    bed.store.clone().close().await;
    let store = Store::open(bed.target.clone()).await.unwrap();
    let drawn = store
        .draw_deliveries("another", TTL, MANY, 1, bed.now())
        .await
        .unwrap();
    assert_eq!(drawn.len(), 1);
    assert!(drawn[0].claim.epoch > held.epoch);
}
