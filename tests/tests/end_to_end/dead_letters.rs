//! What can't be done for a day is given up, shown, and goes again when somebody says so.
//!
//! The day passes on the host's clock alone, by the shim.

use penstock_doubles::gitlab::{Break, Change, Fault, Push};
use penstock_tests::manifest::running;
use penstock_tests::preload::Shim;
use penstock_tests::scene::{Builder, PROJECT};
use penstock_tests::{Plugin, Scene, proxied, until};
use serde_json::{Value, json};

/// Seconds after which nothing is tried any more.
const PAST_A_DAY: i64 = 25 * 60 * 60;

/// Reconcile stands still: it would find by itself what a dead delivery told of, and here somebody has to say so.
fn builder(name: &str, shim: &Shim, plugin: Plugin) -> Builder {
    let loops = ["receive", "dispatch", "act", "report"];
    shim.clock_of(Scene::builder(name).plugin(plugin).loops(&loops))
}

fn push(scene: &Scene) -> Change {
    let text = format!("{}", rand::random::<u64>());
    let push = Push::new(PROJECT, "topic", "alice").write("a.txt", text);
    scene.gitlab.push(push)
}

/// Waits until a gauge has this value.
async fn gauge(scene: &Scene, name: &str, value: u64) {
    let line = format!("{name} {value}");
    until(&format!("`{line}` in the metrics"), async || {
        let (_, text) = scene.penstock.get("/metrics").await?;
        text.lines().any(|it| it == line).then_some(())
    })
    .await;
}

/// Effects of this kind in this state, as `penstock effects list` has them.
async fn effects(scene: &Scene, kind: &str, state: &str) -> Vec<Value> {
    let words = ["effects", "list", "--state", state];
    let told = scene.penstock.command(&words).await.json();
    let all = told.as_array().expect("a list").iter();
    all.filter(|it| it["kind"] == kind).cloned().collect()
}

/// Waits until an effect of this kind was tried and put off.
async fn tried(scene: &Scene, kind: &str) {
    until("an effect that is tried again", async || {
        let waiting = effects(scene, kind, "waiting").await;
        let tried = |it: &Value| it["tries"].as_u64().is_some_and(|tries| tries > 0);
        waiting.iter().any(tried).then_some(())
    })
    .await;
}

/// Waits until an effect of this kind is dead; its id.
async fn dead(scene: &Scene, kind: &str) -> String {
    let found = until("a dead effect", async || {
        effects(scene, kind, "dead").await.pop()
    })
    .await;
    found["id"].as_str().expect("an id").to_owned()
}

/// What `deliveries retry` says.
async fn retry(scene: &Scene, delivery: &str) -> Value {
    let words = ["deliveries", "retry", delivery];
    scene.penstock.command(&words).await.json()
}

