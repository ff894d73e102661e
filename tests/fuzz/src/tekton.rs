//! A project's `.tekton` folder, its settings and a comment, as `pipelines-as-code` reads them: annotations, globs, `on-cel-expression` and `{{ … }}`.
//!
//! Deciding answers a plan or an error and never panics; what it starts is a PipelineRun with no field that a value brought; a mistake has a place in its file.
//! How long it takes is the sandbox's to bound.

use std::collections::BTreeSet;

use penstock_pipelines_as_code::{Settings, decide, validate};
use penstock_sdk::events::RunState;
use penstock_sdk::{Action, Event, Plan};
use serde_json::Value;

#[path = "../../../plugins/pipelines-as-code/tests/given/mod.rs"]
mod given;

use given::Given;

/// Longer ones are slower and not other.
const MOST: usize = 8192;

/// Stands between the parts of an input.
pub(crate) const BETWEEN: char = '\0';

/// How many events there are to choose from by the first byte.
pub(crate) const EVENTS: u8 = 12;
/// Bits of the first byte: the event is a fork's, and GitLab left changed paths out.
const FORK: u8 = 0x10;
const CUT: u8 = 0x20;

/// A field that the event's texts try to bring in.
const SMUGGLED: &str = "penstock-smuggled";

/// Runs it: a byte that chooses the event, then settings, payload and comment, then files, each with its path in the first line.
pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if text.len() > MOST {
        return;
    }
    let mut parts = text.split(BETWEEN);
    let settings = settings(parts.next().unwrap_or_default());
    let mut given = Given::default();
    if let Ok(payload) = serde_json::from_str(parts.next().unwrap_or_default()) {
        given.payload = payload;
    }
    let event = event(*choice, parts.next().unwrap_or_default());
    for (number, part) in parts.enumerate() {
        add(&mut given, number, part);
    }
    given.changes.added = vec!["src/lib.rs".to_owned(), "docs/a.md".to_owned()];
    given.changes.truncated = choice & CUT != 0;
    given.open = vec![given::merge_request_record()];
    given.runs = vec![given::a_run("unit", RunState::Failed)];
    // A plan or an error. Not the same twice: a mapping of CEL has another order in each process, and only in the sandbox, where chance is the record's, is
    // it the same again.
    if let Ok(plan) = decide(&settings, &event, &given) {
        check(&plan, &given, text);
    }
}

/// The settings, or those of nobody who wrote any.
fn settings(text: &str) -> Settings {
    let parsed = Settings::parse(text);
    assert_eq!(
        parsed.is_err(),
        !validate(text).is_empty(),
        "what is found and what is read differ"
    );
    parsed.unwrap_or_else(|_| Settings::parse("{}").expect("good settings"))
}

/// A file of the project, of another one (`project@revision:path`), or of the web.
fn add(given: &mut Given, number: usize, part: &str) {
    let (path, text) = part.split_once('\n').unwrap_or(("", part));
    let text = text.to_owned();
    if path.contains("://") {
        given.web.insert(path.to_owned(), text);
    } else if path.contains('@') {
        given.elsewhere.insert(path.to_owned(), text);
    } else if path.is_empty() {
        given.files.insert(format!(".tekton/{number}.yaml"), text);
    } else {
        given.files.insert(path.to_owned(), text);
    }
}

/// An event with texts that people choose: what they try, nothing may become.
fn event(choice: u8, comment: &str) -> Event {
    let branch = format!("main\"\n{SMUGGLED}: x");
    let mut event = match (choice & 0x0f) % EVENTS {
        0 => given::push("main"),
        1 => given::push(&branch),
        2 => given::tag("v1.2.3"),
        3 => given::new_branch("main"),
        4 => given::merge_request("open"),
        5 => given::new_head(),
        6 => given::changed(&["labels"]),
        7 => given::note(comment),
        8 => given::commit_note(comment),
        9 => given::request(Some("nightly"), &[("version", comment)]),
        10 => given::sweep("main", true),
        _ => given::finished(given::a_run("unit", RunState::Succeeded)),
    };
    given::edit_merge_request(&mut event, |it| {
        it.title = format!("a '}}}}\n  {SMUGGLED}: {{{{ revision }}}}");
    });
    if choice & FORK != 0 {
        event = given::fork(event);
    }
    event
}

fn check(plan: &Plan, given: &Given, input: &str) {
    let keys: BTreeSet<&str> = plan.effects.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys.len(), plan.effects.len(), "a key stands twice");
    for effect in &plan.effects {
        let Action::StartRun(run) = &effect.action else {
            continue;
        };
        let manifest: Value = serde_json::from_str(&run.manifest).expect("a manifest is JSON");
        assert_eq!(
            manifest.pointer("/kind").and_then(Value::as_str),
            Some("PipelineRun")
        );
        // The input may have the field itself.
        assert!(
            input.contains(SMUGGLED) || !has_key(&manifest, SMUGGLED),
            "a value became a field: {manifest:#}"
        );
    }
    for warning in &plan.warnings {
        let Some(text) = given.files.get(&warning.path) else {
            continue;
        };
        let lines = text.split('\n').count();
        let line = warning.line.unwrap_or(1) as usize;
        assert!(
            (1..=lines).contains(&line),
            "line {line} of {lines}: {warning:?}"
        );
    }
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(entries) => entries
            .iter()
            .any(|(name, value)| name.contains(key) || has_key(value, key)),
        Value::Array(items) => items.iter().any(|it| has_key(it, key)),
        _ => false,
    }
}
