//! Where statuses land, and what GitLab makes of them.

use std::time::Duration;

use penstock_doubles::gitlab::{Access, Allowed, Break, Fault, Proposal, Protected, Token};
use penstock_gitlab::{ActError, StatusOutcome, set_status};
use penstock_model::admit::StatusOrder;
use penstock_model::effect::StatusState;

use crate::scene::{API, FORK, Scene, commit};

fn order(scene: &Scene, sha: &str, ref_name: &str, state: StatusState) -> StatusOrder {
    StatusOrder {
        of: scene.of(),
        commit: commit(sha),
        name: "penstock/build".into(),
        state,
        description: "d".repeat(400),
        target_url: Some("https://ci.example.com/runs/1".into()),
        ref_name: Some(ref_name.into()),
        merge_request: None,
        source_project: None,
        run: None,
    }
}

#[tokio::test]
async fn a_status_follows_its_run_from_pending_to_success() {
    let scene = Scene::new().await;
    let sha = scene.push(API, "feature", "alice").commit;
    for state in [
        StatusState::Pending,
        StatusState::Running,
        StatusState::Success,
    ] {
        let found = set_status(
            &scene.client,
            &order(&scene, &sha, "refs/heads/feature", state),
        )
        .await
        .unwrap();
        assert!(
            matches!(
                found,
                StatusOutcome::Set {
                    pipeline: Some(_),
                    ..
                }
            ),
            "{found:?}"
        );
    }
    let rows = scene.gitlab.statuses(API, &sha);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["status"], "success");
    assert_eq!(rows[0]["ref"], "feature");
    assert_eq!(
        rows[0]["description"].as_str().unwrap().chars().count(),
        255
    );
    assert_eq!(rows[0]["target_url"], "https://ci.example.com/runs/1");
}

#[tokio::test]
async fn the_same_state_again_is_done_and_an_older_one_is_overtaken() {
    let scene = Scene::new().await;
    let sha = scene.push(API, "feature", "alice").commit;
    let running = order(&scene, &sha, "refs/heads/feature", StatusState::Running);
    assert!(matches!(
        set_status(&scene.client, &running).await,
        Ok(StatusOutcome::Set { .. })
    ));
    assert_eq!(
        set_status(&scene.client, &running).await,
        Ok(StatusOutcome::Already { pipeline: None })
    );
    let pending = order(&scene, &sha, "refs/heads/feature", StatusState::Pending);
    assert_eq!(
        set_status(&scene.client, &pending).await,
        Ok(StatusOutcome::Overtaken { pipeline: None })
    );
}

#[tokio::test]
async fn a_lock_a_limit_and_a_lost_answer_are_tried_again() {
    let scene = Scene::new().await;
    let sha = scene.push(API, "feature", "alice").commit;
    let running = order(&scene, &sha, "refs/heads/feature", StatusState::Running);
    for (how, after) in [
        (Break::Status(409), None),
        (Break::RateLimited(Some(0)), Some(Duration::ZERO)),
        (Break::Status(500), None),
        (Break::LoseAnswer, None),
    ] {
        scene
            .gitlab
            .order(Fault::new("POST", "/statuses/", how.clone()).times(1));
        let found = set_status(&scene.client, &running).await;
        let Err(ActError::Retry { after: found, .. }) = found else {
            panic!("{how:?}: {found:?}")
        };
        assert_eq!(found, after, "{how:?}");
    }
    assert_eq!(
        set_status(&scene.client, &running).await,
        Ok(StatusOutcome::Already { pipeline: None })
    );
    assert_eq!(scene.gitlab.statuses(API, &sha).len(), 1);
}

#[tokio::test]
async fn statuses_of_one_commit_are_sent_one_at_a_time() {
    let scene = Scene::with(|world| {
        world.limits.status_takes = Duration::from_millis(30);
        world.limits.status_lock_wait = Duration::ZERO;
    })
    .await;
    let sha = scene.push(API, "feature", "alice").commit;
    let orders: Vec<StatusOrder> = (0..8)
        .map(|number| StatusOrder {
            name: format!("job {number}"),
            ..order(&scene, &sha, "refs/heads/feature", StatusState::Running)
        })
        .collect();
    let found =
        futures_util::future::join_all(orders.iter().map(|order| set_status(&scene.client, order)))
            .await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    assert_eq!(scene.gitlab.statuses(API, &sha).len(), 8);
}

