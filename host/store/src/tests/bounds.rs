//! What one plugin or one tenant can't do to others, and what no text may hold.

use std::time::Duration;

use penstock_model::id::ProjectId;
use penstock_model::lookup::Content;
use penstock_model::record::{StateChange, StateWrite};

use super::bed::Bed;
use super::on_both;
use super::world::{decision, delivery, key, of_tenant, writes};
use crate::{Appended, CommitError, DeliveryFilter, Queue, StateScope};

on_both![
    a_plugin_keeps_no_more_than_a_thousand_keys,
    a_plugin_keeps_no_more_than_four_mebibytes,
    what_has_expired_takes_no_room,
    no_more_than_two_thousand_keys_are_listed,
    a_route_that_waits_for_a_slot_counts_no_try,
    two_tenants_never_share_a_lane,
    a_text_with_a_nul_is_kept_without_it,
];

async fn change(bed: &Bed, id: &str, state: StateChange) -> Result<(), CommitError> {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    let mut decided = decision(id, "r");
    decided.state = state;
    let committed = bed.store.commit(&claim, decided, bed.now()).await;
    bed.store
        .commit(&claim, decision(id, "r"), bed.now())
        .await
        .ok();
    bed.release(claim).await;
    committed.map(drop)
}

fn scope() -> StateScope {
    StateScope {
        instance: "main".into(),
        project: ProjectId(1),
        plugin: "pipelines".into(),
    }
}

/// Writes a value of that size under each key.
fn many(keys: impl Iterator<Item = String>, size: usize, days: Option<u32>) -> StateChange {
    let write = |key| {
        let value = Some(Content(vec![b'x'; size]));
        (key, StateWrite { value, days })
    };
    StateChange {
        written: keys.map(write).collect(),
        ..StateChange::default()
    }
}

fn full(what: &str, limit: u64) -> Result<(), CommitError> {
    Err(CommitError::StateFull {
        what: what.to_owned(),
        limit,
    })
}

async fn a_plugin_keeps_no_more_than_a_thousand_keys(bed: Bed) {
    let keys = |range: std::ops::Range<u32>| range.map(|number| format!("k{number:04}"));
    let over = change(&bed, "d1", many(keys(0..1001), 1, None)).await;
    assert_eq!(over, full("keys", 1000));
    let left = bed.store.state_keys(&scope(), "", 10, bed.now()).await;
    assert_eq!(left, Ok(vec![]), "nothing of it was written");
    change(&bed, "d2", many(keys(0..1000), 1, None))
        .await
        .unwrap();
    let over = change(&bed, "d3", many(keys(1000..1001), 1, None)).await;
    assert_eq!(over, full("keys", 1000));
    let again = change(&bed, "d4", many(keys(7..8), 2, None)).await;
    assert_eq!(again, Ok(()), "a key that is there takes no more room");
    let mut swap = many(keys(1000..1001), 1, None);
    let gone = StateWrite {
        value: None,
        days: None,
    };
    swap.written.insert("k0000".to_owned(), gone);
    assert_eq!(change(&bed, "d5", swap).await, Ok(()));
}

async fn a_plugin_keeps_no_more_than_four_mebibytes(bed: Bed) {
    let keys = |count: u32| (0..count).map(|number| format!("k{number}"));
    let state = many(keys(4), 1024 * 1024 - 2, None);
    assert_eq!(change(&bed, "d1", state).await, Ok(()));
    let over = change(&bed, "d2", writes("k", 0, Some("1"))).await;
    assert_eq!(over, full("bytes", 4 * 1024 * 1024));
}

async fn what_has_expired_takes_no_room(bed: Bed) {
    let old = (0..1000).map(|number| format!("old{number}"));
    change(&bed, "d1", many(old, 1, Some(1))).await.unwrap();
    let over = change(&bed, "d2", writes("k", 0, Some("1"))).await;
    assert_eq!(over, full("keys", 1000));
    bed.pass(Duration::from_secs(24 * 60 * 60));
    let fits = change(&bed, "d3", writes("k", 0, Some("1"))).await;
    assert_eq!(fits, Ok(()));
}

async fn no_more_than_two_thousand_keys_are_listed(bed: Bed) {
    // Of a time before there was a limit on their number.
    bed.store
        .write(move |tx| {
            for number in 0..2001_u32 {
                tx.execute(
                    "INSERT INTO plugin_state (instance, project, plugin, key, value, version, written_at) \
                     VALUES ('main', 1, 'pipelines', ?1, ?2, 1, 1)",
                    crate::backend::value::params![&format!("k{number:04}"), b"x".as_slice()],
                )?;
            }
            Ok::<_, crate::StoreError>(())
        })
        .await
        .unwrap();
    let listed = bed
        .store
        .state_keys(&scope(), "", u32::MAX, bed.now())
        .await;
    assert_eq!(listed.unwrap().len(), 2000);
}

async fn a_route_that_waits_for_a_slot_counts_no_try(bed: Bed) {
    let claim = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    let route = "r".into();
    let later = bed.now().plus(Duration::from_secs(3));
    let why = "all its slots are taken";
    bed.store
        .put_off(&claim, &key("d1"), &route, later, why, bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.head(&claim, bed.now()).await, Ok(None));
    bed.pass(Duration::from_secs(3));
    let pending = bed.head(&claim).await.routes.pop().unwrap();
    assert_eq!((pending.tries, pending.first_tried_at), (0, None));
    let explained = bed.store.explain(None, &"d1".into()).await.unwrap();
    assert_eq!(explained.unwrap().routes[0].why.as_deref(), Some(why));
    let nobody = bed
        .store
        .put_off(&claim, &key("d2"), &route, later, why, bed.now())
        .await;
    assert!(matches!(nobody, Err(crate::LaneError::NotFound { .. })));
}

async fn two_tenants_never_share_a_lane(bed: Bed) {
    bed.append_this(of_tenant("d1", "acme", 1, bed.now())).await;
    bed.append_this(of_tenant("d2", "evil", 1, bed.now())).await;
    let mut nobodys = of_tenant("d3", "acme", 1, bed.now());
    nobodys.tenant = None;
    bed.append_this(nobodys).await;
    let claims = bed.claim_all(Queue::Dispatch).await;
    let mut found = Vec::new();
    for claim in &claims {
        let pending = bed.head(claim).await;
        assert_eq!(pending.delivery.tenant, claim.tenant);
        assert_eq!(pending.delivery.lane, super::world::lane(1, "main"));
        found.push(pending.delivery.key.id.to_string());
    }
    found.sort();
    assert_eq!(found, ["d1", "d2", "d3"]);
}

async fn a_text_with_a_nul_is_kept_without_it(bed: Bed) {
    let mut new = delivery("d\0", bed.now());
    new.event_header = "Push\0Hook".to_owned();
    new.project = Some((ProjectId(1), "acme/\0api".into()));
    let first = new.received_at;
    bed.append_this(new.clone()).await;
    let found = bed.store.delivery(None, &"d\0".into()).await.unwrap();
    assert_eq!(found.unwrap().event_header, "Push\u{fffd}Hook");
    assert_eq!(
        bed.store.append(new.clone()).await,
        Ok(Appended::Duplicate {
            first_received_at: first
        })
    );
    let listed = bed
        .store
        .deliveries(DeliveryFilter {
            project: Some("acme/\0api".to_owned()),
            ..DeliveryFilter::default()
        })
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    let body = bed.store.body(&new.key).await.unwrap();
    assert_eq!(body, Some(new.body.to_vec()));
}
