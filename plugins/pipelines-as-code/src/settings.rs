//! The settings: their shape, and every problem with them.
//!
//! `repository` holds what a team's `Repository` object has in its `spec`, under the
//! same names; the other keys are Penstock's own.

use std::collections::BTreeMap;

use penstock_reading::read::{Reader, below};
use penstock_sdk::Problem;
use serde_json::Value;

use crate::cel::Compiler;
use crate::glob::Glob;
use crate::variables::BUILT_IN;

mod hub;
mod repository;

pub(crate) use hub::{DEFAULT as DEFAULT_HUB, Hub};
pub(crate) use repository::{Incoming, Param, ParamValue, Policy};

const KEYS: [&str; 12] = [
    "repository",
    "folder",
    "application-name",
    "on-no-match",
    "aggregate-status",
    "push-with-merge-request",
    "cancel-in-progress",
    "max-keep-runs",
    "hubs",
    "run-labels",
    "clone-also",
    "description",
];

/// The settings, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Folder in the repository.
    pub(crate) folder: String,
    /// Stands before a pipeline's name in its status.
    pub(crate) application: String,
    pub(crate) on_no_match: OnNoMatch,
    /// Name of the status that tells of all runs.
    pub(crate) aggregate: String,
    /// A push to a branch of an open merge request runs too.
    pub(crate) push_with_merge_request: bool,
    /// For runs whose annotation says nothing.
    pub(crate) cancel_pushes: bool,
    pub(crate) cancel_merge_requests: bool,
    /// For runs whose annotation says nothing.
    pub(crate) keep: Option<u32>,
    /// No annotation keeps more.
    pub(crate) keep_most: Option<u32>,
    pub(crate) hubs: BTreeMap<String, Hub>,
    /// Runs bear the labels and annotations that Pipelines-as-Code gives them.
    pub(crate) run_labels: bool,
    /// Projects that a run may clone beside its own.
    pub(crate) clone_also: Vec<String>,
    pub(crate) params: Vec<Param>,
    pub(crate) incoming: Vec<Incoming>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) provenance: Provenance,
    pub(crate) policy: Policy,
    /// Word before a command, such as `pac` for `/pac test`.
    pub(crate) prefix: Option<String>,
    /// Runs are shown in the merge request's comment.
    pub(crate) comments: bool,
}

/// What is posted where nothing matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnNoMatch {
    /// Nothing, and no aggregate status at all.
    None,
    Skipped,
    Success,
}

/// Where the folder and all it names in the repository is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// At the event's commit.
    Source,
    DefaultBranch,
    /// Of a merge request; of anything else the event's commit.
    TargetBranch,
}

impl Settings {
    /// Reads settings from JSON.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(json: &str) -> Result<Self, Vec<Problem>> {
        let value: Value = match serde_json::from_str(json) {
            Ok(Value::Null) => Value::Object(serde_json::Map::new()),
            Ok(value) => value,
            Err(error) => return Err(vec![Problem::new("", format!("is not JSON: {error}"))]),
        };
        let mut reader = Reader::default();
        let settings = read(&mut reader, &value);
        if reader.problems.is_empty() {
            Ok(settings)
        } else {
            Err(reader.problems)
        }
    }

    /// How many finished runs of a pipeline are kept.
    pub(crate) fn kept(&self, asked: Option<u32>) -> Option<u32> {
        match (asked.or(self.keep), self.keep_most) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (None, most) => most,
            (asked, None) => asked,
        }
    }
}

/// Every problem of the settings.
#[must_use]
pub fn validate(json: &str) -> Vec<Problem> {
    Settings::parse(json).err().unwrap_or_default()
}

