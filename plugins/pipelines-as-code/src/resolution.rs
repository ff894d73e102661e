//! Makes one PipelineRun of a PipelineRun and all it refers to.
//!
//! A task is looked for among the run's annotations, then those of a remote pipeline,
//! then in the folder. References that Tekton resolves itself (resolvers, bundles,
//! ClusterTasks, custom tasks) stay as they are.

use std::collections::BTreeMap;

use penstock_sdk::Problem;
use serde_json::{Map, Value};

use crate::document::Document;
use crate::folder::Folder;
use crate::remote::Fetched;

/// What a run may refer to.
pub(crate) struct Objects<'a> {
    pub(crate) folder: &'a Folder,
    /// What the run's annotations named.
    pub(crate) of_run: &'a Fetched,
    /// What the annotations of its remote pipeline named.
    pub(crate) of_pipeline: &'a Fetched,
}

impl<'a> Objects<'a> {
    fn task(&self, name: &str) -> Option<&'a Document> {
        self.of_run
            .tasks
            .get(name)
            .or_else(|| self.of_pipeline.tasks.get(name))
            .or_else(|| self.folder.tasks.get(name))
    }

    fn pipeline(&self, name: &str) -> Option<&'a Document> {
        // The one that an annotation names is meant whatever it is called.
        self.of_run
            .pipeline
            .as_ref()
            .filter(|it| it.name() == name)
            .or_else(|| self.folder.pipelines.get(name))
    }
}

/// The run with everything in it.
///
/// # Errors
/// Each reference that leads nowhere, with its place.
pub(crate) fn resolve(run: &Document, objects: &Objects<'_>) -> Result<Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut value = run.value.clone();
    let mut holder = run;
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        let reference = spec.get("pipelineRef").filter(|it| is_local(it));
        if let Some(name) = reference.map(|it| name_of(it).to_owned()) {
            match objects.pipeline(&name) {
                Some(pipeline) => {
                    spec.remove("pipelineRef");
                    let inner = pipeline.value.get("spec").cloned().unwrap_or_default();
                    spec.insert("pipelineSpec".to_owned(), inner);
                    holder = pipeline;
                }
                None => problems.push(run.problem(
                    &["pipelineRef", &name],
                    format!(
                        "there is no Pipeline `{name}`: neither in the folder{} nor in the annotation `pipeline`",
                        nearest(&name, &objects.folder.pipelines)
                    ),
                )),
            }
        }
        let refers = spec.contains_key("pipelineRef");
        match spec.get_mut("pipelineSpec").and_then(Value::as_object_mut) {
            Some(pipeline) => tasks(pipeline, holder, objects, &mut problems),
            None if !refers => problems.push(run.problem(
                &["spec"],
                "the run has neither a `pipelineRef` nor a `pipelineSpec`",
            )),
            None => {}
        }
    } else {
        problems.push(run.problem(&["PipelineRun"], "the run has no `spec`"));
    }
    if problems.is_empty() {
        Ok(value)
    } else {
        Err(problems)
    }
}

fn nearest(name: &str, known: &BTreeMap<String, Document>) -> String {
    penstock_reading::fault::nearest(name, known.keys().map(String::as_str))
        .map_or_else(String::new, |it| format!(" (did you mean `{it}`?)"))
}

/// A reference by name to something of the folder, not one that Tekton resolves.
fn is_local(reference: &Value) -> bool {
    let text = |name: &str| {
        reference
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let version = text("apiVersion");
    reference.get("resolver").is_none()
        && reference.get("bundle").is_none()
        && text("kind") != "ClusterTask"
        && (version.is_empty() || version.starts_with("tekton.dev/"))
        && !text("name").is_empty()
}

fn name_of(reference: &Value) -> &str {
    reference
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn tasks(
    pipeline: &mut Map<String, Value>,
    holder: &Document,
    objects: &Objects<'_>,
    problems: &mut Vec<Problem>,
) {
    for list in ["tasks", "finally"] {
        let entries = pipeline.get_mut(list).and_then(Value::as_array_mut);
        for entry in entries
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let Some(reference) = entry.get("taskRef").filter(|it| is_local(it)) else {
                continue;
            };
            let name = name_of(reference).to_owned();
            let Some(task) = objects.task(&name) else {
                let message = format!(
                    "there is no Task `{name}`: neither in the folder{} nor in the annotations `task`, `task-1`…",
                    nearest(&name, &objects.folder.tasks)
                );
                problems.push(holder.problem(&["taskRef", &name], message));
                continue;
            };
            entry.remove("taskRef");
            // Its labels and annotations would be put on the pod: only the spec is taken.
            let spec = task.value.get("spec").cloned().unwrap_or_default();
            entry.insert("taskSpec".to_owned(), spec);
        }
    }
}
