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

#[tokio::test]
async fn a_mistake_in_a_tenant_s_own_file_lets_that_tenant_wait_and_nobody_else() {
    let mut scene = Scene::builder("delegated")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .prepare()
        .await;
    let own = scene.folder().join("acme.yaml");
    std::fs::write(&own, "places: { ci: { policy: { pod-template: true } } }\n").unwrap();
    scene.reconfigure(|config| {
        config["tenants"][0]["delegated"] = own.to_str().unwrap().into();
        // Another tenant's route, by the same plugin.
        let mut other = config["routes"][0].clone();
        other["tenant"] = "other/**".into();
        config["routes"].as_array_mut().unwrap().push(other);
    });
    scene.penstock.restart().await;
    let waits = scene.send_one(&push(&scene)).await;
    scene
        .penstock
        .logged("`pod-template` would be more than the operator allows")
        .await;
    let other = scene
        .gitlab
        .push(Push::new("other/api", "topic", "oscar").write("a.txt", "a"));
    let goes_on = scene.send_one(&other).await;
    scene.outcome(&goes_on, "decided").await;
    assert_eq!(
        scene.explain(&waits).await["delivery"]["outcome"],
        "waiting"
    );
    scene.replace(&own, "plugins: { pipelines: { mode: observe } }\n");
    let told = scene.outcome(&waits, "decided").await;
    assert_eq!(told["routes"][0]["mode"], "observe", "{told:#}");
    scene.settled().await;
    assert_eq!(
        scene.runs_by_delivery().await.keys().collect::<Vec<_>>(),
        [&goes_on]
    );
}
