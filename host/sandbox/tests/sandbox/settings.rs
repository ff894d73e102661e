//! Schema and validation: the same limits, and nothing but the log.

use std::time::Duration;

use penstock_model::limits::Limits;
use penstock_model::record::Failure;
use penstock_sandbox::SettingsError;

use crate::stage::misbehave;

#[tokio::test]
async fn the_schema_is_the_plugins() {
    let schema = misbehave(Limits::default()).schema().await.unwrap();
    assert!(schema.contains("\"do\""), "{schema}");
}

#[tokio::test]
async fn problems_of_the_settings_are_told_all_at_once() {
    let plugin = misbehave(Limits::default());
    assert_eq!(plugin.validate(r#"{"do":"nothing"}"#).await.unwrap(), []);
    let problems = plugin.validate(r#"{"do":"fly"}"#).await.unwrap();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("fly"), "{problems:?}");
}

#[tokio::test]
async fn only_the_log_may_be_called() {
    let plugin = misbehave(Limits::default());
    for settings in [
        r#"{"do":"state-count","in-validate":true}"#,
        r#"{"do":"host-bytes","count":1,"in-validate":true}"#,
    ] {
        let problems = plugin.validate(settings).await.unwrap();
        assert!(
            problems[0].message.contains("denied: only `log`"),
            "{problems:?}"
        );
    }
    // The settings themselves have no word for a denial.
    let settings = r#"{"do":"host-calls","count":1,"in-validate":true}"#;
    match plugin.validate(settings).await {
        Err(SettingsError::Failure(Failure::Trap { message })) => {
            assert!(message.contains("only `log`"), "{message}");
        }
        other => panic!("{settings}: {other:?}"),
    }
    let problems = plugin
        .validate(r#"{"do":"log-flood","count":3,"bytes":10,"in-validate":true}"#)
        .await;
    assert_eq!(problems.unwrap(), []);
}

#[tokio::test]
async fn validation_has_the_limits_of_a_call() {
    let plugin = misbehave(Limits {
        cpu: Duration::from_millis(30),
        ..Limits::default()
    });
    assert!(matches!(
        plugin.validate(r#"{"do":"loop","in-validate":true}"#).await,
        Err(SettingsError::Failure(Failure::CpuExceeded {
            limit_ms: 30
        }))
    ));
}