/// The delivery is dead, shows where an operator looks, and in GitLab once that is back.
async fn is_shown(scene: &Scene, change: &Change, delivery: &str, name: &str) {
    scene.outcome(delivery, "dead").await;
    gauge(scene, "penstock_dead_routes", 1).await;
    let words = ["deliveries", "list", "--outcome", "dead"];
    let listed = scene.penstock.command(&words).await.json();
    assert_eq!(listed[0]["delivery"], delivery, "{listed:#}");
    assert!(scene.gitlab.statuses(PROJECT, &change.commit).is_empty());
    scene.gitlab.heal();
    let status = scene.status(&change.commit, name, "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(said.contains("given up after a day"), "{said}");
}

/// What was dead has gone well, and nothing says any more that it has not.
async fn is_well(scene: &Scene, change: &Change, delivery: &str, name: &str) {
    scene.outcome(delivery, "decided").await;
    scene.run_of(delivery).await;
    scene.status(&change.commit, "build", "success").await;
    scene.status(&change.commit, name, "success").await;
    gauge(scene, "penstock_dead_routes", 0).await;
}

#[tokio::test]
async fn a_delivery_that_could_not_be_decided_for_a_day_is_dead_and_is_decided_when_asked() {
    let shim = Shim::new();
    let plugin = Plugin::starts("pipelines", &running("echo built"));
    let scene = builder("dead", &shim, plugin).start().await;
    // From now on the host knows who its own user is, and needs GitLab for no route.
    let before = push(&scene);
    let delivery = scene.send_one(&before).await;
    scene.outcome(&delivery, "decided").await;

    let change = push(&scene);
    scene
        .gitlab
        .order(Fault::new(".*", "/api/", Break::Status(502)));
    let delivery = scene.send_one(&change).await;
    until("a try that was put off", async || {
        let told = scene.explain(&delivery).await;
        let tries = told["routes"][0]["tries"].as_u64();
        tries.is_some_and(|tries| tries > 0).then_some(())
    })
    .await;
    shim.step_clock(PAST_A_DAY);
    is_shown(&scene, &change, &delivery, "penstock/pipelines").await;
    let told = retry(&scene, &delivery).await;
    assert_eq!(told["routes"][0]["attempt"], 2, "{told:#}");
    is_well(&scene, &change, &delivery, "penstock/pipelines").await;
}

#[tokio::test]
async fn a_delivery_that_could_not_be_routed_for_a_day_is_dead_and_is_routed_when_asked() {
    let shim = Shim::new();
    let plugin = Plugin::starts("pipelines", &running("echo built"));
    let mut scene = builder("unrouted", &shim, plugin).prepare().await;
    scene
        .gitlab
        .order(Fault::new(".*", "/api/", Break::Status(502)));
    scene.penstock.restart().await;
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    scene.penstock.logged("a delivery waits").await;
    shim.step_clock(PAST_A_DAY);
    is_shown(&scene, &change, &delivery, "penstock").await;
    let told = retry(&scene, &delivery).await;
    assert_eq!(told["rerouted"], true, "{told:#}");
    is_well(&scene, &change, &delivery, "penstock").await;
}

#[tokio::test]
async fn a_run_that_no_cluster_took_for_a_day_is_dead_and_is_created_once_when_asked() {
    let shim = Shim::new();
    let access = penstock_control_plane::shared().await.unwrap();
    let plugin = Plugin::starts("pipelines", &running("echo built"));
    let (builder, proxy) = proxied::cluster(builder("refused", &shim, plugin), access).await;
    let scene = builder.start().await;
    proxy.order(Fault::new("POST", "/pipelineruns", Break::Status(503)));
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    tried(&scene, "start-run").await;
    shim.step_clock(PAST_A_DAY);
    let effect = dead(&scene, "start-run").await;
    gauge(&scene, "penstock_dead_effects", 1).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(said.contains("given up after a day"), "{said}");
    // The cluster is back; it is not tried by itself.
    proxy.heal();
    scene.settled().await;
    assert!(scene.runs().await.is_empty());
    let told = scene.penstock.command(&["effects", "retry", &effect]).await;
    assert_eq!(told.json(), json!({ "retried": effect }));
    scene.run_of(&delivery).await;
    scene.status(&change.commit, "build", "success").await;
    gauge(&scene, "penstock_dead_effects", 0).await;
    scene.settled().await;
    let creations = scene.creations();
    assert_eq!(creations.len(), 1);
    assert!(creations.values().all(|by| by.len() == 1), "{creations:?}");
}

#[tokio::test]
async fn a_status_that_gitlab_did_not_take_for_a_day_is_posted_when_asked() {
    let shim = Shim::new();
    let plugin = Plugin::starts("pipelines", &running("sleep infinity"));
    let scene = builder("untold", &shim, plugin).start().await;
    scene
        .gitlab
        .order(Fault::new("POST", "/statuses/", Break::Status(502)));
    let change = push(&scene);
    scene.send_one(&change).await;
    tried(&scene, "commit-status").await;
    // Where the run's creation took more than a moment, it was told before that it waits: that is what dies then.
    let alone = effects(&scene, "commit-status", "waiting").await.len() == 1;
    shim.step_clock(PAST_A_DAY);
    let effect = dead(&scene, "commit-status").await;
    gauge(&scene, "penstock_dead_effects", 1).await;
    scene.gitlab.heal();
    scene.settled().await;
    let statuses = scene.gitlab.statuses(PROJECT, &change.commit);
    assert!(!alone || statuses.is_empty(), "{statuses:#?}");
    let told = scene.penstock.command(&["effects", "retry", &effect]).await;
    assert!(told.success, "{}", told.err);
    scene.status(&change.commit, "build", "running").await;
    gauge(&scene, "penstock_dead_effects", 0).await;
}

#[tokio::test]
async fn a_dead_status_that_is_tried_again_does_not_take_the_place_of_a_newer_one() {
    let shim = Shim::new();
    let plugin = Plugin::starts("pipelines", &running("exit 1"));
    let scene = builder("overtaken", &shim, plugin).start().await;
    // It does not end before it is to be told that it runs.
    scene.place.hold_pods().await.unwrap();
    scene
        .gitlab
        .order(Fault::new("POST", "/statuses/", Break::Status(502)));
    let change = push(&scene);
    scene.send_one(&change).await;
    tried(&scene, "commit-status").await;
    scene.place.let_pods_finish().await.unwrap();
    until("the end of the run, which is to be told too", async || {
        (effects(&scene, "commit-status", "waiting").await.len() >= 2).then_some(())
    })
    .await;
    shim.step_clock(PAST_A_DAY);
    let effect = dead(&scene, "commit-status").await;
    scene.gitlab.heal();
    scene.status(&change.commit, "build", "failed").await;
    scene.settled().await;
    let posted = scene.posted(&change.commit, "build");
    let told = scene.penstock.command(&["effects", "retry", &effect]).await;
    assert!(told.success, "{}", told.err);
    gauge(&scene, "penstock_dead_effects", 0).await;
    scene.settled().await;
    assert_eq!(scene.posted(&change.commit, "build"), posted);
    scene.status(&change.commit, "build", "failed").await;
}
