//! Objects of `tekton.dev/v1beta1` as `v1`: the host takes no other, and teams have
//! files of both.

use serde_json::{Map, Value, json};

/// Rewrites an object in place. What has no counterpart is told.
pub(crate) fn upgrade(object: &mut Value) -> Vec<String> {
    if object.get("apiVersion").and_then(Value::as_str) != Some("tekton.dev/v1beta1") {
        return Vec::new();
    }
    let mut gone = Vec::new();
    let kind = object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".to_owned(), "tekton.dev/v1".into());
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return gone;
    };
    match kind.as_str() {
        "PipelineRun" => run(spec, &mut gone),
        "Pipeline" => pipeline(spec, &mut gone),
        "Task" => task(spec, &mut gone),
        _ => {}
    }
    gone
}

fn resources(spec: &mut Map<String, Value>, gone: &mut Vec<String>) {
    if spec.remove("resources").is_some() {
        gone.push(
            "`resources` (PipelineResources) are gone from Tekton: use workspaces and a task that clones"
                .to_owned(),
        );
    }
}

fn run(spec: &mut Map<String, Value>, gone: &mut Vec<String>) {
    resources(spec, gone);
    let mut template = Map::new();
    for name in ["serviceAccountName", "podTemplate"] {
        if let Some(value) = spec.remove(name) {
            template.insert(name.to_owned(), value);
        }
    }
    if !template.is_empty() {
        spec.entry("taskRunTemplate")
            .or_insert(Value::Object(template));
    }
    if let Some(timeout) = spec.remove("timeout") {
        spec.entry("timeouts")
            .or_insert(json!({ "pipeline": timeout }));
    }
    let runs = spec.get_mut("taskRunSpecs").and_then(Value::as_array_mut);
    for run in runs.into_iter().flatten().filter_map(Value::as_object_mut) {
        rename(run, "taskServiceAccountName", "serviceAccountName");
        rename(run, "taskPodTemplate", "podTemplate");
    }
    if let Some(reference) = spec.get_mut("pipelineRef") {
        bundle(reference, "pipeline");
    }
    if let Some(inner) = spec.get_mut("pipelineSpec").and_then(Value::as_object_mut) {
        pipeline(inner, gone);
    }
}

fn pipeline(spec: &mut Map<String, Value>, gone: &mut Vec<String>) {
    resources(spec, gone);
    for list in ["tasks", "finally"] {
        let tasks = spec.get_mut(list).and_then(Value::as_array_mut);
        for it in tasks.into_iter().flatten().filter_map(Value::as_object_mut) {
            resources(it, gone);
            if let Some(reference) = it.get_mut("taskRef") {
                bundle(reference, "task");
            }
            if let Some(inner) = it.get_mut("taskSpec").and_then(Value::as_object_mut) {
                task(inner, gone);
            }
        }
    }
}

fn task(spec: &mut Map<String, Value>, gone: &mut Vec<String>) {
    resources(spec, gone);
    for list in ["steps", "sidecars"] {
        let steps = spec.get_mut(list).and_then(Value::as_array_mut);
        for step in steps.into_iter().flatten().filter_map(Value::as_object_mut) {
            rename(step, "resources", "computeResources");
        }
    }
    if let Some(template) = spec.get_mut("stepTemplate").and_then(Value::as_object_mut) {
        rename(template, "resources", "computeResources");
        template.remove("name");
    }
}

fn rename(object: &mut Map<String, Value>, old: &str, new: &str) {
    if let Some(value) = object.remove(old) {
        object.entry(new).or_insert(value);
    }
}

/// `bundle` became a resolver.
fn bundle(reference: &mut Value, kind: &str) {
    let Some(object) = reference.as_object_mut() else {
        return;
    };
    let Some(bundle) = object.remove("bundle") else {
        return;
    };
    let name = object.remove("name").unwrap_or(Value::Null);
    object.remove("kind");
    object.remove("apiVersion");
    object.insert("resolver".to_owned(), "bundles".into());
    object.insert(
        "params".to_owned(),
        json!([
            { "name": "bundle", "value": bundle },
            { "name": "name", "value": name },
            { "name": "kind", "value": kind },
        ]),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_v1beta1_becomes_one_of_v1() {
        let mut run = json!({
            "apiVersion": "tekton.dev/v1beta1", "kind": "PipelineRun",
            "spec": {
                "serviceAccountName": "ci", "timeout": "5m",
                "taskRunSpecs": [{ "pipelineTaskName": "a", "taskServiceAccountName": "b" }],
                "pipelineSpec": { "tasks": [
                    { "name": "a", "taskSpec": { "steps": [{ "image": "x", "resources": { "limits": {} } }] } },
                    { "name": "b", "taskRef": { "name": "t", "bundle": "registry/x:1" } },
                ] },
            },
        });
        assert_eq!(upgrade(&mut run), Vec::<String>::new());
        assert_eq!(
            run,
            json!({
                "apiVersion": "tekton.dev/v1", "kind": "PipelineRun",
                "spec": {
                    "taskRunTemplate": { "serviceAccountName": "ci" },
                    "timeouts": { "pipeline": "5m" },
                    "taskRunSpecs": [{ "pipelineTaskName": "a", "serviceAccountName": "b" }],
                    "pipelineSpec": { "tasks": [
                        { "name": "a", "taskSpec": { "steps": [{ "image": "x", "computeResources": { "limits": {} } }] } },
                        { "name": "b", "taskRef": { "resolver": "bundles", "params": [
                            { "name": "bundle", "value": "registry/x:1" },
                            { "name": "name", "value": "t" },
                            { "name": "kind", "value": "task" },
                        ] } },
                    ] },
                },
            })
        );
    }

    #[test]
    fn what_has_no_counterpart_is_told() {
        let mut task = json!({ "apiVersion": "tekton.dev/v1beta1", "kind": "Task", "spec": { "resources": { "inputs": [] } } });
        assert_eq!(upgrade(&mut task).len(), 1);
    }
}
