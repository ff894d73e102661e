//! Statuses stand where they count, also when GitLab starts a pipeline later.

use penstock_doubles::gitlab::{Proposal, Push};
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::{Value, json};

/// A merge request whose run has succeeded, with its commit and its number.
async fn proposed(scene: &Scene) -> (String, u64) {
    drop(
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "one")),
    );
    let change = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&change).await;
    scene.status(&change.commit, "build", "success").await;
    (change.commit.clone(), change.number)
}

async fn scene(name: &str) -> Scene {
    let plugin = Plugin::starts("pipelines", &running("echo built"));
    Scene::builder(name)
        .plugin_by(plugin, Route::to("pipelines").on(&["merge_request"]))
        .start()
        .await
}

fn in_pipeline(scene: &Scene, commit: &str, pipeline: u64) -> Vec<Value> {
    let mut rows = scene.gitlab.statuses(PROJECT, commit);
    rows.retain(|row| row["pipeline_id"] == json!(pipeline) && row["name"] == "build");
    rows
}

async fn is_given(scene: &Scene, commit: &str, pipeline: u64) {
    let rows = until("the status in the new pipeline", async || {
        let rows = in_pipeline(scene, commit, pipeline);
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows[0]["status"], "success", "{rows:?}");
}

#[tokio::test]
async fn a_new_head_pipeline_is_given_the_current_statuses_once() {
    let scene = scene("new-pipeline").await;
    let (commit, iid) = proposed(&scene).await;
    // GitLab CI makes a pipeline of the branch: it is the head pipeline now, until the merge request has one of its own.
    let own = format!("refs/merge-requests/{iid}/head");
    for (git_ref, source) in [("topic", "push"), (&own, "merge_request_event")] {
        let pipeline = scene
            .gitlab
            .pipeline(PROJECT, git_ref, source, "running", "alice");
        assert!(in_pipeline(&scene, &commit, pipeline.number).is_empty());
        scene.send_one(&pipeline).await;
        is_given(&scene, &commit, pipeline.number).await;
        // It tells of each of its states, and has the status already.
        let done = scene
            .gitlab
            .pipeline(PROJECT, git_ref, source, "success", "alice");
        scene.send_one(&done).await;
        scene.settled().await;
        assert_eq!(in_pipeline(&scene, &commit, pipeline.number).len(), 1);
    }
}

#[tokio::test]
async fn what_came_of_a_status_names_its_pipeline_and_who_posted_it() {
    let scene = scene("poster").await;
    let (commit, _) = proposed(&scene).await;
    scene.settled().await;
    let rows = scene.gitlab.statuses(PROJECT, &commit);
    let penstock = scene.gitlab.edit(|world| world.user_id("penstock"));
    let listed = scene.penstock.command(&["deliveries", "list"]).await.json();
    let id = listed[0]["delivery"].as_str().unwrap();
    let explained = scene.penstock.command(&["explain", id]).await.json();
    let effects = explained["effects"].as_array().unwrap();
    let last = effects
        .iter()
        .rfind(|effect| effect["kind"] == "commit-status")
        .unwrap();
    assert_eq!(last["result"]["user"], json!(penstock), "{last:#}");
    assert_eq!(
        last["result"]["pipeline"], rows[0]["pipeline_id"],
        "{last:#}"
    );
}
