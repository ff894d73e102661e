//! Runs, from their creation to their end.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api,
    api::{ListParams, LogParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use penstock_control_plane::{TestPlace, pipeline_run_resource, shared, task_run_resource, wait};
use serde_json::json;

use crate::{LIMIT, ended, refusal, run, succeeded};

#[tokio::test]
async fn a_run_reaches_succeeded_and_its_results_and_log_can_be_read() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "good").await.unwrap();
    let client = cluster.client().await.unwrap();
    let runs = place.pipeline_runs(client.clone());

    let script = "echo hello from the step\nprintf sha256:abc > $(results.digest.path)";
    runs.create(&PostParams::default(), &run("good", script))
        .await
        .unwrap();
    let done = ended(&runs, "good").await;
    assert_eq!(succeeded(&done).unwrap()["status"], "True", "{done:#?}");

    let tasks: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), place.namespace(), &task_run_resource());
    let task = &tasks.list(&ListParams::default()).await.unwrap().items[0];
    assert_eq!(task.data["status"]["results"][0]["value"], "sha256:abc");
    assert_eq!(task.data["spec"]["serviceAccountName"], "run-as");

    let pods: Api<Pod> = Api::namespaced(client, place.namespace());
    let pod = task.data["status"]["podName"].as_str().unwrap();
    let params = LogParams {
        container: Some("step-main".into()),
        ..LogParams::default()
    };
    assert_eq!(
        pods.logs(pod, &params).await.unwrap(),
        "hello from the step\n"
    );
}

#[tokio::test]
async fn a_run_whose_step_exits_with_an_error_fails() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "bad").await.unwrap();
    let runs = place.pipeline_runs(cluster.client().await.unwrap());

    runs.create(&PostParams::default(), &run("bad", "echo no; exit 3"))
        .await
        .unwrap();
    let done = ended(&runs, "bad").await;
    assert_eq!(succeeded(&done).unwrap()["status"], "False");
    assert_eq!(succeeded(&done).unwrap()["reason"], "Failed");
}

#[tokio::test]
async fn a_broken_spec_is_refused_by_the_admission_webhook() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "broken").await.unwrap();
    let runs = place.pipeline_runs(cluster.client().await.unwrap());

    let mut broken = run("broken", "true");
    broken.data["spec"]["pipelineRef"] = json!({ "name": "both" });
    let (code, message) = refusal(runs.create(&PostParams::default(), &broken).await);
    assert_eq!(code, 400);
    assert!(
        message.starts_with(
            "admission webhook \"validation.webhook.pipeline.tekton.dev\" denied the request"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn a_held_run_stays_running_until_it_is_let_go() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "held").await.unwrap();
    let client = cluster.client().await.unwrap();
    let runs = place.pipeline_runs(client.clone());

    place.hold_pods().await.unwrap();
    runs.create(&PostParams::default(), &run("held", "echo done"))
        .await
        .unwrap();
    one_running_pod(&Api::namespaced(client, place.namespace())).await;
    let running = started(&runs, "held").await;
    assert_eq!(succeeded(&running).unwrap()["status"], "Unknown");

    place.let_pods_finish().await.unwrap();
    assert_eq!(
        succeeded(&ended(&runs, "held").await).unwrap()["status"],
        "True"
    );
}

#[tokio::test]
async fn a_cancelled_run_ends_and_its_pod_goes() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "cancelled").await.unwrap();
    let client = cluster.client().await.unwrap();
    let runs: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), place.namespace(), &pipeline_run_resource());
    let pods: Api<Pod> = Api::namespaced(client, place.namespace());

    runs.create(&PostParams::default(), &run("endless", "sleep infinity"))
        .await
        .unwrap();
    one_running_pod(&pods).await;
    // Tekton cancels only those tasks that the run's status names by then.
    started(&runs, "endless").await;
    let cancel = Patch::Merge(json!({ "spec": { "status": "Cancelled" } }));
    runs.patch("endless", &PatchParams::default(), &cancel)
        .await
        .unwrap();

    let done = ended(&runs, "endless").await;
    assert_eq!(succeeded(&done).unwrap()["reason"], "Cancelled");
    wait::until("no pod", LIMIT, async || {
        Ok(pods
            .list(&ListParams::default())
            .await?
            .items
            .is_empty()
            .then_some(()))
    })
    .await
    .unwrap();
}

/// Waits until the run's status names its task.
async fn started(runs: &Api<DynamicObject>, name: &str) -> DynamicObject {
    wait::until("the run's start", LIMIT, async || {
        let run = runs.get(name).await?;
        Ok(run
            .data
            .pointer("/status/childReferences/0")
            .is_some()
            .then_some(run))
    })
    .await
    .unwrap()
}

async fn one_running_pod(pods: &Api<Pod>) {
    wait::until("a running pod", LIMIT, async || {
        let pods = pods.list(&ListParams::default()).await?;
        let phase = pods
            .items
            .first()
            .and_then(|pod| pod.status.as_ref()?.phase.clone());
        Ok((phase.as_deref() == Some("Running")).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_deleted_place_goes_with_its_runs_and_pods() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "deleted").await.unwrap();
    let client = cluster.client().await.unwrap();
    let runs = place.pipeline_runs(client.clone());
    runs.create(&PostParams::default(), &run("endless", "sleep infinity"))
        .await
        .unwrap();
    one_running_pod(&Api::namespaced(client.clone(), place.namespace())).await;

    place.delete().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client);
    wait::until("no namespace", LIMIT, async || {
        Ok(namespaces
            .get_opt(place.namespace())
            .await?
            .is_none()
            .then_some(()))
    })
    .await
    .unwrap();
}
