//! What the API server itself wrote down: who created which run, and how often.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// PipelineRuns that were created in a namespace: by name, the accounts that did, one for each creation that succeeded.
///
/// # Panics
/// If the log can't be read.
#[must_use]
pub fn creations(log: &Path, namespace: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(log).expect("an audit log");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // A line that is being written is not whole yet; the caller looks again.
    let events = text
        .lines()
        .filter(|line| line.contains(namespace))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for event in events {
        let object = &event["objectRef"];
        let is_one = event["verb"] == "create"
            && object["resource"] == "pipelineruns"
            && object["namespace"] == namespace
            && event["responseStatus"]["code"] == 201;
        if is_one {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            found
                .entry(text(&object["name"]))
                .or_default()
                .push(text(&event["user"]["username"]));
        }
    }
    found
}
