//! What Tekton's controller does, as far as a watcher of runs sees it: start, run, succeed, fail, cancel.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    FAIL, HOLD, LOG, Shared,
    kinds::Kind,
    store::{Key, Store, now},
};

/// Drives every PipelineRun until the task is aborted.
pub(crate) async fn drive(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    let mut due: HashMap<String, Instant> = HashMap::new();
    loop {
        changed.mark_unchanged();
        let pace = *shared.pace.lock().expect("the pace");
        let version = {
            let mut store = shared.store.lock().expect("the store");
            let runs: Vec<Key> = store
                .objects
                .keys()
                .filter(|key| key.0 == Kind::named("pipelineruns"))
                .cloned()
                .collect();
            for key in runs {
                step(&mut store, &key, &mut due, pace);
            }
            store.version
        };
        shared
            .changed
            .send_if_modified(|known| std::mem::replace(known, version) != version);
        let next = due
            .values()
            .min()
            .copied()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

fn step(store: &mut Store, key: &Key, due: &mut HashMap<String, Instant>, pace: Duration) {
    let Some(run) = store.objects.get(key).cloned() else {
        return;
    };
    let uid = run["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let condition = &run["status"]["conditions"][0];
    if condition["status"] == "True" || condition["status"] == "False" {
        due.remove(&uid);
        return;
    }
    let reason = condition["reason"].as_str().unwrap_or_default().to_owned();
    match run["spec"]["status"].as_str() {
        Some("PipelineRunPending") => {
            if reason != "PipelineRunPending" {
                let said = format!("PipelineRun \"{}\" is pending", key.2);
                say(store, key, "Unknown", "PipelineRunPending", &said);
            }
            return;
        }
        Some("Cancelled" | "CancelledRunFinally" | "StoppedRunFinally") => {
            due.remove(&uid);
            end_tasks(store, key, None, "TaskRunCancelled");
            say(
                store,
                key,
                "False",
                "Cancelled",
                &format!("PipelineRun \"{}\" was cancelled", key.2),
            );
            return;
        }
        _ => {}
    }
    if reason != "Running" {
        start(store, key, &run);
        due.insert(uid, Instant::now() + pace);
        return;
    }
    if run["metadata"]["annotations"][HOLD] == "true" {
        due.remove(&uid);
        return;
    }
    if *due.entry(uid.clone()).or_insert_with(Instant::now) > Instant::now() {
        return;
    }
    due.remove(&uid);
    let failing = failing_task(&run);
    let tasks = task_names(&run).len();
    end_tasks(store, key, failing.as_deref(), "Succeeded");
    match failing {
        Some(_) => {
            let said = format!("Tasks Completed: {tasks} (Failed: 1, Cancelled 0), Skipped: 0");
            say(store, key, "False", "Failed", &said);
        }
        None => {
            let said = format!("Tasks Completed: {tasks} (Failed: 0, Cancelled 0), Skipped: 0");
            say(store, key, "True", "Succeeded", &said);
        }
    }
}

/// The tasks of an inline pipeline; one called `run` if the pipeline is elsewhere.
fn task_names(run: &Value) -> Vec<String> {
    let tasks = run["spec"]["pipelineSpec"]["tasks"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<String> = tasks
        .iter()
        .filter_map(|task| task["name"].as_str().map(str::to_owned))
        .collect();
    if names.is_empty() {
        vec!["run".to_owned()]
    } else {
        names
    }
}

/// The task that an annotation or a parameter `fail` names; any other text fails the first one.
fn failing_task(run: &Value) -> Option<String> {
    let annotation = run["metadata"]["annotations"][FAIL].as_str();
    let parameters = run["spec"]["params"].as_array();
    let parameter =
        parameters.and_then(|all| all.iter().find(|one| one["name"] == "fail")?["value"].as_str());
    let wanted = annotation
        .or(parameter)
        .filter(|text| !text.is_empty() && *text != "false")?;
    let names = task_names(run);
    Some(
        names
            .iter()
            .find(|name| *name == wanted)
            .unwrap_or(&names[0])
            .clone(),
    )
}

fn start(store: &mut Store, key: &Key, run: &Value) {
    let mut children = Vec::new();
    let tasks = task_names(run);
    for task in &tasks {
        let name = format!("{}-{task}", key.2);
        let mut labels = run["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        labels.insert("tekton.dev/pipelineRun".to_owned(), json!(key.2));
        labels.insert("tekton.dev/pipelineTask".to_owned(), json!(task));
        labels.insert("tekton.dev/memberOf".to_owned(), json!("tasks"));
        let owner = json!([{
            "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": key.2,
            "uid": run["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]);
        let account = run["spec"]["taskRunTemplate"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default");
        let made = store.create(
            Kind::named("taskruns"),
            &key.1,
            json!({
                "metadata": { "name": name, "labels": labels, "ownerReferences": owner },
                "spec": { "serviceAccountName": account },
            }),
            false,
        );
        let pod = store.create(Kind::named("pods"), &key.1, json!({
            "metadata": {
                "name": format!("{name}-pod"),
                "labels": { "tekton.dev/taskRun": name, "tekton.dev/pipelineRun": key.2 },
                "ownerReferences": owner,
                "annotations": { LOG: format!("{task}: begun\n") },
            },
            "spec": { "serviceAccountName": account, "containers": [{ "name": "step-main", "image": "none" }] },
            "status": { "phase": "Running" },
        }), false);
        if made.is_ok() && pod.is_ok() {
            let child: Key = (Kind::named("taskruns"), key.1.clone(), name.clone());
            say(
                store,
                &child,
                "Unknown",
                "Running",
                "Not all Steps in the Task have finished executing",
            );
        }
        children.push(json!({
            "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": name, "pipelineTaskName": task,
        }));
    }
    let said = format!(
        "Tasks Completed: 0 (Failed: 0, Cancelled 0), Incomplete: {}, Skipped: 0",
        tasks.len()
    );
    say(store, key, "Unknown", "Running", &said);
    let Some(mut started) = store.objects.get(key).cloned() else {
        return;
    };
    started["status"]["childReferences"] = json!(children);
    store.put(key.clone(), started);
}

fn end_tasks(store: &mut Store, run: &Key, failing: Option<&str>, reason: &str) {
    let of_run = |(key, object): (&Key, &Value)| {
        let ours = key.0 == Kind::named("taskruns")
            && key.1 == run.1
            && object["metadata"]["labels"]["tekton.dev/pipelineRun"] == run.2.as_str();
        ours.then(|| {
            (
                key.clone(),
                object["metadata"]["labels"]["tekton.dev/pipelineTask"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            )
        })
    };
    let tasks: Vec<(Key, String)> = store.objects.iter().filter_map(of_run).collect();
    for (key, task) in tasks {
        let failed = failing == Some(task.as_str());
        let (status, reason, said) = if failed {
            (
                "False",
                "Failed",
                "\"step-main\" exited with code 1".to_owned(),
            )
        } else if reason == "Succeeded" {
            (
                "True",
                "Succeeded",
                "All Steps have completed executing".to_owned(),
            )
        } else {
            (
                "False",
                reason,
                format!("TaskRun \"{}\" was cancelled", key.2),
            )
        };
        say(store, &key, status, reason, &said);
        let Some(mut ended) = store.objects.get(&key).cloned() else {
            continue;
        };
        let code = i32::from(status != "True");
        ended["status"]["podName"] = json!(format!("{}-pod", key.2));
        ended["status"]["steps"] = json!([{
            "name": "main",
            "container": "step-main",
            "terminated": {
                "exitCode": code,
                "reason": if code == 0 { "Completed" } else { "Error" },
                "startedAt": now(),
                "finishedAt": now(),
            },
            "terminationReason": if code == 0 { "Completed" } else { "Error" },
        }]);
        let name = key.2.clone();
        store.put(key.clone(), ended);
        let pod: Key = (Kind::named("pods"), key.1, format!("{name}-pod"));
        if let Some(mut object) = store.objects.get(&pod).cloned() {
            object["status"]["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
            let end = if failed { "failed by order" } else { "ended" };
            object["metadata"]["annotations"][LOG] =
                json!(format!("{task}: begun\n{task}: {end}\n"));
            store.put(pod, object);
        }
    }
}

/// Sets the condition `Succeeded` with the times that go with it.
fn say(store: &mut Store, key: &Key, status: &str, reason: &str, message: &str) {
    let Some(mut object) = store.objects.get(key).cloned() else {
        return;
    };
    let at = now();
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["conditions"] = json!([{
        "type": "Succeeded", "status": status, "reason": reason, "message": message, "lastTransitionTime": at,
    }]);
    if reason != "PipelineRunPending" && object["status"]["startTime"].is_null() {
        object["status"]["startTime"] = json!(at);
    }
    if status != "Unknown" {
        object["status"]["completionTime"] = json!(at);
    }
    store.put(key.clone(), object);
}
