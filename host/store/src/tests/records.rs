//! Records in numbers, and how long a plugin's bytes stay.

use std::time::Duration;

use penstock_model::id::{Digest, Timestamp};

use super::bed::Bed;
use super::on_both;
use super::world::{decision, delivery, key, record};
use crate::Ages;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

on_both![
    records_come_newest_first_and_page_by_page,
    a_record_that_was_changed_in_the_store_is_not_believed,
    a_record_that_has_expired_is_listed_without_its_content,
    a_plugin_in_use_is_kept_though_nothing_names_it_yet,
];

async fn decided(bed: &Bed, id: &str) {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, decision(id, "r"), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
}

/// Ids of all records, by pages of so many deliveries.
async fn all(bed: &Bed, since: Timestamp, plugin: Option<&str>, deliveries: u32) -> Vec<String> {
    let plugin = plugin.map(Into::into);
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = bed
            .store
            .records(since, plugin.as_ref(), before, deliveries)
            .await
            .unwrap();
        found.extend(page.records.iter().map(|it| it.delivery.id.to_string()));
        match page.next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

async fn records_come_newest_first_and_page_by_page(bed: Bed) {
    decided(&bed, "d1").await;
    bed.pass(DAY);
    let later = bed.now();
    for id in ["d2", "d3", "d4"] {
        decided(&bed, id).await;
    }
    // Not decided: it has no record.
    bed.append("d5").await;
    for deliveries in [1, 2, 5, 100] {
        assert_eq!(
            all(&bed, Timestamp(0), None, deliveries).await,
            ["d4", "d3", "d2", "d1"]
        );
        assert_eq!(all(&bed, later, None, deliveries).await, ["d4", "d3", "d2"]);
    }
    let of = async |plugin| all(&bed, Timestamp(0), Some(plugin), 100).await.len();
    assert_eq!((of("pipelines").await, of("another").await), (4, 0));
    let one = bed.store.records_of(&key("d2")).await.unwrap();
    assert_eq!(one.len(), 1);
    let opened = one[0].open().unwrap().unwrap();
    assert_eq!(
        opened.canonical().unwrap(),
        record("d2").canonical().unwrap()
    );
    assert_eq!(one[0].digest, Digest::of(&opened.canonical().unwrap()));
    assert_eq!(one[0].plugin_digest, Digest::of(b"plugin"));
    assert!(one[0].stored_bytes() > 0);
    assert!(bed.store.records_of(&key("d5")).await.unwrap().is_empty());
}

async fn a_record_that_was_changed_in_the_store_is_not_believed(bed: Bed) {
    decided(&bed, "d1").await;
    let forged = crate::blob::pack(&record("d2").canonical().unwrap()).unwrap();
    let digest = Digest::of(&record("d1").canonical().unwrap());
    let changed = bed
        .store
        .write(move |tx| {
            tx.execute(
                "UPDATE blobs SET content = ?2 WHERE digest = ?1",
                crate::backend::value::params![&digest, &forged],
            )
        })
        .await
        .unwrap();
    assert_eq!(changed, 1);
    let kept = bed.store.records_of(&key("d1")).await.unwrap();
    let error = kept[0].open().unwrap_err();
    assert!(error.to_string().contains("was changed"), "{error}");
}

async fn a_record_that_has_expired_is_listed_without_its_content(bed: Bed) {
    decided(&bed, "d1").await;
    bed.pass(31 * DAY);
    bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    let kept = bed.store.records_of(&key("d1")).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].open(), Ok(None));
}

async fn a_plugin_in_use_is_kept_though_nothing_names_it_yet(bed: Bed) {
    let kept = bed
        .store
        .keep_plugin(b"idle".to_vec(), bed.now())
        .await
        .unwrap();
    let gone = Digest::of(b"never stored");
    for _ in 0..2 {
        bed.pass(300 * DAY);
        let missing = bed.store.plugins_in_use(vec![kept, gone], bed.now()).await;
        assert_eq!(missing, Ok(vec![gone]));
        bed.store.purge(bed.now(), Ages::default()).await.unwrap();
        assert!(bed.store.blob(&kept).await.unwrap().is_some());
    }
    bed.pass(366 * DAY);
    bed.store.purge(bed.now(), Ages::default()).await.unwrap();
    assert_eq!(bed.store.blob(&kept).await, Ok(None));
}
