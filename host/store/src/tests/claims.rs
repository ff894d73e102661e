//! Claims: fencing, fairness, caps.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_model::id::Timestamp;

use super::bed::{Bed, MANY, TTL};
use super::on_both;
use super::world::{decision, delivery, key, of_tenant};
use crate::{Caps, Claim, CommitError, LaneError, Queue};

on_both![
    a_lane_is_held_by_one_worker_at_a_time,
    an_expired_claim_is_taken_by_another_and_the_first_is_fenced,
    a_renewed_claim_lasts,
    tenants_are_served_in_turn_however_much_one_of_them_has,
    the_tenant_served_longest_ago_comes_first,
    the_next_lane_is_drawn_for_the_tenant_that_holds_the_fewest,
    a_tenant_never_holds_more_than_its_cap,
    a_lane_with_nothing_to_do_is_not_drawn,
    what_arrives_while_a_lane_is_held_is_found_after_it,
    a_lane_can_be_given_back_for_later,
];

async fn claim(bed: &Bed, worker: &str, caps: Caps, most: u32) -> Vec<Claim> {
    bed.store
        .claim(Queue::Dispatch, worker, TTL, caps, most, bed.now())
        .await
        .unwrap()
}

async fn a_lane_is_held_by_one_worker_at_a_time(bed: Bed) {
    bed.append("d1").await;
    bed.append("d2").await;
    let first = claim(&bed, "one", MANY, 10).await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].lane, "acme/**|main/1/refs/heads/main");
    assert_eq!(first[0].tenant, Some("acme/**".into()));
    assert_eq!(claim(&bed, "two", MANY, 10).await, []);
    bed.release(first[0].clone()).await;
    assert_eq!(claim(&bed, "two", MANY, 10).await.len(), 1);
}

async fn an_expired_claim_is_taken_by_another_and_the_first_is_fenced(bed: Bed) {
    let old = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.pass(TTL + Duration::from_secs(1));
    let new = claim(&bed, "two", MANY, 10).await.pop().unwrap();
    assert!(new.epoch > old.epoch);
    // Even if the first one's clock runs behind.
    let then = Timestamp(bed.now().0 - 10_000);
    let commit = bed.store.commit(&old, decision("d1", "r"), then).await;
    assert!(
        matches!(commit, Err(CommitError::Fenced { .. })),
        "{commit:?}"
    );
    let renewed = bed.store.renew(&mut old.clone(), TTL, then).await;
    assert!(matches!(renewed, Err(LaneError::Fenced { .. })));
    let released = bed.store.release(old.clone(), None, then).await;
    assert!(matches!(released, Err(LaneError::Fenced { .. })));
    let routed = bed.store.route(&old, &key("d1"), vec![], then).await;
    assert!(matches!(routed, Err(LaneError::Fenced { .. })));
    bed.store
        .commit(&new, decision("d1", "r"), bed.now())
        .await
        .unwrap();
}

async fn a_renewed_claim_lasts(bed: Bed) {
    let mut held = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.pass(TTL - Duration::from_secs(1));
    bed.store.renew(&mut held, TTL, bed.now()).await.unwrap();
    bed.pass(TTL - Duration::from_secs(1));
    assert_eq!(claim(&bed, "two", MANY, 10).await, []);
    bed.store
        .commit(&held, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    // Its time is over, though nobody took it.
    bed.pass(TTL);
    let released = bed.store.release(held, None, bed.now()).await;
    assert!(matches!(released, Err(LaneError::Fenced { .. })));
}

async fn tenants_are_served_in_turn_however_much_one_of_them_has(bed: Bed) {
    for project in 0..30 {
        let id = format!("a{project}");
        bed.append_this(of_tenant(&id, "a", 100 + project, bed.now()))
            .await;
    }
    for project in 0..3 {
        let id = format!("b{project}");
        bed.append_this(of_tenant(&id, "b", 200 + project, bed.now()))
            .await;
    }
    let mut drawn = Vec::new();
    for _ in 0..6 {
        let one = claim(&bed, "one", MANY, 1).await.pop().unwrap();
        drawn.push(one.tenant.unwrap().to_string());
    }
    assert_eq!(drawn, ["a", "b", "a", "b", "a", "b"]);
    let rest = claim(&bed, "one", MANY, 100).await;
    assert_eq!(rest.len(), 27);
}

async fn the_tenant_served_longest_ago_comes_first(bed: Bed) {
    for (id, tenant, project) in [("a", "a", 1), ("b", "b", 2), ("c", "c", 3)] {
        bed.append_this(of_tenant(id, tenant, project, bed.now()))
            .await;
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let one = claim(&bed, "one", MANY, 1).await.pop().unwrap();
        order.push(one.tenant.clone().unwrap().to_string());
        bed.release(one).await;
    }
    assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);
}

