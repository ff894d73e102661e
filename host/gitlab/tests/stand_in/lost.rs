//! What GitLab still says of what it could not deliver.

use std::time::Duration;

use penstock_doubles::gitlab::{Access, Hook, Proposal};
use penstock_gitlab::{
    HookScope, HookState, NotReadBack, Redaction, failed_calls, heads, known_hook, notes_since,
    projects_of, resend, test_hook,
};
use penstock_model::id::Timestamp;

use crate::scene::{API, KEY, Scene, scope};

const PATH: &str = "/hooks";

#[tokio::test]
async fn a_call_that_failed_is_read_back_under_the_id_that_it_would_have_had() {
    let scene = Scene::new().await;
    let change = scene.push(API, "feature", "alice");
    let sent = change.send().await;
    let found = known_hook(&scene.client, &scope(), PATH)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.id, scene.hook);
    assert_eq!(found.state, HookState::Enabled);
    assert!(found.events.contains(&"push".to_owned()), "{found:?}");
    let since = Timestamp(0);
    let failed = failed_calls(&scene.client, &scope(), found.id, since)
        .await
        .unwrap();
    assert!(failed.complete);
    assert_eq!(failed.calls.len(), 1);
    let call = failed.calls[0].clone();
    assert_eq!(call.status, "internal error");
    let accepted = call
        .read_back(
            &scope(),
            &"main".into(),
            &"acme".into(),
            &Redaction::default(),
        )
        .unwrap();
    assert_eq!(
        accepted.delivery().as_str(),
        format!("acme:{}", sent[0].key)
    );
    assert_eq!(accepted.kind(), "push");
    assert_eq!(accepted.event(), "Push Hook");
    let headers = format!("{:?}", accepted.headers());
    assert!(!headers.contains("signature"), "{headers}");

    let out = failed.calls[0].clone().read_back(
        &HookScope::Group("other".into()),
        &"main".into(),
        &"acme".into(),
        &Redaction::default(),
    );
    assert!(matches!(out, Err(NotReadBack::Scope(_))), "{out:?}");
    let later = Timestamp::now().plus(Duration::from_secs(60));
    let failed = failed_calls(&scene.client, &scope(), found.id, later)
        .await
        .unwrap();
    assert!(failed.calls.is_empty() && failed.complete);
}

#[tokio::test]
async fn a_call_without_a_key_must_be_sent_again() {
    let scene = Scene::with(|world| {
        world.version("17.3.0-ee");
    })
    .await;
    scene.push(API, "feature", "alice").send().await;
    let failed = failed_calls(&scene.client, &scope(), scene.hook, Timestamp(0))
        .await
        .unwrap();
    let call = failed.calls[0].clone();
    let id = call.id;
    let read = call.read_back(
        &scope(),
        &"main".into(),
        &"acme".into(),
        &Redaction::default(),
    );
    assert_eq!(read.unwrap_err(), NotReadBack::Incomplete);
    resend(&scene.client, &scope(), scene.hook, id)
        .await
        .unwrap();
    let failed = failed_calls(&scene.client, &scope(), scene.hook, Timestamp(0))
        .await
        .unwrap();
    assert_eq!(failed.calls.len(), 2, "it was made again, and failed again");
}

#[tokio::test]
async fn a_paused_hook_is_told_of_and_can_be_tested() {
    let scene = Scene::new().await;
    for branch in ["a", "b", "c", "d"] {
        scene.push(API, branch, "alice").send().await;
    }
    let found = known_hook(&scene.client, &scope(), PATH)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(found.state, HookState::Paused { .. }), "{found:?}");
    // Nobody listens at its address, so the test fails; that it could be asked for is what counts.
    let tested = test_hook(
        &scene.client,
        &scope(),
        found.id,
        "resource_access_token_events",
    )
    .await;
    assert!(tested.is_err(), "{tested:?}");
    let missing = test_hook(&scene.client, &scope(), found.id, "releases_events").await;
    assert!(missing.is_err());
}

#[tokio::test]
async fn a_hook_is_found_by_the_end_of_its_address_and_only_in_its_scope() {
    let scene = Scene::with(|world| {
        world.hook(
            Hook::project(API, "http://127.0.0.1:9/deep/hooks/gitlab/main/api").signing_token(KEY),
        );
    })
    .await;
    let project = HookScope::Project(API.to_owned());
    let path = "/hooks/gitlab/main/api";
    assert!(
        known_hook(&scene.client, &project, path)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        known_hook(&scene.client, &scope(), path)
            .await
            .unwrap()
            .is_none()
    );
    let by_id = HookScope::ProjectId(scene.project(API));
    assert!(
        known_hook(&scene.client, &by_id, path)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        known_hook(&scene.client, &HookScope::Instance, path)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn the_hooks_of_a_group_are_its_owners_alone() {
    let scene = Scene::with(|world| {
        world.member("acme", "project_1_bot_penstock", Access::Maintainer);
    })
    .await;
    let denied = known_hook(&scene.client, &scope(), PATH).await.unwrap_err();
    assert!(denied.is_denial(), "{denied}");
}

#[tokio::test]
async fn heads_are_those_of_now() {
    let scene = Scene::new().await;
    let commit = scene.push(API, "feature", "alice").commit;
    let opened = scene.gitlab.propose(Proposal::new(API, "feature", "alice"));
    let project = scene.project(API);
    let found = heads(&scene.client, project).await.unwrap();
    let feature = found
        .branches
        .iter()
        .find(|(name, _)| name == "feature")
        .unwrap();
    assert_eq!(feature.1.as_str(), commit);
    assert_eq!(found.merge_requests.len(), 1);
    let open = &found.merge_requests[0];
    assert_eq!(open.request.iid, opened.number);
    assert_eq!(open.request.head.as_str(), commit);
    assert_eq!(open.author_name, "alice");
    assert!(found.cut.is_empty());

    let since = Timestamp(0);
    let _ = scene.gitlab.comment(API, opened.number, "rita", "/test");
    let notes = notes_since(&scene.client, project, opened.number, since)
        .await
        .unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].text, "/test");
    assert_eq!(notes[0].author, scene.user("rita"));
    let later = Timestamp::now().plus(Duration::from_secs(60));
    assert!(
        notes_since(&scene.client, project, opened.number, later)
            .await
            .unwrap()
            .is_empty()
    );

    let projects = projects_of(&scene.client, &scope()).await.unwrap().unwrap();
    assert!(projects.iter().any(|it| it.path.as_str() == API));
    assert_eq!(
        projects_of(&scene.client, &HookScope::Instance).await,
        Ok(None)
    );
}
