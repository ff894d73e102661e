//! Label and field selectors.

use serde_json::Value;

use super::store::Refused;

/// Requirements that must all hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, Refused> {
        let mut selector = Self::default();
        for part in split(labels) {
            selector.labels.push(requirement(part).ok_or_else(|| {
                Refused::new(
                    400,
                    "BadRequest",
                    format!("unable to parse requirement: {part}"),
                )
            })?);
        }
        for part in fields.split(',').filter(|part| !part.is_empty()) {
            let (name, value, equal) = if let Some((name, value)) = part.split_once("!=") {
                (name, value, false)
            } else if let Some((name, value)) = part.split_once('=') {
                (name, value.trim_start_matches('='), true)
            } else {
                return Err(Refused::new(
                    400,
                    "BadRequest",
                    format!("invalid field selector: {part}"),
                ));
            };
            if !matches!(
                name,
                "metadata.name" | "metadata.namespace" | "status.phase" | "spec.nodeName"
            ) {
                return Err(Refused::new(
                    400,
                    "BadRequest",
                    format!("field label not supported: {name}"),
                ));
            }
            selector
                .fields
                .push((name.to_owned(), value.to_owned(), equal));
        }
        Ok(selector)
    }

    pub(crate) fn fits(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        let labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value))
            }
            Requirement::NotIn(key, values) => {
                !label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Missing(key) => label(key).is_none(),
        });
        labels
            && self.fields.iter().all(|(name, value, equal)| {
                let found = name.split('.').fold(object, |object, part| &object[part]);
                (found.as_str().unwrap_or_default() == value) == *equal
            })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (position, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..position].trim());
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Requirement::NotIn(
            key.trim().to_owned(),
            vec![value.trim().to_owned()],
        ));
    }
    if let Some((key, value)) = text.split_once('=') {
        return Some(Requirement::In(
            key.trim().to_owned(),
            vec![value.trim_start_matches('=').trim().to_owned()],
        ));
    }
    if let Some((head, values)) = text.split_once('(') {
        let values = values
            .strip_suffix(')')?
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let (key, word) = head.trim().split_once(' ')?;
        return match word.trim() {
            "in" => Some(Requirement::In(key.to_owned(), values)),
            "notin" => Some(Requirement::NotIn(key.to_owned(), values)),
            _ => None,
        };
    }
    match text.strip_prefix('!') {
        Some(key) => Some(Requirement::Missing(key.trim().to_owned())),
        None if text.contains(' ') => None,
        None => Some(Requirement::Exists(text.to_owned())),
    }
}
