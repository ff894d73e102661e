//! What comes next for a pod, and the status it then has. Pure; knows how Tekton reads a status.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::{
    NODE,
    script::{self, Outcome},
};

/// The next step for a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to do until it changes.
    Wait,
    /// It has no node.
    Bind,
    /// It is ours and has not started.
    Run,
    /// It runs, and nothing in it runs for ever.
    Finish,
    /// It is being deleted.
    Remove,
}

/// Decides the next step from the pod alone.
pub(super) fn next(pod: &Pod) -> Step {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    match (node, pod.metadata.deletion_timestamp.is_some(), phase) {
        (Some(NODE), true, _) => Step::Remove,
        (None, false, _) => Step::Bind,
        (Some(NODE), false, "Pending") => Step::Run,
        (Some(NODE), false, "Running") if !play(pod).iter().any(|(_, outcome)| outcome.endless) => {
            Step::Finish
        }
        _ => Step::Wait,
    }
}

/// What each main container does, in their order. A Tekton step runs only while those before it
/// went well, as its entrypoint sees to.
pub(super) fn play(pod: &Pod) -> Vec<(&Container, Outcome)> {
    let mut failed = false;
    containers(pod)
        .iter()
        .map(|container| {
            let is_step = container.name.starts_with("step-");
            let outcome = if failed && is_step {
                Outcome::skipped()
            } else {
                script::play(pod, container)
            };
            failed |= is_step && container_exit(container, &outcome) != 0;
            (container, outcome)
        })
        .collect()
}

/// The status of a pod whose containers all run.
pub(super) fn running(pod: &Pod) -> Value {
    let now = now();
    let containers: Vec<Value> = containers(pod)
        .iter()
        .map(|container| {
            container_status(container, true, json!({ "running": { "startedAt": now } }))
        })
        .collect();
    let init: Vec<Value> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .map(|container| container_status(container, true, terminated(0, "Completed", "", &now)))
        .collect();
    json!({ "status": {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": "127.0.0.1",
        "podIPs": [{ "ip": "127.0.0.1" }],
        "startTime": now,
        "conditions": conditions(true, &now),
        "initContainerStatuses": init,
        "containerStatuses": containers,
    }})
}

/// The status of a pod whose containers have all ended.
pub(super) fn finished(pod: &Pod) -> Value {
    let now = now();
    let outcomes = play(pod);
    let all_well = outcomes
        .iter()
        .all(|(container, outcome)| container_exit(container, outcome) == 0);
    let containers: Vec<Value> = outcomes
        .iter()
        .map(|(container, outcome)| {
            let code = container_exit(container, outcome);
            let reason = if code == 0 { "Completed" } else { "Error" };
            container_status(
                container,
                false,
                terminated(code, reason, &message(container, outcome, &now), &now),
            )
        })
        .collect();
    json!({ "status": {
        "phase": if all_well { "Succeeded" } else { "Failed" },
        "conditions": conditions(false, &now),
        "containerStatuses": containers,
    }})
}

/// How the container ends: a step that may fail (`onError: continue`) hides its exit code.
fn container_exit(container: &Container, outcome: &Outcome) -> i32 {
    if outcome.exit_code != 0 && may_fail(container) && !outcome.skipped {
        0
    } else {
        outcome.exit_code
    }
}

fn may_fail(container: &Container) -> bool {
    let arguments = container.args.as_deref().unwrap_or_default();
    arguments
        .iter()
        .zip(arguments.iter().skip(1))
        .any(|(name, value)| name == "-on_error" && value == "continue")
}

/// The termination message that Tekton's entrypoint would write for a step: a JSON list, where type
/// 1 is a result of the task and type 3 is Tekton's own.
fn message(container: &Container, outcome: &Outcome, now: &str) -> String {
    if !container.name.starts_with("step-") {
        return String::new();
    }
    let mut entries = vec![json!({ "key": "StartedAt", "value": now, "type": 3 })];
    for (name, value) in &outcome.results {
        entries.push(json!({ "key": name, "value": value, "type": 1 }));
    }
    if outcome.skipped {
        entries.push(json!({ "key": "Reason", "value": "Skipped", "type": 3 }));
    } else if outcome.exit_code != 0 && may_fail(container) {
        entries
            .push(json!({ "key": "ExitCode", "value": outcome.exit_code.to_string(), "type": 3 }));
    }
    Value::Array(entries).to_string()
}

