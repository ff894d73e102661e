//! The settings of a rule that are about its run: where it comes from, what it
//! takes the place of, what it shares and which Secrets it names.

use penstock_sdk::SecretSource;
use serde_json::{Map, Value};

use super::{Cancel, Manifest};
use crate::read::{Reader, below};

pub(super) fn manifest(
    reader: &mut Reader,
    path: &str,
    rule: &Map<String, Value>,
) -> Option<Manifest> {
    match (rule.get("template"), rule.get("file")) {
        (Some(_), Some(_)) => {
            reader.problem(path, "has both `template` and `file`: keep one");
            None
        }
        (Some(Value::String(text)), None) => Some(Manifest::Text(text.clone())),
        (Some(value @ Value::Object(_)), None) => Some(Manifest::Value(value.clone())),
        (Some(other), None) => {
            reader.expected(
                &below(path, "template"),
                "a PipelineRun, as a mapping or as YAML text",
                other,
            );
            None
        }
        (None, Some(file)) => {
            let path = below(path, "file");
            let file = reader.text(&path, file)?;
            if file.starts_with('/') || file.split('/').any(|it| it == ".." || it.is_empty()) {
                reader.problem(
                    &path,
                    "must be a path in the repository, such as `.ci/build.yaml`",
                );
            }
            Some(Manifest::File(file))
        }
        (None, None) => None,
    }
}

pub(super) fn cancel(reader: &mut Reader, path: &str, value: Option<&Value>) -> Cancel {
    match value.map(Value::as_str) {
        None | Some(Some("none")) => Cancel::Nothing,
        Some(Some("superseded")) => Cancel::Superseded,
        Some(Some("earlier")) => Cancel::Earlier,
        Some(_) => {
            reader.problem(path, "must be `superseded` (runs of commits that are no longer the head), `earlier` (those of the same commit too) or `none`");
            Cancel::Nothing
        }
    }
}

pub(super) fn queue(
    reader: &mut Reader,
    path: &str,
    value: &Value,
) -> Option<(String, Option<u32>)> {
    let object = reader.object(path, value, &["name", "concurrency"])?;
    let concurrency = object
        .get("concurrency")
        .and_then(|it| reader.count(&below(path, "concurrency"), it));
    match object.get("name") {
        Some(name) => Some((reader.text(&below(path, "name"), name)?, concurrency)),
        None => {
            reader.problem(path, "must have a `name`");
            None
        }
    }
}

pub(super) fn secrets(
    reader: &mut Reader,
    path: &str,
    value: Option<&Value>,
) -> Vec<(String, SecretSource)> {
    let Some(value) = value else {
        return Vec::new();
    };
    let Some(items) = value.as_array() else {
        reader.expected(path, "a list", value);
        return Vec::new();
    };
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| secret(reader, &format!("{path}[{index}]"), item))
        .collect()
}

fn secret(reader: &mut Reader, path: &str, value: &Value) -> Option<(String, SecretSource)> {
    let object = reader.object(path, value, &["name", "clone", "reference"])?;
    let name = object
        .get("name")
        .and_then(|it| reader.text(&below(path, "name"), it));
    let source = match (object.get("clone"), object.get("reference")) {
        (Some(projects), None) => {
            SecretSource::Clone(reader.texts(&below(path, "clone"), projects))
        }
        (None, Some(reference)) => {
            SecretSource::Reference(reader.text(&below(path, "reference"), reference)?)
        }
        _ => {
            reader.problem(
                path,
                "must have either `clone` (other projects, or `[]`) or `reference`",
            );
            return None;
        }
    };
    let Some(name) = name else {
        reader.problem(path, "must have the `name` by which the template knows it");
        return None;
    };
    Some((name, source))
}
