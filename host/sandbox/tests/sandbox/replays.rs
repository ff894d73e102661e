//! A recorded call, made again.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use penstock_model::grant::Grant;
use penstock_model::id::Digest;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Lookup};
use penstock_model::record::{DecisionRecord, Failure, Outcome};
use penstock_sandbox::{Recorded, ReplayError, Verdict, replay};

use crate::stage::{Silent, Told, engine, guest, input, load, misbehave, usual};

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

/// The call is made again from what is stored, under the record's own limits.
async fn again(record: &DecisionRecord) -> Verdict {
    let bytes = record.canonical().unwrap();
    let stored: DecisionRecord = serde_json::from_slice(&bytes).unwrap();
    let verdict = recorded().replay(&stored).await.unwrap();
    if let Verdict::Same { digest } = verdict {
        assert_eq!(digest, Digest::of(&bytes), "the digest of what is stored");
    }
    verdict
}

fn recorded() -> &'static Recorded {
    static RECORDED: LazyLock<Recorded> =
        LazyLock::new(|| engine().recorded(guest("misbehave").into()));
    &RECORDED
}

async fn same(record: &DecisionRecord) {
    assert!(!record.cut, "{:?}", record.outcome);
    let verdict = again(record).await;
    assert!(
        matches!(verdict, Verdict::Same { .. }),
        "{verdict:?} of {:?}",
        record.outcome
    );
}

async fn same_prefix(record: &DecisionRecord) {
    assert!(record.cut, "{:?}", record.outcome);
    let verdict = again(record).await;
    assert!(
        matches!(verdict, Verdict::SamePrefix { .. }),
        "{verdict:?} of {:?}",
        record.outcome
    );
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
        r#"{"do":"bad-plan","fault":"empty-key"}"#,
    ] {
        let record = record(settings, None, limits.clone()).await;
        same(&record).await;
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
        same(&record).await;
    }
}

#[tokio::test]
async fn a_call_that_was_cut_replays_to_the_same_beginning() {
    let limits = Limits {
        cpu: Duration::from_millis(30),
        ..Limits::default()
    };
    let spun = record(r#"{"do":"loop"}"#, None, limits.clone()).await;
    same_prefix(&spun).await;
    let limits = Limits {
        deadline: Duration::from_millis(30),
        ..Limits::default()
    };
    let waited = misbehave(limits)
        .decide(input(r#"{"do":"host-bytes","count":1}"#), Arc::new(Silent))
        .await
        .unwrap();
    same_prefix(&waited).await;
    let deep = record(
        r#"{"do":"recursion","depth":null}"#,
        None,
        Limits::default(),
    )
    .await;
    same_prefix(&deep).await;
}

#[tokio::test]
async fn a_cut_call_whose_record_asks_otherwise_is_seen() {
    let limits = Limits {
        record: 2_000,
        ..Limits::default()
    };
    let mut cut = record(r#"{"do":"echo-lookups"}"#, None, limits).await;
    same_prefix(&cut).await;
    assert!(!cut.calls.is_empty(), "some calls fit");
    cut.calls[0].lookup = Lookup::Headers;
    let Verdict::Differs(difference) = again(&cut).await else {
        panic!("the change was not seen");
    };
    assert_eq!(difference.position, Some(1), "{difference}");
}

#[tokio::test]
async fn a_call_that_got_one_answer_too_many_replays_whole() {
    let limits = Limits {
        total_bytes: 100,
        ..Limits::default()
    };
    let long = |_: &Lookup| Ok(Ok(Answer::Text("x".repeat(200))));
    let record = misbehave(limits)
        .decide(input(r#"{"do":"host-bytes","count":3}"#), Told::new(long))
        .await
        .unwrap();
    assert!(
        matches!(&record.outcome, Outcome::Failure(Failure::HostBytesExceeded { what, .. }) if what == "all host calls"),
        "{:?}",
        record.outcome
    );
    assert_eq!(record.calls.len(), 1, "the answer is kept");
    same(&record).await;
}

#[tokio::test]
async fn the_limits_of_the_record_count_and_not_those_of_today() {
    let limits = Limits {
        effects: 1,
        ..Limits::default()
    };
    let mut few = record(r#"{"do":"many-effects","count":6}"#, None, limits).await;
    assert!(matches!(
        few.outcome,
        Outcome::Failure(Failure::EffectsExceeded { .. })
    ));
    same(&few).await;
    // With another limit in the record the same call has another end: the limit is part of the input.
    few.limits.effects = 100;
    let Verdict::Differs(difference) = again(&few).await else {
        panic!("the limit had no effect");
    };
    assert!(difference.what.starts_with("outcome/"), "{difference}");
}

#[tokio::test]
async fn an_answer_that_the_host_withheld_is_compared_like_any_other() {
    let full = || Failure::StateFull {
        what: "keys".to_owned(),
        limit: 1000,
    };
    let record = record(r#"{"do":"state-count"}"#, None, Limits::default()).await;
    assert!(!record.state.written.is_empty());
    let withheld = record.clone().withhold(full());
    assert_eq!(withheld.outcome, Outcome::Failure(full()));
    assert_eq!(
        withheld.withheld.as_deref(),
        Some(&record.outcome),
        "what the plugin answered is kept"
    );
    same(&withheld).await;
    // Another failure of the host takes nothing away from what is compared, and another answer is seen.
    same(&record.clone().withhold(Failure::StateConflict { tries: 5 })).await;
    let mut changed = withheld.clone();
    let Some(Outcome::Plan(plan)) = changed.withheld.as_deref_mut() else {
        panic!("{changed:?}");
    };
    plan.reasons[0] = "count is 7".to_owned();
    let Verdict::Differs(difference) = again(&changed).await else {
        panic!("the change was not seen");
    };
    assert_eq!(difference.what, "withheld/plan/reasons/0", "{difference}");
    let mut changed = withheld;
    changed.state.written.clear();
    let Verdict::Differs(difference) = again(&changed).await else {
        panic!("the change was not seen");
    };
    assert!(difference.what.starts_with("state/"), "{difference}");
}

#[tokio::test]
async fn a_changed_answer_outcome_or_question_is_seen() {
    let plugin = misbehave(Limits::default());
    let original = record(r#"{"do":"echo-lookups"}"#, None, Limits::default()).await;
    let differs = async |record: &DecisionRecord| match replay(&plugin, record).await.unwrap() {
        Verdict::Differs(difference) => difference.to_string(),
        same => panic!("the change was not seen: {same:?}"),
    };

    let mut changed = original.clone();
    changed.calls[0].answer = Ok(Answer::Text("another payload".into()));
    assert!(
        differs(&changed).await.contains("outcome"),
        "the plan shows its length"
    );

    let mut changed = original.clone();
    changed.calls[1].lookup = Lookup::Headers;
    let told = differs(&changed).await;
    assert!(
        told.starts_with("host call 2: the function was `delivery.headers")
            && told.contains("and is `delivery.at"),
        "{told}"
    );

    let mut changed = original.clone();
    changed.calls[1].lookup = Lookup::PayloadAt("/elsewhere".into());
    let told = differs(&changed).await;
    assert!(
        told.starts_with("host call 2: the argument of delivery.at was")
            && told.contains("/elsewhere"),
        "{told}"
    );

    let mut changed = original.clone();
    changed.calls.pop();
    assert!(differs(&changed).await.contains("were made"));

    let mut changed = original.clone();
    changed.log.clear();
    assert!(differs(&changed).await.starts_with("log/0 was"));

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
