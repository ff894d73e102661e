//! Past a size the oldest contents go.

use std::time::Duration;

use penstock_model::id::Digest;

use super::bed::Bed;
use super::on_both;
use super::world::{decision, delivery, key};
use crate::{NewDelivery, Queue};

/// Bytes of each body: they can't be packed.
const BODY: usize = 64 * 1024;

on_both![
    the_oldest_contents_go_first_and_only_as_many_as_must,
    what_waits_keeps_its_body_and_the_excess_is_told,
    a_plugin_is_not_taken_away_for_its_size,
];

/// A body of its own for each id, of bytes that can't be packed.
fn large(id: &str, bed: &Bed) -> NewDelivery {
    let mut body = Vec::with_capacity(BODY);
    let mut last = Digest::of(id.as_bytes());
    while body.len() < BODY {
        body.extend_from_slice(last.as_bytes());
        last = Digest::of(last.as_bytes());
    }
    NewDelivery {
        body_digest: Digest::of(&body),
        body: body.into(),
        ..delivery(id, bed.now())
    }
}

async fn decided(bed: &Bed, id: &str) {
    let claim = bed.routed(large(id, bed), &["r"]).await;
    bed.store
        .commit(&claim, decision(id, "r"), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    bed.pass(Duration::from_secs(60));
}

async fn has_body(bed: &Bed, id: &str) -> bool {
    let found = bed.store.delivery(None, &id.into()).await.unwrap().unwrap();
    found.body.is_some()
}

async fn used(bed: &Bed) -> u64 {
    bed.store.shrink(u64::MAX, bed.now()).await.unwrap().used
}

async fn the_oldest_contents_go_first_and_only_as_many_as_must(bed: Bed) {
    for n in 0..600 {
        // Small ones, so that a chunk is not all that there is.
        bed.append(&format!("small-{n}")).await;
    }
    let claim = bed.claim(Queue::Dispatch).await;
    for n in 0..600 {
        bed.store
            .unrouted(&claim, &key(&format!("small-{n}")), "no tenant", bed.now())
            .await
            .unwrap();
    }
    bed.release(claim).await;
    bed.pass(Duration::from_secs(60));
    for n in 0..40 {
        decided(&bed, &format!("d{n}")).await;
    }
    let before = used(&bed).await;
    assert!(before > 40 * BODY as u64, "{before}");
    let none = bed.store.shrink(before, bed.now()).await.unwrap();
    assert_eq!((none.blobs, none.over), (0, 0), "nothing is over");
    // The 600 small ones take less than half of one large one.
    let limit = before - 3 * BODY as u64;
    let shrunk = bed.store.shrink(limit, bed.now()).await.unwrap();
    assert_eq!((shrunk.used, shrunk.over), (before, 0));
    assert!(!has_body(&bed, "small-0").await, "the oldest went");
    assert!(!has_body(&bed, "d0").await && !has_body(&bed, "d1").await);
    assert!(has_body(&bed, "d4").await, "no more than it must");
    assert!(has_body(&bed, "d39").await, "the newest is there");
    let after = used(&bed).await;
    assert!(after <= limit, "{after} of {before}, {limit} wanted");
    // What was decided is still known.
    assert!(
        bed.store
            .explain(None, &"d0".into())
            .await
            .unwrap()
            .is_some()
    );
}

async fn what_waits_keeps_its_body_and_the_excess_is_told(bed: Bed) {
    bed.append_this(large("waits", &bed)).await;
    let shrunk = bed.store.shrink(1, bed.now()).await.unwrap();
    assert_eq!(shrunk.blobs, 0);
    assert!(shrunk.over >= BODY as u64, "{shrunk:?}");
    assert!(has_body(&bed, "waits").await);
}

async fn a_plugin_is_not_taken_away_for_its_size(bed: Bed) {
    let plugin = bed
        .store
        .keep_plugin(b"plugin".to_vec(), bed.now())
        .await
        .unwrap();
    decided(&bed, "d1").await;
    let shrunk = bed.store.shrink(1, bed.now()).await.unwrap();
    assert_eq!(shrunk.blobs, 2, "a body and a record");
    assert!(bed.store.blob(&plugin).await.unwrap().is_some());
}
