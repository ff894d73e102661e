//! Folders as teams have them: each is decided for the events that its `given.yaml`
//! names, and what comes of it is compared with a snapshot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod given;

use std::fs;
use std::path::Path;

use given::Given;
use penstock_sdk::events::RunState;
use penstock_sdk::{Action, Event, Plan, PluginError};
use serde_json::{Value, json};

/// A decision as a person would note it down.
fn shown(plan: &Plan) -> Value {
    let effects: Vec<Value> = plan
        .effects
        .iter()
        .map(|effect| {
            let what = match &effect.action {
                Action::StartRun(run) => json!({ "start": {
                    "pipeline": run.pipeline, "place": run.place, "status": run.status_name,
                    "queue": run.queue, "keep": run.keep, "secrets": run.secrets,
                    "manifest": serde_json::from_str::<Value>(&run.manifest).unwrap(),
                } }),
                Action::Comment(comment) => json!({ "comment": comment.body }),
                Action::CommitStatus(status) => json!({
                    "status": format!("{} {:?}: {}", status.name, status.state, status.description),
                }),
                Action::CancelRuns(cancel) => json!({
                    "cancel": format!("{:?} {:?}: {}", cancel.scope, cancel.pipeline, cancel.reason),
                }),
                other => panic!("{other:?}"),
            };
            json!({ &effect.key: what })
        })
        .collect();
    let warnings: Vec<String> = plan
        .warnings
        .iter()
        .map(|it| {
            let place = (it.line.unwrap_or(0), it.column.unwrap_or(0));
            format!("{}:{}:{}: {}", it.path, place.0, place.1, it.message)
        })
        .collect();
    json!({ "effects": effects, "reasons": plan.reasons, "warnings": warnings })
}

fn event(given: &Value) -> Event {
    let (kind, value) = given.as_object().unwrap().iter().next().unwrap();
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let mut event = match kind.as_str() {
        "push" => given::push(value.as_str().unwrap()),
        "new-branch" => given::new_branch(value.as_str().unwrap()),
        "tag" => given::tag(value.as_str().unwrap()),
        "merge-request" => match text("action").unwrap_or("open") {
            "push" => given::new_head(),
            action => given::merge_request(action),
        },
        "note" => given::note(text("text").unwrap()),
        "commit-note" => given::commit_note(value.as_str().unwrap()),
        "request" => {
            let parameters = value.get("parameters").and_then(Value::as_object);
            let parameters: Vec<(&str, &str)> = parameters
                .into_iter()
                .flatten()
                .map(|(name, it)| (name.as_str(), it.as_str().unwrap()))
                .collect();
            given::request(text("name"), &parameters)
        }
        other => panic!("no event is called {other}"),
    };
    given::edit_merge_request(&mut event, |it| {
        it.target_branch = text("target").unwrap_or("main").to_owned();
        it.draft = value.get("draft") == Some(&json!(true));
        if let Some(labels) = value.get("labels").and_then(Value::as_array) {
            it.labels = labels
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
                .collect();
        }
    });
    if value.get("fork") == Some(&json!(true)) {
        event = given::fork(event);
    }
    event
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect()
}

fn texts(value: &Value, pointer: &str) -> Vec<(String, String)> {
    let entries = value.pointer(pointer).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .map(|(name, it)| (name.clone(), it.as_str().unwrap().to_owned()))
        .collect()
}

/// All files below a folder, by their paths in it.
fn read(root: &Path, folder: &Path, given: &mut Given) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, given);
        } else if path.file_name().unwrap() != "given.yaml" {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            given.files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn check(folder: &Path) {
    let text = fs::read_to_string(folder.join("given.yaml")).unwrap();
    let what = penstock_reading::yaml::parse(&text).unwrap();
    let mut given = Given::default();
    read(folder, folder, &mut given);
    given.changes.added = strings(&what, "/changes/added");
    given.changes.modified = strings(&what, "/changes/modified");
    given.changes.deleted = strings(&what, "/changes/deleted");
    given.changes.truncated = what.pointer("/changes/truncated") == Some(&json!(true));
    given.elsewhere = texts(&what, "/elsewhere").into_iter().collect();
    given.web = texts(&what, "/web").into_iter().collect();
    if let Some(payload) = what.get("payload") {
        given.payload = payload.clone();
    }
    for (pipeline, state) in texts(&what, "/runs") {
        let state = match state.as_str() {
            "failed" => RunState::Failed,
            "succeeded" => RunState::Succeeded,
            "running" => RunState::Running,
            other => panic!("{other}"),
        };
        given.runs.push(given::a_run(&pipeline, state));
    }
    let settings = what.get("settings").cloned().unwrap_or_else(|| json!({}));
    let mut outcomes = Vec::new();
    for it in what["events"].as_array().expect("events") {
        let outcome = match given.try_decide(settings.clone(), &event(it)) {
            Ok(plan) => shown(&plan),
            Err(PluginError::Other(why)) => json!({ "error": why }),
            Err(other) => panic!("{other:?}"),
        };
        outcomes.push(json!({ "on": it, "then": outcome }));
    }
    let mistakes = outcomes.iter().any(|it| {
        let warnings = it.pointer("/then/warnings").and_then(Value::as_array);
        warnings.is_none_or(|it| !it.is_empty())
    });
    assert_eq!(
        mistakes,
        what.get("mistakes") == Some(&json!(true)),
        "{}: a folder with mistakes says `mistakes: true`, no other has any",
        folder.display()
    );
    let name = folder.file_name().unwrap().to_str().unwrap();
    let description = what["about"].as_str().expect("about").to_owned();
    insta::with_settings!({ description => description, omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_yaml_snapshot!(name, outcomes);
    });
}

#[test]
fn every_folder_of_the_corpus_gives_the_runs_that_are_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut folders: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 40, "{} folders", folders.len());
    for folder in folders {
        check(&folder);
    }
}
