//! The settings: their shape, and every problem with them.

mod run;

use std::collections::{BTreeMap, BTreeSet};

use penstock_sdk::{Problem, SecretSource};
use serde_json::Value;

use crate::compile;
use crate::event::{KINDS, KINDS_BY_DEFAULT};
use crate::fault::hint;
use crate::read::{Reader, below};

const RULE: [&str; 16] = [
    "name",
    "on",
    "when",
    "let",
    "params",
    "template",
    "file",
    "pipeline",
    "place",
    "cancel",
    "keep",
    "status-name",
    "queue",
    "secrets",
    "comment",
    "description",
];

/// The settings, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub(crate) rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Where it is, such as `rules[2]`.
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) on: BTreeSet<String>,
    /// Conditions with their paths; all must hold.
    pub(crate) when: Vec<(String, String)>,
    pub(crate) overlays: BTreeMap<String, String>,
    pub(crate) params: BTreeMap<String, Param>,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) pipeline: String,
    pub(crate) place: Option<String>,
    pub(crate) cancel: Cancel,
    pub(crate) keep: Option<u32>,
    pub(crate) status_name: Option<String>,
    pub(crate) queue: Option<(String, Option<u32>)>,
    pub(crate) secrets: Vec<(String, SecretSource)>,
    pub(crate) comment: Option<String>,
}

/// Where a param's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Param {
    pub(crate) source: Source,
    /// Used where the source has no value.
    pub(crate) default: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A text with `$(…)`.
    Text(String),
    Cel(String),
}

/// Where the PipelineRun comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Manifest {
    /// YAML, as text.
    Text(String),
    /// Written into the settings as they are.
    Value(Value),
    /// A file of the repository at the event's commit.
    File(String),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cancel {
    Nothing,
    Superseded,
    Earlier,
}

/// Every problem of the settings at once. None: they can be used.
#[must_use]
pub fn validate(json: &str) -> Vec<Problem> {
    let (settings, mut problems) = read(json);
    for rule in settings.iter().flat_map(|it| &it.rules) {
        problems.extend(compile::problems(rule));
    }
    problems
}

impl Settings {
    /// Reads the settings. CEL and templates are looked at only when a rule needs them.
    ///
    /// # Errors
    /// Every problem of their shape.
    pub fn parse(json: &str) -> Result<Self, Vec<Problem>> {
        match read(json) {
            (Some(settings), problems) if problems.is_empty() => Ok(settings),
            (_, problems) => Err(problems),
        }
    }
}

fn read(json: &str) -> (Option<Settings>, Vec<Problem>) {
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => {
            return (
                None,
                vec![Problem::new("", format!("is not JSON: {error}"))],
            );
        }
    };
    let mut reader = Reader::default();
    let mut rules = Vec::new();
    if let Some(settings) = reader.object("", &value, &["rules"]) {
        match settings.get("rules") {
            Some(Value::Array(items)) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    rules.extend(rule(&mut reader, format!("rules[{index}]"), item));
                }
            }
            Some(Value::Array(_)) | None => {
                reader.problem("rules", "must hold at least one rule");
            }
            Some(other) => reader.expected("rules", "a list of rules", other),
        }
    }
    let mut seen = BTreeMap::new();
    for rule in &rules {
        if let Some(first) = seen.insert(&rule.name, &rule.path) {
            let message = format!(
                "`{}` is the name of {first} too: names must differ",
                rule.name
            );
            reader.problem(&below(&rule.path, "name"), message);
        }
    }
    (Some(Settings { rules }), reader.problems)
}

