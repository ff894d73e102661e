//! From a delivery to its decision.

use std::time::Duration;

use penstock_model::lookup::{Content, StateValue};
use penstock_model::record::{StateChange, StateWrite};

use super::bed::Bed;
use super::on_both;
use super::world::{decision, delivery, key, ordering, record, start, status, writes};
use crate::{
    Ages, Claim, CommitError, DeliveryOutcome, EffectFilter, LaneError, Mode, NewDelivery, Queue,
    RetryError, RouteOutcome, Settlement, StateScope,
};

on_both![
    what_may_supersede_a_delivery_that_is_put_off_goes_before_it,
    deliveries_of_a_lane_come_in_their_order,
    what_was_not_tried_keeps_its_place,
    a_route_that_waits_holds_up_only_itself,
    routing_twice_changes_nothing,
    a_delivery_that_leads_nowhere_can_be_routed_again,
    routing_that_was_put_off_too_long_is_dead_and_can_be_tried_again,
    a_route_that_was_given_up_goes_again_as_a_new_attempt,
    a_decision_is_committed_once,
    a_record_comes_back_as_it_was_committed,
    what_is_observed_is_recorded_and_not_done,
    a_failed_decision_may_order_its_status,
    a_state_conflict_writes_nothing_at_all,
    a_key_that_appeared_since_it_was_missed_is_a_conflict,
    a_listing_that_changed_is_a_conflict,
    versions_never_come_again,
    state_expires_by_days,
    keys_are_listed_by_prefix_in_the_order_of_their_bytes,
    of_two_decisions_that_read_the_same_version_one_commits,
];

fn scope() -> StateScope {
    StateScope {
        instance: "main".into(),
        project: penstock_model::id::ProjectId(1),
        plugin: "pipelines".into(),
    }
}

async fn outcome(bed: &Bed, id: &str) -> DeliveryOutcome {
    let found = bed.store.delivery(None, &id.into()).await.unwrap();
    found.unwrap().outcome
}

/// Routes what the lane has next, and names it.
async fn route_next(bed: &Bed, claim: &Claim, routes: &[&str]) -> String {
    let pending = bed.head(claim).await;
    assert!(!pending.routed, "{pending:?}");
    let names = routes.iter().map(|route| (*route).into()).collect();
    bed.store
        .route(claim, &pending.delivery.key, names, bed.now())
        .await
        .unwrap();
    pending.delivery.key.id.to_string()
}

async fn deliveries_of_a_lane_come_in_their_order(bed: Bed) {
    for id in ["d1", "d2", "d3"] {
        bed.append(id).await;
    }
    let claim = bed.claim(Queue::Dispatch).await;
    for id in ["d1", "d2", "d3"] {
        assert_eq!(route_next(&bed, &claim, &["r"]).await, id);
        let pending = bed.head(&claim).await;
        assert_eq!(pending.delivery.key, key(id));
        assert!(pending.delivery.body.is_some(), "it is small");
        assert_eq!(pending.routes.len(), 1);
        bed.store
            .commit(&claim, decision(id, "r"), bed.now())
            .await
            .unwrap();
        assert_eq!(outcome(&bed, id).await, DeliveryOutcome::Decided);
    }
    assert_eq!(bed.store.head(&claim, bed.now()).await, Ok(None));
}

