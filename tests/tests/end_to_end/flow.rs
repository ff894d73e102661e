//! Runs over a limit wait in the store, are shown there, and go when there is room; finished ones are kept by number.

use std::time::{Duration, Instant};

use penstock_control_plane::{ControlPlane, Options};
use penstock_doubles::gitlab::{ProjectSeed, Push};
use penstock_tests::manifest::{running, short_lived};
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::{Value, json};

/// Who waits no longer than this is not told of.
const MOMENT: Duration = Duration::from_secs(5);

/// What `penstock queue` says.
async fn queue(scene: &Scene) -> Vec<Value> {
    let told = scene.penstock.command(&["queue"]).await.json();
    let all = told.as_array().expect("a list").iter();
    all.filter(|it| it["what"] == "run").cloned().collect()
}

#[tokio::test]
async fn a_run_over_its_limit_waits_through_a_restart_and_goes_when_there_is_room() {
    let rules = json!([{ "name": "build", "on": ["push"], "template": running("sleep infinity") }]);
    let mut scene = Scene::builder("flow")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .edit(|config| config["flow"]["pipeline"] = json!({ "in-flight": 1, "per-second": "none" }))
        .start()
        .await;
    let push = |scene: &Scene, branch: &str| {
        let push = Push::new(PROJECT, branch, "alice").write("a.txt", branch.to_owned());
        scene.gitlab.push(push)
    };
    let first = push(&scene, "one");
    let begun = Instant::now();
    let first_run = scene.send_one(&first).await;
    let first_run = scene.run_of(&first_run).await.metadata.name.unwrap();
    scene.status(&first.commit, "build", "running").await;
    // Else it did wait, for the machine, and that is told of.
    let at_once = begun.elapsed() < MOMENT;
    let second = push(&scene, "two");
    let second_delivery = scene.send_one(&second).await;
    let waiting = until("a run that waits", async || {
        let queue = queue(&scene).await;
        (!queue.is_empty()).then_some(queue)
    })
    .await;
    assert_eq!(waiting[0]["place"], 1);
    let why = waiting[0]["waits_for"].as_str().unwrap();
    assert!(why.contains("has 1 of 1 runs in flight"), "{why}");
    scene.penstock.kill9();
    scene.penstock.restart().await;
    assert_eq!(queue(&scene).await, waiting);
    assert_eq!(scene.runs().await.len(), 1, "it was not created");
    let pending = scene.status(&second.commit, "build", "pending").await;
    let said = pending["description"].as_str().unwrap();
    assert!(said.contains("has 1 of 1 runs in flight"), "{said}");
    let told = scene.explain(&second_delivery).await.to_string();
    assert!(told.contains("waits for room, 1 of 1"), "{told}");
    // Somebody ends the first.
    let runs = scene.runs_api().await;
    let patch = kube::api::Patch::Merge(json!({ "spec": { "status": "Cancelled" } }));
    runs.patch(&first_run, &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    scene.run_of(&second_delivery).await;
    scene.status(&second.commit, "build", "running").await;
    assert_eq!(
        scene.posted(&second.commit, "build"),
        ["pending", "running"]
    );
    let of_first = scene.posted(&first.commit, "build");
    assert!(
        !at_once || of_first[0] == "running",
        "it started at once, so no status more: {of_first:?}"
    );
    assert_eq!(queue(&scene).await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_oldest_finished_runs_are_deleted_and_never_made_again() {
    let rules = json!([{ "name": "build", "on": ["push"], "template": running("true") }]);
    let scene = Scene::builder("keep")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .edit(|config| config["tenants"][0]["places"]["ci"]["policy"] = json!({ "keep-runs": 1 }))
        .start()
        .await;
    let push = |content: &str| {
        let push = Push::new(PROJECT, "topic", "alice").write("a.txt", content.to_owned());
        scene.gitlab.push(push)
    };
    let first = push("one");
    let sent = first.delivery(scene.hook);
    assert_eq!(scene.post(&sent).await.status, 202);
    scene.status(&first.commit, "build", "success").await;
    assert_eq!(scene.runs().await.len(), 1);
    let second = push("two");
    let delivery = scene.send_one(&second).await;
    scene.status(&second.commit, "build", "success").await;
    let kept = scene.run_of(&delivery).await.metadata.name;
    let names = async || {
        let runs = scene.runs().await;
        runs.into_iter().map(|run| run.metadata.name).collect()
    };
    until("the deletion of the first", async || {
        let names: Vec<_> = names().await;
        (names == [kept.clone()]).then_some(())
    })
    .await;
    // GitLab sends the first again.
    scene.post(&sent).await;
    scene.settled().await;
    let names: Vec<_> = names().await;
    assert_eq!(names, [kept]);
}

/// What a tenant may have in flight where nothing is written.
const OF_A_TENANT: usize = 250;

#[tokio::test]
async fn a_tenant_that_fills_what_it_may_have_by_default_keeps_no_other_from_its_run() {
    let rule = |n: u32| {
        let (name, endless) = (format!("build-{n}"), running("sleep infinity"));
        json!({ "name": name, "on": ["push"], "template": endless })
    };
    let rules: Vec<Value> = (0..10).map(rule).collect();
    // Nothing runs their pods: they would only take the machine from other tests.
    let options = Options {
        kubelet: false,
        tekton_webhook: false,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let scene = Scene::builder("greedy")
        .cluster(plane.access())
        .plugin(Plugin::trigger_map("greedy", json!(rules)))
        .plugin_by(
            Plugin::starts("modest", &short_lived()),
            Route::to("modest").of_tenant("other/**"),
        )
        .seed(|world| {
            world.project(ProjectSeed::new("acme/lib"));
        })
        .edit(|config| drop(config.as_object_mut().unwrap().remove("flow")))
        .start()
        .await;
    // As many as each project may have, and together more than the tenant may.
    for branch in 0..10 {
        for project in [PROJECT, "acme/web", "acme/lib"] {
            let push = Push::new(project, &format!("topic-{branch}"), "alice");
            scene
                .send_one(&scene.gitlab.push(push.write("a.txt", branch.to_string())))
                .await;
        }
    }
    // Ten in a second, on a quick machine.
    for some in [
        OF_A_TENANT / 4,
        OF_A_TENANT / 2,
        OF_A_TENANT * 3 / 4,
        OF_A_TENANT,
    ] {
        until(&format!("{some} runs"), async || {
            (scene.runs().await.len() >= some).then_some(())
        })
        .await;
    }
    // Until somebody looks again, they wait for the next second.
    let full = format!("has {OF_A_TENANT} of {OF_A_TENANT} runs in flight");
    until(
        &format!("a run that waits since the tenant {full}"),
        async || {
            let for_room = |it: &Value| it["waits_for"].to_string().contains(&full);
            queue(&scene).await.iter().any(for_room).then_some(())
        },
    )
    .await;

    let push = Push::new("other/api", "topic", "oscar").write("a.txt", "a");
    let delivery = scene.send_one(&scene.gitlab.push(push)).await;
    scene.run_of(&delivery).await;
    assert_eq!(scene.runs().await.len(), OF_A_TENANT + 1);
    assert!(!queue(&scene).await.is_empty());
}
