//! Puts values in the place of marks: in texts of the parsed document alone.

use penstock_sdk::Problem;
use serde_json::{Map, Value, json};

use crate::placeholder::{Piece, Placeholders, is_marked, pieces};
use crate::variables::{Meaning, Variables};

/// Name of the clone Secret in a manifest; the host replaces it by the real one.
pub(crate) const CLONE_SECRET: &str = "pac-gitauth";

/// Fields of a Pod, a Task or a PipelineRun that hold a number or a bool. A value
/// without quotes becomes one there, as it does in Pipelines-as-Code.
const NO_TEXT: [&str; 16] = [
    "allowPrivilegeEscalation",
    "containerPort",
    "defaultMode",
    "fsGroup",
    "initialDelaySeconds",
    "mode",
    "optional",
    "periodSeconds",
    "port",
    "privileged",
    "readOnly",
    "readOnlyRootFilesystem",
    "retries",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
];

/// Fills documents and collects what is to be said about it.
pub(crate) struct Filler<'a> {
    pub(crate) placeholders: &'a Placeholders,
    pub(crate) variables: &'a Variables<'a>,
    pub(crate) namespace: &'a dyn Fn() -> Result<String, String>,
    /// Placeholders that stay, each once.
    pub(crate) warnings: Vec<Problem>,
    /// Why the run can't be made.
    pub(crate) problems: Vec<Problem>,
    /// The clone Secret is named.
    pub(crate) clones: bool,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(
        placeholders: &'a Placeholders,
        variables: &'a Variables<'a>,
        namespace: &'a dyn Fn() -> Result<String, String>,
    ) -> Self {
        Self {
            placeholders,
            variables,
            namespace,
            warnings: Vec::new(),
            problems: Vec::new(),
            clones: false,
        }
    }

    /// A value with everything filled in.
    pub(crate) fn fill(&mut self, value: &Value) -> Value {
        self.within("", value)
    }

    fn within(&mut self, key: &str, value: &Value) -> Value {
        match value {
            Value::String(text) if is_marked(text) => self.text_or_number(key, text),
            Value::Array(items) => items
                .iter()
                .map(|item| match (key, item) {
                    ("env", Value::Object(entry)) => self.environment(entry),
                    _ => self.within(key, item),
                })
                .collect(),
            Value::Object(entries) => Value::Object(self.object(entries)),
            other => other.clone(),
        }
    }

    fn object(&mut self, entries: &Map<String, Value>) -> Map<String, Value> {
        let mut filled = Map::new();
        for (key, value) in entries {
            if let Some(Piece::Mark(number)) = pieces(key)
                .into_iter()
                .find(|it| matches!(it, Piece::Mark(_)))
            {
                self.problem(
                    number,
                    "stands in a key: values are put in values alone, so that none can add a field",
                );
                continue;
            }
            filled.insert(key.clone(), self.within(key, value));
        }
        filled
    }

    /// An entry of `env`: the one place where a Secret may stand for a value.
    fn environment(&mut self, entry: &Map<String, Value>) -> Value {
        let whole = entry.get("value").and_then(Value::as_str).map(pieces);
        if let Some([Piece::Mark(number)]) = whole.as_deref()
            && let Some(Meaning::Secret { name, key }) = self.meaning(*number)
        {
            let mut entry = self.object(
                &entry
                    .iter()
                    .filter(|(key, _)| *key != "value")
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect(),
            );
            entry.insert(
                "valueFrom".to_owned(),
                json!({ "secretKeyRef": { "name": name, "key": key } }),
            );
            return Value::Object(entry);
        }
        Value::Object(self.object(entry))
    }

    fn text_or_number(&mut self, key: &str, text: &str) -> Value {
        let plain = match pieces(text).as_slice() {
            [Piece::Mark(number)] => self.placeholders.get(*number).is_some_and(|it| it.plain),
            _ => false,
        };
        let filled = self.text(text);
        if plain && NO_TEXT.contains(&key) {
            if let Ok(number) = filled.parse::<i64>() {
                return number.into();
            }
            if let Ok(flag) = filled.parse::<bool>() {
                return flag.into();
            }
        }
        filled.into()
    }

    /// A text with everything filled in; what a value holds is not looked at again.
    pub(crate) fn text(&mut self, text: &str) -> String {
        self.text_by(text, &|value| value)
    }

    /// The same, with each value written as `bend` says.
    pub(crate) fn text_by(&mut self, text: &str, bend: &dyn Fn(String) -> String) -> String {
        let mut filled = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Mark(number) => filled.push_str(&bend(self.value(number))),
            }
        }
        filled
    }

    fn meaning(&self, number: usize) -> Option<Meaning> {
        let placeholder = self.placeholders.get(number)?;
        Some(self.variables.meaning(&placeholder.name, self.namespace))
    }

    fn value(&mut self, number: usize) -> String {
        match self.meaning(number) {
            Some(Meaning::Text(text)) => text,
            Some(Meaning::CloneSecret) => {
                self.clones = true;
                CLONE_SECRET.to_owned()
            }
            Some(Meaning::Secret { name, .. }) => {
                let message = format!(
                    "is the Secret `{name}`, and a secret is never written into a run: let it be the whole `value` of an entry of `env`"
                );
                self.problem(number, &message);
                String::new()
            }
            Some(Meaning::Nothing(why)) => {
                self.warning(number, &format!("stays as it is: {why}"));
                let placeholder = self.placeholders.get(number);
                placeholder.map_or_else(String::new, |it| it.raw.clone())
            }
            Some(Meaning::Empty(why)) => {
                self.warning(number, &format!("becomes an empty text: {why}"));
                String::new()
            }
            None => String::new(),
        }
    }

    fn said(&self, number: usize, message: &str) -> Option<Problem> {
        let it = self.placeholders.get(number)?;
        Some(Problem::new(&it.file, format!("`{}` {message}", it.raw)).at(it.line, it.column))
    }

    fn warning(&mut self, number: usize, message: &str) {
        if let Some(said) = self
            .said(number, message)
            .filter(|it| !self.warnings.contains(it))
        {
            self.warnings.push(said);
        }
    }

    fn problem(&mut self, number: usize, message: &str) {
        if let Some(said) = self
            .said(number, message)
            .filter(|it| !self.problems.contains(it))
        {
            self.problems.push(said);
        }
    }
}