async fn what_may_supersede_a_delivery_that_is_put_off_goes_before_it(bed: Bed) {
    let of_kind = |id: &str, kind: &str| NewDelivery {
        kind: kind.to_owned(),
        ..delivery(id, bed.now())
    };
    for (id, kind) in [
        ("d1", "push"),
        ("d2", "pipeline"),
        ("d3", "push"),
        ("d4", "note"),
    ] {
        bed.append_this(of_kind(id, kind)).await;
    }
    let claim = bed.claim(Queue::Dispatch).await;
    for _ in 0..4 {
        let pending = bed.head(&claim).await;
        if !pending.routed {
            route_next(&bed, &claim, &["r"]).await;
        }
        let (first, route) = (key("d1"), "r".into());
        let later = bed.now().plus(Duration::from_secs(20));
        if pending.delivery.key == first && pending.routed {
            bed.store
                .postpone(
                    &claim,
                    &first,
                    Some(&route),
                    later,
                    "GitLab is away",
                    bed.now(),
                )
                .await
                .unwrap();
        }
    }
    // What can't supersede anything keeps its place behind; those that can keep their own order.
    let mut decided = Vec::new();
    while let Some(pending) = bed.store.head(&claim, bed.now()).await.unwrap() {
        if !pending.routed {
            route_next(&bed, &claim, &["r"]).await;
            continue;
        }
        let id = pending.delivery.key.id.to_string();
        bed.store
            .commit(&claim, decision(&id, "r"), bed.now())
            .await
            .unwrap();
        decided.push(id);
    }
    assert_eq!(decided, ["d3", "d4"]);
    bed.release(claim).await;
    assert_eq!(bed.claim_all(Queue::Dispatch).await, []);
    bed.pass(Duration::from_secs(20));
    let claim = bed.claim(Queue::Dispatch).await;
    for id in ["d1", "d2"] {
        assert_eq!(bed.head(&claim).await.delivery.key, key(id));
        bed.store
            .commit(&claim, decision(id, "r"), bed.now())
            .await
            .unwrap();
    }
}

/// Its plugin is busy or yet to be loaded: a comment after a merge request must not go before it.
async fn what_was_not_tried_keeps_its_place(bed: Bed) {
    for (id, kind) in [("d1", "merge_request"), ("d2", "note")] {
        let new = NewDelivery {
            kind: kind.to_owned(),
            ..delivery(id, bed.now())
        };
        bed.append_this(new).await;
    }
    let claim = bed.claim(Queue::Dispatch).await;
    route_next(&bed, &claim, &["r"]).await;
    let later = bed.now().plus(Duration::from_secs(20));
    let why = "plugin `p` is being loaded";
    bed.store
        .put_off(&claim, &key("d1"), &"r".into(), later, why, bed.now())
        .await
        .unwrap();
    route_next(&bed, &claim, &["r"]).await;
    assert_eq!(bed.store.head(&claim, bed.now()).await, Ok(None));
    bed.pass(Duration::from_secs(20));
    for id in ["d1", "d2"] {
        assert_eq!(bed.head(&claim).await.delivery.key, key(id));
        bed.store
            .commit(&claim, decision(id, "r"), bed.now())
            .await
            .unwrap();
    }
}

async fn a_route_that_waits_holds_up_only_itself(bed: Bed) {
    for id in ["d1", "d2"] {
        let new = NewDelivery {
            kind: "pipeline".to_owned(),
            ..delivery(id, bed.now())
        };
        bed.append_this(new).await;
    }
    let claim = bed.claim(Queue::Dispatch).await;
    route_next(&bed, &claim, &["one", "two"]).await;
    let later = bed.now().plus(Duration::from_secs(20));
    let one = "one".into();
    bed.store
        .postpone(
            &claim,
            &key("d1"),
            Some(&one),
            later,
            "GitLab is away",
            bed.now(),
        )
        .await
        .unwrap();
    bed.store
        .commit(&claim, decision("d1", "two"), bed.now())
        .await
        .unwrap();
    route_next(&bed, &claim, &["one", "two"]).await;
    let pending = bed.head(&claim).await;
    assert_eq!(pending.delivery.key, key("d2"));
    let routes: Vec<_> = pending.routes.iter().map(|it| it.route.as_str()).collect();
    assert_eq!(
        routes,
        ["two"],
        "the first delivery's `one` comes before the second's"
    );
    bed.store
        .commit(&claim, decision("d2", "two"), bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.head(&claim, bed.now()).await, Ok(None));
    bed.release(claim).await;
    assert_eq!(
        bed.claim_all(Queue::Dispatch).await,
        [],
        "ready only when it is due"
    );

    bed.pass(Duration::from_secs(20));
    let claim = bed.claim(Queue::Dispatch).await;
    let pending = bed.head(&claim).await;
    assert_eq!(pending.delivery.key, key("d1"));
    assert_eq!(pending.routes[0].tries, 1);
    assert!(pending.routes[0].first_tried_at.is_some());
}

