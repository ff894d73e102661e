//! The plugin's settings, as JSON from the host into the author's type.
//!
//! The host has written them anew from YAML, so a line of the JSON means nothing
//! to an operator: problems name the path of the setting instead.

use serde::de::DeserializeOwned;

use crate::contract::penstock::plugin::config;
use crate::{PluginError, Problem};

/// The schema of a plugin without settings.
pub const NONE_SCHEMA: &str = r#"{"type":"object","additionalProperties":false}"#;

/// The settings of this call, as `validate` accepted them.
///
/// # Errors
/// [`PluginError::Settings`] if they are not what `T` expects.
pub fn load<T: DeserializeOwned>() -> Result<T, PluginError> {
    parse(&config::settings()).map_err(|problem| PluginError::Settings(vec![problem]))
}

/// Reads settings from JSON text.
///
/// # Errors
/// The first problem, with the path of the setting.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        Problem::new(
            if path == "." { String::new() } else { path },
            without_place(error.inner()),
        )
    })
}

/// The problems that keep `T` from being read: for [`Trigger::validate`](crate::Trigger::validate).
#[must_use]
pub fn check<T: DeserializeOwned>(json: &str) -> Vec<Problem> {
    parse::<T>(json).err().into_iter().collect()
}

/// A problem for each setting of a plugin that has none.
#[must_use]
pub fn check_none(json: &str) -> Vec<Problem> {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Null) => Vec::new(),
        Ok(serde_json::Value::Object(settings)) => settings
            .keys()
            .map(|name| Problem::new(name, "this plugin has no settings: remove it"))
            .collect(),
        _ => vec![Problem::new("", "this plugin has no settings: remove them")],
    }
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rules {
        rules: Vec<Rule>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        name: String,
    }

    #[test]
    fn a_problem_names_the_path_of_the_setting() {
        let problem = parse::<Rules>(r#"{"rules": [{"name": "a"}, {"name": 3}]}"#).unwrap_err();
        assert_eq!(problem.path, "rules[1].name");
        assert_eq!(
            problem.message,
            "invalid type: integer `3`, expected a string"
        );
        assert_eq!(problem.line, None);
    }

    #[test]
    fn a_plugin_without_settings_accepts_none_alone() {
        assert_eq!(check_none("{}"), []);
        assert_eq!(check_none("null"), []);
        let problems = check_none(r#"{"a": 1, "b": 2}"#);
        let paths: Vec<_> = problems.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["a", "b"]);
        assert_eq!(check_none("[]").len(), 1);
    }
}
