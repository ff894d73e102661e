//! The crate against a real API server and a real Tekton; each test in a namespace of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod audit;
mod check;
mod create;
mod delete;
mod log;
mod rights;
mod stop;
mod watch;

use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Api, api::DeleteParams, core::DynamicObject};
use penstock_cluster::{Access, Cluster, ClusterSettings, KubeconfigSource};
use penstock_control_plane::{
    TestPlace,
    place::{CREATOR, RUN_AS},
    shared,
};
use penstock_model::{
    admit::{ProjectOf, RunOrder, StopHow, StopOrder},
    id::{CommitId, Digest, EffectId, ProjectId},
    lane::{Lane, Subject},
    scope::Trust,
    secret::Secret,
};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A cluster as Penstock itself reaches it.
async fn connect(kubeconfig: String) -> Cluster {
    let access = Access::Kubeconfig {
        source: KubeconfigSource::Text(Secret::new(kubeconfig)),
        context: None,
    };
    let settings = ClusterSettings::new("test".into(), access);
    Cluster::connect(settings).await.unwrap()
}

/// A place of its own on the shared control plane, and Penstock's cluster.
async fn place(prefix: &str) -> (TestPlace, Cluster) {
    let place = TestPlace::create(shared().await.unwrap(), prefix)
        .await
        .unwrap();
    let cluster = connect(place.host_kubeconfig()).await;
    (place, cluster)
}

/// The effect of a key, different in each namespace.
fn effect(place: &TestPlace, key: &str) -> EffectId {
    EffectId::new(
        &"main".into(),
        &place.namespace().into(),
        &"route".into(),
        1,
        &key.into(),
    )
}

fn of() -> ProjectOf {
    ProjectOf {
        instance: "main".into(),
        project: ProjectId(1),
        path: "acme/api".into(),
        tenant: "acme/**".into(),
    }
}

/// One task `build` whose step `compile` runs `script`.
fn spec(script: &str) -> Value {
    json!({
        "taskRunTemplate": { "serviceAccountName": RUN_AS },
        "pipelineSpec": { "tasks": [{
            "name": "build",
            "taskSpec": {
                "results": [{ "name": "digest" }],
                "steps": [{ "name": "compile", "image": "example.com/builder", "script": script }],
            },
        }]},
    })
}

/// An order as `admit` would make it.
fn order(place: &TestPlace, effect: EffectId, spec: Value) -> RunOrder {
    let name = effect.object_name("build");
    let manifest = json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": { "name": name, "namespace": place.namespace() },
        "spec": spec,
    });
    RunOrder {
        of: of(),
        plugin: "tests".into(),
        plugin_digest: Digest::of(b"plugin"),
        place: "ci".into(),
        cluster: "test".into(),
        namespace: place.namespace().to_owned(),
        creator: CREATOR.to_owned(),
        run_as: RUN_AS.to_owned(),
        name,
        manifest_digest: Digest::of(&serde_json::to_vec(&manifest).unwrap()),
        manifest,
        pipeline: "build".to_owned(),
        status_name: "penstock/build".to_owned(),
        commit: CommitId::parse(&"a".repeat(40)).unwrap(),
        ref_name: None,
        merge_request: None,
        source_project: None,
        trust: Trust::Member,
        lane: Lane {
            instance: "main".into(),
            project: Some(ProjectId(1)),
            subject: Subject::Whole,
        },
        queue: None,
        keep: None,
        secrets: Vec::new(),
        end_at_depth: None,
    }
}

fn stop_order(order: &RunOrder, effect: EffectId, uid: Option<&str>) -> StopOrder {
    StopOrder {
        of: of(),
        run: effect,
        cluster: order.cluster.clone(),
        namespace: order.namespace.clone(),
        creator: order.creator.clone(),
        name: order.name.clone(),
        uid: uid.map(str::to_owned),
        reason: "superseded".to_owned(),
        how: StopHow::RunFinally,
    }
}

/// The namespace's runs with an administrator's rights.
async fn runs(place: &TestPlace) -> Api<DynamicObject> {
    place.pipeline_runs(shared().await.unwrap().client().await.unwrap())
}

/// Takes a RoleBinding away.
async fn unbind(place: &TestPlace, name: &str) {
    let client = shared().await.unwrap().client().await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client, place.namespace());
    bindings
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}
