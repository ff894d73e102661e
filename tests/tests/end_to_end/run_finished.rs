//! The end of a run comes back to the plugin that started it.

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::{running, short_lived};
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::{Value, json};

fn push(content: &str) -> Push {
    Push::new(PROJECT, "topic", "alice").write("a.txt", content.to_owned())
}

fn route() -> Route {
    Route::to("pipelines").on(&["push", "run_finished"])
}

/// The deliveries of a kind, oldest first.
async fn listed(scene: &Scene, kind: &str) -> Vec<Value> {
    let mut all = scene
        .penstock
        .command(&["deliveries", "list", "--limit", "100"])
        .await
        .json()
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.retain(|it| it["kind"] == kind);
    all.reverse();
    all
}

#[tokio::test]
async fn a_run_s_end_leads_to_the_next_run_with_its_results() {
    let rules = json!([
        { "name": "build", "on": ["push"], "template": running("exit 1") },
        {
            "name": "after",
            "on": ["run_finished"],
            "when": "event.run.pipeline == 'build' && event.run.state == 'failed' && event.run.reason.contains('build')",
            "template": running("echo after"),
        },
    ]);
    let scene = Scene::builder("run-finished")
        .plugin_by(Plugin::trigger_map("pipelines", rules), route())
        .start()
        .await;
    let change = scene.gitlab.push(push("one"));
    scene.send_one(&change).await;
    scene.status(&change.commit, "build", "failed").await;
    scene.status(&change.commit, "after", "success").await;
    // The second run has ended, too; its end matched no rule.
    let ends = until("both ends, decided", async || {
        let ends = listed(&scene, "run_finished").await;
        let decided = ends.iter().all(|it| it["outcome"] == "decided");
        (ends.len() == 2 && decided).then_some(ends)
    })
    .await;
    let id = ends[0]["delivery"].as_str().unwrap();
    let explained = scene.penstock.command(&["explain", id]).await.json();
    assert_eq!(explained["routes"][0]["trust"], "member");
    assert_eq!(explained["runs"][0]["pipeline"], "after");
    assert!(explained["routes"][0]["actor"].is_null(), "nobody did it");
}

#[tokio::test]
async fn a_chain_of_runs_comes_to_an_end_that_is_shown() {
    let rules = json!([
        { "name": "again", "on": ["push", "run_finished"], "template": short_lived() },
    ]);
    let scene = Scene::builder("chain")
        .plugin_by(Plugin::trigger_map("pipelines", rules), route())
        .start()
        .await;
    let change = scene.gitlab.push(push("one"));
    scene.send_one(&change).await;
    let refused = until("the end of the chain", async || {
        for end in listed(&scene, "run_finished").await {
            let id = end["delivery"].as_str().unwrap_or_default().to_owned();
            let explained = scene.penstock.command(&["explain", &id]).await.json();
            let refusals = explained["routes"][0]["refused"].as_array().cloned();
            if let Some(refusal) = refusals.unwrap_or_default().first() {
                return Some(refusal.clone());
            }
        }
        None
    })
    .await;
    assert!(
        refused["rule"]
            .as_str()
            .unwrap()
            .contains("run-finished events led here"),
        "{refused}"
    );
    scene.settled().await;
    // One by the push, and one for each of the five ends that may lead on.
    assert_eq!(scene.runs().await.len(), 6);
    assert_eq!(listed(&scene, "run_finished").await.len(), 6);
}

#[tokio::test]
async fn a_route_that_does_not_take_ends_is_given_none() {
    let rules =
        json!([{ "name": "build", "on": ["push", "run_finished"], "template": short_lived() }]);
    let scene = Scene::builder("no-ends")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .start()
        .await;
    let change = scene.gitlab.push(push("one"));
    scene.send_one(&change).await;
    scene.status(&change.commit, "build", "failed").await;
    scene.settled().await;
    assert!(listed(&scene, "run_finished").await.is_empty());
    assert_eq!(scene.runs().await.len(), 1);
}
