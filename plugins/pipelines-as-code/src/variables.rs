//! What `{{ … }}` stands for.

use std::cell::RefCell;
use std::collections::BTreeMap;

use penstock_sdk::Problem;
use serde_json::Value;

use crate::cel::{Evaluator, Failure};
use crate::facts::Facts;
use crate::settings::{Param, ParamValue};

/// Variables that every run has.
pub(crate) const BUILT_IN: [&str; 18] = [
    "revision",
    "repo_url",
    "repo_owner",
    "repo_name",
    "source_branch",
    "target_branch",
    "source_url",
    "target_url",
    "sender",
    "event",
    "event_type",
    "event_title",
    "git_tag",
    "git_auth_secret",
    "pull_request_number",
    "pull_request_labels",
    "target_namespace",
    "trigger_comment",
];

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    Text(String),
    /// A Secret of the place.
    Secret {
        name: String,
        key: String,
    },
    /// The Secret that the host makes to clone with.
    CloneSecret,
    /// Nothing: it stays as it is.
    Nothing(String),
    /// Nothing: it becomes an empty text.
    Empty(String),
}

/// The meanings of one event's placeholders.
pub(crate) struct Variables<'a> {
    values: BTreeMap<&'static str, String>,
    facts: &'a Facts<'a>,
    evaluator: &'a Evaluator<'a>,
    params: BTreeMap<String, ParamValue>,
    /// Filters that can't be told.
    pub(crate) problems: Vec<Problem>,
    known: RefCell<BTreeMap<String, Meaning>>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(
        facts: &'a Facts<'a>,
        evaluator: &'a Evaluator<'a>,
        params: &[Param],
    ) -> Self {
        let mut problems = Vec::new();
        let params = chosen(params, evaluator, &mut problems);
        let known = params.iter().map(|(name, value)| {
            let asked = facts.arguments.get(name).cloned();
            let value = match value {
                ParamValue::Text(text) => asked.or_else(|| Some(text.clone())),
                ParamValue::Unset => asked,
                ParamValue::Secret { .. } => None,
            };
            (name.clone(), value)
        });
        evaluator.know_params(known.collect());
        Self {
            values: facts.variables(),
            facts,
            evaluator,
            params,
            problems,
            known: RefCell::default(),
        }
    }

    /// What a placeholder stands for. `namespace` is that of the run's place.
    pub(crate) fn meaning(
        &self,
        name: &str,
        namespace: &dyn Fn() -> Result<String, String>,
    ) -> Meaning {
        match name {
            "git_auth_secret" => return Meaning::CloneSecret,
            "target_namespace" => {
                return match namespace() {
                    Ok(namespace) => Meaning::Text(namespace),
                    Err(why) => Meaning::Nothing(why),
                };
            }
            _ => {}
        }
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let meaning = self.find(name);
        self.known
            .borrow_mut()
            .insert(name.to_owned(), meaning.clone());
        meaning
    }

    fn find(&self, name: &str) -> Meaning {
        if let Some(value) = self.values.get(name) {
            return Meaning::Text(value.clone());
        }
        if BUILT_IN.contains(&name) {
            return Meaning::Nothing(format!("`{name}` has no value in this event"));
        }
        if let Some(value) = self.facts.arguments.get(name) {
            return Meaning::Text(value.clone());
        }
        match self.params.get(name) {
            Some(ParamValue::Text(text)) => return Meaning::Text(text.clone()),
            Some(ParamValue::Secret { name, key }) => {
                return Meaning::Secret {
                    name: name.clone(),
                    key: key.clone(),
                };
            }
            Some(ParamValue::Unset) => {
                return Meaning::Nothing(format!(
                    "the param `{name}` has a value only where a command gives it one"
                ));
            }
            None => {}
        }
        if let Some(source) = name.strip_prefix("cel:") {
            return match self.expression(source.trim()) {
                Ok(text) => Meaning::Text(text),
                Err(failure) => Meaning::Empty(failure.message()),
            };
        }
        let root = name.split(['.', '[']).next().unwrap_or(name);
        if matches!(root, "body" | "headers" | "files") {
            return match self.expression(name) {
                Ok(text) => Meaning::Text(text),
                Err(failure) => Meaning::Nothing(failure.message()),
            };
        }
        Meaning::Nothing(format!("no variable and no param is called `{name}`"))
    }

    fn expression(&self, source: &str) -> Result<String, Failure> {
        // In a text with double quotes YAML wants those of the expression escaped.
        let value = self.evaluator.value(source).or_else(|failure| {
            if matches!(failure, Failure::Syntax(_)) && source.contains("\\\"") {
                self.evaluator.value(&source.replace("\\\"", "\""))
            } else {
                Err(failure)
            }
        })?;
        Ok(match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        })
    }
}

/// The params of this event: of several of one name the first whose filter holds, else
/// the last without a filter.
fn chosen(
    params: &[Param],
    evaluator: &Evaluator<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, ParamValue> {
    let mut filtered: BTreeMap<String, ParamValue> = BTreeMap::new();
    let mut plain = BTreeMap::new();
    for (index, param) in params.iter().enumerate() {
        let Some(filter) = &param.filter else {
            plain.insert(param.name.clone(), param.value.clone());
            continue;
        };
        match evaluator.value(filter) {
            Ok(Value::Bool(true)) => {
                filtered
                    .entry(param.name.clone())
                    .or_insert_with(|| param.value.clone());
            }
            Ok(Value::Bool(false)) | Err(Failure::NoKey(_)) => {}
            Ok(_) => problems.push(Problem::new(
                format!("repository.params[{index}].filter"),
                format!("`{filter}` is neither true nor false"),
            )),
            Err(failure) => problems.push(Problem::new(
                format!("repository.params[{index}].filter"),
                failure.message(),
            )),
        }
    }
    for (name, value) in filtered {
        plain.insert(name, value);
    }
    plain
}
