//! References to tasks, step actions and pipelines that lie elsewhere.
//!
//! Tekton's resolvers fetch with Tekton's own identity, and what they fetch is not seen here: an operator who allows a resolver trusts
//! what it can reach. In a place for protected refs every such reference must name bytes that can't change.

use serde_json::Value;

use super::rules::{Rules, shown, variable};
use super::walk::{Fault, join};
use crate::id::{CommitId, Digest};
use crate::tenant::When;

/// Parameters of the resolvers that name a Secret.
const SECRETS: &[(&str, &[&str])] = &[
    ("git", &["token", "gitToken"]),
    ("bundles", &["secret"]),
    ("http", &["http-password-secret"]),
];

/// Judges a `pipelineRef`, a `taskRef` or a step's `ref`.
pub(super) fn judge(rules: &Rules<'_>, reference: &Value, path: &str) -> Vec<Fault> {
    let mut faults = local(reference, path);
    let Some(resolver) = reference.get("resolver").filter(|it| !it.is_null()) else {
        return faults;
    };
    let at = join(path, "resolver");
    if rules.place.when == When::Fork {
        faults.push(rules.never(&at, "a remote resolver"));
        return faults;
    }
    let name = resolver.as_str().unwrap_or_default();
    let known = rules.policy().resolvers.iter().any(|it| it == name);
    let unlisted = rules.listed(known, &at, "the resolver", resolver, "resolvers");
    if !unlisted.is_empty() {
        faults.extend(unlisted);
        return faults;
    }
    faults.extend(secrets(rules, name, reference, path));
    if rules.place.when == When::Protected {
        faults.extend(pinned(rules, name, reference, path));
    }
    faults
}

/// What stands in the namespace: a plain name, and Tekton's own kinds.
fn local(reference: &Value, path: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let name = reference.get("name").and_then(Value::as_str);
    if let Some(name) = name
        && name.contains([':', '/', '@'])
    {
        faults.push(Fault::new(
            join(path, "name"),
            format!("{} is an address, not a name", shown(&Value::from(name))),
            "write `resolver` and `params` for what lies elsewhere",
        ));
    }
    let version = reference.get("apiVersion").filter(|it| !it.is_null());
    if version.is_some_and(|it| {
        !matches!(
            it.as_str(),
            Some("" | "tekton.dev/v1" | "tekton.dev/v1beta1")
        )
    }) {
        faults.push(custom(join(path, "apiVersion")));
    }
    let kind = reference.get("kind").filter(|it| !it.is_null());
    if kind.is_some_and(|it| !matches!(it.as_str(), Some("" | "Task" | "Pipeline" | "StepAction")))
    {
        faults.push(custom(join(path, "kind")));
    }
    faults
}

fn custom(path: String) -> Fault {
    Fault::new(
        path,
        "custom tasks run with the rights of another controller and are not built yet in this release",
        "refer to a `Task` of `tekton.dev/v1`",
    )
}

/// Every value of the parameter, with its path; the same one may stand there twice.
fn params<'v>(reference: &'v Value, path: &str, name: &str) -> Vec<(String, &'v Value)> {
    let list = reference.get("params").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, param)| param.get("name").and_then(Value::as_str) == Some(name))
        .map(|(n, param)| {
            (
                format!("{path}.params[{n}].value"),
                param.get("value").unwrap_or(&Value::Null),
            )
        })
        .collect()
}

fn secrets(rules: &Rules<'_>, resolver: &str, reference: &Value, path: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let names = SECRETS
        .iter()
        .filter(|(of, _)| *of == resolver)
        .flat_map(|(_, names)| *names);
    for name in names {
        for (path, value) in params(reference, path, name) {
            faults.extend(rules.secret(value, &path));
        }
    }
    if resolver == "bundles" {
        for (path, value) in params(reference, path, "serviceAccount") {
            let own = |name: &str| {
                name == rules.place.run_as
                    || rules.policy().service_accounts.iter().any(|it| it == name)
            };
            let known = value.as_str().is_some_and(own);
            faults.extend(rules.listed(
                known,
                &path,
                "the service account",
                value,
                "service-accounts",
            ));
        }
    }
    faults
}

/// The reference names bytes that can't change: a bundle by its digest, a git revision that is a full commit.
fn pinned(rules: &Rules<'_>, resolver: &str, reference: &Value, path: &str) -> Vec<Fault> {
    let place = &rules.place.name;
    let (name, what, remedy) = match resolver {
        "git" => (
            "revision",
            "a full commit",
            "write the commit's 40 digits as the param `revision`",
        ),
        "bundles" => (
            "bundle",
            "an image with its digest",
            "write `registry/name@sha256:…` as the param `bundle`",
        ),
        _ => {
            return vec![Fault::new(
                join(path, "resolver"),
                format!(
                    "place `{place}` is for protected refs, and a `{resolver}` reference can change under it"
                ),
                "use the resolver `git` with a full commit or `bundles` with a digest, or write the task into the manifest",
            )];
        }
    };
    let found = params(reference, path, name);
    if found.is_empty() {
        return vec![Fault::new(
            join(path, "params"),
            format!(
                "place `{place}` is for protected refs: a `{resolver}` reference must name {what}"
            ),
            remedy,
        )];
    }
    let mut faults = Vec::new();
    for (path, value) in found {
        let fixed = value.as_str().is_some_and(|text| match resolver {
            "git" => CommitId::parse(text).is_ok(),
            _ => text
                .rsplit_once('@')
                .is_some_and(|(_, digest)| Digest::parse(digest).is_ok()),
        });
        if let Some(fault) = variable(value, &path) {
            faults.push(fault);
        } else if !fixed {
            faults.push(Fault::new(
                path,
                format!(
                    "place `{place}` is for protected refs: {} is not {what}",
                    shown(value)
                ),
                remedy,
            ));
        }
    }
    faults
}
