//! How far an event is trusted decides which place and which grants it has.

use penstock_doubles::gitlab::{Change, Proposal, Push};
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::{FORK, PROJECT, annotation};
use penstock_tests::{Plugin, Route, Scene};
use serde_json::json;

/// Mallory's merge request from her fork.
fn proposal(scene: &Scene) -> Change {
    drop(
        scene
            .gitlab
            .push(Push::new(FORK, "topic", "mallory").write("a.txt", "from the fork")),
    );
    scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "mallory").from_fork(FORK))
}

fn route() -> Route {
    Route::to("pipelines").on(&["merge_request"])
}

#[tokio::test]
async fn a_fork_s_merge_request_starts_nothing_where_forks_were_granted_nothing() {
    let plugin = Plugin::starts("pipelines", &short_lived());
    let scene = Scene::builder("fork")
        .plugin_by(plugin, route())
        .place_for_forks()
        .start()
        .await;
    let delivery = scene.send_one(&proposal(&scene)).await;
    let told = scene.outcome(&delivery, "decided").await;
    let refused = &told["routes"][0]["refused"][0];
    assert!(
        refused["remedy"].as_str().unwrap().contains("from-fork"),
        "{told:#}"
    );
    scene.settled().await;
    assert!(scene.runs().await.is_empty());
    assert!(
        scene
            .runs_in(scene.fork_place.as_ref().unwrap())
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_fork_s_merge_request_runs_in_the_place_for_forks_alone() {
    let plugin = Plugin::starts("pipelines", &short_lived())
        .grant("from-fork", json!({ "effects": ["start-run"] }));
    let scene = Scene::builder("forked")
        .plugin_by(plugin, route())
        .place_for_forks()
        .start()
        .await;
    let delivery = scene.send_one(&proposal(&scene)).await;
    scene.outcome(&delivery, "decided").await;
    scene.settled().await;
    assert!(
        scene.runs().await.is_empty(),
        "nothing of a fork's runs where members' code does"
    );
    let runs = scene.runs_in(scene.fork_place.as_ref().unwrap()).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(annotation(&runs[0], "penstock.dev/trust"), "untrusted");
}

#[tokio::test]
async fn a_fork_s_merge_request_is_refused_where_no_place_takes_forks() {
    let plugin = Plugin::starts("pipelines", &short_lived())
        .grant("from-fork", json!({ "effects": ["start-run"] }));
    let scene = Scene::builder("placeless")
        .plugin_by(plugin, route())
        .start()
        .await;
    let delivery = scene.send_one(&proposal(&scene)).await;
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(
        told["routes"][0]["refused"].as_array().unwrap().len(),
        1,
        "{told:#}"
    );
    assert!(scene.runs().await.is_empty());
}

#[tokio::test]
async fn a_push_that_claims_a_protected_branch_counts_as_protected_only_if_gitlab_confirms_it() {
    let plugin = Plugin::starts("pipelines", &short_lived());
    let scene = Scene::builder("protected")
        .plugin_by(plugin, Route::to("pipelines").on(&["push"]))
        .start()
        .await;
    let merged = scene
        .gitlab
        .push(Push::new(PROJECT, "main", "maria").write("a.txt", "a"));
    let delivery = scene.send_one(&merged).await;
    assert_eq!(
        annotation(&scene.run_of(&delivery).await, "penstock.dev/trust"),
        "protected"
    );
    // The body says `main`, and the commit is nowhere on it.
    let elsewhere = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "b"));
    let forged = elsewhere.bend(|body| body["ref"] = json!("refs/heads/main"));
    let delivery = scene.send_one(&forged).await;
    scene.settled().await;
    let told = scene.explain(&delivery).await;
    let runs = scene.runs().await;
    let trusted = runs
        .iter()
        .filter(|run| annotation(run, "penstock.dev/delivery") == delivery);
    let trusted = trusted
        .filter(|run| annotation(run, "penstock.dev/trust") == "protected")
        .count();
    assert_eq!(trusted, 0, "{told:#}");
}