fn containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

fn container_status(container: &Container, ready: bool, state: Value) -> Value {
    json!({
        "name": container.name,
        "image": container.image,
        "imageID": container.image,
        "containerID": format!("stand-in://{}", container.name),
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    })
}

fn terminated(code: i32, reason: &str, message: &str, now: &str) -> Value {
    json!({ "terminated": { "exitCode": code, "reason": reason, "message": message, "startedAt": now, "finishedAt": now } })
}

fn conditions(ready: bool, now: &str) -> Value {
    let entry = |name: &str, status: bool| {
        let status = if status { "True" } else { "False" };
        json!({ "type": name, "status": status, "lastTransitionTime": now })
    };
    json!([
        entry("PodScheduled", true),
        entry("Initialized", true),
        entry("ContainersReady", ready),
        entry("Ready", ready),
    ])
}

/// The time in the API's format, whole seconds.
fn now() -> String {
    k8s_openapi::jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod of Tekton steps, each with its arguments.
    fn pod(node: Option<&str>, phase: &str, steps: &[&[&str]]) -> Pod {
        let containers: Vec<Value> = steps
            .iter()
            .enumerate()
            .map(|(index, arguments)| json!({ "name": format!("step-{index}"), "image": "example.com/a", "args": arguments }))
            .collect();
        serde_json::from_value(json!({
            "metadata": { "name": "a" },
            "spec": { "nodeName": node, "containers": containers },
            "status": { "phase": phase },
        }))
        .unwrap()
    }

    const GOOD: &[&str] = &["-entrypoint", "sh", "--", "-c", "echo good"];
    const BAD: &[&str] = &["-entrypoint", "sh", "--", "-c", "exit 4"];
    const MAY_FAIL: &[&str] = &[
        "-on_error",
        "continue",
        "-entrypoint",
        "sh",
        "--",
        "-c",
        "exit 4",
    ];
    const ENDLESS: &[&str] = &["-entrypoint", "sleep", "--", "infinity"];

    fn ends(steps: &[&[&str]]) -> (String, Vec<i64>) {
        let status = finished(&pod(Some(NODE), "Running", steps));
        let codes = status["status"]["containerStatuses"]
            .as_array()
            .unwrap()
            .iter();
        let codes = codes.map(|container| {
            container["state"]["terminated"]["exitCode"]
                .as_i64()
                .unwrap()
        });
        (
            status["status"]["phase"].as_str().unwrap().to_owned(),
            codes.collect(),
        )
    }

    #[test]
    fn a_pod_is_bound_then_runs_then_finishes() {
        assert_eq!(next(&pod(None, "Pending", &[GOOD])), Step::Bind);
        assert_eq!(next(&pod(Some(NODE), "Pending", &[GOOD])), Step::Run);
        assert_eq!(next(&pod(Some(NODE), "Running", &[GOOD])), Step::Finish);
        assert_eq!(next(&pod(Some(NODE), "Succeeded", &[GOOD])), Step::Wait);
    }

    #[test]
    fn a_pod_of_another_node_is_left_alone() {
        assert_eq!(next(&pod(Some("other"), "Pending", &[GOOD])), Step::Wait);
    }

    #[test]
    fn an_endless_step_keeps_its_pod_running() {
        assert_eq!(
            next(&pod(Some(NODE), "Running", &[GOOD, ENDLESS])),
            Step::Wait
        );
    }

    #[test]
    fn steps_behind_a_failed_one_are_skipped() {
        assert_eq!(ends(&[GOOD, BAD, GOOD]), ("Failed".into(), vec![0, 4, 1]));
    }

    #[test]
    fn a_step_that_may_fail_hides_its_exit_code_and_tells_it_to_tekton() {
        assert_eq!(ends(&[MAY_FAIL, GOOD]), ("Succeeded".into(), vec![0, 0]));
        let status = finished(&pod(Some(NODE), "Running", &[MAY_FAIL]));
        let message = status["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
            .as_str()
            .unwrap();
        assert!(
            message.contains(r#"{"key":"ExitCode","type":3,"value":"4"}"#),
            "{message}"
        );
    }
}
