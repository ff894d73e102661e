//! What may not be done shows as a failed status that says what is missing.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use penstock_control_plane::place::CREATOR;
use penstock_doubles::gitlab::{Change, Push};
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};
use serde_json::Value;

fn push(scene: &Scene) -> Change {
    scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"))
}

#[tokio::test]
async fn a_denial_by_the_cluster_says_which_right_is_missing() {
    let scene = Scene::builder("denied")
        .plugin(Plugin::starts("pipelines", &running("true")))
        .start()
        .await;
    let client = scene.access().client().await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client, scene.place.namespace());
    bindings
        .delete("creator", &Default::default())
        .await
        .unwrap();
    // The API server's own look at its roles is a moment old.
    let creator = scene.place.client_as(CREATOR).await.unwrap();
    let runs = scene.place.pipeline_runs(creator);
    until("a creator that may not", async || {
        let asked = runs.get_opt("not-there").await;
        matches!(asked, Err(kube::Error::Api(it)) if it.code == 403).then_some(())
    })
    .await;
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(
        said.contains("creator") && said.contains("pipelineruns"),
        "{said}"
    );
    assert!(scene.runs().await.is_empty());
    let told = scene.outcome(&delivery, "decided").await;
    let start = told["effects"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["kind"] == "start-run")
        .unwrap();
    assert_eq!(start["state"], "refused", "{told:#}");
}

#[tokio::test]
async fn a_refusal_by_tekton_s_own_admission_says_what_is_wrong() {
    let mut broken = running("true");
    let task = broken["spec"]["pipelineSpec"]["tasks"][0].clone();
    broken["spec"]["pipelineSpec"]["tasks"] = Value::Array(vec![task.clone(), task]);
    let scene = Scene::builder("refused")
        .plugin(Plugin::starts("pipelines", &broken))
        .start()
        .await;
    let change = push(&scene);
    scene.send_one(&change).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(said.contains("tasks[1].name"), "{said}");
    assert!(scene.runs().await.is_empty());
}

#[tokio::test]
async fn a_field_that_no_run_may_have_is_refused_with_its_path_and_a_remedy() {
    let mut risky = running("true");
    risky["spec"]["taskRunTemplate"] =
        serde_json::json!({ "podTemplate": { "hostNetwork": true } });
    let scene = Scene::builder("field")
        .plugin(Plugin::starts("pipelines", &risky))
        .start()
        .await;
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(said.contains("spec.taskRunTemplate.podTemplate"), "{said}");
    assert!(scene.runs().await.is_empty());

    let told = scene.penstock.command(&["explain", &delivery]).await.json();
    let refused = &told["routes"][0]["refused"][0];
    assert_eq!(refused["key"], "run/build", "{told:#}");
    assert!(
        refused["path"]
            .as_str()
            .unwrap()
            .ends_with("spec.taskRunTemplate.podTemplate")
    );
    assert!(!refused["remedy"].as_str().unwrap().is_empty());
    let text = scene.penstock.text_command(&["explain", &delivery]).await;
    assert!(
        text.out.contains("spec.taskRunTemplate.podTemplate") && text.out.contains("remedy"),
        "{}",
        text.out
    );
}

#[tokio::test]
async fn an_effect_that_is_not_granted_is_refused() {
    let plugin = Plugin::starts("pipelines", &running("true"))
        .grant("effects", serde_json::json!(["comment"]));
    let scene = Scene::builder("ungranted").plugin(plugin).start().await;
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    scene.status(&change.commit, "build", "failed").await;
    let told = scene.outcome(&delivery, "decided").await;
    assert!(
        told["routes"][0]["refused"][0]["remedy"]
            .as_str()
            .unwrap()
            .contains("start-run"),
        "{told:#}"
    );
    assert!(scene.runs().await.is_empty());
}
