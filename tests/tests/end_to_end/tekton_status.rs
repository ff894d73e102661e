//! The aggregate status of a project with a `.tekton` folder, what becomes of runs that are not admitted, and the queue of a repository.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use kube::api::WatchEvent;
use kube::core::DynamicObject;
use penstock_doubles::gitlab::{Proposal, Push};
use penstock_tests::scene::{PROJECT, annotation};
use penstock_tests::{LIMIT, Plugin, Route, Scene, until};
use serde_json::json;

use crate::tekton::{BUILT, comment, pipeline, plugin, route};

#[tokio::test]
async fn where_nothing_matches_the_aggregate_status_says_what_the_settings_want() {
    let of = |word: &str| {
        Plugin::new(word, &penstock_tests::plugin::guest("pipelines-as-code"))
            .settings(json!({ "on-no-match": word, "aggregate-status": word }))
    };
    let to = |word: &str| Route::to(word).on(&["push", "merge_request"]);
    let scene = Scene::builder("tekton-no-match")
        .plugin_by(of("none"), to("none"))
        .plugin_by(of("skipped"), to("skipped"))
        .plugin_by(of("success"), to("success"))
        .start()
        .await;
    let for_tags = pipeline("release", "push", "refs/tags/*", BUILT, "");
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "main", "maria").write(".tekton/release.yaml", for_tags));
    scene.send_one(&change).await;
    for word in ["skipped", "success"] {
        let told = scene.status(&change.commit, word, word).await;
        assert_eq!(
            told["description"],
            "nothing in the folder is for this change"
        );
    }
    scene.settled().await;
    assert_eq!(scene.gitlab.statuses(PROJECT, &change.commit).len(), 2);
    assert!(scene.runs().await.is_empty());
}

#[tokio::test]
async fn a_comment_on_a_commit_runs_for_the_branch_that_it_names_and_its_status_is_there() {
    let scene = Scene::builder("tekton-commit")
        .plugin_by(plugin(json!({})), route())
        .start()
        .await;
    let nightly = pipeline("nightly", "push", "nightly", BUILT, "");
    let head = scene
        .gitlab
        .push(Push::new(PROJECT, "main", "maria").write(".tekton/nightly.yaml", nightly))
        .commit;
    drop(
        scene
            .gitlab
            .create_branches(PROJECT, &["nightly", "other"], "main", "maria"),
    );
    for (by, text) in [
        ("mallory", "/test branch:nightly"),
        ("alice", "/test branch:nowhere"),
        ("alice", "/test branch:other"),
    ] {
        let asked = scene.gitlab.comment_on_commit(PROJECT, &head, by, text);
        let delivery = scene.send_one(&asked).await;
        let told = scene.outcome(&delivery, "decided").await;
        assert_eq!(told["runs"], json!([]), "{by} {text}: {told:#}");
    }
    let asked = scene
        .gitlab
        .comment_on_commit(PROJECT, &head, "alice", "/test branch:nightly");
    let delivery = scene.send_one(&asked).await;
    let run = scene.run_of(&delivery).await;
    assert_eq!(annotation(&run, "penstock.dev/ref"), "refs/heads/nightly");
    assert_eq!(annotation(&run, "penstock.dev/commit"), head);
    let told = scene.status(&head, "Penstock / nightly", "success").await;
    assert_eq!(told["ref"], "nightly", "{told:#}");
}

#[tokio::test]
async fn a_project_without_the_folder_gets_nothing_at_all() {
    let web = "acme/web";
    let scene = Scene::builder("tekton-nothing")
        .plugin_by(plugin(json!({ "on-no-match": "success" })), route())
        .start()
        .await;
    let pushed = scene
        .gitlab
        .push(Push::new(web, "topic", "alice").write("a.txt", "a"));
    scene.send_one(&pushed).await;
    let proposed = scene.gitlab.propose(Proposal::new(web, "topic", "alice"));
    scene.send_one(&proposed).await;
    let iid = proposed.number;
    for text in ["/test", "/retest", "/ok-to-test", "/cancel"] {
        let asked = scene.gitlab.comment(web, iid, "alice", text);
        scene.send_one(&asked).await;
    }
    let close = scene.gitlab.close(web, iid, "alice");
    scene.send_one(&close).await;
    let outcomes = scene.settled().await;
    assert_eq!(outcomes.get("decided"), Some(&7), "{outcomes:?}");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(
            scene.gitlab.calls_to(method, "/api/v4/").len(),
            0,
            "{method}"
        );
    }
    assert!(scene.runs().await.is_empty());
}

