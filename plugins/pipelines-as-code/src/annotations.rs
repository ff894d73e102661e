//! The annotations of a PipelineRun that say when it runs and what it needs.

use penstock_reading::fault::nearest;
use serde_json::Value;

/// Prefix of every key of Pipelines-as-Code.
pub(crate) const GROUP: &str = "pipelinesascode.tekton.dev/";

/// Annotations that people write.
pub(crate) const WRITTEN: [&str; 12] = [
    "on-event",
    "on-target-branch",
    "on-path-change",
    "on-path-change-ignore",
    "on-label",
    "on-comment",
    "on-cel-expression",
    "target-namespace",
    "max-keep-runs",
    "cancel-in-progress",
    "task",
    "pipeline",
];

/// Annotations and labels that Pipelines-as-Code writes itself: in a file they mean nothing.
pub(crate) const GENERATED: [&str; 27] = [
    "branch",
    "check-run-id",
    "controller-info",
    "event-type",
    "execution-order",
    "ghe-url",
    "git-auth-secret",
    "git-provider",
    "installation-id",
    "log-url",
    "original-prname",
    "pull-request",
    "repo-url",
    "repository",
    "scm-reporting-plr-started",
    "sender",
    "sha",
    "sha-title",
    "sha-url",
    "source-branch",
    "source-project-id",
    "source-repo-url",
    "state",
    "status-comment-id",
    "target-project-id",
    "url-org",
    "url-repository",
];

/// The value of an annotation of Pipelines-as-Code, as text. A list that was not put
/// in quotes is written anew as one: its documents show it that way.
pub(crate) fn value(document: &Value, name: &str) -> Option<String> {
    let annotations = document.pointer("/metadata/annotations")?.as_object()?;
    let found = annotations.get(&format!("{GROUP}{name}"))?;
    Some(match found {
        Value::String(text) => text.trim().to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            format!("[{}]", items.join(", "))
        }
        other => scalar(other),
    })
}

fn scalar(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The values of a list: `[a, b]`, or one value without brackets. `&#44;` is a comma.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn list(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    let items: Vec<String> = match text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        Some(inside) => inside.split(',').map(item).collect(),
        None if text.contains(['[', ']']) || text.contains(char::is_whitespace) => {
            return Err(format!(
                "`{text}` is neither one value nor a list such as `[a, b]`"
            ));
        }
        None => vec![item(text)],
    };
    if items.iter().any(String::is_empty) {
        return Err(format!("`{text}` has an empty value"));
    }
    Ok(items)
}

fn item(text: &str) -> String {
    let text = text.trim().replace("&#44;", ",");
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    unquoted.map_or_else(|| text.clone(), str::to_owned)
}

/// References to remote tasks, in order: those of `task`, `task-1`, `task-2`…
///
/// # Errors
/// The annotation, and what is wrong with it.
pub(crate) fn tasks(document: &Value) -> Result<Vec<(String, String)>, (String, String)> {
    let mut names: Vec<(u32, String)> = keys(document)
        .into_iter()
        .filter_map(|name| {
            let number = match name.strip_prefix("task") {
                Some("") => Some(0),
                Some(rest) => rest.strip_prefix('-')?.parse::<u32>().ok().map(|it| it + 1),
                None => None,
            };
            number.map(|number| (number, name))
        })
        .collect();
    names.sort();
    let mut found = Vec::new();
    for (_, name) in names {
        let text = value(document, &name).unwrap_or_default();
        let items = list(&text).map_err(|why| (name.clone(), why))?;
        found.extend(items.into_iter().map(|it| (name.clone(), it)));
    }
    Ok(found)
}

/// Names of the annotations of Pipelines-as-Code, without the prefix.
pub(crate) fn keys(document: &Value) -> Vec<String> {
    let annotations = document
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    annotations
        .into_iter()
        .flat_map(|it| it.keys())
        .filter_map(|key| key.strip_prefix(GROUP))
        .map(str::to_owned)
        .collect()
}

/// Annotations that nobody reads, each with what is wrong with it.
pub(crate) fn unknown(document: &Value) -> Vec<(String, String)> {
    let is_task = |name: &str| {
        name.strip_prefix("task-")
            .is_some_and(|it| it.parse::<u32>().is_ok())
    };
    keys(document)
        .into_iter()
        .filter(|name| !WRITTEN.contains(&name.as_str()) && !is_task(name))
        .map(|name| {
            let why = if GENERATED.contains(&name.as_str()) {
                format!("`{GROUP}{name}` is written by the host that starts a run; in a file it means nothing")
            } else {
                let hint = nearest(&name, WRITTEN)
                    .map_or_else(String::new, |it| format!(": did you mean `{GROUP}{it}`?"));
                format!("no annotation is called `{GROUP}{name}`{hint}")
            };
            (name, why)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_read_as_pipelines_as_code_reads_them() {
        let check = |text: &str, expect: &[&str]| assert_eq!(list(text).unwrap(), expect, "{text}");
        check("[main, release-*]", &["main", "release-*"]);
        check("main", &["main"]);
        check("[main, release&#44;nightly]", &["main", "release,nightly"]);
        check(r#"["git-clone", "pylint"]"#, &["git-clone", "pylint"]);
        for wrong in ["[]", "[a,]", "a b", "[a"] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_without_quotes_is_a_list_too() {
        let document = json!({ "metadata": { "annotations": {
            "pipelinesascode.tekton.dev/on-target-branch": ["main", "release"],
            "pipelinesascode.tekton.dev/max-keep-runs": 3,
        } } });
        assert_eq!(
            value(&document, "on-target-branch").as_deref(),
            Some("[main, release]")
        );
        assert_eq!(value(&document, "max-keep-runs").as_deref(), Some("3"));
        assert_eq!(value(&document, "on-event"), None);
    }

    #[test]
    fn tasks_come_in_the_order_of_their_numbers() {
        let document = json!({ "metadata": { "annotations": {
            "pipelinesascode.tekton.dev/task-10": "c",
            "pipelinesascode.tekton.dev/task-2": "b",
            "pipelinesascode.tekton.dev/task": "[a, d]",
        } } });
        let found: Vec<_> = tasks(&document)
            .unwrap()
            .into_iter()
            .map(|it| it.1)
            .collect();
        assert_eq!(found, ["a", "d", "b", "c"]);
    }

    #[test]
    fn a_misspelt_annotation_is_named_with_the_one_that_was_meant() {
        let document = json!({ "metadata": { "annotations": {
            "pipelinesascode.tekton.dev/on-evnt": "push",
            "pipelinesascode.tekton.dev/task-1": "a",
            "pipelinesascode.tekton.dev/sha": "a",
            "other/x": "y",
        } } });
        let found = unknown(&document);
        assert_eq!(found.len(), 2);
        assert!(
            found[0]
                .1
                .contains("did you mean `pipelinesascode.tekton.dev/on-event`?"),
            "{found:?}"
        );
        assert!(found[1].1.contains("means nothing"), "{found:?}");
    }
}