async fn routing_twice_changes_nothing(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.store
        .route(&claim, &key("d1"), vec!["r".into()], bed.now())
        .await
        .unwrap();
    assert_eq!(bed.head(&claim).await.routes.len(), 1);
    let unknown = bed
        .store
        .route(&claim, &key("nobody"), vec![], bed.now())
        .await;
    assert!(matches!(unknown, Err(LaneError::NotFound { .. })));
}

async fn a_delivery_that_leads_nowhere_can_be_routed_again(bed: Bed) {
    bed.append("d1").await;
    let claim = bed.claim(Queue::Dispatch).await;
    bed.store
        .unreadable(&claim, &key("d1"), "not what it says", bed.now())
        .await
        .unwrap();
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Unreadable);
    bed.release(claim).await;
    let retried = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await
        .unwrap();
    assert!(retried.rerouted);
    let claim = bed.claim(Queue::Dispatch).await;
    route_next(&bed, &claim, &["r"]).await;
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Waiting);
}

async fn routing_that_was_put_off_too_long_is_dead_and_can_be_tried_again(bed: Bed) {
    bed.append("d1").await;
    let claim = bed.claim(Queue::Dispatch).await;
    bed.store
        .postpone(
            &claim,
            &key("d1"),
            None,
            bed.now(),
            "GitLab is away",
            bed.now(),
        )
        .await
        .unwrap();
    assert_eq!(bed.head(&claim).await.tries, 1);
    bed.store
        .give_up(
            &claim,
            &key("d1"),
            None,
            "GitLab is away",
            vec![status("d1", "s", 'a')],
            bed.now(),
        )
        .await
        .unwrap();
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Dead);
    assert_eq!(bed.store.figures().await.unwrap().dead_routes, 1);
    assert_eq!(bed.claim_all(Queue::Act).await.len(), 1, "its status waits");
    bed.release(claim).await;
    let retried = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await;
    assert!(retried.unwrap().rerouted);
    assert_eq!(bed.store.figures().await.unwrap().dead_routes, 0);
    let claim = bed.claim(Queue::Dispatch).await;
    assert_eq!(bed.head(&claim).await.tries, 0);
}

async fn a_route_that_was_given_up_goes_again_as_a_new_attempt(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["one", "two"]).await;
    bed.store
        .commit(&claim, decision("d1", "one"), bed.now())
        .await
        .unwrap();
    let two = "two".into();
    bed.store
        .give_up(
            &claim,
            &key("d1"),
            Some(&two),
            "a day has passed",
            vec![],
            bed.now(),
        )
        .await
        .unwrap();
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Dead);
    assert_eq!(bed.store.figures().await.unwrap().dead_routes, 1);
    bed.release(claim).await;

    let retried = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await
        .unwrap();
    assert_eq!(retried.routes, [("two".into(), 2)]);
    let nothing = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await;
    assert!(matches!(nothing, Err(RetryError::NothingToRetry { .. })));
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Waiting);
    let claim = bed.claim(Queue::Dispatch).await;
    assert_eq!(bed.head(&claim).await.routes[0].attempt, 2);
    let mut second = decision("d1", "two");
    second.attempt = 2;
    bed.store.commit(&claim, second, bed.now()).await.unwrap();
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Decided);
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    let outcomes: Vec<_> = explained
        .routes
        .iter()
        .map(|route| (route.route.as_str(), route.attempt, route.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("one", 1, RouteOutcome::Decided),
            ("two", 1, RouteOutcome::Dead),
            ("two", 2, RouteOutcome::Decided)
        ]
    );
    assert_eq!(bed.store.figures().await.unwrap().dead_routes, 0);
}

async fn a_decision_is_committed_once(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let decided = ordering("d1", "r", vec![start("d1", "run", 'a', "main")]);
    bed.store
        .commit(&claim, decided.clone(), bed.now())
        .await
        .unwrap();
    let again = bed.store.commit(&claim, decided, bed.now()).await;
    assert!(
        matches!(again, Err(CommitError::AlreadyDecided { .. })),
        "{again:?}"
    );
    let unknown = bed
        .store
        .commit(&claim, decision("d1", "other"), bed.now())
        .await;
    assert!(matches!(unknown, Err(CommitError::NotFound { .. })));
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((explained.effects.len(), explained.runs.len()), (1, 1));
}

