//! What GitLab still says of what it could not deliver.

use std::time::Duration;

use penstock_doubles::gitlab::{Access, Hook, ProjectSeed, Proposal, Trigger};
use penstock_gitlab::{
    HookScope, HookState, NotReadBack, Redaction, WantedHook, failed_calls, heads, notes_since,
    projects_of, resend, test_hook, webhook_at,
};
use penstock_model::id::Timestamp;

use crate::scene::{API, KEY, Scene, scope};

const PATH: &str = "/hooks";

/// The webhook with a path, of whatever host.
fn at(scope: HookScope, path: &str) -> WantedHook {
    WantedHook {
        scope,
        base: None,
        path: path.to_owned(),
    }
}

#[tokio::test]
async fn a_call_that_failed_is_read_back_under_the_id_that_it_would_have_had() {
    let scene = Scene::new().await;
    let change = scene.push(API, "feature", "alice");
    let sent = change.send().await;
    let found = webhook_at(&scene.client, &at(scope(), PATH))
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
    let found = webhook_at(&scene.client, &at(scope(), PATH))
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
        webhook_at(&scene.client, &at(project.clone(), path))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        webhook_at(&scene.client, &at(scope(), path))
            .await
            .unwrap()
            .is_none()
    );
    let by_id = HookScope::ProjectId(scene.project(API));
    assert!(
        webhook_at(&scene.client, &at(by_id, path))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn the_hooks_of_a_group_are_its_owners_alone() {
    let scene = Scene::with(|world| {
        world.member("acme", "project_1_bot_penstock", Access::Maintainer);
    })
    .await;
    let denied = webhook_at(&scene.client, &at(scope(), PATH))
        .await
        .unwrap_err();
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
    assert!(notes.complete);
    let notes = notes.rows;
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].text, "/test");
    assert_eq!(notes[0].author, scene.user("rita"));
    let later = Timestamp::now().plus(Duration::from_secs(60));
    assert!(
        notes_since(&scene.client, project, opened.number, later)
            .await
            .unwrap()
            .rows
            .is_empty()
    );

    let projects = projects_of(&scene.client, &scope()).await.unwrap().unwrap();
    assert!(projects.complete);
    assert!(projects.rows.iter().any(|it| it.path.as_str() == API));
    assert_eq!(
        projects_of(&scene.client, &HookScope::Instance).await,
        Ok(None)
    );
}

#[tokio::test]
async fn a_log_of_large_bodies_is_read_a_part_at_a_time() {
    let scene = Scene::new().await;
    // Three of them are more than one answer may have, and more than is held at once.
    let body = format!(r#"{{"object_kind":"push","x":"{}"}}"#, "x".repeat(12 << 20));
    let mut all = Vec::new();
    for _ in 0..3 {
        scene.gitlab.advance(Duration::from_secs(1));
        let logged = |world: &mut penstock_doubles::gitlab::World| {
            world.log_failure(scene.hook, Trigger::Push, body.as_bytes())
        };
        all.push(scene.gitlab.edit(logged));
    }
    let (mut since, mut seen) = (Timestamp(0), Vec::new());
    loop {
        let failed = failed_calls(&scene.client, &scope(), scene.hook, since)
            .await
            .unwrap();
        assert!(failed.complete && failed.calls.len() <= 2);
        seen.extend(failed.calls.iter().map(|call| call.id));
        match failed.rest_from {
            Some(rest) => since = rest,
            None => break,
        }
    }
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_list_of_comments_that_is_too_long_says_so() {
    let scene = Scene::new().await;
    let opened = {
        let _ = scene.push(API, "feature", "alice");
        scene.gitlab.propose(Proposal::new(API, "feature", "alice"))
    };
    let project = scene.project(API);
    let _ = scene.gitlab.comment(API, opened.number, "rita", "first");
    let notes = notes_since(&scene.client, project, opened.number, Timestamp(0));
    assert!(notes.await.unwrap().complete);
    scene.gitlab.advance(Duration::from_secs(3600));
    let later = Timestamp::now().plus(Duration::from_secs(1800));
    for _ in 0..3_000 {
        let _ = scene.gitlab.comment(API, opened.number, "rita", "more");
    }
    let notes = notes_since(&scene.client, project, opened.number, Timestamp(0));
    let notes = notes.await.unwrap();
    assert!(!notes.complete, "the first is cut off");
    assert_eq!(notes.rows.len(), 3_000);
    let _ = scene.gitlab.comment(API, opened.number, "rita", "most");
    scene.gitlab.advance(Duration::from_secs(3600));
    let _ = scene.gitlab.comment(API, opened.number, "rita", "last");
    let newest = later.plus(Duration::from_secs(3600));
    let notes = notes_since(&scene.client, project, opened.number, newest);
    let notes = notes.await.unwrap();
    assert!(notes.complete, "what is older was not looked for");
    assert_eq!(notes.rows.len(), 1);
}

#[tokio::test]
async fn a_group_with_too_many_projects_says_so() {
    let scene = Scene::with(|world| {
        for count in 0..3_000 {
            world.project(ProjectSeed::new(&format!("acme/p{count}")));
        }
    })
    .await;
    let listed = projects_of(&scene.client, &scope()).await.unwrap().unwrap();
    assert!(!listed.complete);
    assert_eq!(listed.rows.len(), 3_000);
}
