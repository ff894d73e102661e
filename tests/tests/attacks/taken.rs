//! Names that are taken, runs that were pruned, answers that were lost: one run at most, ever.

use kube::api::{DeleteParams, PostParams};
use kube::core::DynamicObject;
use penstock_doubles::gitlab::{Break, Change, Fault, Push};
use penstock_doubles::proxy::{Proxy, Then, Where};
use penstock_tests::burst::id;
use penstock_tests::manifest::{running, short_lived};
use penstock_tests::scene::{PROJECT, annotation};
use penstock_tests::{Plugin, Scene, proxied, until};
use serde_json::{Value, json};

/// Annotation of a run: the digest of the manifest that was sent.
const DIGEST: &str = "penstock.dev/manifest-digest";

async fn scene(name: &str) -> (Scene, Proxy) {
    let access = penstock_control_plane::shared().await.unwrap();
    let builder = Scene::builder(name).plugin(Plugin::starts("pipelines", &short_lived()));
    let (builder, proxy) = proxied::cluster(builder, access).await;
    (builder.start().await, proxy)
}

fn push(scene: &Scene) -> Change {
    let text = rand::random::<u64>().to_string();
    scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", text))
}

/// Somebody made an object of the run's name a moment before: what `bend` makes of the one that is on its way.
async fn check(name: &str, bend: fn(&mut Value)) {
    let (scene, proxy) = scene(name).await;
    let mut held = proxy.hold("POST", "/pipelineruns", Where::Request);
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    let mut object: Value = serde_json::from_slice(&held.reached().await).unwrap();
    bend(&mut object);
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let theirs = scene
        .runs_api()
        .await
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    // The watch tells of it first, and of its end.
    until("their run has ended", async || {
        let runs = scene.runs().await;
        runs[0].data["status"]["completionTime"]
            .is_string()
            .then_some(())
    })
    .await;
    held.then(Then::GoOn);
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(said.contains("which this effect did not make"), "{said}");
    scene.settled().await;
    let told = scene.explain(&delivery).await;
    let effects = told["effects"].as_array().unwrap();
    let start = effects.iter().find(|it| it["kind"] == "start-run").unwrap();
    assert_eq!(start["state"], "refused", "{told:#}");
    let runs = scene.runs().await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        runs[0].metadata.uid, theirs.metadata.uid,
        "theirs is left alone"
    );
    assert_ne!(runs[0].data["spec"]["status"], "CancelledRunFinally");
}

#[tokio::test]
async fn an_object_of_the_name_that_is_not_ours_is_name_taken() {
    check("foreign", |object| {
        object["metadata"]["annotations"] = json!({});
        object["metadata"]["labels"] = json!({});
    })
    .await;
}

#[tokio::test]
async fn an_object_with_our_effect_and_another_digest_is_name_taken() {
    check("differs", |object| {
        let digest = &mut object["metadata"]["annotations"][DIGEST];
        assert!(digest.is_string(), "the digest of what was sent");
        *digest = json!(format!("sha256:{}", "0".repeat(64)));
    })
    .await;
}

#[tokio::test]
async fn a_run_that_was_pruned_is_never_made_again() {
    let mut scene = Scene::builder("pruned")
        .plugin(Plugin::starts("pipelines", &running("echo built")))
        .start()
        .await;
    let change = push(&scene);
    let made = change.delivery(scene.hook);
    assert_eq!(scene.post(&made).await.status, 202);
    let run = scene.run_of(&id(&made)).await;
    scene.status(&change.commit, "build", "success").await;
    scene.settled().await;
    let prune = async |scene: &Scene, name: &str| {
        let runs = scene.runs_api().await;
        runs.delete(name, &DeleteParams::default()).await.unwrap();
        until("no run", async || {
            scene.runs().await.is_empty().then_some(())
        })
        .await;
    };
    prune(&scene, run.metadata.name.as_deref().unwrap()).await;
    // GitLab, or a person, sends it again; and the host starts anew, and lists what is there.
    assert_eq!(scene.post(&made).await.body["status"], "duplicate");
    scene.penstock.kill9();
    scene.penstock.restart().await;
    assert_eq!(scene.post(&made).await.body["status"], "duplicate");
    scene.settled().await;
    assert!(scene.runs().await.is_empty());
    let creations = scene.creations();
    assert_eq!(creations.len(), 1);
    assert!(creations.values().all(|by| by.len() == 1), "{creations:?}");
    assert_eq!(
        scene.posted(&change.commit, "build").last().unwrap(),
        "success"
    );
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_on_the_way_makes_one_run() {
    let (scene, proxy) = scene("lost").await;
    // The request goes through, and the connection is cut before its answer. So is the answer 'it exists already' to the next try, unless the watch
    // tells of the run before.
    proxy.order(Fault::new("POST", "/pipelineruns", Break::LoseAnswer).times(3));
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    let run = scene.run_of(&delivery).await;
    scene.status(&change.commit, "build", "failed").await;
    scene.settled().await;
    let runs = scene.runs().await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].metadata.uid, run.metadata.uid);
    assert_eq!(annotation(&runs[0], "penstock.dev/delivery"), delivery);
    assert!(scene.creations().values().all(|by| by.len() == 1));
    assert!(proxy.calls().0 > 0, "the fault was met");
}
