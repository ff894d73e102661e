//! What a team's `Repository` object has in its `spec`.

use penstock_reading::read::{Reader, below};
use serde_json::Value;

use super::{Provenance, Settings, expression, glob, is_built_in, one_of};

/// `params`: a value that `{{ name }}` stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) value: ParamValue,
    /// CEL; the param is there only where it is true.
    pub(crate) filter: Option<String>,
}

/// Where a param's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ParamValue {
    Text(String),
    /// A Secret of the place. Its value is never read: it becomes a reference.
    Secret {
        name: String,
        key: String,
    },
    /// A command gives it one.
    Unset,
}

/// `incoming`: who may ask for runs from outside, for what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Incoming {
    /// Globs of branches.
    pub(crate) targets: Vec<String>,
    /// Parameters that are taken over.
    pub(crate) params: Vec<String>,
}

/// `policy`: groups whose members may. None: the rule is not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Policy {
    pub(crate) ok_to_test: Option<Vec<String>>,
    pub(crate) pull_request: Option<Vec<String>>,
}

const SPEC: [&str; 6] = [
    "concurrency_limit",
    "url",
    "git_provider",
    "incoming",
    "params",
    "settings",
];
const SETTINGS: [&str; 8] = [
    "pipelinerun_provenance",
    "policy",
    "gitops_command_prefix",
    "gitlab",
    "github",
    "forgejo",
    "github_app_token_scope_repos",
    "ai",
];

pub(super) fn read(reader: &mut Reader, value: &Value, settings: &mut Settings) {
    let path = "repository";
    let Some(object) = reader.object(path, value, &SPEC) else {
        return;
    };
    for (key, value) in object {
        let path = below(path, key);
        match key.as_str() {
            "concurrency_limit" => settings.concurrency = reader.count(&path, value),
            "params" => settings.params = params(reader, &path, value),
            "incoming" => settings.incoming = incoming(reader, &path, value),
            "settings" => inner(reader, &path, value, settings),
            "url" => reader.problem(
                &path,
                "remove it: which projects a plugin is for is written in `routes`",
            ),
            "git_provider" => reader.problem(
                &path,
                "remove it: GitLab, its token and its hooks are written in the host's `gitlab`",
            ),
            _ => {}
        }
    }
}

fn inner(reader: &mut Reader, path: &str, value: &Value, settings: &mut Settings) {
    for (key, value) in reader.object(path, value, &SETTINGS).into_iter().flatten() {
        let path = below(path, key);
        match key.as_str() {
            "pipelinerun_provenance" => {
                let words = [
                    ("source", Provenance::Source),
                    ("default_branch", Provenance::DefaultBranch),
                    ("target_branch", Provenance::TargetBranch),
                ];
                if let Some(word) = one_of(reader, &path, value, &words) {
                    settings.provenance = word;
                }
            }
            "policy" => settings.policy = policy(reader, &path, value),
            "gitops_command_prefix" => {
                let word = reader.text(&path, value);
                let plain = |it: &String| {
                    it.chars()
                        .all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_')
                };
                if word.as_ref().is_some_and(|it| !plain(it)) {
                    reader.problem(&path, "must be a plain word such as `pac`, without `/`");
                }
                settings.prefix = word;
            }
            "gitlab" => {
                let known = ["comment_strategy"];
                for (name, value) in reader.object(&path, value, &known).into_iter().flatten() {
                    // There is one comment in any case: `update` is how it always is.
                    let words = [("", true), ("update", true), ("disable_all", false)];
                    if let Some(word) = one_of(reader, &below(&path, name), value, &words) {
                        settings.comments = word;
                    }
                }
            }
            "github" | "forgejo" | "github_app_token_scope_repos" => {
                reader.problem(&path, "remove it: it is not for GitLab");
            }
            "ai" => reader.problem(&path, "remove it: this plugin asks no language model"),
            _ => {}
        }
    }
}

