//! PipelineRuns for tests: what their steps do is read off the script by the stand-in of the kubelet.

use serde_json::{Value, json};

/// One task `build` with one step `compile` that runs this script.
#[must_use]
pub fn running(script: &str) -> Value {
    json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": { "generateName": "build-" },
        "spec": { "pipelineSpec": { "tasks": [{
            "name": "build",
            "taskSpec": { "steps": [{ "name": "compile", "image": "example.com/builder", "script": script }] },
        }] } },
    })
}

/// One that Tekton accepts and ends at once, without a pod: the pipeline it names is not there. Good for thousands.
#[must_use]
pub fn short_lived() -> Value {
    json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": { "generateName": "short-" },
        "spec": { "pipelineRef": { "name": "is-not-there" } },
    })
}
