//! What rules decide by: the event, and what the host is asked for when a rule
//! names it.

use std::collections::BTreeMap;

use penstock_sdk::{Event, PluginError};
use serde_json::{Map, Value, json};

use crate::event;
use crate::functions::canonical;

/// What the rules ask the host. The plugin asks it by its imports; a test answers itself.
pub trait World {
    /// The body as GitLab sent it, as JSON text; `null` where there was none.
    ///
    /// # Errors
    /// Why it is not to be had, for a person.
    fn payload(&self) -> Result<String, String>;
    /// The headers of the delivery, without credentials.
    ///
    /// # Errors
    /// Why they are not to be had, for a person.
    fn headers(&self) -> Result<Vec<(String, String)>, String>;
    /// The changed paths.
    ///
    /// # Errors
    /// Why there are none, for a person.
    fn changes(&self) -> Result<Changes, String>;
    /// The text of a file at the event's commit.
    ///
    /// # Errors
    /// A fault of the repository, or why it can't be read.
    fn file(&self, path: &str) -> Result<String, PluginError>;
}

/// Paths that a push or a merge request changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New files.
    pub added: Vec<String>,
    /// Files with another content.
    pub modified: Vec<String>,
    /// Files that are gone.
    pub deleted: Vec<String>,
    /// Files with another name: before, after.
    pub renamed: Vec<(String, String)>,
    /// GitLab gave no complete list.
    pub truncated: bool,
}

/// Where a value can be taken from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Root {
    Event,
    Body,
    Headers,
    Extensions,
    Context,
}

impl Root {
    /// All names, for hints.
    pub(crate) const NAMES: [&'static str; 6] = [
        "event",
        "body",
        "header",
        "headers",
        "extensions",
        "context",
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "event" => Self::Event,
            "body" => Self::Body,
            "header" | "headers" => Self::Headers,
            "extensions" => Self::Extensions,
            "context" => Self::Context,
            _ => return None,
        })
    }
}

/// What has to be asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) body: bool,
    pub(crate) headers: bool,
    pub(crate) changes: bool,
}

impl Needs {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            body: self.body || other.body,
            headers: self.headers || other.headers,
            changes: self.changes || other.changes,
        }
    }
}

/// Everything that rules decide by, but for `let`.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) event: Value,
    pub(crate) body: Value,
    /// By name in lower case.
    pub(crate) headers: Value,
    pub(crate) context: Value,
    /// None: no rule asks. An error says why there are none.
    pub(crate) changes: Option<Result<Value, String>>,
    /// Why there is no body, where a rule asks and the host refuses: such as for an event from a fork.
    pub(crate) no_body: Option<String>,
    /// Why there are no headers.
    pub(crate) no_headers: Option<String>,
}

impl Facts {
    pub(crate) fn gather(
        event: &Event,
        world: &dyn World,
        needs: Needs,
    ) -> Result<Self, PluginError> {
        let (mut body, mut no_body) = (Value::Null, None);
        if needs.body {
            match world.payload() {
                Ok(text) => {
                    body = serde_json::from_str(&text).map_err(|error| {
                        PluginError::Other(format!("the payload is not JSON: {error}"))
                    })?;
                }
                Err(why) => no_body = Some(why),
            }
        }
        let (mut headers, mut no_headers) = (BTreeMap::new(), None);
        if needs.headers {
            match world.headers() {
                Ok(pairs) => {
                    headers = pairs
                        .into_iter()
                        .map(|(name, value)| (name.to_ascii_lowercase(), value))
                        .collect();
                }
                Err(why) => no_headers = Some(why),
            }
        }
        Ok(Self {
            event: event::view(event),
            body,
            headers: json!(headers),
            context: json!({ "eventID": event.delivery }),
            changes: needs
                .changes
                .then(|| world.changes().map(|it| changes(&it))),
            no_body,
            no_headers,
        })
    }

    /// What a rule needs and the host refuses to give, and why. Such a rule does not match: its defaults are not for this.
    pub(crate) fn withheld(&self, needs: Needs) -> Option<String> {
        let body = self.no_body.as_ref().filter(|_| needs.body);
        let headers = self.no_headers.as_ref().filter(|_| needs.headers);
        body.map(|why| format!("the payload is not to be had: {why}"))
            .or_else(|| headers.map(|why| format!("the headers are not to be had: {why}")))
    }

    /// The value of a root. That of `extensions` belongs to a rule and is not here.
    pub(crate) fn root(&self, root: Root) -> &Value {
        match root {
            Root::Event => &self.event,
            Root::Body => &self.body,
            Root::Headers => &self.headers,
            Root::Context => &self.context,
            Root::Extensions => &Value::Null,
        }
    }

    /// Headers as the CEL interceptor of Tekton Triggers has them: canonical names, lists.
    pub(crate) fn canonical_headers(&self) -> Value {
        let named = self.headers.as_object().into_iter().flatten();
        let headers: Map<String, Value> = named
            .map(|(name, value)| (canonical(name), json!([value])))
            .collect();
        Value::Object(headers)
    }
}

fn changes(changes: &Changes) -> Value {
    let renamed_after = changes.renamed.iter().map(|(_, after)| after);
    let renamed_before = changes.renamed.iter().map(|(before, _)| before);
    let mut all: Vec<&String> = changes
        .added
        .iter()
        .chain(&changes.modified)
        .chain(&changes.deleted)
        .chain(renamed_after.clone())
        .chain(renamed_before)
        .collect();
    all.sort();
    all.dedup();
    json!({
        "all": all,
        "added": changes.added,
        "modified": changes.modified,
        "deleted": changes.deleted,
        "renamed": renamed_after.collect::<Vec<_>>(),
        "truncated": changes.truncated,
    })
}
