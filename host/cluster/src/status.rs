//! Where a run stands, read off its PipelineRun. Pure.
//!
//! After Tekton's documentation of PipelineRun: the condition `Succeeded` is `Unknown` until the run has ended, then
//! `True` or `False`; its reason tells a cancelled run from a failed one.

use penstock_model::{
    id::{EffectId, Timestamp},
    run::RunState,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    names::{DIGEST_ANNOTATION, EFFECT_ANNOTATION},
    object::SeenRun,
    refusal::cut,
};

/// Longest message, in characters.
const MESSAGE: usize = 1000;
/// Longest result that is handed on, in characters.
const RESULT: usize = 4096;
/// Most results that are handed on.
const RESULTS: usize = 100;
/// Most children that are looked at.
const CHILDREN: usize = 1000;

/// A run as the cluster has it.
///
/// Its effect is what an annotation says, and whoever may create PipelineRuns anywhere in the cluster can write one:
/// believe it only if namespace, name and, once it is known, UID are those of the run that the effect made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStatus {
    /// The effect that it says it comes from.
    pub effect: EffectId,
    /// The digest of the manifest that it says it was created from.
    pub manifest_digest: Option<String>,
    /// UID of the PipelineRun.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// One of gated, running, succeeded, failed and canceled.
    pub state: RunState,
    /// Tekton's reason, such as `PipelineRunTimeout`; empty before there is one.
    pub reason: String,
    /// Tekton's message, cut after 1000 characters.
    pub message: String,
    /// When Tekton started it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Results that are texts, at most 100, each cut after 4096 characters; others as JSON.
    pub results: Vec<(String, String)>,
    /// `spec.status`, such as `CancelledRunFinally`.
    pub spec_status: Option<String>,
    /// What it consists of.
    pub children: Vec<Child>,
}

impl RunStatus {
    /// How many of its tasks have failed by now, as far as Tekton's message tells: a run may go on for long after the first did.
    /// A hint: another wording says 0.
    pub fn failed_tasks(&self) -> u32 {
        let (_, rest) = self.message.split_once("(Failed: ").unwrap_or_default();
        let digits = rest.find(|it: char| !it.is_ascii_digit());
        let number = rest.get(..digits.unwrap_or(rest.len()));
        number.and_then(|it| it.parse().ok()).unwrap_or_default()
    }
}

/// A TaskRun or CustomRun of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// `TaskRun`, `CustomRun` or `PipelineRun`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The task of the pipeline.
    pub task: String,
}

/// Reads a PipelineRun. None if it isn't one that an effect made: no well-formed effect id, or no identity.
pub fn status_of(run: &Value) -> Option<RunStatus> {
    SeenRun::deserialize(run).ok()?.read()
}

impl SeenRun {
    /// See [`status_of`].
    pub(crate) fn read(&self) -> Option<RunStatus> {
        let annotations = self.metadata.annotations.as_ref()?;
        let annotation = annotations.get(EFFECT_ANNOTATION)?;
        let effect = EffectId::parse(annotation)
            .ok()
            .filter(|effect| effect.hex() == *annotation)?;
        let condition = self
            .status
            .items("conditions")
            .find(|condition| text(condition, "type") == Some("Succeeded"));
        let said = |name: &str| {
            condition
                .and_then(|condition| text(condition, name))
                .unwrap_or_default()
        };
        let spec_status = self.spec.text("status");
        Some(RunStatus {
            effect,
            manifest_digest: annotations.get(DIGEST_ANNOTATION).cloned(),
            uid: self.metadata.uid.clone()?,
            namespace: self.metadata.namespace.clone()?,
            name: self.metadata.name.clone()?,
            state: state(said("status"), said("reason"), spec_status),
            reason: cut(said("reason"), MESSAGE),
            message: cut(said("message"), MESSAGE),
            started_at: self.status.text("startTime").and_then(timestamp),
            finished_at: self.status.text("completionTime").and_then(timestamp),
            results: self
                .status
                .items("results")
                .filter_map(result)
                .take(RESULTS)
                .collect(),
            spec_status: spec_status.map(|status| cut(status, MESSAGE)),
            children: self
                .status
                .items("childReferences")
                .filter_map(child)
                .take(CHILDREN)
                .collect(),
        })
    }
}

/// Where a run stands by its condition, the condition's reason and `spec.status`.
fn state(condition: &str, reason: &str, spec_status: Option<&str>) -> RunState {
    match (condition, reason) {
        ("True", _) => RunState::Succeeded,
        // The second is what Tekton wrote before 0.50.
        ("False", "Cancelled" | "PipelineRunCancelled") => RunState::Canceled,
        ("False", _) => RunState::Failed,
        (_, "PipelineRunPending") => RunState::Gated,
        (_, "") if spec_status == Some("PipelineRunPending") => RunState::Gated,
        _ => RunState::Running,
    }
}

pub(crate) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// RFC 3339 as milliseconds.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

fn result(result: &Value) -> Option<(String, String)> {
    let value = match result.get("value")? {
        Value::String(value) => cut(value, RESULT),
        other => cut(&other.to_string(), RESULT),
    };
    Some((text(result, "name")?.to_owned(), value))
}

