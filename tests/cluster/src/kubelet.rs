//! A stand-in for the kubelet: one Node that takes every pod and lets it run to its end.
//!
//! It runs no containers. What a container would do is read off its command: see [`script`]. It
//! does not schedule, pull, mount, probe or limit anything, and starts containers all at once.
//! Pods of a namespace with the annotation [`HOLD`] keep running until it is removed.

mod logs;
mod pods;
pub mod script;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{
        controller::{Action, Config, Controller},
        watcher,
    },
};
use serde_json::json;
use tokio::task::JoinSet;

use pods::Step;

/// The Node's name.
pub const NODE: &str = "penstock-kubelet";
/// Set to `true` on a namespace, this keeps its pods from finishing.
pub const HOLD: &str = "test.penstock/hold-pods";

/// How many pods are worked on at the same time.
const AT_ONCE: u16 = 16;
/// How soon a held pod is looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(200);
/// How soon a pod is tried again after a failure.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// The running stand-in. Dropped, it stops; the Node stays.
#[derive(Debug)]
pub struct Kubelet {
    _tasks: JoinSet<()>,
}

impl Kubelet {
    /// Registers the Node, serves logs and begins to take pods, on the calling runtime.
    ///
    /// # Errors
    /// If no port is free or the Node can't be registered.
    pub async fn start(client: Client) -> Result<Self> {
        let listener = logs::Listener::bind().await?;
        register(&client, listener.port()?).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(logs::serve(listener, client.clone()));
        tasks.spawn(take_pods(client));
        Ok(Self { _tasks: tasks })
    }
}

/// Makes the Node known, with the address and port where the API server fetches logs.
async fn register(client: &Client, port: u16) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply("penstock-kubelet").force();
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": NODE, "labels": { "kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE } },
    });
    nodes
        .patch(NODE, &params, &Patch::Apply(&node))
        .await
        .context("can't register the Node")?;
    let status = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "StandIn" }],
        },
    });
    nodes
        .patch_status(NODE, &params, &Patch::Apply(&status))
        .await
        .context("can't set the Node's status")?;
    Ok(())
}

/// Drives every pod of the cluster, one step for each change that is seen.
async fn take_pods(client: Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    Controller::new(pods, watcher::Config::default())
        .with_config(Config::default().concurrency(AT_ONCE))
        .run(
            |pod, client| async move { advance(&pod, &client).await },
            // Most failures are a pod that has changed or gone meanwhile; a change brings it back.
            |_, _: &kube::Error, _| Action::requeue(FAILED_PAUSE),
            Arc::new(client),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn advance(pod: &Pod, client: &Client) -> Result<Action, kube::Error> {
    let (Some(name), Some(namespace)) = (
        pod.metadata.name.as_deref(),
        pod.metadata.namespace.as_deref(),
    ) else {
        return Ok(Action::await_change());
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let done = match pods::next(pod) {
        Step::Wait => Ok(()),
        Step::Bind => bind(&pods, name).await,
        Step::Run => patch_status(&pods, name, &pods::running(pod)).await,
        Step::Finish => {
            if is_held(client, namespace).await? {
                return Ok(Action::requeue(HELD_PAUSE));
            }
            patch_status(&pods, name, &pods::finished(pod)).await
        }
        Step::Remove => remove(&pods, name, pod).await,
    };
    match done {
        // The pod is gone or has moved on; what is there now comes by the watch.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
            Ok(Action::await_change())
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Action::await_change()),
    }
}

async fn bind(pods: &Api<Pod>, name: &str) -> Result<(), kube::Error> {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "name": name },
        "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
    });
    pods.create_subresource::<_, serde_json::Value>(
        "binding",
        name,
        &PostParams::default(),
        &binding,
    )
    .await?;
    Ok(())
}

async fn patch_status(
    pods: &Api<Pod>,
    name: &str,
    status: &serde_json::Value,
) -> Result<(), kube::Error> {
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

/// Ends a deletion: the API server keeps a bound pod until its kubelet says that it has stopped.
async fn remove(pods: &Api<Pod>, name: &str, pod: &Pod) -> Result<(), kube::Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default().grace_period(0)
    };
    pods.delete(name, &params).await?;
    Ok(())
}

/// Asks the API server rather than a watch: a hold that was set before a pod was made must count.
async fn is_held(client: &Client, namespace: &str) -> Result<bool, kube::Error> {
    let found = Api::<Namespace>::all(client.clone())
        .get_metadata_opt(namespace)
        .await?;
    let annotations = found.and_then(|namespace| namespace.metadata.annotations);
    Ok(annotations
        .is_some_and(|annotations| annotations.get(HOLD).is_some_and(|value| value == "true")))
}
