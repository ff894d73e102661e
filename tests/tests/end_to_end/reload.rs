//! A changed configuration is put in force whole, or not at all.

use penstock_doubles::gitlab::{Change, Push};
use penstock_guests::Behaviour;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene};

fn push(scene: &Scene) -> Change {
    scene.gitlab.push(
        Push::new(PROJECT, "topic", "alice").write("a.txt", format!("{}", rand::random::<u64>())),
    )
}

#[tokio::test]
async fn a_changed_plugin_decides_what_comes_after_without_a_restart() {
    let mut scene = Scene::builder("reload")
        .plugin(Plugin::misbehave("pipelines", Behaviour::Nothing))
        .start()
        .await;
    let before = scene.penstock.pid();
    let first = scene.send_one(&push(&scene)).await;
    scene.outcome(&first, "decided").await;
    assert!(scene.runs().await.is_empty());

    let changed = Plugin::starts("pipelines", &short_lived()).yaml();
    scene.reconfigure(|config| config["plugins"][0] = changed);
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
    let second = scene.send_one(&push(&scene)).await;
    scene.run_of(&second).await;
    assert_eq!(scene.penstock.pid(), before);
}

#[tokio::test]
async fn a_configuration_that_is_not_valid_leaves_the_old_one_in_force_and_says_where_it_is_wrong()
{
    let mut scene = Scene::builder("invalid")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let good = std::fs::read_to_string(scene.config_path()).unwrap();
    scene.write_config(&good.replace("plugins:", "plugin:"));
    scene.penstock.logged("the old one stays").await;
    let logs = scene.penstock.logs();
    assert!(
        logs.contains("penstock.yaml:") && logs.contains("plugins"),
        "the place and the nearest key are told"
    );
    let delivery = scene.send_one(&push(&scene)).await;
    scene.run_of(&delivery).await;

    scene.reconfigure(|_| {});
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
}

#[tokio::test]
async fn a_plugin_with_another_digest_makes_deliveries_wait_and_never_stops_receiving() {
    let scene = Scene::builder("digest")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .prepare()
        .await;
    let mut scene = scene;
    let right = Plugin::starts("pipelines", &short_lived()).yaml();
    scene.reconfigure(|config| {
        config["plugins"][0]["digest"] = format!("sha256:{}", "0".repeat(64)).into()
    });
    scene.penstock.restart().await;
    let delivery = scene.send_one(&push(&scene)).await;
    scene.penstock.logged("a plugin does not load").await;
    assert_eq!(
        scene.explain(&delivery).await["delivery"]["outcome"],
        "waiting"
    );
    scene.reconfigure(|config| config["plugins"][0] = right);
    scene.run_of(&delivery).await;
}
