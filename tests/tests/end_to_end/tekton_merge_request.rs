//! A merge request of a project with a `.tekton` folder, from its opening to its end: the comment that tells of its runs, commands, changes of mind.

use kube::core::DynamicObject;
use penstock_doubles::gitlab::{Change, Proposal, Push};
use penstock_tests::scene::PROJECT;
use penstock_tests::{Scene, until};
use serde_json::json;

use crate::tekton::{BUILT, comment, comments, pipeline, plugin, route};

async fn scene(name: &str, files: &[(&str, String)]) -> Scene {
    let scene = Scene::builder(name)
        .plugin_by(plugin(json!({ "on-no-match": "success" })), route())
        .start()
        .await;
    let mut push = Push::new(PROJECT, "main", "maria");
    for (name, text) in files {
        push = push.write(&format!(".tekton/{name}.yaml"), text.clone());
    }
    // What main's own push starts is of no interest.
    drop(scene.gitlab.push(push));
    scene
}

fn topic(scene: &Scene) -> Change {
    drop(
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a")),
    );
    scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"))
}

/// The pipeline of a run, by its label.
fn of_pipeline(run: &DynamicObject) -> &str {
    let labels = run.metadata.labels.as_ref().unwrap();
    &labels["penstock.dev/pipeline"]
}

/// Runs of a pipeline, and whether somebody wants them stopped.
async fn runs(scene: &Scene, pipeline: &str) -> Vec<(DynamicObject, bool)> {
    let mut all = scene.runs().await;
    all.retain(|run| of_pipeline(run) == pipeline);
    all.into_iter()
        .map(|run| {
            let stopped = run.data["spec"]["status"].is_string();
            (run, stopped)
        })
        .collect()
}

async fn running(scene: &Scene, pipeline: &str) {
    until(&format!("a run of {pipeline}"), async || {
        let all = runs(scene, pipeline).await;
        all.iter().any(|(_, stopped)| !stopped).then_some(())
    })
    .await;
}

