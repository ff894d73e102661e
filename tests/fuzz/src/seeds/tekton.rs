//! A folder of the corpus of `pipelines-as-code`, written as an input of its target.

use std::path::Path;

use serde_json::Value;

use crate::tekton::BETWEEN;

/// Settings, payload, comment and files, as `given.yaml` and the folder have them.
pub(crate) fn written(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("given.yaml")).unwrap();
    let given = penstock_reading::yaml::parse(&text).unwrap();
    let part = |name: &str| given.get(name).map_or_else(String::new, Value::to_string);
    let mut parts = vec![part("settings"), part("payload"), comment(&given)];
    for name in ["elsewhere", "web"] {
        let files = given.get(name).and_then(Value::as_object);
        for (path, text) in files.into_iter().flatten() {
            parts.push(format!("{path}\n{}", text.as_str().unwrap()));
        }
    }
    let mut files = Vec::new();
    read(folder, folder, &mut files);
    files.sort();
    parts.extend(files);
    parts.join(&BETWEEN.to_string())
}

/// The first comment of its events, or one that asks for much.
fn comment(given: &Value) -> String {
    let mut events = given["events"].as_array().unwrap().iter();
    let found = events.find_map(|it| {
        it.pointer("/note/text")
            .or_else(|| it.get("commit-note"))
            .and_then(Value::as_str)
    });
    found
        .unwrap_or("/test unit version=\"1 2\"\n/retest branch:main")
        .to_owned()
}

fn read(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.file_name().unwrap() != "given.yaml" {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            files.push(format!("{name}\n{text}"));
        }
    }
}
