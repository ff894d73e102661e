//! A recorded call, made again.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::grant::Grant;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Lookup};
use penstock_model::record::DecisionRecord;
use penstock_sandbox::{ReplayError, Verdict, replay};

use crate::stage::{Silent, Told, engine, input, load, misbehave, usual};

async fn record(settings: &str, grant: Option<Grant>, limits: Limits) -> DecisionRecord {
    let mut input = input(settings);
    if let Some(grant) = grant {
        input.grant = Arc::new(grant);
    }
    misbehave(limits)
        .decide(input, Told::new(usual))
        .await
        .unwrap()
}

async fn same(record: &DecisionRecord, limits: Limits) {
    // What is stored is read back first.
    let bytes = record.canonical().unwrap();
    let record: DecisionRecord = serde_json::from_slice(&bytes).unwrap();
    let verdict = replay(&misbehave(limits), &record).await.unwrap();
    assert_eq!(verdict, Verdict::Same, "{:?}", record.outcome);
}

#[tokio::test]
async fn every_kind_of_outcome_replays_to_the_same_bytes() {
    let limits = Limits {
        effects: 5,
        host_calls: 60,
        output: 32 * 1024,
        memory: 8 << 20,
        ..Limits::default()
    };
    for settings in [
        r#"{"do":"nothing"}"#,
        r#"{"do":"echo-lookups"}"#,
        r#"{"do":"state-count"}"#,
        r#"{"do":"error-source"}"#,
        r#"{"do":"many-effects","count":6}"#,
        r#"{"do":"big-answer","bytes":100000}"#,
        r#"{"do":"trap"}"#,
        r#"{"do":"panic"}"#,
        r#"{"do":"memory","bytes":null}"#,
        r#"{"do":"host-calls","count":null}"#,
        r#"{"do":"host-bytes","count":null}"#,
        r#"{"do":"recursion","depth":null}"#,
        r#"{"do":"bad-plan","fault":"empty-key"}"#,
    ] {
        let record = record(settings, None, limits.clone()).await;
        same(&record, limits.clone()).await;
    }
}

#[tokio::test]
async fn denials_replay_without_the_grant() {
    let no_files = Grant {
        delivery: true,
        state: true,
        cluster_read: crate::stage::grants().base.cluster_read,
        ..Grant::default()
    };
    for (settings, grant) in [
        (r#"{"do":"echo-lookups"}"#, no_files),
        (r#"{"do":"state-then-error"}"#, Grant::default()),
        (r#"{"do":"state-count"}"#, Grant::default()),
    ] {
        let record = record(settings, Some(grant), Limits::default()).await;
        same(&record, Limits::default()).await;
    }
}

#[tokio::test]
async fn a_call_that_was_cut_replays_to_the_same_beginning() {
    let limits = Limits {
        cpu: Duration::from_millis(30),
        ..Limits::default()
    };
    let spun = record(r#"{"do":"loop"}"#, None, limits.clone()).await;
    assert!(spun.cut);
    same(&spun, limits).await;
    let limits = Limits {
        deadline: Duration::from_millis(30),
        ..Limits::default()
    };
    let waited = misbehave(limits)
        .decide(input(r#"{"do":"host-bytes","count":1}"#), Arc::new(Silent))
        .await
        .unwrap();
    assert!(waited.cut);
    same(&waited, Limits::default()).await;
}

#[tokio::test]
async fn a_changed_answer_outcome_or_question_is_seen() {
    let plugin = misbehave(Limits::default());
    let original = record(r#"{"do":"echo-lookups"}"#, None, Limits::default()).await;
    let differs = async |record: &DecisionRecord| match replay(&plugin, record).await.unwrap() {
        Verdict::Differs { what } => what,
        Verdict::Same => panic!("the change was not seen"),
    };

    let mut changed = original.clone();
    changed.calls[0].answer = Ok(Answer::Text("another payload".into()));
    assert!(
        differs(&changed).await.contains("outcome"),
        "the plan shows its length"
    );

    let mut changed = original.clone();
    changed.calls[1].lookup = Lookup::Headers;
    assert!(
        differs(&changed)
            .await
            .contains("host call 2 is `delivery.at`")
    );

    let mut changed = original.clone();
    changed.calls.pop();
    assert!(differs(&changed).await.contains("there were only"));

    let mut changed = original.clone();
    changed.log.clear();
    assert!(differs(&changed).await.contains("the log"));

    let mut changed = original;
    changed.event.commit = None;
    assert!(!differs(&changed).await.is_empty());
}

#[tokio::test]
async fn another_component_is_not_replayed() {
    let record = record(r#"{"do":"nothing"}"#, None, Limits::default()).await;
    let other = load(engine(), "minimal", Limits::default());
    assert!(matches!(
        replay(&other, &record).await,
        Err(ReplayError::OtherPlugin { .. })
    ));
}
