//! Appending deliveries.

use std::time::Duration;

use penstock_model::id::Digest;

use super::bed::Bed;
use super::on_both;
use super::world::{delivery, key};
use crate::backend::Hints;
use crate::backend::value::params;
use crate::{Ages, Appended, DeliveryFilter, DeliveryOutcome, Queue, StoreError};

on_both![
    a_delivery_comes_back_as_it_was_kept,
    an_id_that_comes_twice_is_kept_once,
    the_same_id_of_another_instance_is_another_delivery,
    the_same_body_through_another_hook_decides_nothing,
    the_same_body_much_later_or_through_its_own_hook_decides,
    an_id_is_known_after_its_body_has_expired,
    a_thousand_deliveries_at_a_time_are_all_kept,
    one_bad_row_in_a_batch_fails_alone,
    deliveries_are_listed_newest_first_and_narrowed,
    whoever_waits_for_work_is_woken,
    a_lane_that_nobody_takes_grows_older,
];

async fn a_delivery_comes_back_as_it_was_kept(bed: Bed) {
    let mut new = delivery("d1", bed.now());
    new.body = b"{\"a\":1}".repeat(5000).into();
    let kept = bed.append_this(new.clone()).await;
    let found = bed
        .store
        .delivery(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.seq, kept);
    assert_eq!(found.key, new.key);
    assert_eq!(found.headers, new.headers);
    assert_eq!(found.lane, new.lane);
    assert_eq!(found.project, new.project);
    assert_eq!(found.tenant, new.tenant);
    assert_eq!(found.body_size, 35_000);
    assert_eq!(found.body, Some(new.body.to_vec()));
    let body = bed.store.body(&new.key).await.unwrap();
    assert_eq!(body, Some(new.body.to_vec()));
    assert_eq!(bed.store.body(&key("d2")).await, Ok(None));
    assert_eq!(found.body_digest, new.body_digest);
    assert_eq!(found.outcome, DeliveryOutcome::Waiting);
    assert_eq!(bed.store.delivery(None, &"d2".into()).await, Ok(None));
}

async fn an_id_that_comes_twice_is_kept_once(bed: Bed) {
    let first = bed.now();
    bed.append("d1").await;
    bed.pass(Duration::from_secs(60));
    let again = bed.store.append(delivery("d1", bed.now())).await.unwrap();
    assert_eq!(
        again,
        Appended::Duplicate {
            first_received_at: first
        }
    );
    let all = bed
        .store
        .deliveries(DeliveryFilter::default())
        .await
        .unwrap();
    assert_eq!(all.len(), 1);
}

async fn the_same_id_of_another_instance_is_another_delivery(bed: Bed) {
    bed.append("d1").await;
    let mut other = delivery("d1", bed.now());
    other.key.instance = "other".into();
    other.lane.instance = "other".into();
    bed.append_this(other).await;
    let found = bed
        .store
        .delivery(Some(&"main".into()), &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.key, key("d1"));
}

async fn the_same_body_through_another_hook_decides_nothing(bed: Bed) {
    bed.append("d1").await;
    let mut same = delivery("d1", bed.now());
    same.key = key("d2");
    same.hook = "acme-group".into();
    let appended = bed.store.append(same).await.unwrap();
    assert_eq!(appended, Appended::SameEvent { first: "d1".into() });
    let kept = bed
        .store
        .delivery(None, &"d2".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.outcome, DeliveryOutcome::SameEvent);
    assert_eq!(kept.same_as, Some("d1".into()));
    assert!(kept.body.is_some());

    let claim = bed.claim(Queue::Dispatch).await;
    bed.store
        .unrouted(&claim, &key("d1"), "no route", bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.head(&claim, bed.now()).await, Ok(None));
}

async fn the_same_body_much_later_or_through_its_own_hook_decides(bed: Bed) {
    let mut own = delivery("d1", bed.now());
    bed.append_this(own.clone()).await;
    own.key = key("d2");
    bed.append_this(own.clone()).await;
    bed.pass(Duration::from_secs(601));
    own.key = key("d3");
    own.hook = "acme-group".into();
    own.received_at = bed.now();
    bed.append_this(own).await;
}

