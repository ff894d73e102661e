//! Where a catalog has its tasks and pipelines.

use std::collections::BTreeMap;

use penstock_reading::read::Reader;
use serde_json::Value;

/// A catalog that is reached by `fetch`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hub {
    /// With `{kind}`, `{name}` and `{version}`; where no version is asked for, the
    /// path's part that holds `{version}` is left out.
    url: String,
    /// Where in a JSON answer the YAML stands; none: the answer is YAML.
    pub(crate) pointer: Option<String>,
}

/// Name of the catalog that a reference without one means.
pub(crate) const DEFAULT: &str = "artifacthub";

impl Hub {
    /// The public catalogs. They are asked only where the plugin is granted their hosts.
    pub(crate) fn known() -> BTreeMap<String, Self> {
        let artifact = Self {
            url: "https://artifacthub.io/api/v1/packages/tekton-{kind}/tekton-catalog-{kind}s/{name}/{version}"
                .to_owned(),
            pointer: Some("/data/manifestRaw".to_owned()),
        };
        let tekton = Self {
            url: "https://api.hub.tekton.dev/v1/resource/tekton/{kind}/{name}/{version}/raw"
                .to_owned(),
            pointer: None,
        };
        [
            (DEFAULT.to_owned(), artifact),
            ("tektonhub".to_owned(), tekton),
        ]
        .into_iter()
        .collect()
    }

    pub(super) fn read(reader: &mut Reader, path: &str, value: &Value) -> Option<Self> {
        let object = reader.object(path, value, &["url", "pointer"])?;
        let url = object.get("url").cloned().unwrap_or(Value::Null);
        let url = reader.text(&format!("{path}.url"), &url)?;
        if !url.starts_with("https://") || !url.contains("{name}") {
            reader.problem(
                &format!("{path}.url"),
                "must begin with `https://` and hold `{name}`; `{kind}` and `{version}` are filled in too",
            );
        }
        let pointer = object
            .get("pointer")
            .and_then(|it| reader.text(&format!("{path}.pointer"), it));
        if pointer.as_ref().is_some_and(|it| !it.starts_with('/')) {
            reader.problem(
                &format!("{path}.pointer"),
                "must be a JSON pointer, such as `/data/manifestRaw`",
            );
        }
        Some(Self { url, pointer })
    }

    /// The address of a task or pipeline.
    pub(crate) fn address(&self, kind: &str, name: &str, version: Option<&str>) -> String {
        let url: Vec<&str> = self
            .url
            .split('/')
            .filter(|part| version.is_some() || !part.contains("{version}"))
            .collect();
        url.join("/")
            .replace("{kind}", kind)
            .replace("{name}", name)
            .replace("{version}", version.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_nobody_asked_for_leaves_no_trace() {
        let hubs = Hub::known();
        let hub = &hubs[DEFAULT];
        assert_eq!(
            hub.address("task", "git-clone", Some("0.9.0")),
            "https://artifacthub.io/api/v1/packages/tekton-task/tekton-catalog-tasks/git-clone/0.9.0"
        );
        assert_eq!(
            hub.address("pipeline", "build", None),
            "https://artifacthub.io/api/v1/packages/tekton-pipeline/tekton-catalog-pipelines/build"
        );
    }
}
