//! What people and metrics see, and what expires.

use std::time::Duration;

use penstock_model::admit::Refusal;
use penstock_model::id::Digest;

use super::bed::Bed;
use super::on_both;
use super::world::{delivery, ordering, start, status};
use crate::{Ages, Appended, DeliveryOutcome, EffectState, Queue, RetryError, RouteOutcome};

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

on_both![
    a_delivery_explains_itself,
    figures_tell_what_waits,
    what_waits_keeps_what_it_needs,
    old_decisions_go_and_tombstones_outlive_their_runs,
    a_delivery_whose_body_is_gone_is_not_tried_again,
    a_plugin_is_kept_as_long_as_a_decision_names_it,
    a_store_that_can_be_written_says_so,
];

async fn a_delivery_explains_itself(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let mut decided = ordering("d1", "r", vec![start("d1", "run", 'a', "main")]);
    let refusal = Refusal {
        key: "deploy".into(),
        path: "manifest.spec.podTemplate".to_owned(),
        rule: "the place allows no pod template".to_owned(),
        remedy: "remove it".to_owned(),
        status_name: None,
    };
    decided.admitted.refused.push(refusal.clone());
    bed.store.commit(&claim, decided, bed.now()).await.unwrap();
    let explained = bed
        .store
        .explain(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(explained.delivery.outcome, DeliveryOutcome::Decided);
    let route = &explained.routes[0];
    assert_eq!(route.outcome, RouteOutcome::Decided);
    assert_eq!(route.refused, [refusal]);
    assert_eq!(route.admitted[0].key.as_str(), "run");
    assert_eq!(explained.effects[0].state, EffectState::Waiting);
    assert_eq!(
        explained.effects[0].order,
        Some(start("d1", "run", 'a', "main"))
    );
    assert_eq!(explained.runs[0].run.id, explained.effects[0].id.hex());
    assert_eq!(explained.runs[0].plugin_digest, Digest::of(b"plugin"));
    assert_eq!(bed.store.explain(None, &"nobody".into()).await, Ok(None));
}

async fn figures_tell_what_waits(bed: Bed) {
    let first = bed.now();
    bed.append("d0").await;
    bed.pass(Duration::from_secs(5));
    let mut other = delivery("d1", bed.now());
    other.lane = super::world::lane(1, "other");
    let claim = bed.routed(other, &["r"]).await;
    let orders = vec![start("d1", "run", 'a', "main"), status("d1", "s", 'a')];
    bed.store
        .commit(&claim, ordering("d1", "r", orders), bed.now())
        .await
        .unwrap();
    let figures = bed.store.figures().await.unwrap();
    assert_eq!(figures.deliveries.get("waiting"), Some(&1));
    assert_eq!(figures.deliveries.get("decided"), Some(&1));
    assert_eq!(figures.oldest_undecided, Some(first));
    assert_eq!(figures.effects.get("waiting"), Some(&2));
    assert_eq!(figures.oldest_effect, Some(bed.now()));
    assert_eq!(figures.runs.get("queued"), Some(&1));
    assert!(figures.bytes > 0);
}

async fn what_waits_keeps_what_it_needs(bed: Bed) {
    bed.append("d1").await;
    bed.pass(YEAR);
    let purged = bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!(
        (purged.blobs, purged.deliveries, purged.contents),
        (0, 0, 0)
    );
    let kept = bed
        .store
        .delivery(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert!(kept.body.is_some());
    bed.claim(Queue::Dispatch).await;
}

async fn old_decisions_go_and_tombstones_outlive_their_runs(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let order = start("d1", "run", 'a', "main");
    bed.store
        .commit(&claim, ordering("d1", "r", vec![order.clone()]), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .effect_refused(&claim, &order.id, "no", vec![], bed.now())
        .await
        .unwrap();
    bed.release(claim).await;

    bed.pass(Duration::from_secs(365 * 24 * 60 * 60 + 1));
    let short = Ages {
        contents: Duration::ZERO,
        decisions: Duration::ZERO,
    };
    // The day between.
    let purged = bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!((purged.deliveries, purged.runs, purged.effects), (1, 1, 0));
    assert_eq!(bed.store.explain(None, &"d1".into()).await, Ok(None));
    assert_eq!(bed.store.run(&order.id).await, Ok(None));
    let purged = bed.store.purge(bed.now(), short).await.unwrap();
    assert_eq!(purged.effects, 1);

    bed.append("d2").await;
    let purged = bed.store.purge(bed.now(), short).await.unwrap();
    assert_eq!(purged.deliveries, 0, "no id is forgotten within 90 days");
    let again = bed.store.append(delivery("d2", bed.now())).await.unwrap();
    assert!(matches!(again, Appended::Duplicate { .. }));
}

async fn a_delivery_whose_body_is_gone_is_not_tried_again(bed: Bed) {
    bed.append("d1").await;
    let claim = bed.claim(Queue::Dispatch).await;
    bed.store
        .unrouted(&claim, &super::world::key("d1"), "no tenant", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    bed.pass(Duration::from_secs(31 * 24 * 60 * 60));
    bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    let retried = bed
        .store
        .retry_delivery(None, &"d1".into(), bed.now())
        .await;
    assert!(matches!(retried, Err(RetryError::Expired { .. })));
    let unknown = bed
        .store
        .retry_delivery(None, &"d2".into(), bed.now())
        .await;
    assert!(matches!(unknown, Err(RetryError::NotFound { .. })));
}

async fn a_plugin_is_kept_as_long_as_a_decision_names_it(bed: Bed) {
    let named = bed
        .store
        .keep_plugin(b"plugin".to_vec(), bed.now())
        .await
        .unwrap();
    let unnamed = bed
        .store
        .keep_plugin(b"other".to_vec(), bed.now())
        .await
        .unwrap();
    assert_eq!(named, Digest::of(b"plugin"));
    bed.pass(YEAR);
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, ordering("d1", "r", vec![]), bed.now())
        .await
        .unwrap();
    bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!(
        bed.store.blob(&named).await.unwrap().as_deref(),
        Some(b"plugin".as_slice())
    );
    assert_eq!(bed.store.blob(&unnamed).await, Ok(None));
}

async fn a_store_that_can_be_written_says_so(bed: Bed) {
    assert_eq!(bed.store.writable().await, Ok(()));
    let store = bed.store.clone();
    bed.store.close().await;
    assert!(store.writable().await.unwrap_err().is_unavailable());
}
