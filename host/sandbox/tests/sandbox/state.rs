//! The plugin's own keys: read once, seen at once, kept only with a plan.

use penstock_model::effect::PluginError;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Content, Lookup, StateValue};
use penstock_model::record::{DecisionRecord, Outcome};
use penstock_model::scope::{Group, Scope};
use penstock_sandbox::{CallInput, Verdict, replay};

use crate::stage::{Told, decide, input, misbehave, reasons, usual};

/// The same event, of a group.
fn of_group(settings: &str) -> CallInput {
    let mut input = input(settings);
    input.event.scope = Scope::Group(Group {
        id: 5,
        path: "acme".into(),
        web_url: "https://gitlab.example.com/groups/acme".into(),
    });
    input
}

/// Decides an event of a group; whatever is asked of the state fails the test.
async fn decide_of_group(settings: &str) -> DecisionRecord {
    let world = Told::new(|lookup: &Lookup| {
        assert!(
            !matches!(lookup, Lookup::StateGet(_) | Lookup::StateKeys { .. }),
            "the world was asked: {lookup:?}"
        );
        usual(lookup)
    });
    let plugin = misbehave(Limits::default());
    let record = plugin.decide(of_group(settings), world).await.unwrap();
    let verdict = replay(&plugin, &record).await.unwrap();
    assert!(matches!(verdict, Verdict::Same { .. }), "{verdict:?}");
    record
}

/// What the plugin says it was refused.
fn refused(record: &DecisionRecord) -> &str {
    match &record.outcome {
        Outcome::Error(PluginError::Other(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_event_of_no_project_finds_no_state_and_writes_none() {
    // It reads a key, finds nothing, and writes.
    let record = decide_of_group(r#"{"do":"state-count","key":"n"}"#).await;
    assert_eq!(
        refused(&record),
        "malformed question: state is kept for projects, and the event is of none"
    );
    let read = record
        .calls
        .iter()
        .find(|call| call.lookup == Lookup::StateGet("n".into()));
    assert_eq!(read.unwrap().answer, Ok(Answer::State(None)));
    assert!(record.state.read.is_empty() && record.state.listed.is_empty());
    assert!(record.state.written.is_empty());
}

#[tokio::test]
async fn a_key_with_a_control_character_is_invalid_before_the_world_is_asked() {
    let world = Told::new(usual);
    let record = misbehave(Limits::default())
        .decide(
            input(r#"{"do":"state-count","key":"a\u0000"}"#),
            world.clone(),
        )
        .await
        .unwrap();
    assert_eq!(
        refused(&record),
        "malformed question: state: a key holds a control character"
    );
    assert!(world.asked().is_empty());
}

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
        told.contains(&"state.get: Ok(Some([49]))".to_owned()),
        "{told:?}"
    );
    assert!(
        told.contains(&r#"state.keys: Ok(["echo/one", "echo/three"])"#.to_owned()),
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