fn rule(reader: &mut Reader, path: String, value: &Value) -> Option<Rule> {
    let object = reader.object(&path, value, &RULE)?;
    let at = |key: &str| below(&path, key);
    let Some(name) = object.get("name").map(|it| reader.text(&at("name"), it)) else {
        reader.problem(&at("name"), "is missing: every rule has a name");
        return None;
    };
    let name = name?;
    if !is_name(&name) {
        reader.problem(
            &at("name"),
            "must be of lower-case letters, digits and `-`, at most 63, as in `unit-tests`",
        );
    }
    let text =
        |reader: &mut Reader, key: &str| object.get(key).and_then(|it| reader.text(&at(key), it));
    let rule = Rule {
        on: kinds(reader, &at("on"), object.get("on")),
        when: conditions(reader, &at("when"), object.get("when")),
        overlays: overlays(reader, &at("let"), object.get("let")),
        params: params(reader, &at("params"), object.get("params")),
        manifest: run::manifest(reader, &path, object),
        pipeline: text(reader, "pipeline").unwrap_or_else(|| name.clone()),
        place: text(reader, "place"),
        cancel: run::cancel(reader, &at("cancel"), object.get("cancel")),
        keep: object
            .get("keep")
            .and_then(|it| reader.count(&at("keep"), it)),
        status_name: text(reader, "status-name"),
        queue: object
            .get("queue")
            .and_then(|it| run::queue(reader, &at("queue"), it)),
        secrets: run::secrets(reader, &at("secrets"), object.get("secrets")),
        comment: text(reader, "comment"),
        path: path.clone(),
        name,
    };
    let acts = ["template", "file", "comment"]
        .iter()
        .any(|key| object.contains_key(*key));
    if !acts && rule.cancel == Cancel::Nothing {
        reader.problem(
            &path,
            "does nothing: give it a `template`, a `file`, a `comment` or `cancel`",
        );
    }
    Some(rule)
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
}

fn kinds(reader: &mut Reader, path: &str, value: Option<&Value>) -> BTreeSet<String> {
    let Some(value) = value else {
        return KINDS_BY_DEFAULT.iter().map(|it| (*it).to_owned()).collect();
    };
    let kinds = reader.texts(path, value);
    for kind in &kinds {
        if !KINDS.contains(&kind.as_str()) {
            let hint = hint(kind, KINDS);
            reader.problem(
                path,
                format!(
                    "there is no kind of event `{kind}`{hint} The kinds are {}",
                    KINDS.join(", ")
                ),
            );
        }
    }
    kinds.into_iter().collect()
}

fn conditions(reader: &mut Reader, path: &str, value: Option<&Value>) -> Vec<(String, String)> {
    let Some(value) = value else {
        return Vec::new();
    };
    let listed = value.is_array();
    reader
        .texts(path, value)
        .into_iter()
        .enumerate()
        .map(|(index, text)| {
            let path = if listed {
                format!("{path}[{index}]")
            } else {
                path.to_owned()
            };
            (path, text)
        })
        .collect()
}

fn overlays(reader: &mut Reader, path: &str, value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(value) = value else {
        return BTreeMap::new();
    };
    reader
        .mapping(path, value)
        .into_iter()
        .filter_map(|(name, it)| {
            let path = below(path, name);
            if !is_identifier(name) {
                reader.problem(&path, "must be of letters, digits and `_`, and begin with a letter: CEL could not name it");
            }
            Some((name.to_owned(), reader.text(&path, it)?))
        })
        .collect()
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

fn params(reader: &mut Reader, path: &str, value: Option<&Value>) -> BTreeMap<String, Param> {
    let Some(value) = value else {
        return BTreeMap::new();
    };
    reader
        .mapping(path, value)
        .into_iter()
        .filter_map(|(name, it)| Some((name.to_owned(), param(reader, &below(path, name), it)?)))
        .collect()
}

fn param(reader: &mut Reader, path: &str, value: &Value) -> Option<Param> {
    let source = match value {
        Value::String(text) => Source::Text(text.clone()),
        Value::Number(_) | Value::Bool(_) => Source::Text(value.to_string()),
        Value::Object(_) => {
            let object = reader.object(path, value, &["cel", "text", "default"])?;
            let default = object
                .get("default")
                .and_then(|it| scalar(reader, &below(path, "default"), it));
            let source = match (object.get("cel"), object.get("text")) {
                (Some(cel), None) => Source::Cel(reader.text(&below(path, "cel"), cel)?),
                (None, Some(text)) => Source::Text(scalar(reader, &below(path, "text"), text)?),
                _ => {
                    reader.problem(path, "must have either `cel` or `text`");
                    return None;
                }
            };
            return Some(Param { source, default });
        }
        Value::Null | Value::Array(_) => {
            reader.expected(path, "a text with `$(…)`, or `{ cel: … }`", value);
            return None;
        }
    };
    Some(Param {
        source,
        default: None,
    })
}

fn scalar(reader: &mut Reader, path: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => {
            reader.expected(path, "a text", value);
            None
        }
    }
}
