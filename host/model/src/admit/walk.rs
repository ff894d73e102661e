//! Builds a new manifest out of an old one, field by field along [`super::schema`].
//!
//! What is not in the table never gets into the new manifest: it is refused, with its path. Nothing is passed on unread.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::rules::{Rules, Verdict};
use super::schema::{Field, Shape, remedy};

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) rule: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(
        path: impl Into<String>,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            rule: rule.into(),
            remedy: remedy.into(),
        }
    }
}

/// More than these are not told: a manifest is the guest's, and its faults could fill the store.
const MAX_FAULTS: usize = 40;

/// Longest key that is repeated to the reader.
const MAX_KEY: usize = 80;

/// A walk over one manifest.
pub(super) struct Walk<'a> {
    rules: &'a Rules<'a>,
    /// Where it is.
    path: String,
    faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    /// Begins a walk over what is called `name`.
    pub(super) fn new(rules: &'a Rules<'a>, name: &str) -> Self {
        Self {
            rules,
            path: name.to_owned(),
            faults: Vec::new(),
        }
    }

    /// What was wrong.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Notes a fault of where it is.
    fn fault_here(&mut self, rule: impl Into<String>, remedy: &str) {
        self.fault(Fault::new(self.path.as_str(), rule, remedy));
    }

    /// Goes to a key of an object, and comes back.
    fn at_key<T>(&mut self, key: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        self.at(|path| push_key(path, key), look)
    }

    fn at<T>(&mut self, step: impl FnOnce(&mut String), look: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        step(&mut self.path);
        let seen = look(self);
        self.path.truncate(length);
        seen
    }

    /// The object rebuilt; faults are noted.
    pub(super) fn object(
        &mut self,
        fields: &[Field],
        object: Map<String, Value>,
    ) -> Map<String, Value> {
        let mut rebuilt = Map::new();
        for (key, value) in object {
            // A null is what an absent field is, in Kubernetes too.
            if value.is_null() {
                continue;
            }
            if let Some(value) = self.at_key(&key, |walk| walk.field(fields, &key, value)) {
                rebuilt.insert(key, value);
            }
        }
        rebuilt
    }

    /// What one of an object's fields becomes; none: it is left out.
    fn field(&mut self, fields: &[Field], key: &str, value: Value) -> Option<Value> {
        let Some(field) = fields.iter().find(|field| field.name == key) else {
            self.fault_here(
                "the field is not on the list of what a run may have",
                remedy(key).unwrap_or("leave it out, or check how it is spelled"),
            );
            return None;
        };
        match self.rules.judge(field.rule, &value, &self.path) {
            Verdict::Keep => self.value(field.shape, value),
            Verdict::Replace(value) => Some(value),
            Verdict::Drop => None,
            Verdict::Refuse(faults) => {
                faults.into_iter().for_each(|fault| self.fault(fault));
                None
            }
        }
    }

    fn value(&mut self, shape: Shape, value: Value) -> Option<Value> {
        match (shape, value) {
            (Shape::Object(fields), Value::Object(object)) => {
                Some(Value::Object(self.object(fields, object)))
            }
            (Shape::List(item), Value::Array(items)) => {
                let items = items.into_iter().enumerate();
                let rebuilt = items.filter_map(|(n, value)| {
                    self.at(
                        |path| {
                            // Writing to text does not fail.
                            let _ = write!(path, "[{n}]");
                        },
                        |walk| walk.value(*item, value),
                    )
                });
                Some(Value::Array(rebuilt.collect()))
            }
            (Shape::Map(item), Value::Object(object)) => {
                let mut rebuilt = Map::new();
                for (key, value) in object {
                    if let Some(value) = self.at_key(&key, |walk| walk.value(*item, value)) {
                        rebuilt.insert(key, value);
                    }
                }
                Some(Value::Object(rebuilt))
            }
            (
                Shape::Scalar | Shape::Value,
                value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)),
            ) => Some(value),
            (Shape::Value, value @ Value::Array(_)) => {
                self.value(Shape::List(&Shape::Scalar), value)
            }
            (Shape::Value, value @ Value::Object(_)) => {
                self.value(Shape::Map(&Shape::Scalar), value)
            }
            _ => {
                let wanted = match shape {
                    Shape::Scalar => "text, a number or a truth value",
                    Shape::Value => "text, a list of texts or a map of texts",
                    Shape::List(_) => "a list",
                    Shape::Map(_) | Shape::Object(_) => "an object",
                };
                self.fault_here(
                    format!("{wanted} belongs here"),
                    "write it as Tekton's documentation of PipelineRun shows it",
                );
                None
            }
        }
    }
}

/// A path such as `manifest.spec.tasks[0]`; a key that is no plain word is quoted, and cut if it is long.
pub(super) fn join(path: &str, key: &str) -> String {
    let mut joined = path.to_owned();
    push_key(&mut joined, key);
    joined
}

fn push_key(path: &mut String, key: &str) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= MAX_KEY && key.chars().all(word) {
        path.push('.');
        path.push_str(key);
    } else {
        path.push_str("[\"");
        path.extend(key.chars().take(MAX_KEY).flat_map(char::escape_default));
        path.push_str("\"]");
    }
}