async fn a_record_comes_back_as_it_was_committed(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    let found = bed
        .store
        .record(&key("d1"), &"r".into(), 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        found.canonical().unwrap(),
        record("d1").canonical().unwrap()
    );
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    let route = &explained.routes[0];
    assert_eq!(route.answer.as_deref(), Some("plan"));
    assert_eq!(route.reasons, ["main moved"]);
    assert_eq!(route.usage.map(|usage| usage.host_calls), Some(3));
    assert_eq!(route.plugin, Some("pipelines".into()));
    let digest = route.record.unwrap();
    assert!(bed.store.blob(&digest).await.unwrap().is_some());

    bed.pass(Duration::from_secs(31 * 24 * 60 * 60));
    bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!(bed.store.record(&key("d1"), &"r".into(), 1).await, Ok(None));
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(explained.routes[0].record, Some(digest), "the digest stays");
}

async fn what_is_observed_is_recorded_and_not_done(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut observed = ordering("d1", "r", vec![start("d1", "run", 'a', "main")]);
    observed.mode = Mode::Observe;
    bed.store.commit(&claim, observed, bed.now()).await.unwrap();
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((explained.effects.len(), explained.runs.len()), (0, 0));
    assert_eq!(explained.routes[0].mode, Some(Mode::Observe));
    assert_eq!(explained.routes[0].admitted[0].kind, "start-run");
    assert_eq!(bed.claim_all(Queue::Act).await, []);
}

