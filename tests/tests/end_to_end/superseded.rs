//! A newer commit takes the place of an older one.

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};
use serde_json::json;

#[tokio::test]
async fn a_new_push_cancels_the_run_of_the_commit_that_it_supersedes() {
    let rules = json!([{ "name": "build", "on": ["push"], "cancel": "superseded", "template": running("sleep infinity") }]);
    let scene = Scene::builder("superseded")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .start()
        .await;
    let push = |content: &str| {
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", content.to_owned()))
    };
    let first = push("one");
    let first_delivery = scene.send_one(&first).await;
    let first_run = scene.run_of(&first_delivery).await.metadata.name.unwrap();
    scene.status(&first.commit, "build", "running").await;

    let second = push("two");
    let second_delivery = scene.send_one(&second).await;
    scene.status(&first.commit, "build", "canceled").await;
    scene.run_of(&second_delivery).await;
    scene.status(&second.commit, "build", "running").await;
    let runs = scene.runs_api().await;
    let stopped = until("the end of the first run", async || {
        let run = runs.get(&first_run).await.ok()?;
        let condition = run.data["status"]["conditions"][0].clone();
        (condition["status"] == "False").then_some(condition)
    })
    .await;
    assert_eq!(stopped["reason"], "Cancelled");
}

#[tokio::test]
async fn a_run_of_another_branch_goes_on() {
    let rules = json!([{ "name": "build", "on": ["push"], "cancel": "superseded", "template": running("sleep infinity") }]);
    let scene = Scene::builder("beside")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .start()
        .await;
    let push = |branch: &str| {
        scene
            .gitlab
            .push(Push::new(PROJECT, branch, "alice").write("a.txt", branch.to_owned()))
    };
    let (one, other) = (push("one"), push("other"));
    scene.send_one(&one).await;
    scene.status(&one.commit, "build", "running").await;
    scene.send_one(&other).await;
    scene.status(&other.commit, "build", "running").await;
    scene.settled().await;
    assert_eq!(
        scene
            .posted(&one.commit, "build")
            .last()
            .map(String::as_str),
        Some("running")
    );
    let stopped = scene
        .runs()
        .await
        .iter()
        .filter(|run| run.data["spec"].get("status").is_some())
        .count();
    assert_eq!(stopped, 0);
}