fn policy(reader: &mut Reader, path: &str, value: &Value) -> Policy {
    let mut policy = Policy::default();
    let known = ["ok_to_test", "pull_request"];
    for (name, value) in reader.object(path, value, &known).into_iter().flatten() {
        let groups = Some(reader.texts(&below(path, name), value));
        match name.as_str() {
            "ok_to_test" => policy.ok_to_test = groups,
            "pull_request" => policy.pull_request = groups,
            _ => {}
        }
    }
    policy
}

fn items<'v>(reader: &mut Reader, path: &str, value: &'v Value) -> &'v [Value] {
    if value.as_array().is_none() {
        reader.expected(path, "a list", value);
    }
    value.as_array().map_or(&[], Vec::as_slice)
}

fn params(reader: &mut Reader, path: &str, value: &Value) -> Vec<Param> {
    let mut params = Vec::new();
    for (index, item) in items(reader, path, value).iter().enumerate() {
        let path = format!("{path}[{index}]");
        let known = ["name", "value", "secret_ref", "filter"];
        let Some(object) = reader.object(&path, item, &known) else {
            continue;
        };
        let name = object.get("name").unwrap_or(&Value::Null);
        let Some(name) = reader.text(&below(&path, "name"), name) else {
            continue;
        };
        if is_built_in(&name) {
            reader.problem(
                &below(&path, "name"),
                format!("`{name}` is a variable that every run has: choose another name"),
            );
        }
        let filter = object
            .get("filter")
            .and_then(|it| reader.text(&below(&path, "filter"), it));
        if let Some(filter) = &filter {
            expression(reader, &below(&path, "filter"), filter);
        }
        let value = match (object.get("value"), object.get("secret_ref")) {
            (Some(value), None) => match value {
                Value::String(text) => Some(ParamValue::Text(text.clone())),
                Value::Number(_) | Value::Bool(_) => Some(ParamValue::Text(value.to_string())),
                _ => {
                    reader.expected(&below(&path, "value"), "a text", value);
                    None
                }
            },
            (None, Some(secret)) => secret_ref(reader, &below(&path, "secret_ref"), secret),
            (Some(_), Some(_)) => {
                reader.problem(
                    &path,
                    "has both `value` and `secret_ref`: leave one of them out",
                );
                None
            }
            (None, None) => Some(ParamValue::Unset),
        };
        if let Some(value) = value {
            params.push(Param {
                name,
                value,
                filter,
            });
        }
    }
    params
}

fn secret_ref(reader: &mut Reader, path: &str, value: &Value) -> Option<ParamValue> {
    let object = reader.object(path, value, &["name", "key"])?;
    let name = object.get("name").unwrap_or(&Value::Null);
    let key = object.get("key").unwrap_or(&Value::Null);
    let name = reader.text(&below(path, "name"), name);
    let key = reader.text(&below(path, "key"), key);
    Some(ParamValue::Secret {
        name: name?,
        key: key?,
    })
}

fn incoming(reader: &mut Reader, path: &str, value: &Value) -> Vec<Incoming> {
    let mut rules = Vec::new();
    for (index, item) in items(reader, path, value).iter().enumerate() {
        let path = format!("{path}[{index}]");
        let known = ["type", "secret", "params", "targets"];
        let Some(object) = reader.object(&path, item, &known) else {
            continue;
        };
        if object.get("type").is_some_and(|it| it != "webhook-url") {
            reader.problem(&below(&path, "type"), "must be `webhook-url`");
        }
        if object.contains_key("secret") {
            reader.problem(
                &below(&path, "secret"),
                "remove it: the host checks who asks, and its key is written in the host's configuration",
            );
        }
        let texts = |reader: &mut Reader, name: &str| {
            let path = below(&path, name);
            object
                .get(name)
                .map_or_else(Vec::new, |it| reader.texts(&path, it))
        };
        let targets = texts(reader, "targets");
        for (index, target) in targets.iter().enumerate() {
            glob(reader, &format!("{path}.targets[{index}]"), target);
        }
        let params = texts(reader, "params");
        for (index, name) in params.iter().enumerate() {
            if is_built_in(name) {
                reader.problem(
                    &format!("{path}.params[{index}]"),
                    format!(
                        "`{name}` is a variable that every run has: nobody sets it from outside"
                    ),
                );
            }
        }
        rules.push(Incoming { targets, params });
    }
    rules
}
