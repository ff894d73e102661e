//! A failing plugin is data: recorded, shown, counted; the host goes on.

use penstock_doubles::gitlab::{Change, Push};
use penstock_guests::Behaviour;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};

fn push(scene: &Scene) -> Change {
    scene.gitlab.push(
        Push::new(PROJECT, "topic", "alice").write("a.txt", format!("{}", rand::random::<u64>())),
    )
}

/// A plugin that fails in this way shows its failure, and another one's run starts all the same.
async fn check(word: &str, bad: Plugin) {
    let scene = Scene::builder(word)
        .plugin(bad)
        .plugin(Plugin::starts("good", &short_lived()))
        .start()
        .await;
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    scene.run_of(&delivery).await;
    let status = scene.status(&change.commit, "penstock/bad", "failed").await;
    assert!(
        status["description"].as_str().unwrap().contains(word),
        "{status:#}"
    );
    let told = scene.outcome(&delivery, "failed").await;
    let of = |plugin: &str| {
        told["routes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["plugin"] == plugin)
            .unwrap()
            .clone()
    };
    assert_eq!(of("bad")["outcome"], "failed");
    assert_eq!(of("good")["outcome"], "decided");
    let counted = format!(r#"penstock_plugin_failures_total{{plugin="bad",kind="{word}"}} 1"#);
    let metrics = scene.penstock.counted(&counted).await;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    until("a host that is ready", async || {
        (scene.penstock.get("/readyz").await?.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_plugin_that_traps_fails_alone() {
    check("trap", Plugin::misbehave("bad", Behaviour::Trap)).await;
}

#[tokio::test]
async fn a_plugin_that_computes_for_ever_fails_alone() {
    check(
        "cpu-exceeded",
        Plugin::misbehave("bad", Behaviour::Loop).limit("cpu", "100ms"),
    )
    .await;
}

#[tokio::test]
async fn a_plugin_that_takes_memory_for_ever_fails_alone() {
    check(
        "memory-exceeded",
        Plugin::misbehave("bad", Behaviour::Memory { bytes: None }).limit("memory", "16MiB"),
    )
    .await;
}

#[tokio::test]
async fn a_failed_delivery_is_decided_anew_on_request_and_then_does_its_work_once() {
    let bad = Plugin::misbehave("pipelines", Behaviour::Trap);
    let mut scene = Scene::builder("retry")
        .plugin_by(bad, Route::to("pipelines").on(&["push"]))
        .start()
        .await;
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    scene.outcome(&delivery, "failed").await;
    let listed = scene
        .penstock
        .command(&["deliveries", "list", "--outcome", "failed"])
        .await
        .json();
    assert_eq!(listed[0]["delivery"], delivery);

    let mended = Plugin::starts("pipelines", &short_lived()).yaml();
    scene.reconfigure(|config| config["plugins"][0] = mended);
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
    let retried = scene
        .penstock
        .command(&["deliveries", "retry", &delivery])
        .await
        .json();
    assert_eq!(retried["routes"][0]["attempt"], 2, "{retried:#}");
    scene.run_of(&delivery).await;
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(
        told["routes"].as_array().unwrap().len(),
        2,
        "both attempts are shown"
    );

    let again = scene
        .penstock
        .command(&["deliveries", "retry", &delivery])
        .await;
    assert!(
        !again.success,
        "what was decided is not decided again: {}",
        again.out
    );
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), 1);
}

#[tokio::test]
async fn an_unknown_delivery_is_told_with_what_to_do() {
    let scene = Scene::builder("unknown")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let said = scene
        .penstock
        .command(&["explain", "nobody-sent-this"])
        .await;
    assert!(
        !said.success && said.err.contains("penstock deliveries list"),
        "{}",
        said.err
    );
}