async fn a_failed_decision_may_order_its_status(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut failed = decision("d1", "r");
    failed.settlement = Settlement::Failed;
    failed.why = Some("trap".to_owned());
    failed.record = None;
    failed.orders = vec![status("d1", "penstock", 'a')];
    bed.store.commit(&claim, failed, bed.now()).await.unwrap();
    assert_eq!(outcome(&bed, "d1").await, DeliveryOutcome::Failed);
    let act = bed.claim(Queue::Act).await;
    let effect = bed
        .store
        .next_effect(&act, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(effect.order, status("d1", "penstock", 'a'));
    assert_eq!(effect.delivery, key("d1"));
}

/// Commits a state change as the next delivery of the lane.
async fn change(bed: &Bed, id: &str, state: StateChange) -> Result<(), CommitError> {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    let mut decided = ordering(id, "r", vec![start(id, "run", 'a', "main")]);
    decided.state = state;
    let committed = bed.store.commit(&claim, decided, bed.now()).await;
    bed.store
        .commit(&claim, decision(id, "r"), bed.now())
        .await
        .ok();
    bed.release(claim).await;
    committed.map(drop)
}

async fn version(bed: &Bed, key: &str) -> u64 {
    let value = bed.store.state_value(&scope(), key, bed.now()).await;
    value.unwrap().map_or(0, |value| value.version)
}

async fn a_state_conflict_writes_nothing_at_all(bed: Bed) {
    change(&bed, "d1", writes("counter", 0, Some("1")))
        .await
        .unwrap();
    let read = version(&bed, "counter").await;
    change(&bed, "d2", writes("counter", read, Some("2")))
        .await
        .unwrap();

    let claim = bed.routed(delivery("d3", bed.now()), &["r"]).await;
    let mut stale = ordering("d3", "r", vec![start("d3", "run", 'a', "main")]);
    stale.state = writes("counter", read, Some("3"));
    stale.state.written.insert(
        "another".to_owned(),
        StateWrite {
            value: Some(Content(b"x".to_vec())),
            days: None,
        },
    );
    let committed = bed.store.commit(&claim, stale, bed.now()).await;
    assert!(
        matches!(committed, Err(CommitError::Conflict { .. })),
        "{committed:?}"
    );
    let value = bed
        .store
        .state_value(&scope(), "counter", bed.now())
        .await
        .unwrap();
    assert_eq!(value.unwrap().value, Content(b"2".to_vec()));
    assert_eq!(version(&bed, "another").await, 0);
    let explained = bed
        .store
        .explain(None, &"d3".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((explained.effects.len(), explained.runs.len()), (0, 0));
    assert_eq!(explained.routes[0].outcome, RouteOutcome::Waiting);
    assert_eq!(explained.routes[0].record, None);
    assert_eq!(outcome(&bed, "d3").await, DeliveryOutcome::Waiting);
}

async fn a_key_that_appeared_since_it_was_missed_is_a_conflict(bed: Bed) {
    change(&bed, "d1", writes("k", 0, Some("1"))).await.unwrap();
    let stale = change(&bed, "d2", writes("k", 0, Some("2"))).await;
    assert!(matches!(stale, Err(CommitError::Conflict { .. })));
}

async fn a_listing_that_changed_is_a_conflict(bed: Bed) {
    change(&bed, "d1", writes("run/1", 0, Some("1")))
        .await
        .unwrap();
    let listed = |seen: &[&str]| StateChange {
        listed: vec![(
            "run/".to_owned(),
            10,
            seen.iter().map(|key| (*key).to_owned()).collect(),
        )],
        ..StateChange::default()
    };
    change(&bed, "d2", listed(&["run/1"])).await.unwrap();
    let stale = change(&bed, "d3", listed(&[])).await;
    assert!(matches!(stale, Err(CommitError::Conflict { .. })));
}

async fn versions_never_come_again(bed: Bed) {
    change(&bed, "d1", writes("k", 0, Some("1"))).await.unwrap();
    let first = version(&bed, "k").await;
    change(&bed, "d2", writes("k", first, None)).await.unwrap();
    assert_eq!(version(&bed, "k").await, 0);
    change(&bed, "d3", writes("k", 0, Some("1"))).await.unwrap();
    assert!(version(&bed, "k").await > first);
}

async fn state_expires_by_days(bed: Bed) {
    let mut state = writes("k", 0, Some("1"));
    state.written.get_mut("k").unwrap().days = Some(2);
    change(&bed, "d1", state).await.unwrap();
    bed.pass(Duration::from_secs(47 * 60 * 60));
    assert!(version(&bed, "k").await > 0);
    bed.pass(Duration::from_secs(60 * 60));
    assert_eq!(version(&bed, "k").await, 0);
    change(&bed, "d2", writes("k", 0, Some("2"))).await.unwrap();
    assert!(version(&bed, "k").await > 0);
}

async fn keys_are_listed_by_prefix_in_the_order_of_their_bytes(bed: Bed) {
    let mut state = StateChange::default();
    for key in ["run/b", "run/B", "run/ä", "run/a", "rum", "ruo", "run"] {
        state.written.extend(writes(key, 0, Some("1")).written);
    }
    change(&bed, "d1", state).await.unwrap();
    let keys = bed.store.state_keys(&scope(), "run/", 10, bed.now()).await;
    assert_eq!(keys.unwrap(), ["run/B", "run/a", "run/b", "run/ä"]);
    let keys = bed.store.state_keys(&scope(), "run", 2, bed.now()).await;
    assert_eq!(keys.unwrap(), ["run", "run/B"]);
    let value: Option<StateValue> = bed
        .store
        .state_value(&scope(), "run/ä", bed.now())
        .await
        .unwrap();
    assert!(value.is_some());
}

async fn of_two_decisions_that_read_the_same_version_one_commits(bed: Bed) {
    let mut claims = Vec::new();
    for number in 0..4 {
        let mut new = delivery(&format!("d{number}"), bed.now());
        new.lane = super::world::lane(1, &format!("b{number}"));
        claims.push(bed.routed(new, &["r"]).await);
    }
    let tasks: Vec<_> = claims
        .into_iter()
        .enumerate()
        .map(|(number, claim)| {
            let (store, now) = (bed.store.clone(), bed.now());
            tokio::spawn(async move {
                let mut decided = decision(&format!("d{number}"), "r");
                decided.state = writes("k", 0, Some("1"));
                store.commit(&claim, decided, now).await
            })
        })
        .collect();
    let mut committed = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => committed += 1,
            Err(error) => assert!(matches!(error, CommitError::Conflict { .. }), "{error}"),
        }
    }
    assert_eq!(committed, 1);
    let effects = bed.store.effects(EffectFilter::default()).await.unwrap();
    assert_eq!(effects, []);
}
