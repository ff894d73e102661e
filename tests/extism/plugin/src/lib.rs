//! Parses the payload of a push and starts one run: what `tests/guests/guests/bench.rs` does, as a plugin for extism.
//!
//! The payload is its input, and its plan is JSON: extism has no types. It is not given the typed event, so it has less to lift than the other.

use extism_pdk::{FnResult, plugin_fn};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Push {
    after: String,
    #[serde(rename = "ref")]
    ref_name: String,
    project: Project,
    commits: Vec<Commit>,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: String,
    git_http_url: String,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
    modified: Vec<String>,
}

#[derive(Serialize)]
struct Plan {
    reasons: Vec<String>,
    effects: Vec<StartRun>,
}

#[derive(Serialize)]
struct StartRun {
    key: String,
    pipeline: String,
    manifest: String,
}

/// Decides.
#[plugin_fn]
pub fn decide(payload: String) -> FnResult<String> {
    let push: Push = serde_json::from_str(&payload)?;
    let files: usize = push.commits.iter().map(|it| it.modified.len()).sum();
    let last = push.commits.last().map_or("", |it| it.id.as_str());
    let manifest = serde_json::json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": {"generateName": "bench-"},
        "spec": {
            "params": [
                {"name": "url", "value": push.project.git_http_url},
                {"name": "revision", "value": push.after},
            ],
            "pipelineSpec": {
                "params": [{"name": "url"}, {"name": "revision"}],
                "tasks": [{
                    "name": "build",
                    "taskSpec": {
                        "steps": [{"name": "build", "image": "busybox", "script": "echo built"}],
                    },
                }],
            },
        },
    });
    let plan = Plan {
        reasons: vec![format!(
            "{} {}: {files} files in {} commits, the last {last}",
            push.project.path_with_namespace,
            push.ref_name,
            push.commits.len(),
        )],
        effects: vec![StartRun {
            key: "run/bench".to_owned(),
            pipeline: "bench".to_owned(),
            manifest: manifest.to_string(),
        }],
    };
    Ok(serde_json::to_string(&plan)?)
}
