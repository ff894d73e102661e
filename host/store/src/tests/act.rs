//! The outbox.

use std::time::Duration;

use penstock_model::admit::Task;
use penstock_model::id::Digest;
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{delivery, effect_id, ordering, start, status};
use crate::{ActError, Created, CreatedRun, EffectFilter, EffectState, Queue, RetryError};

on_both![
    effects_of_a_lane_are_done_in_their_order,
    an_effect_that_must_wait_holds_up_its_lane,
    a_dead_or_refused_effect_holds_up_nobody,
    an_effect_that_was_done_is_never_done_again,
    a_dead_effect_can_be_tried_again,
    an_answer_without_the_claim_is_not_written,
    a_wait_counts_as_no_try,
    a_run_that_was_created_is_running_and_its_follow_ups_wait,
    a_run_that_is_refused_ends,
];

async fn decided(bed: &Bed, id: &str, orders: Vec<penstock_model::admit::Order>) {
    let claim = bed.routed(delivery(id, bed.now()), &["r"]).await;
    bed.store
        .commit(&claim, ordering(id, "r", orders), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
}

async fn effects_of_a_lane_are_done_in_their_order(bed: Bed) {
    decided(
        &bed,
        "d1",
        vec![
            status("d1", "one", 'a'),
            status("d1", "two", 'a'),
            status("d1", "three", 'b'),
        ],
    )
    .await;
    assert_eq!(
        bed.claim_all(Queue::Act).await.len(),
        2,
        "two commits, two lanes"
    );
    bed.pass(super::bed::TTL);
    let claim = bed
        .claim_lane(&format!("status:main/1/{}", "a".repeat(40)))
        .await;
    for key in ["one", "two"] {
        let effect = bed
            .store
            .next_effect(&claim, bed.now())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(effect.order.key.as_str(), key);
        bed.store
            .effect_done(
                &claim,
                &effect.order.id,
                serde_json::json!({"id": 5}),
                bed.now(),
            )
            .await
            .unwrap();
    }
    assert_eq!(bed.store.next_effect(&claim, bed.now()).await, Ok(None));
    let done = bed
        .store
        .effects(EffectFilter {
            state: Some(EffectState::Done),
            ..EffectFilter::default()
        })
        .await
        .unwrap();
    assert_eq!(done.len(), 2);
    assert_eq!(done[0].result, Some(serde_json::json!({"id": 5})));
}

async fn an_effect_that_must_wait_holds_up_its_lane(bed: Bed) {
    decided(
        &bed,
        "d1",
        vec![status("d1", "one", 'a'), status("d1", "two", 'a')],
    )
    .await;
    let claim = bed.claim(Queue::Act).await;
    let one = effect_id("d1", "r", "one");
    let later = bed.now().plus(Duration::from_secs(9));
    bed.store
        .effect_retry(&claim, &one, later, "503", bed.now())
        .await
        .unwrap();
    assert_eq!(bed.store.next_effect(&claim, bed.now()).await, Ok(None));
    bed.release(claim).await;
    assert_eq!(bed.claim_all(Queue::Act).await, []);
    bed.pass(Duration::from_secs(9));
    let claim = bed.claim(Queue::Act).await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((effect.order.id, effect.tries), (one, 1));
}

async fn a_dead_or_refused_effect_holds_up_nobody(bed: Bed) {
    let orders = ["one", "two", "three"].map(|key| status("d1", key, 'a'));
    decided(&bed, "d1", orders.to_vec()).await;
    let claim = bed.claim(Queue::Act).await;
    let [one, two, three] = ["one", "two", "three"].map(|key| effect_id("d1", "r", key));
    bed.store
        .effect_refused(&claim, &one, "403", vec![], bed.now())
        .await
        .unwrap();
    bed.store
        .effect_dead(&claim, &two, "a day of 503", vec![], bed.now())
        .await
        .unwrap();
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(effect.order.id, three);
    let again = bed
        .store
        .effect_done(&claim, &one, serde_json::Value::Null, bed.now())
        .await;
    assert_eq!(
        again,
        Err(ActError::NotWaiting {
            id: one,
            state: EffectState::Refused
        })
    );
    let figures = bed.store.figures().await.unwrap();
    assert_eq!(figures.dead_effects, 1);
    assert_eq!(figures.oldest_effect, Some(bed.now()));
}

async fn an_effect_that_was_done_is_never_done_again(bed: Bed) {
    let order = status("d1", "one", 'a');
    decided(&bed, "d1", vec![order.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .effect_done(&claim, &order.id, serde_json::Value::Null, bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    decided(&bed, "d2", vec![order]).await;
    assert_eq!(bed.claim_all(Queue::Act).await, []);
}

async fn a_dead_effect_can_be_tried_again(bed: Bed) {
    let order = start("d1", "run", 'a', "main");
    decided(&bed, "d1", vec![order.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .effect_dead(&claim, &order.id, "away for a day", vec![], bed.now())
        .await
        .unwrap();
    let run = bed.store.run(&order.id).await.unwrap().unwrap().run;
    assert_eq!(
        (run.state, run.reason.as_str()),
        (RunState::Queued, "away for a day")
    );
    bed.release(claim).await;
    bed.store.retry_effect(&order.id, bed.now()).await.unwrap();
    let again = bed.store.retry_effect(&order.id, bed.now()).await;
    assert!(matches!(again, Err(RetryError::NothingToRetry { .. })));
    let claim = bed.claim(Queue::Act).await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((effect.order, effect.tries), (order, 0));
}

async fn an_answer_without_the_claim_is_not_written(bed: Bed) {
    let order = status("d1", "one", 'a');
    decided(&bed, "d1", vec![order.clone()]).await;
    let old = bed.claim(Queue::Act).await;
    bed.pass(super::bed::TTL);
    let new = bed.claim(Queue::Act).await;
    let done = bed
        .store
        .effect_done(&old, &order.id, serde_json::Value::Null, bed.now())
        .await;
    assert!(matches!(done, Err(ActError::Fenced { .. })));
    let unknown = effect_id("d1", "r", "nothing");
    let done = bed
        .store
        .effect_done(&new, &unknown, serde_json::Value::Null, bed.now())
        .await;
    assert_eq!(done, Err(ActError::NotFound { id: unknown }));
    assert!(
        bed.store
            .next_effect(&new, bed.now())
            .await
            .unwrap()
            .is_some()
    );
}

async fn a_wait_counts_as_no_try(bed: Bed) {
    let order = start("d1", "run", 'a', "main");
    decided(&bed, "d1", vec![order.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .effect_wait(
            &claim,
            &order.id,
            bed.now(),
            "20 runs are in flight",
            bed.now(),
        )
        .await
        .unwrap();
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((effect.tries, effect.first_tried_at), (0, None));
}

async fn a_run_that_was_created_is_running_and_its_follow_ups_wait(bed: Bed) {
    let order = start("d1", "run", 'a', "main");
    decided(&bed, "d1", vec![order.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    assert_eq!(claim.lane, "run:prod/main/1/refs/heads/main");
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(effect.order.task, Task::StartRun(_)));
    let created = CreatedRun {
        id: order.id,
        uid: "uid-1".to_owned(),
        stored_digest: Digest::of(b"spec"),
        web_url: Some("https://dashboard.example.com/1".to_owned()),
        follow_ups: vec![status("d1", "running", 'a')],
    };
    let made = bed
        .store
        .run_created(&claim, created.clone(), bed.now())
        .await;
    assert_eq!(made, Ok(Created::Recorded));
    let again = bed
        .store
        .run_created(&claim, created.clone(), bed.now())
        .await;
    assert_eq!(again, Ok(Created::Recorded), "it was said before");
    let other = CreatedRun {
        uid: "uid-2".to_owned(),
        ..created
    };
    let again = bed.store.run_created(&claim, other, bed.now()).await;
    assert!(
        matches!(again, Err(ActError::NotWaiting { .. })),
        "{again:?}"
    );
    let run = bed.store.run(&order.id).await.unwrap().unwrap();
    assert_eq!(run.run.state, RunState::Running);
    assert_eq!(run.uid.as_deref(), Some("uid-1"));
    assert_eq!(run.stored_digest, Some(Digest::of(b"spec")));
    let unfinished = bed.store.runs_unfinished(&"prod".into()).await.unwrap();
    assert_eq!(unfinished, [run]);
    assert_eq!(
        bed.store.runs_unfinished(&"other".into()).await.unwrap(),
        []
    );
    let claim = bed.claim_lane("status:").await;
    let effect = bed
        .store
        .next_effect(&claim, bed.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(effect.order.key.as_str(), "running");
}

async fn a_run_that_is_refused_ends(bed: Bed) {
    let order = start("d1", "run", 'a', "main");
    decided(&bed, "d1", vec![order.clone()]).await;
    let claim = bed.claim(Queue::Act).await;
    bed.store
        .effect_refused(
            &claim,
            &order.id,
            "RBAC: no",
            vec![status("d1", "failed", 'a')],
            bed.now(),
        )
        .await
        .unwrap();
    let run = bed.store.run(&order.id).await.unwrap().unwrap().run;
    assert_eq!(
        (run.state, run.reason.as_str()),
        (RunState::Refused, "RBAC: no")
    );
    assert_eq!(run.finished_at, Some(bed.now()));
    bed.claim_lane("status:").await;
}