#[tokio::test]
async fn a_protected_ref_that_does_not_let_us_says_what_to_do() {
    let scene = Scene::with(|world| {
        world
            .bot("weak")
            .member("acme", "weak", Access::Developer)
            .token(Token::new("glpat-weak", "weak"));
        world.protect(
            API,
            Protected::new("main").push(&[Allowed::From(Access::Maintainer)]),
        );
    })
    .await;
    let sha = scene.push(API, "main", "maya").commit;
    let client = scene.client_of("glpat-weak");
    let found = set_status(
        &client,
        &order(&scene, &sha, "refs/heads/main", StatusState::Running),
    )
    .await;
    let Err(ActError::Permanent(said)) = found else {
        panic!("{found:?}")
    };
    assert!(
        said.contains("push or merge") && said.contains("`main`"),
        "{said}"
    );
}

#[tokio::test]
async fn a_commit_that_is_not_there_is_permanent() {
    let scene = Scene::new().await;
    let found = set_status(
        &scene.client,
        &order(
            &scene,
            &"e".repeat(40),
            "refs/heads/main",
            StatusState::Running,
        ),
    )
    .await;
    assert!(matches!(found, Err(ActError::Permanent(_))), "{found:?}");
}

#[tokio::test]
async fn a_status_of_a_merge_request_lands_in_the_pipeline_that_decides() {
    let scene = Scene::new().await;
    let sha = scene.push(API, "feature", "alice").commit;
    let iid = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "alice"))
        .number;
    let own = format!("refs/merge-requests/{iid}/head");
    let _ = scene
        .gitlab
        .pipeline(API, &own, "merge_request_event", "running", "alice");
    let order = StatusOrder {
        merge_request: Some(iid),
        ..order(&scene, &sha, "refs/heads/feature", StatusState::Failed)
    };
    set_status(&scene.client, &order).await.unwrap();
    let rows = scene.gitlab.statuses(API, &sha);
    assert_eq!(rows[0]["ref"], own, "{rows:?}");
}

/// A merge request from the fork, and a status that is about it.
fn from_fork(scene: &Scene) -> (String, u64, StatusOrder) {
    let sha = scene.push(FORK, "feature", "mallory").commit;
    let iid = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "mallory").from_fork(FORK))
        .number;
    let order = StatusOrder {
        merge_request: Some(iid),
        source_project: Some(scene.project(FORK)),
        ..order(scene, &sha, "refs/heads/feature", StatusState::Success)
    };
    (sha, iid, order)
}

#[tokio::test]
async fn a_fork_that_lets_us_gets_the_status() {
    let scene = Scene::with(|world| {
        world.member(FORK, "project_1_bot_penstock", Access::Developer);
    })
    .await;
    let (sha, _, order) = from_fork(&scene);
    let found = set_status(&scene.client, &order).await.unwrap();
    assert!(
        matches!(found, StatusOutcome::Set { project, .. } if project == scene.project(FORK)),
        "{found:?}"
    );
    assert_eq!(scene.gitlab.statuses(FORK, &sha)[0]["ref"], "feature");
    assert!(scene.gitlab.statuses(API, &sha).is_empty());
}

#[tokio::test]
async fn a_fork_that_does_not_let_us_leaves_the_status_to_the_target() {
    let scene = Scene::new().await;
    let (sha, iid, order) = from_fork(&scene);
    let found = set_status(&scene.client, &order).await.unwrap();
    assert!(
        matches!(found, StatusOutcome::Set { project, .. } if project == scene.project(API)),
        "{found:?}"
    );
    assert_eq!(
        scene.gitlab.statuses(API, &sha)[0]["ref"],
        format!("refs/merge-requests/{iid}/head")
    );
    assert!(scene.gitlab.statuses(FORK, &sha).is_empty());
}
