//! The plugin's own keys: read once, seen at once, kept only with a plan.

use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Content, Lookup, StateValue};
use penstock_model::record::Outcome;

use crate::stage::{Told, decide, input, misbehave, reasons, usual};

#[tokio::test]
async fn a_counter_is_read_with_its_version_and_written_once() {
    let world = Told::new(|lookup: &Lookup| match lookup {
        Lookup::StateGet(key) if key == "n" => Ok(Ok(Answer::State(Some(StateValue {
            value: Content(b"41".to_vec()),
            version: 9,
        })))),
        other => usual(other),
    });
    let record = misbehave(Limits::default())
        .decide(input(r#"{"do":"state-count","key":"n"}"#), world)
        .await
        .unwrap();
    assert_eq!(reasons(&record), ["count is 42"]);
    assert_eq!(record.state.read.get("n"), Some(&9));
    let written = record.state.written.get("n").unwrap();
    assert_eq!(written.value, Some(Content(b"42".to_vec())));
}

#[tokio::test]
async fn a_key_that_is_missing_is_version_zero() {
    let record = decide(Limits::default(), r#"{"do":"state-count","key":"n"}"#).await;
    assert_eq!(reasons(&record), ["count is 1"]);
    assert_eq!(record.state.read.get("n"), Some(&0));
}

#[tokio::test]
async fn writes_are_seen_at_once_and_listings_keep_what_the_world_said() {
    let world = Told::new(|lookup: &Lookup| match lookup {
        Lookup::StateKeys { .. } => Ok(Ok(Answer::Keys(vec![
            "echo/three".into(),
            "echo/two".into(),
        ]))),
        other => usual(other),
    });
    let record = misbehave(Limits::default())
        .decide(input(r#"{"do":"echo-lookups"}"#), world.clone())
        .await
        .unwrap();
    let told = reasons(&record);
    assert!(
        told.contains(&"state.get: Some([49])".to_owned()),
        "{told:?}"
    );
    assert!(
        told.contains(&r#"state.keys: ["echo/one", "echo/three"]"#.to_owned()),
        "{told:?}"
    );
    assert!(
        !world
            .asked()
            .iter()
            .any(|it| matches!(it, Lookup::StateGet(_))),
        "what the call wrote itself is not asked for"
    );
    let listed = vec!["echo/three".to_owned(), "echo/two".to_owned()];
    // Ten were wanted, and one of the prefix was removed by the call.
    assert_eq!(record.state.listed, [("echo/".to_owned(), 11, listed)]);
    assert_eq!(record.state.written.len(), 2);
}

#[tokio::test]
async fn nothing_is_written_by_a_call_that_ends_in_an_error() {
    let record = decide(Limits::default(), r#"{"do":"state-then-error"}"#).await;
    assert!(matches!(record.outcome, Outcome::Error(_)));
    assert!(record.state.written.is_empty());
}
