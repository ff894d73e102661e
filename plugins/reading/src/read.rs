//! Strict reading of JSON: every mistake is collected, none stops the reading.

use penstock_sdk::Problem;
use serde_json::{Map, Value};

use crate::fault::hint;

/// Collects what is wrong while settings are read.
#[derive(Debug, Default)]
pub struct Reader {
    /// What is wrong so far, with the path of each setting.
    pub problems: Vec<Problem>,
}

impl Reader {
    /// Notes a problem of the setting at a path.
    pub fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    /// An object whose keys are all known.
    pub fn object<'v>(
        &mut self,
        path: &str,
        value: &'v Value,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.expected(path, "a mapping", value);
            return None;
        };
        for key in object.keys().filter(|it| !known.contains(&it.as_str())) {
            let message = format!("unknown setting{}", hint(key, known.iter().copied()));
            self.problem(&below(path, key), message);
        }
        Some(object)
    }

    /// A mapping from names to anything.
    pub fn mapping<'v>(&mut self, path: &str, value: &'v Value) -> Vec<(&'v str, &'v Value)> {
        match value.as_object() {
            Some(object) => object
                .iter()
                .map(|(name, it)| (name.as_str(), it))
                .collect(),
            None => {
                self.expected(path, "a mapping", value);
                Vec::new()
            }
        }
    }

    /// A text that isn't empty.
    pub fn text(&mut self, path: &str, value: &Value) -> Option<String> {
        match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::String(_) => {
                self.problem(path, "must not be empty");
                None
            }
            _ => {
                self.expected(path, "a text", value);
                None
            }
        }
    }

    /// A list of texts; one text alone stands for a list of one.
    pub fn texts(&mut self, path: &str, value: &Value) -> Vec<String> {
        match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| self.text(&format!("{path}[{index}]"), item))
                .collect(),
            _ => self.text(path, value).into_iter().collect(),
        }
    }

    /// A count of at least one.
    pub fn count(&mut self, path: &str, value: &Value) -> Option<u32> {
        let count = value.as_u64().and_then(|it| u32::try_from(it).ok());
        if count.is_none_or(|it| it == 0) {
            self.expected(path, "a whole number of at least 1", value);
            return None;
        }
        count
    }

    /// Notes that a setting has the wrong shape.
    pub fn expected(&mut self, path: &str, what: &str, value: &Value) {
        let found = match value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(it) => format!("`{it}`"),
            Value::Number(it) => format!("the number {it}"),
            Value::String(it) => format!("the text `{}`", shortened(it)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        };
        self.problem(path, format!("must be {what}, and is {found}"));
    }
}

/// The path of a key in a mapping.
pub fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// An error of CEL, without the mappings that some of them show: those can be a whole payload, and the order of their keys says nothing.
pub fn without_mappings(error: &impl ToString) -> String {
    let text = error.to_string();
    match text.split_once('{') {
        Some((before, _)) => shortened(&format!("{before}{{…")),
        None => shortened(&text),
    }
}

/// The beginning of a text that may be long.
pub fn shortened(text: &str) -> String {
    const LIMIT: usize = 120;
    if text.chars().nth(LIMIT).is_none() {
        return text.to_owned();
    }
    text.chars().take(LIMIT).chain(['…']).collect()
}