async fn an_id_is_known_after_its_body_has_expired(bed: Bed) {
    let first = bed.now();
    let claim = bed.routed(delivery("d1", first), &[]).await;
    bed.release(claim).await;
    bed.pass(Duration::from_secs(60 * 24 * 60 * 60));
    let purged = bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!((purged.blobs, purged.contents), (1, 1));
    let kept = bed
        .store
        .delivery(None, &"d1".into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((kept.body, kept.headers.len()), (None, 0));
    assert_eq!(bed.store.body(&kept.key).await, Ok(None));
    let again = bed.store.append(delivery("d1", bed.now())).await.unwrap();
    assert_eq!(
        again,
        Appended::Duplicate {
            first_received_at: first
        }
    );
}

async fn a_thousand_deliveries_at_a_time_are_all_kept(bed: Bed) {
    let tasks: Vec<_> = (0..1000)
        .map(|number| {
            let store = bed.store.clone();
            let mut new = delivery(&format!("d{number}"), bed.now());
            // Some bodies are the same, through hooks that differ or not: batches meet the same rows.
            let body = format!("body {}", number % 700).into_bytes();
            new.body_digest = Digest::of(&body);
            new.body = body.into();
            tokio::spawn(async move { store.append(new).await.unwrap() })
        })
        .collect();
    let mut seqs = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Appended::New { seq } => seqs.push(seq),
            other => panic!("not new: {other:?}"),
        }
    }
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 1000);
    let figures = bed.store.figures().await.unwrap();
    assert_eq!(figures.deliveries.get("waiting"), Some(&1000));
}

async fn one_bad_row_in_a_batch_fails_alone(bed: Bed) {
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let store = bed.store.clone();
            tokio::spawn(async move {
                store
                    .write_batched(Hints::default(), move |tx| {
                        let name = format!("row {number}");
                        tx.execute(
                            "INSERT INTO probe (name, written_at) VALUES (?1, 1)",
                            params![&name],
                        )?;
                        if number == 25 {
                            tx.execute(
                                "INSERT INTO probe (name, written_at) VALUES ('bad', ?1)",
                                params![None::<i64>],
                            )?;
                        }
                        Ok::<_, StoreError>(())
                    })
                    .await
            })
        })
        .collect();
    let mut failed = 0;
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert!(matches!(error, StoreError::Rejected { .. }), "{error}");
            failed += 1;
        }
    }
    assert_eq!(failed, 1);
    let rows = bed
        .store
        .read(|tx| tx.first("SELECT count(*) FROM probe", &[])?.unwrap().uint())
        .await;
    assert_eq!(
        rows,
        Ok(49),
        "the bad row took its own first row with it, and no other"
    );
}

async fn deliveries_are_listed_newest_first_and_narrowed(bed: Bed) {
    for number in 0..5 {
        let mut new = delivery(&format!("d{number}"), bed.now());
        if number == 3 {
            new.project = Some((penstock_model::id::ProjectId(9), "acme/other".into()));
        }
        bed.append_this(new).await;
        bed.pass(Duration::from_secs(1));
    }
    let list = |filter| async {
        let found = bed.store.deliveries(filter).await.unwrap();
        found
            .iter()
            .map(|delivery| delivery.key.id.to_string())
            .collect::<Vec<_>>()
    };
    let two = DeliveryFilter {
        limit: 2,
        ..DeliveryFilter::default()
    };
    assert_eq!(list(two).await, ["d4", "d3"]);
    let project = DeliveryFilter {
        project: Some("acme/other".to_owned()),
        ..DeliveryFilter::default()
    };
    assert_eq!(list(project).await, ["d3"]);
    let since = DeliveryFilter {
        since: Some(penstock_model::id::Timestamp(bed.now().0 - 2000)),
        outcome: Some(DeliveryOutcome::Waiting),
        instance: Some("main".into()),
        ..DeliveryFilter::default()
    };
    assert_eq!(list(since).await, ["d4", "d3"]);
    let decided = DeliveryFilter {
        outcome: Some(DeliveryOutcome::Decided),
        ..DeliveryFilter::default()
    };
    assert!(list(decided).await.is_empty());
}

async fn whoever_waits_for_work_is_woken(bed: Bed) {
    let wake = bed.store.wake(Queue::Dispatch);
    bed.append("d1").await;
    tokio::time::timeout(Duration::from_secs(60), wake.notified())
        .await
        .expect("an append wakes the loop");
}

async fn a_lane_that_nobody_takes_grows_older(bed: Bed) {
    let ready_since = async |queue: Queue| {
        let figures = bed.store.figures().await.unwrap();
        figures.ready_since[queue.as_str()]
    };
    assert_eq!(ready_since(Queue::Dispatch).await, None);
    let first = bed.now();
    bed.append("d1").await;
    bed.pass(Duration::from_secs(60));
    bed.append("d2").await;
    assert_eq!(ready_since(Queue::Dispatch).await, Some(first));
    assert_eq!(ready_since(Queue::Act).await, None);
    bed.claim_all(Queue::Dispatch).await;
    assert_eq!(
        ready_since(Queue::Dispatch).await,
        None,
        "one that is worked on is not told of"
    );
}
