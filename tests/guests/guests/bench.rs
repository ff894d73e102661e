//! Parses the payload of a push and starts one run: the call that is measured.

use penstock_sdk::{Event, Plan, PluginError, StartRun, Trigger, imports::delivery};
use serde::Deserialize;

/// What it reads of the payload; the rest is parsed and dropped, as most plugins do.
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

struct Bench;

impl Trigger for Bench {
    fn decide(_event: Event) -> Result<Plan, PluginError> {
        let payload =
            delivery::payload().map_err(|error| PluginError::lookup("the payload", &error))?;
        let push: Push = serde_json::from_str(&payload)
            .map_err(|error| PluginError::Other(format!("the payload is not a push: {error}")))?;
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
        Ok(Plan::because(format!(
            "{} {}: {files} files in {} commits, the last {last}",
            push.project.path_with_namespace,
            push.ref_name,
            push.commits.len(),
        ))
        .start_run("run/bench", StartRun::new("bench", manifest.to_string())))
    }
}

penstock_sdk::export!(Bench);