fn read(reader: &mut Reader, value: &Value) -> Settings {
    let mut settings = Settings {
        folder: ".tekton".to_owned(),
        application: "Penstock".to_owned(),
        on_no_match: OnNoMatch::None,
        aggregate: "Penstock".to_owned(),
        push_with_merge_request: false,
        cancel_pushes: false,
        cancel_merge_requests: false,
        keep: None,
        keep_most: None,
        hubs: Hub::known(),
        run_labels: false,
        clone_also: Vec::new(),
        params: Vec::new(),
        incoming: Vec::new(),
        concurrency: None,
        provenance: Provenance::Source,
        policy: Policy::default(),
        prefix: None,
        comments: true,
    };
    let Some(object) = reader.object("", value, &KEYS) else {
        return settings;
    };
    for (key, value) in object {
        match key.as_str() {
            "repository" => repository::read(reader, value, &mut settings),
            "folder" => {
                if let Some(folder) = reader.text(key, value) {
                    let wrong = folder.split('/').any(|it| matches!(it, "" | "." | ".."));
                    if wrong {
                        reader.problem(key, "must be a path in the repository, such as `.tekton`");
                    }
                    settings.folder = folder;
                }
            }
            "application-name" => {
                if let Some(name) = reader.text(key, value) {
                    settings.application = name;
                }
            }
            "aggregate-status" => {
                if let Some(name) = reader.text(key, value) {
                    settings.aggregate = name;
                }
            }
            "on-no-match" => {
                let words = [
                    ("none", OnNoMatch::None),
                    ("skipped", OnNoMatch::Skipped),
                    ("success", OnNoMatch::Success),
                ];
                if let Some(word) = one_of(reader, key, value, &words) {
                    settings.on_no_match = word;
                }
            }
            "push-with-merge-request" => {
                let words = [("skip", false), ("run", true)];
                if let Some(word) = one_of(reader, key, value, &words) {
                    settings.push_with_merge_request = word;
                }
            }
            "cancel-in-progress" => {
                let known = ["push", "pull-request"];
                for (name, value) in reader.object(key, value, &known).into_iter().flatten() {
                    let path = below(key, name);
                    let Some(on) = flag(reader, &path, value) else {
                        continue;
                    };
                    match name.as_str() {
                        "push" => settings.cancel_pushes = on,
                        "pull-request" => settings.cancel_merge_requests = on,
                        _ => {}
                    }
                }
            }
            "max-keep-runs" => {
                let known = ["default", "most"];
                for (name, value) in reader.object(key, value, &known).into_iter().flatten() {
                    let path = below(key, name);
                    match name.as_str() {
                        "default" => settings.keep = reader.count(&path, value),
                        "most" => settings.keep_most = reader.count(&path, value),
                        _ => {}
                    }
                }
            }
            "hubs" => {
                for (name, value) in reader.mapping(key, value) {
                    if let Some(hub) = Hub::read(reader, &below(key, name), value) {
                        settings.hubs.insert(name.to_owned(), hub);
                    }
                }
            }
            "clone-also" => settings.clone_also = reader.texts(key, value),
            "run-labels" => settings.run_labels = flag(reader, key, value).unwrap_or_default(),
            _ => {}
        }
    }
    settings
}

/// One word of a few.
pub(crate) fn one_of<T: Copy>(
    reader: &mut Reader,
    path: &str,
    value: &Value,
    words: &[(&str, T)],
) -> Option<T> {
    let found = value
        .as_str()
        .and_then(|it| words.iter().find(|(word, _)| *word == it));
    if found.is_none() {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        reader.expected(path, &format!("one of {}", all.join(", ")), value);
    }
    found.map(|(_, meaning)| *meaning)
}

fn flag(reader: &mut Reader, path: &str, value: &Value) -> Option<bool> {
    if value.as_bool().is_none() {
        reader.expected(path, "`true` or `false`", value);
    }
    value.as_bool()
}

/// Checks an expression; its mistakes are problems of the setting.
fn expression(reader: &mut Reader, path: &str, source: &str) {
    let compiled = Compiler::new().and_then(|compiler| {
        compiler
            .compile(source)
            .map(|_| ())
            .map_err(|fault| fault.message)
    });
    if let Err(why) = compiled {
        reader.problem(path, why);
    }
}

fn glob(reader: &mut Reader, path: &str, pattern: &str) {
    if let Err(why) = Glob::new(pattern) {
        reader.problem(path, why);
    }
}

fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name) || matches!(name, "body" | "headers" | "files" | "cel" | "pac")
}