async fn stopped(scene: &Scene, pipeline: &str) {
    until(&format!("no run of {pipeline} to go on"), async || {
        let all = runs(scene, pipeline).await;
        all.iter().all(|(_, stopped)| *stopped).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_comment_tells_of_all_runs_until_they_end_and_retest_runs_what_failed() {
    let scene = scene(
        "tekton-comment",
        &[
            ("test", pipeline("test", "pull_request", "main", BUILT, "")),
            (
                "lint",
                pipeline("lint", "pull_request", "main", "exit 3", ""),
            ),
        ],
    )
    .await;
    let proposed = topic(&scene);
    let iid = proposed.number;
    scene.send_one(&proposed).await;
    let body = comment(&scene, iid, "both ends", |body| {
        body.contains("✅ succeeded") && body.contains("❌ failed")
    })
    .await;
    let row = |name: &str| {
        let found = body.lines().find(|line| line.contains(name));
        found.unwrap_or_else(|| panic!("{body}")).to_owned()
    };
    let (test, lint) = (row("[test](https://tekton."), row("[lint](https://tekton."));
    assert!(test.contains("`digest`: `sha256:abc`"), "{body}");
    assert!(lint.contains("task `work`"), "{body}");
    for row in [test, lint] {
        assert!(row.contains(" s |"), "how long it took: {row}");
    }
    scene
        .status(&proposed.commit, "Penstock / test", "success")
        .await;
    scene
        .status(&proposed.commit, "Penstock / lint", "failed")
        .await;
    let told = scene.status(&proposed.commit, "Penstock", "failed").await;
    assert_eq!(told["description"], "lint failed");

    let again = scene.gitlab.comment(PROJECT, iid, "alice", "/retest");
    let delivery = scene.send_one(&again).await;
    let run = scene.run_of(&delivery).await;
    assert_eq!(of_pipeline(&run), "lint");
    until("the end of the second run", async || {
        let posted = scene.posted(&proposed.commit, "Penstock / lint");
        let failed = posted.iter().filter(|state| *state == "failed").count();
        (failed == 2).then_some(())
    })
    .await;
    scene.settled().await;
    assert_eq!(runs(&scene, "test").await.len(), 1);
    assert_eq!(runs(&scene, "lint").await.len(), 2);
    assert_eq!(comments(&scene, iid).len(), 1, "never a second comment");
}

#[tokio::test]
async fn a_cancel_another_target_and_a_close_end_the_runs_of_a_merge_request() {
    let scene = scene(
        "tekton-minds",
        &[
            (
                "test",
                pipeline("test", "pull_request", "main", "sleep infinity", ""),
            ),
            (
                "other",
                pipeline("other", "pull_request", "stable", "sleep infinity", ""),
            ),
        ],
    )
    .await;
    drop(
        scene
            .gitlab
            .create_branches(PROJECT, &["stable"], "main", "maria"),
    );
    let proposed = topic(&scene);
    let iid = proposed.number;
    scene.send_one(&proposed).await;
    running(&scene, "test").await;

    // Who may not have it run may not stop it either.
    let stranger = scene.gitlab.comment(PROJECT, iid, "mallory", "/cancel");
    scene
        .outcome(&scene.send_one(&stranger).await, "decided")
        .await;
    running(&scene, "test").await;
    let cancel = scene.gitlab.comment(PROJECT, iid, "alice", "/cancel");
    scene.send_one(&cancel).await;
    stopped(&scene, "test").await;
    scene
        .status(&proposed.commit, "Penstock / test", "canceled")
        .await;
    comment(&scene, iid, "the cancelled run", |body| {
        body.contains("🚫 cancelled")
    })
    .await;

    let test = scene.gitlab.comment(PROJECT, iid, "alice", "/test test");
    scene.run_of(&scene.send_one(&test).await).await;
    let retarget = scene.gitlab.retarget(PROJECT, iid, "stable", "alice");
    scene.send_one(&retarget).await;
    stopped(&scene, "test").await;
    running(&scene, "other").await;
    assert_eq!(runs(&scene, "test").await.len(), 2, "not for this target");

    let close = scene.gitlab.close(PROJECT, iid, "alice");
    let delivery = scene.send_one(&close).await;
    stopped(&scene, "other").await;
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(told["runs"], json!([]), "{told:#}");
    assert_eq!(runs(&scene, "other").await.len(), 1);
}

#[tokio::test]
async fn a_push_to_a_merge_request_does_not_run_twice_and_a_deleted_branch_ends_its_runs() {
    let scene = scene(
        "tekton-branches",
        &[
            ("push", pipeline("push", "push", "*", "sleep infinity", "")),
            ("test", pipeline("test", "pull_request", "main", BUILT, "")),
        ],
    )
    .await;
    let proposed = topic(&scene);
    scene.send_one(&proposed).await;
    running(&scene, "test").await;
    let pushed = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "b"));
    let deliveries = scene.send(&pushed).await;
    assert_eq!(
        deliveries.len(),
        2,
        "a push, and an update of the merge request"
    );
    scene.settled().await;
    assert_eq!(runs(&scene, "push").await.len(), 0);
    assert_eq!(runs(&scene, "test").await.len(), 2);

    let branch = scene
        .gitlab
        .create_branches(PROJECT, &["nightly"], "main", "alice");
    scene.send_one(&branch).await;
    running(&scene, "push").await;
    let deleted = scene.gitlab.delete_branch(PROJECT, "nightly", "alice");
    let delivery = scene.send_one(&deleted).await;
    stopped(&scene, "push").await;
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(told["runs"], json!([]), "{told:#}");
}

#[tokio::test]
async fn each_run_s_status_and_the_aggregate_follow_the_merge_request_s_head_pipeline() {
    let scene = scene(
        "tekton-pipeline",
        &[("test", pipeline("test", "pull_request", "main", BUILT, ""))],
    )
    .await;
    let proposed = topic(&scene);
    scene.send_one(&proposed).await;
    for name in ["Penstock / test", "Penstock"] {
        scene.status(&proposed.commit, name, "success").await;
    }
    let own = format!("refs/merge-requests/{}/head", proposed.number);
    let source = "merge_request_event";
    let made = scene
        .gitlab
        .pipeline(PROJECT, &own, source, "running", "alice");
    scene.send_one(&made).await;
    let rows = until("both statuses in the head pipeline", async || {
        let mut rows = scene.gitlab.statuses(PROJECT, &proposed.commit);
        rows.retain(|row| row["pipeline_id"] == json!(made.number));
        (rows.len() == 2).then_some(rows)
    })
    .await;
    for row in &rows {
        assert_eq!(row["status"], "success", "{row:#}");
    }
    let run = rows.iter().find(|row| row["name"] == "Penstock / test");
    let link = run.unwrap()["target_url"].as_str().unwrap();
    assert!(link.starts_with("https://tekton.example.com/"), "{link}");
}
