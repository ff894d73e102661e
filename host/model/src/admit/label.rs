//! Labels and annotations of a run: the ones the host writes, and the ones nobody else may.

use super::walk::Fault;

/// Label: `penstock` on every run of the host's; what the watch of a cluster selects by.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "penstock";
/// Label: the first 40 digits of the effect's id.
pub const EFFECT: &str = "penstock.dev/effect";
/// Label: the GitLab instance.
pub const INSTANCE: &str = "penstock.dev/instance";
/// Label: GitLab's id of the project.
pub const PROJECT_ID: &str = "penstock.dev/project-id";
/// Label: what kind of run it is.
pub const PIPELINE: &str = "penstock.dev/pipeline";
/// Label: number of the merge request.
pub const MERGE_REQUEST: &str = "penstock.dev/merge-request";
/// Label, cut after 40 digits, and annotation, whole: the commit.
pub const COMMIT: &str = "penstock.dev/commit";
/// Annotation: all 64 digits of the effect's id.
pub const EFFECT_ID: &str = "penstock.dev/effect-id";
/// Annotation: [`super::manifest_digest`] of the manifest.
pub const MANIFEST_DIGEST: &str = "penstock.dev/manifest-digest";
/// Annotation: the delivery.
pub const DELIVERY: &str = "penstock.dev/delivery";
/// Annotation: the delivery's page at the host.
pub const DELIVERY_URL: &str = "penstock.dev/delivery-url";
/// Annotation: the route.
pub const ROUTE: &str = "penstock.dev/route";
/// Annotation: the plugin.
pub const PLUGIN: &str = "penstock.dev/plugin";
/// Annotation: digest of the plugin's bytes.
pub const PLUGIN_DIGEST: &str = "penstock.dev/plugin-digest";
/// Annotation: path of the project.
pub const PROJECT: &str = "penstock.dev/project";
/// Annotation: full name of the ref.
pub const REF: &str = "penstock.dev/ref";
/// Annotation: how far the event was trusted.
pub const TRUST: &str = "penstock.dev/trust";

/// Digits of an effect's id in the label [`EFFECT`]: a label holds 63 characters, the id has 64.
pub const EFFECT_DIGITS: usize = 40;

/// Descriptions that Tekton's catalog puts on tasks. They say something to people and nothing to a controller.
const DESCRIPTIONS: &[&str] = &[
    "tekton.dev/categories",
    "tekton.dev/deprecated",
    "tekton.dev/displayName",
    "tekton.dev/pipelines.minVersion",
    "tekton.dev/platforms",
    "tekton.dev/tags",
];

/// Which of the two maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Labels,
    Annotations,
}

/// Refuses a key that others than the author own, whatever the place's policy says. `path` is the key's.
pub(super) fn reserved(key: &str, path: &str, on: On) -> Option<Fault> {
    let owner = owner(key, on)?;
    Some(Fault::new(
        path,
        format!("keys of this prefix are {owner}'s own"),
        "leave it out, or write it under a prefix of your own",
    ))
}

fn owner(key: &str, on: On) -> Option<&'static str> {
    let key = key.trim().to_ascii_lowercase();
    let (prefix, _) = key.split_once('/')?;
    let of = |domain: &str| {
        prefix
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let described =
        on == On::Annotations && DESCRIPTIONS.iter().any(|it| it.eq_ignore_ascii_case(&key));
    if of("penstock.dev") {
        Some("Penstock")
    } else if of("chains.tekton.dev") {
        Some("Tekton Chains")
    } else if prefix == "tekton.dev" && !described {
        Some("Tekton")
    } else if (of("kubernetes.io") || of("k8s.io"))
        && prefix != "app.kubernetes.io"
        && key != "cluster-autoscaler.kubernetes.io/safe-to-evict"
    {
        Some("Kubernetes")
    } else {
        None
    }
}

/// A text as a label's value: at most 63 of `A-Z a-z 0-9 - _ .`, a letter or digit at both ends. It is for finding, the whole text stands
/// in an annotation.
pub(super) fn value(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let bent: String = text
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    let edge = |c: char| !c.is_ascii_alphanumeric();
    let cut: String = bent.trim_start_matches(edge).chars().take(63).collect();
    cut.trim_end_matches(edge).to_owned()
}

/// What kind of run it is, as a plugin may name it: a label's value of 63 characters at most.
pub(super) fn is_value(text: &str) -> bool {
    !text.is_empty() && value(text) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_value_that_kubernetes_takes() {
        for (text, expect) in [
            ("main", "main"),
            ("feature/ä b", "feature---b"),
            ("-_.", ""),
            ("/refs/", "refs"),
        ] {
            assert_eq!(value(text), expect);
        }
        let long = value(&format!("{}-x", "a".repeat(62)));
        assert_eq!(long, "a".repeat(62));
    }

    #[test]
    fn a_reserved_prefix_is_known_in_any_spelling_and_others_are_free() {
        let owned = |key: &str| owner(key, On::Labels).is_some();
        for key in [
            "penstock.dev/effect",
            "PENSTOCK.dev/x",
            "a.penstock.dev/x",
            "chains.tekton.dev/signed",
            "tekton.dev/pipeline",
            "kubernetes.io/x",
            "kubectl.kubernetes.io/last-applied-configuration",
            "container.apparmor.security.beta.kubernetes.io/step-x",
            "node.k8s.io/x",
        ] {
            assert!(owned(key), "{key}");
        }
        for key in [
            "app",
            "example.com/team",
            "notpenstock.dev/x",
            "app.kubernetes.io/version",
            "pipelinesascode.tekton.dev/on-event",
            "cluster-autoscaler.kubernetes.io/safe-to-evict",
        ] {
            assert!(!owned(key), "{key}");
        }
        assert!(owner("tekton.dev/tags", On::Annotations).is_none());
        assert!(owned("tekton.dev/tags"));
    }
}
