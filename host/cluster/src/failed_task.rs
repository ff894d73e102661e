//! Which task of a failed run failed, and in which step.
//!
//! Read off the run's TaskRuns with the host's rights. Only TaskRuns that the run itself names count: labels can be
//! written by anybody.

use std::{collections::HashMap, fmt};

use serde_json::Value;

use crate::{
    Cluster,
    names::{TEKTON, segment},
    observe::Call,
    read::ReadError,
    refusal::cut,
    status::{Child, RunStatus, text},
    wire::Ask,
};

/// Longest message, in characters.
const MESSAGE: usize = 500;
/// Most TaskRuns of a run that are read.
const TASK_RUNS: usize = 500;

/// The task that a run failed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTask {
    /// Its name in the pipeline.
    pub task: String,
    /// The TaskRun.
    pub task_run: String,
    /// Tekton's reason, such as `Failed` or `TaskRunTimeout`.
    pub reason: String,
    /// Tekton's message, cut after 500 characters.
    pub message: String,
    /// The first step that failed.
    pub step: Option<String>,
    /// That step's exit code.
    pub exit_code: Option<i32>,
    /// The pod and the container whose log that step's is.
    pub log: Option<(String, String)>,
}

impl fmt::Display for FailedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task `{}` failed", self.task)?;
        match (&self.step, self.exit_code) {
            (Some(step), Some(code)) => write!(f, " in step `{step}` with exit code {code}"),
            (Some(step), None) => write!(f, " in step `{step}`"),
            (None, _) => write!(f, " ({}): {}", self.reason, self.message),
        }
    }
}

impl Cluster {
    /// The task that the run failed by: of several, the one that ended first. None: no task of it failed, or its TaskRuns
    /// are gone; then the run's own message is all there is.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn failed_task(&self, run: &RunStatus) -> Result<Option<FailedTask>, ReadError> {
        if run.children.is_empty() {
            return Ok(None);
        }
        let path = format!(
            "{TEKTON}/namespaces/{}/taskruns?labelSelector={}&limit={TASK_RUNS}",
            segment(&run.namespace),
            segment(&format!("tekton.dev/pipelineRun={}", run.name)),
        );
        let list = self.list(Ask::get(Call::ListTaskRuns, path)).await?;
        Ok(first_failed(&list, &run.children))
    }
}

/// The first of the run's own TaskRuns that failed; one that was only cancelled because of it comes after.
fn first_failed(list: &Value, children: &[Child]) -> Option<FailedTask> {
    let tasks: HashMap<&str, &str> = children
        .iter()
        .filter(|child| child.kind == "TaskRun")
        .map(|child| (child.name.as_str(), child.task.as_str()))
        .collect();
    let items = list.get("items")?.as_array()?;
    let failed = items.iter().filter_map(|task_run| {
        let name = text(task_run.get("metadata")?, "name")?;
        let task = tasks.get(name)?;
        let status = task_run.get("status")?;
        let conditions = status.get("conditions")?.as_array()?;
        let condition = conditions
            .iter()
            .find(|condition| text(condition, "type") == Some("Succeeded"))?;
        if text(condition, "status") != Some("False") {
            return None;
        }
        let reason = text(condition, "reason").unwrap_or_default();
        let step = failed_step(status);
        // Times of one format and zone: the order of their bytes is theirs.
        let ended = text(status, "completionTime").unwrap_or("~");
        let found = FailedTask {
            task: (*task).to_owned(),
            task_run: name.to_owned(),
            reason: cut(reason, MESSAGE),
            message: cut(text(condition, "message").unwrap_or_default(), MESSAGE),
            step: step.as_ref().map(|step| step.name.clone()),
            exit_code: step.as_ref().map(|step| step.exit_code),
            log: text(status, "podName")
                .map(str::to_owned)
                .zip(step.and_then(|step| step.container)),
        };
        Some((reason == "TaskRunCancelled", ended, found))
    });
    failed
        .min_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)))
        .map(|(_, _, found)| found)
}

struct FailedStep {
    name: String,
    exit_code: i32,
    container: Option<String>,
}

/// The first step that ended with something else than 0. Steps after it never ran, but end with 1 too.
fn failed_step(status: &Value) -> Option<FailedStep> {
    status.get("steps")?.as_array()?.iter().find_map(|step| {
        let terminated = step.get("terminated")?;
        let code = i32::try_from(terminated.get("exitCode")?.as_i64()?).ok()?;
        let skipped = text(step, "terminationReason") == Some("Skipped");
        (code != 0 && !skipped).then(|| FailedStep {
            name: cut(text(step, "name").unwrap_or_default(), MESSAGE),
            exit_code: code,
            container: text(step, "container").map(str::to_owned),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn child(task: &str) -> Child {
        Child {
            kind: "TaskRun".into(),
            name: format!("r-{task}"),
            task: task.into(),
        }
    }

    fn task_run(task: &str, status: &str, reason: &str, ended: &str, steps: &Value) -> Value {
        json!({
            "metadata": { "name": format!("r-{task}") },
            "status": {
                "conditions": [{ "type": "Succeeded", "status": status, "reason": reason, "message": "m" }],
                "completionTime": ended,
                "steps": steps,
            },
        })
    }

    #[test]
    fn the_task_that_ended_first_is_named_with_its_step_and_exit_code() {
        let steps = json!([
            { "name": "fetch", "terminated": { "exitCode": 0 } },
            { "name": "compile", "terminated": { "exitCode": 3 } },
            { "name": "pack", "terminated": { "exitCode": 1 }, "terminationReason": "Skipped" },
        ]);
        let list = json!({ "items": [
            task_run("late", "False", "Failed", "2001-01-01T00:00:09Z", &json!([])),
            task_run("cancelled", "False", "TaskRunCancelled", "2001-01-01T00:00:01Z", &json!([])),
            task_run("build", "False", "Failed", "2001-01-01T00:00:05Z", &steps),
            task_run("good", "True", "Succeeded", "2001-01-01T00:00:00Z", &json!([])),
            task_run("foreign", "False", "Failed", "2001-01-01T00:00:00Z", &json!([])),
        ]});
        let children = ["late", "cancelled", "build", "good"].map(child);
        let found = first_failed(&list, &children).unwrap();
        assert_eq!(
            found.to_string(),
            "task `build` failed in step `compile` with exit code 3"
        );
    }

    #[test]
    fn a_task_that_never_got_to_a_step_tells_why() {
        let list = json!({ "items": [task_run("build", "False", "TaskRunImagePullFailed", "2001-01-01T00:00:05Z", &json!(null))] });
        let found = first_failed(&list, &[child("build")]).unwrap();
        assert_eq!(
            found.to_string(),
            "task `build` failed (TaskRunImagePullFailed): m"
        );
    }

    #[test]
    fn without_task_runs_nothing_is_named() {
        assert_eq!(
            first_failed(&json!({ "items": [] }), &[child("build")]),
            None
        );
        assert_eq!(first_failed(&json!({}), &[child("build")]), None);
    }
}
