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
async fn a_cancelled_run_whose_finally_task_does_not_end_is_stopped_after_its_grace() {
    let mut manifest = running("sleep infinity");
    manifest["spec"]["pipelineSpec"]["finally"] = json!([{
        "name": "clean",
        "taskSpec": { "steps": [{ "name": "clean", "image": "example.com/builder", "script": "sleep infinity" }] },
    }]);
    let rules =
        json!([{ "name": "build", "on": ["push"], "cancel": "superseded", "template": manifest }]);
    let scene = Scene::builder("grace")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .edit(|config| config["clusters"][0]["cancel-grace"] = "12s".into())
        .start()
        .await;
    let push = |content: &str| {
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", content.to_owned()))
    };
    let first = push("one");
    let delivery = scene.send_one(&first).await;
    let name = scene.run_of(&delivery).await.metadata.name.unwrap();
    let runs = scene.runs_api().await;
    until("its task", async || {
        let run = runs.get(&name).await.ok()?;
        let children = run.data["status"]["childReferences"].as_array()?;
        (!children.is_empty()).then_some(())
    })
    .await;
    scene.send_one(&push("two")).await;
    let word = async || {
        let run = runs.get(&name).await.ok()?;
        let status = run.data["spec"]["status"].as_str()?;
        Some(status.to_owned())
    };
    assert_eq!(until("its cancellation", word).await, "CancelledRunFinally");
    until("its end", async || {
        let run = runs.get(&name).await.ok()?;
        let condition = run.data["status"]["conditions"][0].clone();
        (run.data["spec"]["status"] == "Cancelled" && condition["status"] == "False").then_some(())
    })
    .await;
    scene.status(&first.commit, "build", "canceled").await;
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
