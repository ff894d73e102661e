//! Whether a PipelineRun is for an event, by its annotations.

use penstock_sdk::Problem;
use regex_lite::Regex;
use serde_json::Value;

use crate::annotations::{self, list};
use crate::cel::{Evaluator, Failure};
use crate::choice::Candidate;
use crate::document::Document;
use crate::facts::{Facts, Trigger};
use crate::filled::Filled;
use crate::glob::{Glob, matches_ref};

/// What a PipelineRun's annotations say of an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Matches,
    /// Why not.
    No(String),
    /// An annotation that can't be used.
    Wrong(Problem),
}

/// Why a run does not match, or what is wrong.
enum Miss {
    No(String),
    Wrong(Problem),
}

impl From<Miss> for Verdict {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::No(why) => Self::No(why),
            Miss::Wrong(problem) => Self::Wrong(problem),
        }
    }
}

/// Looks at the conditions for an event that is no free comment.
pub(crate) fn judge(
    candidate: &Candidate<'_>,
    facts: &Facts<'_>,
    evaluator: &Evaluator<'_>,
) -> Verdict {
    let filled = match &candidate.annotations {
        Ok(filled) => filled,
        Err(problem) => return Verdict::Wrong(problem.clone()),
    };
    match conditions(candidate.document, filled, facts, evaluator) {
        Ok(()) => Verdict::Matches,
        Err(miss) => miss.into(),
    }
}

/// Whether `on-comment` is for this comment.
pub(crate) fn comment(candidate: &Candidate<'_>, text: &str) -> Verdict {
    let document = candidate.document;
    let filled = match &candidate.annotations {
        Ok(filled) => filled,
        Err(problem) => return Verdict::Wrong(problem.clone()),
    };
    let Some(pattern) = filled.value("on-comment") else {
        return Verdict::No("it has no `on-comment`".to_owned());
    };
    match Regex::new(pattern) {
        Ok(regex) if regex.is_match(text.trim()) => Verdict::Matches,
        Ok(_) => Verdict::No(format!("the comment is not `{pattern}`")),
        Err(error) => {
            let message = format!("`on-comment` is no regular expression: {error}");
            Verdict::Wrong(document.problem(&["on-comment"], message))
        }
    }
}

/// Whether it names a label, and so is asked when labels change.
pub(crate) fn has_label(document: &Document) -> bool {
    let value = |name: &str| annotations::value(&document.value, name);
    value("on-label").is_some() || value("on-cel-expression").is_some_and(|it| it.contains("label"))
}

fn conditions(
    document: &Document,
    filled: &Filled,
    facts: &Facts<'_>,
    evaluator: &Evaluator<'_>,
) -> Result<(), Miss> {
    let value = |name: &str| filled.value(name);
    if let Some(source) = value("on-cel-expression") {
        return expression(document, source, evaluator);
    }
    let (Some(events), Some(branches)) = (value("on-event"), value("on-target-branch")) else {
        return Err(Miss::No(
            "it has neither `on-cel-expression` nor both `on-event` and `on-target-branch`"
                .to_owned(),
        ));
    };
    let events = values(document, "on-event", events)?;
    if let Some(odd) = events
        .iter()
        .find(|it| !matches!(it.as_str(), "push" | "pull_request" | "incoming"))
    {
        let message =
            format!("`on-event` takes `push`, `pull_request` and `incoming`, not `{odd}`");
        return Err(Miss::Wrong(document.problem(&["on-event", odd], message)));
    }
    let word = facts.trigger.word();
    let as_push = facts.trigger == Trigger::Incoming && events.iter().any(|it| it == "push");
    if !as_push && !events.iter().any(|it| it == word) {
        return Err(Miss::No(format!("it is not for `{word}`")));
    }
    let branches = values(document, "on-target-branch", branches)?;
    if !any(document, "on-target-branch", &branches, |it| {
        matches_ref(it, &facts.target_ref)
    })? {
        return Err(Miss::No(format!("it is not for `{}`", facts.target_ref)));
    }
    if let Some(paths) = value("on-path-change") {
        let paths = values(document, "on-path-change", paths)?;
        let (changed, truncated) = evaluator.changed().map_err(Miss::No)?;
        let hit = any_path(document, "on-path-change", &paths, changed)?;
        // GitLab left some out: a run too many is better than one that is missing.
        if !hit && !truncated {
            return Err(Miss::No(
                "no changed path is one of `on-path-change`".to_owned(),
            ));
        }
    }
    if let Some(labels) = value("on-label") {
        let labels = values(document, "on-label", labels)?;
        let found = facts
            .merge_request
            .map_or(&[][..], |it| it.labels.as_slice());
        if !labels.iter().any(|it| found.contains(it)) {
            return Err(Miss::No("no label is one of `on-label`".to_owned()));
        }
    }
    if let Some(paths) = value("on-path-change-ignore") {
        let paths = values(document, "on-path-change-ignore", paths)?;
        let (changed, _) = evaluator.changed().map_err(Miss::No)?;
        if any_path(document, "on-path-change-ignore", &paths, changed)? {
            return Err(Miss::No(
                "a changed path is one of `on-path-change-ignore`".to_owned(),
            ));
        }
    }
    Ok(())
}

fn expression(document: &Document, source: &str, evaluator: &Evaluator<'_>) -> Result<(), Miss> {
    match evaluator.condition(source) {
        Ok(Value::Bool(true)) => Ok(()),
        Ok(Value::Bool(false)) => Err(Miss::No("`on-cel-expression` is false".to_owned())),
        Err(Failure::NoKey(key)) => Err(Miss::No(format!(
            "`on-cel-expression` asks for `{key}`, which this event has not"
        ))),
        Ok(_) => Err(Miss::Wrong(document.problem(
            &["on-cel-expression"],
            "`on-cel-expression` is neither true nor false",
        ))),
        Err(failure) => {
            let message = format!("`on-cel-expression`: {}", failure.message());
            Err(Miss::Wrong(
                document.problem(&["on-cel-expression"], message),
            ))
        }
    }
}

fn values(document: &Document, name: &str, text: &str) -> Result<Vec<String>, Miss> {
    list(text).map_err(|why| Miss::Wrong(document.problem(&[name], format!("`{name}`: {why}"))))
}

fn any(
    document: &Document,
    name: &str,
    patterns: &[String],
    matches: impl Fn(&str) -> Result<bool, String>,
) -> Result<bool, Miss> {
    let mut hit = false;
    for pattern in patterns {
        hit |= matches(pattern)
            .map_err(|why| Miss::Wrong(document.problem(&[name], format!("`{name}`: {why}"))))?;
    }
    Ok(hit)
}

fn any_path(
    document: &Document,
    name: &str,
    patterns: &[String],
    paths: &[String],
) -> Result<bool, Miss> {
    any(document, name, patterns, |pattern| {
        let glob = Glob::new(pattern)?;
        Ok(paths
            .iter()
            .any(|path| path == pattern || glob.matches(path)))
    })
}
