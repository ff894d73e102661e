//! Builds a new manifest out of an old one, field by field along [`super::schema`].
//!
//! What is not in the table never gets into the new manifest: it is refused, with its path. Nothing is passed on unread.

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
    faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    /// Begins a walk.
    pub(super) fn new(rules: &'a Rules<'a>) -> Self {
        Self {
            rules,
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

    /// The object rebuilt; faults are noted.
    pub(super) fn object(
        &mut self,
        fields: &[Field],
        object: &Map<String, Value>,
        path: &str,
    ) -> Map<String, Value> {
        let mut rebuilt = Map::new();
        for (key, value) in object {
            // A null is what an absent field is, in Kubernetes too.
            if value.is_null() {
                continue;
            }
            let path = join(path, key);
            let Some(field) = fields.iter().find(|field| field.name == key.as_str()) else {
                self.fault(Fault::new(
                    path,
                    "the field is not on the list of what a run may have",
                    remedy(key).unwrap_or("leave it out, or check how it is spelled"),
                ));
                continue;
            };
            match self.rules.judge(field.rule, value, &path) {
                Verdict::Keep => {
                    if let Some(value) = self.value(field.shape, value, &path) {
                        rebuilt.insert(key.clone(), value);
                    }
                }
                Verdict::Replace(value) => {
                    rebuilt.insert(key.clone(), value);
                }
                Verdict::Drop => {}
                Verdict::Refuse(faults) => faults.into_iter().for_each(|fault| self.fault(fault)),
            }
        }
        rebuilt
    }

    fn value(&mut self, shape: Shape, value: &Value, path: &str) -> Option<Value> {
        match (shape, value) {
            (Shape::Object(fields), Value::Object(object)) => {
                Some(Value::Object(self.object(fields, object, path)))
            }
            (Shape::List(item), Value::Array(items)) => {
                let items = items.iter().enumerate();
                let rebuilt = items
                    .filter_map(|(n, value)| self.value(*item, value, &format!("{path}[{n}]")));
                Some(Value::Array(rebuilt.collect()))
            }
            (Shape::Map(item), Value::Object(object)) => {
                let mut rebuilt = Map::new();
                for (key, value) in object {
                    if let Some(value) = self.value(*item, value, &join(path, key)) {
                        rebuilt.insert(key.clone(), value);
                    }
                }
                Some(Value::Object(rebuilt))
            }
            (
                Shape::Scalar | Shape::Value,
                Value::String(_) | Value::Number(_) | Value::Bool(_),
            ) => Some(value.clone()),
            (Shape::Value, Value::Array(_)) => self.value(Shape::List(&Shape::Scalar), value, path),
            (Shape::Value, Value::Object(_)) => self.value(Shape::Map(&Shape::Scalar), value, path),
            _ => {
                let wanted = match shape {
                    Shape::Scalar => "text, a number or a truth value",
                    Shape::Value => "text, a list of texts or a map of texts",
                    Shape::List(_) => "a list",
                    Shape::Map(_) | Shape::Object(_) => "an object",
                };
                self.fault(Fault::new(
                    path,
                    format!("{wanted} belongs here"),
                    "write it as Tekton's documentation of PipelineRun shows it",
                ));
                None
            }
        }
    }
}

/// A path such as `manifest.spec.tasks[0]`; a key that is no plain word is quoted, and cut if it is long.
pub(super) fn join(path: &str, key: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= MAX_KEY && key.chars().all(word) {
        format!("{path}.{key}")
    } else {
        let cut: String = key
            .chars()
            .take(MAX_KEY)
            .flat_map(char::escape_default)
            .collect();
        format!("{path}[\"{cut}\"]")
    }
}