async fn the_next_lane_is_drawn_for_the_tenant_that_holds_the_fewest(bed: Bed) {
    let append = async |tenant: &str, projects: std::ops::Range<u64>| {
        for project in projects {
            let id = format!("{tenant}{project}");
            bed.append_this(of_tenant(&id, tenant, project, bed.now()))
                .await;
        }
    };
    let draw = async |most| {
        let drawn = claim(&bed, "one", MANY, most).await;
        let tenants = drawn.into_iter().map(|it| it.tenant.unwrap().to_string());
        tenants.collect::<Vec<_>>()
    };
    append("a", 100..120).await;
    assert_eq!(draw(4).await, ["a"; 4]);
    append("b", 200..203).await;
    append("c", 300..301).await;
    // Not a lane for each in turn: `a` holds four.
    assert_eq!(draw(3).await, ["b", "c", "b"]);
    assert_eq!(draw(3).await, ["b", "a", "a"]);
}

async fn a_tenant_never_holds_more_than_its_cap(bed: Bed) {
    for project in 0..10 {
        let id = format!("a{project}");
        bed.append_this(of_tenant(&id, "a", 100 + project, bed.now()))
            .await;
    }
    bed.append_this(of_tenant("b", "b", 200, bed.now())).await;
    let caps = Caps { per_tenant: 3 };
    let tasks: Vec<_> = (0..8)
        .map(|worker| {
            let (store, now) = (bed.store.clone(), bed.now());
            tokio::spawn(async move {
                let worker = format!("worker-{worker}");
                store
                    .claim(Queue::Dispatch, &worker, TTL, caps, 2, now)
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut held: BTreeMap<String, u32> = BTreeMap::new();
    for task in tasks {
        for claim in task.await.unwrap() {
            *held.entry(claim.tenant.unwrap().to_string()).or_default() += 1;
        }
    }
    assert_eq!(
        held,
        BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 1)])
    );
}

async fn a_lane_with_nothing_to_do_is_not_drawn(bed: Bed) {
    let held = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.store
        .commit(&held, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    bed.release(held).await;
    assert_eq!(bed.claim_all(Queue::Dispatch).await, []);
}

async fn what_arrives_while_a_lane_is_held_is_found_after_it(bed: Bed) {
    let held = bed.routed(delivery("d1", bed.now()), &["r"]).await;
    bed.store
        .commit(&held, decision("d1", "r"), bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.head(&held, bed.now()).await, Ok(None));
    bed.append("d2").await;
    bed.release(held).await;
    let held = bed.claim(Queue::Dispatch).await;
    assert_eq!(bed.head(&held).await.delivery.key, key("d2"));
}

async fn a_lane_can_be_given_back_for_later(bed: Bed) {
    bed.append("d1").await;
    let held = bed.claim(Queue::Dispatch).await;
    let later = bed.now().plus(Duration::from_secs(5));
    bed.store
        .release(held, Some(later), bed.now())
        .await
        .unwrap();
    assert_eq!(bed.claim_all(Queue::Dispatch).await, []);
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.claim_all(Queue::Dispatch).await.len(), 1);
}
