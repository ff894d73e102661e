//! Stops TaskRuns that go on though their PipelineRun has ended as cancelled.
//!
//! Tekton can leave one behind when a run is cancelled within moments of its creation: the controller makes the TaskRun, and a later look at a
//! cache that does not have it yet finds nothing to cancel. The run is marked as ended, and nobody looks again.

use penstock_model::admit::StopOrder;
use serde_json::{Value, json};

use crate::{
    Cluster,
    names::{FIELD_MANAGER, TEKTON, segment},
    observe::Call,
    read::ReadError,
    refusal::Trouble,
    status::text,
    stop::{Meant, StopError, error, gone_or},
    token::Account,
    wire::Ask,
};

/// Most TaskRuns of a run that are looked at.
const TASK_RUNS: usize = 500;

/// The rule that a creator needs beside those on PipelineRuns.
pub(crate) fn task_runs_remedy(namespace: &str, creator: &str) -> String {
    format!(
        "grant account `{creator}` in namespace `{namespace}` the rule `apiGroups: [tekton.dev], resources: [taskruns], verbs: [patch]` with a Role and a RoleBinding (examples/cluster/place.yaml has both): Tekton can leave a TaskRun of a cancelled run behind, which is stopped by it"
    )
}

impl Cluster {
    /// Stops what goes on of a run that has ended, and says how many TaskRuns that were.
    pub(crate) async fn stop_left_over(
        &self,
        order: &StopOrder,
        meant: &Meant<'_>,
        creator: &Account,
        uid: &str,
    ) -> Result<usize, StopError> {
        let path = format!(
            "{TEKTON}/namespaces/{}/taskruns?labelSelector={}&limit={TASK_RUNS}",
            segment(&order.namespace),
            segment(&format!("tekton.dev/pipelineRun={}", order.name)),
        );
        let list = self
            .list(Ask::get(Call::ListTaskRuns, path))
            .await
            .map_err(|error| match error {
                ReadError::Denied { message, remedy } => StopError::Denied { message, remedy },
                ReadError::Unavailable { why, retry_after } => {
                    StopError::Unavailable { why, retry_after }
                }
            })?;
        let living = living(&list, uid);
        for (name, uid) in &living {
            let patch = json!({
                "metadata": { "uid": uid },
                "spec": { "status": "TaskRunCancelled", "statusMessage": "its PipelineRun was cancelled" },
            })
            .to_string();
            let path = format!(
                "{TEKTON}/namespaces/{}/taskruns/{}?fieldManager={FIELD_MANAGER}",
                segment(&order.namespace),
                segment(name)
            );
            let ask = || Ask::merge_patch(Call::StopRun, path.clone(), patch.clone());
            match self.tokens.ask(creator, ask).await {
                // Tekton refuses changes of a TaskRun that has ended meanwhile, the API server those of another object.
                Ok(Ok(_))
                | Ok(Err(
                    Trouble::NotFound(_)
                    | Trouble::Terminating
                    | Trouble::Refused(_)
                    | Trouble::Conflict(_),
                )) => {}
                Ok(Err(Trouble::Denied(message))) => {
                    return Err(StopError::Denied {
                        message,
                        remedy: task_runs_remedy(&order.namespace, &order.creator),
                    });
                }
                Ok(Err(trouble)) => return Err(error(trouble, meant)),
                Err(error) => gone_or(error)?,
            }
        }
        Ok(living.len())
    }
}

/// Name and UID of the TaskRuns that this PipelineRun owns, have not ended and are not cancelled. Labels can be written by anybody.
fn living(list: &Value, owner: &str) -> Vec<(String, String)> {
    let items = list.get("items").and_then(Value::as_array);
    let found = items.into_iter().flatten().filter_map(|task_run| {
        let metadata = task_run.get("metadata")?;
        let owners = metadata.get("ownerReferences")?.as_array()?;
        let ours = owners.iter().any(|it| text(it, "uid") == Some(owner));
        let conditions = task_run.pointer("/status/conditions");
        let ended = conditions
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|condition| text(condition, "type") == Some("Succeeded"))
            .any(|condition| matches!(text(condition, "status"), Some("True" | "False")));
        let told = task_run.pointer("/spec/status").and_then(Value::as_str);
        (ours && !ended && told != Some("TaskRunCancelled")).then(|| {
            Some((
                text(metadata, "name")?.to_owned(),
                text(metadata, "uid")?.to_owned(),
            ))
        })?
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_task_run_of_this_run_that_goes_on_is_meant() {
        let task_run = |name: &str, owner: &str, status: &str, told: Value| {
            json!({
                "metadata": { "name": name, "uid": format!("u-{name}"), "ownerReferences": [{ "uid": owner }] },
                "spec": { "status": told },
                "status": { "conditions": [{ "type": "Succeeded", "status": status }] },
            })
        };
        let list = json!({ "items": [
            task_run("ended", "run", "False", json!(null)),
            task_run("succeeded", "run", "True", json!(null)),
            task_run("foreign", "other", "Unknown", json!(null)),
            task_run("told", "run", "Unknown", json!("TaskRunCancelled")),
            task_run("living", "run", "Unknown", json!(null)),
            { "metadata": { "name": "new", "uid": "u-new", "ownerReferences": [{ "uid": "run" }] } },
            { "metadata": { "name": "orphan", "uid": "u-orphan" } },
        ]});
        let expect = [("living", "u-living"), ("new", "u-new")];
        let expect = expect.map(|(name, uid)| (name.to_owned(), uid.to_owned()));
        assert_eq!(living(&list, "run"), expect);
        assert_eq!(living(&json!({}), "run"), []);
    }
}
