//! The control plane itself: runs reach their end, webhooks refuse, RBAC denies, logs are served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod accounts;
mod assets;
mod runs;
mod server;

use std::time::Duration;

use kube::{Api, core::DynamicObject};
use penstock_control_plane::wait;
use serde_json::{Value, json};

/// How long a run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A PipelineRun with one task whose only step runs `script`.
fn run(name: &str, script: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": { "name": name },
        "spec": {
            "taskRunTemplate": { "serviceAccountName": "run-as" },
            "pipelineSpec": { "tasks": [{
                "name": "build",
                "taskSpec": {
                    "results": [{ "name": "digest" }],
                    "steps": [{ "name": "main", "image": "example.com/builder", "script": script }],
                },
            }]},
        },
    }))
    .unwrap()
}

/// The run's condition `Succeeded`.
fn succeeded(run: &DynamicObject) -> Option<&Value> {
    run.data
        .pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == "Succeeded")
}

/// Waits until the run has ended, either way.
async fn ended(runs: &Api<DynamicObject>, name: &str) -> DynamicObject {
    wait::until("the run's end", LIMIT, async || {
        let run = runs.get(name).await?;
        let over = succeeded(&run).is_some_and(|condition| condition["status"] != "Unknown");
        Ok(over.then_some(run))
    })
    .await
    .unwrap()
}

/// The status code and message of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> (u16, String) {
    match answer.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("not an answer of the API server: {other}"),
    }
}
