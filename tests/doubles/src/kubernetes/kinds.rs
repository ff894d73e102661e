//! The kinds that the stand-in stores.

use serde_json::{Value, json};

/// One kind and where it is served.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
}

const fn of(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        plural,
        kind,
        namespaced: true,
    }
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        group: "",
        version: "v1",
        plural: "namespaces",
        kind: "Namespace",
        namespaced: false,
    },
    of("", "v1", "serviceaccounts", "ServiceAccount"),
    of("", "v1", "configmaps", "ConfigMap"),
    of("", "v1", "secrets", "Secret"),
    of("", "v1", "events", "Event"),
    of("", "v1", "pods", "Pod"),
    of("coordination.k8s.io", "v1", "leases", "Lease"),
    of("tekton.dev", "v1", "pipelineruns", "PipelineRun"),
    of("tekton.dev", "v1", "taskruns", "TaskRun"),
    of("tekton.dev", "v1", "pipelines", "Pipeline"),
    of("tekton.dev", "v1", "tasks", "Task"),
    of("tekton.dev", "v1beta1", "customruns", "CustomRun"),
];

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<usize> {
        KINDS.iter().position(|kind| {
            kind.group == group && kind.version == version && kind.plural == plural
        })
    }

    /// By plural alone, which is unique here.
    pub(crate) fn named(plural: &str) -> usize {
        KINDS
            .iter()
            .position(|kind| kind.plural == plural)
            .expect("a kind of the table")
    }
}

/// `/api`, `/apis` and the lists of resources under them.
pub(crate) fn discovery(path: &[&str]) -> Option<Value> {
    let resources = |group: &str, version: &str| {
        let here = KINDS
            .iter()
            .filter(|kind| kind.group == group && kind.version == version);
        let rows: Vec<Value> = here
            .map(|kind| {
                json!({
                    "name": kind.plural,
                    "singularName": kind.kind.to_lowercase(),
                    "namespaced": kind.namespaced,
                    "kind": kind.kind,
                    "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
                })
            })
            .collect();
        let name = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        (!rows.is_empty())
            .then(|| json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": rows }))
    };
    match path {
        ["api"] => Some(
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ),
        ["api", version] => resources("", version),
        ["apis"] => {
            let mut groups: Vec<Value> = Vec::new();
            for name in ["coordination.k8s.io", "tekton.dev", "authorization.k8s.io"] {
                let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
                groups.push(
                    json!({ "name": name, "versions": [version], "preferredVersion": version }),
                );
            }
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", group, version] => resources(group, version),
        _ => None,
    }
}
