//! What a guest answers, and what the host makes of it.

use std::time::Duration;

use penstock_model::effect::PluginError;
use penstock_model::limits::Limits;
use penstock_model::record::{Failure, Outcome};

use crate::stage::{Told, decide, engine, failure, input, load, misbehave, usual};

async fn bad_plan(fault: &str) -> String {
    let settings = format!(r#"{{"do":"bad-plan","fault":"{fault}"}}"#);
    let record = decide(Limits::default(), &settings).await;
    match failure(&record) {
        Failure::BadAnswer { message } => message.clone(),
        other => panic!("{fault}: {other:?}"),
    }
}

#[tokio::test]
async fn what_can_not_be_anything_is_refused_with_the_path_of_the_field() {
    for (fault, path) in [
        ("duplicate-keys", "effects[1].key: `run/build`"),
        ("empty-key", "effects[0].key: is empty"),
        ("long-key", "effects[0].key: has 100000 bytes"),
        (
            "long-status-name",
            "effects[0].start-run.status-name: has 100000 bytes",
        ),
        (
            "control-characters",
            "effects[0].key: holds a control character",
        ),
        (
            "malformed-commit",
            "effects[0].commit-status.commit: `../../main`",
        ),
        (
            "unknown-extra",
            "effects[0].start-run.extras: this host does not know `priority`",
        ),
    ] {
        let message = bad_plan(fault).await;
        assert!(message.starts_with(path), "{fault}: {message}");
    }
}

#[tokio::test]
async fn what_only_admit_can_judge_is_passed_on() {
    for fault in [
        "unknown-gate",
        "shared-gate",
        "unknown-extension",
        "malformed-manifest",
    ] {
        let settings = format!(r#"{{"do":"bad-plan","fault":"{fault}"}}"#);
        let record = decide(Limits::default(), &settings).await;
        assert!(
            matches!(record.outcome, Outcome::Plan(_)),
            "{fault}: {:?}",
            record.outcome
        );
    }
}

#[tokio::test]
async fn a_plan_keeps_what_the_plugin_wrote() {
    let record = decide(
        Limits::default(),
        r#"{"do":"start-run","manifest":"kind: PipelineRun","key":"run/a","pipeline":"a"}"#,
    )
    .await;
    let Outcome::Plan(plan) = &record.outcome else {
        panic!("{:?}", record.outcome);
    };
    assert_eq!(plan.effects[0].key.as_str(), "run/a");
    assert!(matches!(&plan.effects[0].action,
        penstock_model::effect::Action::StartRun(run) if run.manifest == "kind: PipelineRun" && run.pipeline == "a"));
    assert_eq!(record.contract, "0.1.0");
    assert!(!record.cut);
    assert!(record.usage.memory > 0 && record.usage.host_calls == 1);
}

#[tokio::test]
async fn a_plugins_own_errors_are_kept_apart() {
    let error = async |settings: &str| match decide(Limits::default(), settings).await.outcome {
        Outcome::Error(error) => error,
        other => panic!("{settings}: {other:?}"),
    };
    assert!(
        matches!(error(r#"{"do":"error-settings"}"#).await, PluginError::Settings(p) if p[0].path == "do")
    );
    assert!(
        matches!(error(r#"{"do":"error-source"}"#).await, PluginError::Source(p) if p[0].line == Some(3))
    );
    assert!(
        matches!(error(r#"{"do":"error-other"}"#).await, PluginError::Other(m) if m == "told to fail")
    );
}

#[tokio::test]
async fn the_same_input_gives_the_same_bytes() {
    let settings = r#"{"do":"echo-lookups"}"#;
    let plugin = misbehave(Limits::default());
    let first = plugin
        .decide(input(settings), Told::new(usual))
        .await
        .unwrap();
    let second = plugin
        .decide(input(settings), Told::new(usual))
        .await
        .unwrap();
    assert_eq!(first.canonical().unwrap(), second.canonical().unwrap());
}

#[tokio::test]
async fn a_guest_without_imports_runs_without_a_grant() {
    let plugin = engine()
        .load(
            "minimal".into(),
            &crate::stage::guest("minimal"),
            Limits::default(),
            penstock_model::grant::Grants::default(),
        )
        .unwrap();
    let record = plugin.decide(input("{}"), Told::new(usual)).await.unwrap();
    assert!(matches!(record.outcome, Outcome::Plan(_)));
    assert!(record.calls.is_empty());
}

#[tokio::test]
async fn a_plugin_with_much_memory_runs_on_demand() {
    let limits = Limits {
        memory: 300 << 20,
        // The kernel clears so many pages for it, and some machines are slow at that.
        cpu: Duration::from_secs(20),
        deadline: Duration::from_secs(600),
        ..Limits::default()
    };
    let plugin = load(engine(), "misbehave", limits);
    assert!(!plugin.is_pooled());
    let record = plugin
        .decide(
            input(r#"{"do":"memory","bytes":157286400}"#),
            Told::new(usual),
        )
        .await
        .unwrap();
    assert!(
        matches!(record.outcome, Outcome::Plan(_)),
        "{:?}",
        record.outcome
    );
    assert!(load(engine(), "misbehave", Limits::default()).is_pooled() == engine().is_pooling());
}
