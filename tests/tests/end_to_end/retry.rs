//! `deliveries retry` and `projects repin`: what was mended is done, and what was done is not done again.

use std::time::Duration;

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};
use serde_json::{Value, json};

fn run(name: &str, manifest: &Value) -> Value {
    json!({ "name": name, "on": ["push"], "template": manifest })
}

#[tokio::test]
async fn a_retry_of_a_partly_refused_decision_starts_what_was_refused_and_nothing_twice() {
    let mut second = short_lived();
    second["spec"]["taskRunTemplate"] =
        json!({ "podTemplate": { "nodeSelector": { "disk": "fast" } } });
    let rules = json!([run("first", &short_lived()), run("second", &second)]);
    let mut scene = Scene::builder("partly")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .start()
        .await;
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"));
    let delivery = scene.send_one(&change).await;
    scene.status(&change.commit, "second", "failed").await;
    let before = scene.run_of(&delivery).await;
    scene.settled().await;

    scene.reconfigure(|config| {
        config["tenants"][0]["places"]["ci"]["policy"] = json!({ "pod-template": true });
    });
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
    let told = scene
        .penstock
        .command(&["deliveries", "retry", &delivery])
        .await
        .json();
    assert_eq!(told["routes"][0]["attempt"], 2);
    until("the second run", async || {
        (scene.runs().await.len() == 2).then_some(())
    })
    .await;
    scene.settled().await;
    let runs = scene.runs().await;
    assert_eq!(runs.len(), 2, "the first is not started again");
    assert!(
        runs.iter()
            .any(|run| run.metadata.uid == before.metadata.uid)
    );
    let told = scene.penstock.command(&["explain", &delivery]).await.json();
    let kept = &told["routes"].as_array().unwrap().last().unwrap()["kept"];
    assert_eq!(kept.as_array().unwrap().len(), 1, "{told:#}");
    assert_eq!(kept[0]["attempt"], 1);
    let text = scene.penstock.text_command(&["explain", &delivery]).await;
    assert!(
        text.out.contains("is not started again: attempt 1 did"),
        "{}",
        text.out
    );
}

#[tokio::test]
async fn a_tenant_whose_match_is_changed_gets_its_projects_back_at_once() {
    let mut scene = Scene::builder("repin")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let push = |scene: &Scene, project: &str| {
        let text = format!("{}", rand::random::<u64>());
        scene
            .gitlab
            .push(Push::new(project, "topic", "alice").write("a.txt", text))
    };
    for project in [PROJECT, "acme/web"] {
        let delivery = scene.send_one(&push(&scene, project)).await;
        scene.outcome(&delivery, "decided").await;
    }
    scene.reconfigure(|config| {
        config["tenants"][0]["match"] = "acme/*".into();
        config["routes"][0]["tenant"] = "acme/*".into();
    });
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
    let lost = scene.send_one(&push(&scene, PROJECT)).await;
    let told = scene.outcome(&lost, "failed").await;
    let why = told["routes"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("penstock projects repin --tenant 'acme/**'"),
        "{why}"
    );

    let words = ["projects", "repin", "--tenant", "acme/**"];
    let dry = scene
        .penstock
        .command(&[&words[..], &["--dry-run"]].concat())
        .await
        .json();
    assert_eq!(
        (&dry["repinned"], &dry["dry_run"]),
        (&json!(0), &json!(true))
    );
    let done = scene.penstock.command(&words).await.json();
    assert_eq!(done["repinned"], 2, "{done:#}");
    assert_eq!(done["projects"][0]["tenant"], "acme/*");
    let again = scene.penstock.command(&words).await.json();
    assert_eq!(again["projects"], json!([]));
    let kept = scene
        .penstock
        .text_command(&["projects", "repin", "--tenant", "acme/*"])
        .await;
    assert!(
        !kept.success && kept.err.contains("still has the tenant"),
        "{}",
        kept.err
    );

    let retried = scene
        .penstock
        .command(&["deliveries", "retry", &lost])
        .await;
    assert!(retried.success, "{}", retried.err);
    tokio::time::timeout(Duration::from_secs(60), scene.run_of(&lost))
        .await
        .unwrap();
}
