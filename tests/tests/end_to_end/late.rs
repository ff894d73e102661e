//! GitLab's deliveries come in another order than what they tell of: what is newer goes on, and nothing runs for what has ended.

use penstock_doubles::gitlab::{Change, Proposal, Push};
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::json;

use crate::tekton;

fn push(scene: &Scene, content: &str) -> Change {
    let push = Push::new(PROJECT, "topic", "alice").write("a.txt", content.to_owned());
    scene.gitlab.push(push)
}

/// Runs that nobody has asked to stop.
async fn going_on(scene: &Scene) -> usize {
    let runs = scene.runs().await;
    let going_on = runs
        .iter()
        .filter(|run| run.data["spec"]["status"].is_null());
    going_on.count()
}

#[tokio::test]
async fn a_push_that_comes_after_a_newer_one_starts_its_run_and_stops_no_other() {
    let rules = json!([{ "name": "build", "on": ["push"], "cancel": "superseded", "template": running("sleep infinity") }]);
    let scene = Scene::builder("late-push")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .start()
        .await;
    let (first, second) = (push(&scene, "one"), push(&scene, "two"));
    let second_delivery = scene.send_one(&second).await;
    scene.run_of(&second_delivery).await;
    scene.status(&second.commit, "build", "running").await;

    let first_delivery = scene.send_one(&first).await;
    scene.outcome(&first_delivery, "decided").await;
    scene.run_of(&first_delivery).await;
    scene.status(&first.commit, "build", "running").await;
    scene.settled().await;
    let newer = scene.run_of(&second_delivery).await;
    assert!(newer.data["spec"]["status"].is_null(), "{:#}", newer.data);
    // On a busy machine it may have been told before that they wait.
    let told = |commit: &str| {
        let mut told = scene.posted(commit, "build");
        told.retain(|state| state != "pending");
        told
    };
    assert_eq!(told(&second.commit), ["running"]);
    assert_eq!(told(&first.commit), ["running"]);
    // What cancels is a newer push, and it stops both.
    let third = push(&scene, "three");
    scene.send_one(&third).await;
    scene.status(&first.commit, "build", "canceled").await;
    scene.status(&second.commit, "build", "canceled").await;
    scene.status(&third.commit, "build", "running").await;
}

/// A merge request's close comes, and after it what happened before; then nothing runs.
async fn check(scene: &Scene) {
    drop(push(scene, "one"));
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&opened).await;
    until("a run of the merge request", async || {
        (going_on(scene).await == 1).then_some(())
    })
    .await;
    let moved = push(scene, "two");
    let closed = scene.gitlab.close(PROJECT, opened.number, "alice");
    let closing = scene.send(&closed).await;
    for delivery in &closing {
        scene.outcome(delivery, "decided").await;
    }
    until("the stop of its run", async || {
        (going_on(scene).await == 0).then_some(())
    })
    .await;
    let late: Vec<_> = moved.deliveries(scene.hook);
    assert_eq!(late.len(), 2, "a push, and the merge request's update");
    for delivery in &late {
        assert_eq!(scene.post(delivery).await.status, 202);
    }
    for delivery in &late {
        let id = penstock_tests::burst::id(delivery);
        scene.outcome(&id, "decided").await;
    }
    // Nothing is left to start: what waits still is the stop at once of the run that was cancelled, should it be needed.
    until("no start that waits", async || {
        let told = scene.penstock.command(&["effects", "list"]).await.json();
        let starts = |it: &serde_json::Value| it["kind"] == "start-run";
        (!told.as_array()?.iter().any(starts)).then_some(())
    })
    .await;
    assert_eq!(
        going_on(scene).await,
        0,
        "it runs for a closed merge request"
    );
    // Opened again, it runs again: it was the state that stood in the way.
    let reopened = scene.gitlab.reopen(PROJECT, opened.number, "alice");
    scene.send(&reopened).await;
    until("a run of the merge request", async || {
        (going_on(scene).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_merge_request_that_was_closed_runs_nothing_for_an_update_that_comes_after_by_rules() {
    let rules = json!([
        { "name": "build", "on": "merge_request", "when": "event.code_changed", "cancel": "superseded", "template": running("sleep infinity") },
        { "name": "stop", "on": "merge_request", "when": "event.merge_request.action in ['close', 'merge']", "pipeline": "build", "cancel": "earlier" },
    ]);
    let scene = Scene::builder("late-close")
        .plugin_by(
            Plugin::trigger_map("pipelines", rules),
            Route::to("pipelines").on(&["merge_request", "push"]),
        )
        .start()
        .await;
    check(&scene).await;
}

#[tokio::test]
async fn a_merge_request_that_was_closed_runs_nothing_for_an_update_that_comes_after_by_a_folder() {
    let scene = Scene::builder("late-folder")
        .plugin_by(tekton::plugin(json!({})), tekton::route())
        .start()
        .await;
    let text = tekton::pipeline("test", "pull_request", "main", "sleep infinity", "");
    // What main's own push starts is of no interest.
    drop(
        scene
            .gitlab
            .push(Push::new(PROJECT, "main", "maria").write(".tekton/test.yaml", text)),
    );
    check(&scene).await;
}