fn child(child: &Value) -> Option<Child> {
    let name = text(child, "name")?;
    Some(Child {
        kind: text(child, "kind").unwrap_or("TaskRun").to_owned(),
        name: name.to_owned(),
        task: text(child, "pipelineTaskName").unwrap_or(name).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(spec: &Value, status: &Value) -> Value {
        json!({
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "metadata": {
                "name": "build-1", "namespace": "ci", "uid": "u-1", "resourceVersion": "5",
                "annotations": { EFFECT_ANNOTATION: "ab".repeat(32), "other": "x" },
            },
            "spec": spec,
            "status": status,
        })
    }

    fn check(condition: &str, reason: &str, expect: RunState) {
        let conditions =
            json!([{ "type": "Succeeded", "status": condition, "reason": reason, "message": "m" }]);
        let status = status_of(&run(&json!({}), &json!({ "conditions": conditions }))).unwrap();
        assert_eq!(status.state, expect, "{condition} {reason}");
        assert_eq!(
            (status.reason.as_str(), status.message.as_str()),
            (reason, "m")
        );
    }

    #[test]
    fn a_task_that_failed_is_seen_while_the_run_goes_on() {
        for (message, expect) in [
            (
                "Tasks Completed: 2 (Failed: 1, Cancelled 0), Incomplete: 1, Skipped: 0",
                1,
            ),
            (
                "Tasks Completed: 2 (Failed: 0, Cancelled 0), Incomplete: 1, Skipped: 0",
                0,
            ),
            ("(Failed: 99999999999, ", 0),
            ("(Failed: 3", 3),
            ("Not all Tasks in the Pipeline have finished executing", 0),
        ] {
            let conditions = json!([{ "type": "Succeeded", "status": "Unknown", "reason": "Running", "message": message }]);
            let status = status_of(&run(&json!({}), &json!({ "conditions": conditions }))).unwrap();
            assert_eq!(status.failed_tasks(), expect, "{message}");
        }
    }

    #[test]
    fn every_condition_of_tekton_has_a_state() {
        check("Unknown", "Started", RunState::Running);
        check("Unknown", "Running", RunState::Running);
        check("Unknown", "ResolvingPipelineRef", RunState::Running);
        check("Unknown", "PipelineRunStopping", RunState::Running);
        check("Unknown", "CancelledRunningFinally", RunState::Running);
        check("Unknown", "StoppedRunningFinally", RunState::Running);
        check("Unknown", "PipelineRunPending", RunState::Gated);
        check("True", "Succeeded", RunState::Succeeded);
        check("True", "Completed", RunState::Succeeded);
        check("False", "Failed", RunState::Failed);
        check("False", "PipelineRunTimeout", RunState::Failed);
        check("False", "CouldntGetTask", RunState::Failed);
        check("False", "CouldntGetPipeline", RunState::Failed);
        check("False", "CreateRunFailed", RunState::Failed);
        check("False", "PipelineRunCouldntCancel", RunState::Failed);
        check("False", "Cancelled", RunState::Canceled);
        check("False", "PipelineRunCancelled", RunState::Canceled);
        check("False", "", RunState::Failed);
    }

    #[test]
    fn a_run_that_tekton_has_not_seen_yet_runs_unless_it_is_pending() {
        let state = |spec: &Value| status_of(&run(spec, &json!({}))).unwrap().state;
        assert_eq!(state(&json!({})), RunState::Running);
        assert_eq!(
            state(&json!({ "status": "PipelineRunPending" })),
            RunState::Gated
        );
    }

    #[test]
    fn times_results_and_children_are_read() {
        let status = json!({
            "startTime": "1970-01-01T00:00:01Z",
            "completionTime": "1970-01-01T00:01:00Z",
            "results": [{ "name": "digest", "value": "sha256:1" }, { "name": "list", "value": ["a"] }, { "value": "nameless" }],
            "childReferences": [{ "kind": "TaskRun", "name": "build-1-compile", "pipelineTaskName": "compile" }, {}],
        });
        let status = status_of(&run(&json!({ "status": "Cancelled" }), &status)).unwrap();
        assert_eq!(status.started_at, Some(Timestamp(1000)));
        assert_eq!(status.finished_at, Some(Timestamp(60_000)));
        let results: Vec<_> = status
            .results
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(results, [("digest", "sha256:1"), ("list", "[\"a\"]")]);
        assert_eq!(status.children.len(), 1);
        assert_eq!(status.children[0].task, "compile");
        assert_eq!(status.spec_status.as_deref(), Some("Cancelled"));
    }

    #[test]
    fn an_object_without_a_well_formed_effect_is_nobodys() {
        for effect in [
            json!("ab"),
            json!("AB".repeat(32)),
            json!(null),
            json!("zz".repeat(32)),
        ] {
            let mut object = run(&json!({}), &json!({}));
            object["metadata"]["annotations"][EFFECT_ANNOTATION] = effect.clone();
            assert_eq!(status_of(&object), None, "{effect}");
        }
        let mut object = run(&json!({}), &json!({}));
        object["metadata"]["uid"].take();
        assert_eq!(status_of(&object), None);
        assert_eq!(status_of(&json!("text")), None);
    }

    #[test]
    fn a_long_message_is_cut() {
        let conditions = json!([{ "type": "Succeeded", "status": "False", "reason": "Failed", "message": "ä".repeat(5000) }]);
        let status = status_of(&run(&json!({}), &json!({ "conditions": conditions }))).unwrap();
        assert_eq!(status.message.chars().count(), MESSAGE + 1);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_status_holds_it_is_read_or_passed_over(status in any_json(), spec in any_json()) {
            let read = status_of(&run(&spec, &status));
            proptest::prop_assert!(read.is_some());
        }
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-zA-Z0-9:-]{0,12}".prop_map(Value::from),
        ];
        let names = prop_oneof![
            Just("conditions"),
            Just("results"),
            Just("childReferences"),
            Just("startTime"),
            Just("type"),
            Just("status"),
            Just("name"),
            Just("value"),
            Just("reason"),
            Just("x"),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((names.clone(), inner), 0..5).prop_map(|fields| fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }
}
