//! Questions to the world: granted, answered, recorded, or the end of the call.

use std::sync::Arc;

use penstock_model::grant::Grant;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Lookup, LookupError};
use penstock_sandbox::{Asked, BoxFuture, World};

use crate::stage::{Told, decide, fault, input, misbehave, reasons, usual};

const ECHO: &str = r#"{"do":"echo-lookups"}"#;

#[tokio::test]
async fn every_import_is_asked_and_recorded_in_order() {
    let world = Told::new(usual);
    let record = misbehave(Limits::default())
        .decide(input(ECHO), world.clone())
        .await
        .unwrap();
    assert!(reasons(&record).len() > 20, "{:?}", record.outcome);
    let recorded: Vec<Lookup> = record
        .calls
        .iter()
        .map(|call| call.lookup.clone())
        .collect();
    assert_eq!(recorded, world.asked());
    assert_eq!(record.calls[0].lookup, Lookup::Payload);
    assert!(record.usage.host_bytes > 100);
}

#[tokio::test]
async fn what_is_not_granted_is_denied_before_the_world_is_asked() {
    let world = Told::new(usual);
    let mut input = input(ECHO);
    let mut grant = Grant::clone(&input.grant);
    grant.gitlab_read.clear();
    grant.history = false;
    grant.fetch.clear();
    input.grant = Arc::new(grant);
    let record = misbehave(Limits::default())
        .decide(input, world.clone())
        .await
        .unwrap();
    let told = |function: &str| {
        reasons(&record)
            .iter()
            .find(|reason| reason.starts_with(function))
            .unwrap()
            .clone()
    };
    assert!(told("gitlab-read.folder").contains("gitlab-read: [files]"));
    assert!(told("gitlab-read.access").contains("gitlab-read: [members]"));
    assert!(told("history.summarize").contains("history: true"));
    assert!(told("fetch.get").contains("fetch: [example.com]"));
    let asked = world.asked();
    assert!(
        !asked
            .iter()
            .any(|it| matches!(it, Lookup::Folder { .. } | Lookup::Fetch(_)))
    );
    let denied = record
        .calls
        .iter()
        .filter(|call| matches!(call.answer, Err(LookupError::Denied(_))))
        .count();
    assert!(denied >= 10, "denials are recorded: {denied}");
}

#[tokio::test]
async fn without_a_grant_every_function_answers_denied_and_the_plugin_goes_on() {
    let mut input = input(ECHO);
    input.grant = Arc::new(Grant::default());
    let world = Told::new(usual);
    let record = misbehave(Limits::default())
        .decide(input, world.clone())
        .await
        .unwrap();
    for told in reasons(&record).iter().skip(1) {
        assert!(told.contains("Denied("), "{told}");
    }
    assert_eq!(world.asked(), []);
    assert!(record.state.written.is_empty());
    let denied = |lookup: &Lookup| {
        record.calls.iter().any(|call| {
            call.lookup == *lookup && matches!(call.answer, Err(LookupError::Denied(_)))
        })
    };
    assert!(denied(&Lookup::StatePut("echo/one".into())));
    assert!(denied(&Lookup::StateDelete("echo/two".into())));
    assert!(denied(&Lookup::Places) && denied(&Lookup::Payload));
}

#[tokio::test]
async fn a_fault_of_the_host_ends_the_call_and_is_no_fault_of_the_plugin() {
    let world = Told::new(|lookup: &Lookup| match lookup {
        Lookup::Payload => Err(fault("gitlab: 503")),
        other => usual(other),
    });
    let error = misbehave(Limits::default())
        .decide(input(ECHO), world)
        .await
        .unwrap_err();
    assert_eq!(error, fault("gitlab: 503"));
}

#[tokio::test]
async fn an_answer_to_something_else_is_a_fault_of_the_host() {
    let world = Told::new(|_: &Lookup| Ok(Ok(Answer::Access(1))));
    let error = misbehave(Limits::default())
        .decide(input(ECHO), world)
        .await
        .unwrap_err();
    assert!(error.what.contains("something else than a text"), "{error}");
}

#[tokio::test]
async fn a_world_that_panics_is_a_fault_of_the_host() {
    struct Panics;
    impl World for Panics {
        fn ask(&self, _lookup: Lookup) -> BoxFuture<'_, Asked> {
            Box::pin(async { panic!("told to") })
        }
    }
    let plugin = misbehave(Limits::default());
    let error = plugin
        .decide(input(ECHO), Arc::new(Panics))
        .await
        .unwrap_err();
    assert!(error.what.contains("panicked"), "{error}");
    let record = plugin
        .decide(input(r#"{"do":"nothing"}"#), Told::new(usual))
        .await
        .unwrap();
    assert_eq!(reasons(&record).len(), 1, "the host goes on");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_told_so_where_the_contract_can() {
    let world = Told::new(|lookup: &Lookup| match lookup {
        Lookup::ChangedPaths => Ok(Ok(Answer::Changes(penstock_model::lookup::Changes {
            added: vec!["x".repeat(70_000)],
            ..Default::default()
        }))),
        other => usual(other),
    });
    let limits = Limits {
        host_call_bytes: 64 * 1024,
        ..Limits::default()
    };
    let record = misbehave(limits).decide(input(ECHO), world).await.unwrap();
    let call = record
        .calls
        .iter()
        .find(|call| call.lookup == Lookup::ChangedPaths)
        .unwrap();
    assert!(matches!(call.answer, Err(LookupError::TooLarge(bytes)) if bytes >= 70_000));
}

#[tokio::test]
async fn the_world_is_asked_within_the_runtime_that_the_call_came_from() {
    struct Timed;
    impl World for Timed {
        fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked> {
            let home = tokio::runtime::Handle::current().id();
            Box::pin(async move {
                assert_eq!(tokio::runtime::Handle::current().id(), home);
                tokio::task::spawn(async {}).await.unwrap();
                tokio::time::timeout(std::time::Duration::from_secs(5), async {})
                    .await
                    .unwrap();
                usual(&lookup)
            })
        }
    }
    let home = tokio::runtime::Handle::current().id();
    let record = misbehave(Limits::default())
        .decide(input(r#"{"do":"host-bytes","count":2}"#), Arc::new(Timed))
        .await
        .unwrap();
    assert_eq!(tokio::runtime::Handle::current().id(), home);
    assert_eq!(record.calls.len(), 2);
}

#[tokio::test]
async fn malformed_commit_ids_are_answered_without_the_world() {
    let mut input = input(ECHO);
    input.event.commit = None;
    let record = misbehave(Limits::default())
        .decide(input, Told::new(usual))
        .await
        .unwrap();
    assert!(
        reasons(&record)
            .iter()
            .any(|it| it.starts_with("gitlab-read.find-commit")
                && it.contains("is no full commit id")),
        "{:?}",
        record.outcome
    );
}

#[tokio::test]
async fn the_settings_reach_the_plugin_as_they_are() {
    let record = decide(Limits::default(), ECHO).await;
    assert_eq!(record.settings, ECHO);
    assert!(reasons(&record)[0].contains("echo-lookups"));
}