#[tokio::test]
async fn a_run_that_is_not_admitted_is_shown_as_refused_and_holds_nothing_up_for_ever() {
    let scene = Scene::builder("tekton-refused")
        .plugin_by(plugin(json!({ "on-no-match": "success" })), route())
        .start()
        .await;
    let good = pipeline("good", "pull_request", "main", BUILT, "");
    let bad = pipeline("bad", "pull_request", "main", BUILT, "").replace(
        "spec:\n  pipelineSpec",
        "spec:\n  managedBy: example.com/other\n  pipelineSpec",
    );
    drop(
        scene.gitlab.push(
            Push::new(PROJECT, "topic", "alice")
                .write(".tekton/good.yaml", good)
                .write(".tekton/bad.yaml", bad),
        ),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&proposed).await;
    scene
        .status(&proposed.commit, "Penstock / bad", "failed")
        .await;
    let body = comment(&scene, proposed.number, "both", |body| {
        body.contains("⛔ refused") && body.contains("✅ succeeded")
    })
    .await;
    let row = body.lines().find(|line| line.contains("refused")).unwrap();
    assert!(
        row.starts_with("| bad |") && row.contains("not admitted"),
        "{body}"
    );
    let told = scene.status(&proposed.commit, "Penstock", "failed").await;
    assert_eq!(told["description"], "bad failed");
}

#[tokio::test]
async fn a_repository_s_queue_keeps_its_order_over_a_restart_and_old_runs_go() {
    let settings = json!({
        "max-keep-runs": { "most": 2 },
        "repository": { "concurrency_limit": 1 },
    });
    let mut scene = Scene::builder("tekton-queue")
        .plugin_by(plugin(settings), route())
        .start()
        .await;
    let more = "    pipelinesascode.tekton.dev/max-keep-runs: \"50\"";
    drop(scene.gitlab.push(Push::new(PROJECT, "main", "maria").write(
        ".tekton/push.yaml",
        pipeline("push", "push", "*", BUILT, more),
    )));
    scene.place.hold_pods().await.unwrap();
    let mut deliveries = Vec::new();
    for branch in ["one", "two", "three", "four"] {
        let push = Push::new(PROJECT, branch, "alice")
            .from("main")
            .write("a.txt", branch.to_owned());
        let delivery = scene.send_one(&scene.gitlab.push(push)).await;
        scene.outcome(&delivery, "decided").await;
        deliveries.push(delivery);
        if branch == "one" {
            scene.run_of(&deliveries[0]).await;
        }
        if branch == "three" {
            scene.penstock.kill9();
            scene.penstock.restart().await;
        }
    }
    // Beside them a status may wait for its turn.
    until("three runs that wait", async || {
        let told = scene.penstock.command(&["queue"]).await.json();
        let all = told.as_array().cloned().unwrap_or_default();
        let runs = all.iter().filter(|it| it["what"] == "run");
        (runs.count() == 3).then_some(())
    })
    .await;
    assert_eq!(scene.runs().await.len(), 1);
    scene.penstock.kill9();
    scene.penstock.restart().await;
    // The API server tells of each that is created, in that order, also if it is gone before somebody looks.
    let api = scene.runs_api().await;
    let there = api.list(&Default::default()).await.unwrap();
    let version = there.metadata.resource_version.unwrap();
    let told = api.watch(&Default::default(), &version).await.unwrap();
    let mut told = pin!(told);
    let of = |run: &DynamicObject| annotation(run, "penstock.dev/delivery");
    let mut seen: Vec<String> = there.items.iter().map(of).collect();
    scene.place.let_pods_finish().await.unwrap();
    let all = async {
        while seen.len() < deliveries.len() {
            if let WatchEvent::Added(run) = told.try_next().await.unwrap().unwrap() {
                seen.push(of(&run));
            }
        }
    };
    tokio::time::timeout(LIMIT, all)
        .await
        .expect("a run of each");
    // Two are kept of what the file wants fifty of.
    until("two runs that are kept", async || {
        (scene.runs().await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(seen, deliveries, "each was created after the one before it");
}
