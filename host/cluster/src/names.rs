//! Labels and annotations by which runs are found again, and the paths of Tekton's API.

pub use penstock_model::admit::label::{
    EFFECT_ID as EFFECT_ANNOTATION, MANAGED_BY as MANAGED_BY_LABEL, MANAGER as MANAGED_BY,
    MANIFEST_DIGEST as DIGEST_ANNOTATION,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Field manager of all writes.
pub(crate) const FIELD_MANAGER: &str = "penstock";
/// Group and version of Tekton's API.
pub(crate) const TEKTON: &str = "/apis/tekton.dev/v1";

/// What may stand unencoded in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text as one segment of a path, or one value of a query.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Path of a namespace's PipelineRuns.
pub(crate) fn runs_path(namespace: &str) -> String {
    format!("{TEKTON}/namespaces/{}/pipelineruns", segment(namespace))
}

/// Path of one PipelineRun.
pub(crate) fn run_path(namespace: &str, name: &str) -> String {
    format!("{}/{}", runs_path(namespace), segment(name))
}

/// Path of a namespace's Secrets.
pub(crate) fn secrets_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{}/secrets", segment(namespace))
}

/// Path of a pod's log.
pub(crate) fn log_path(namespace: &str, pod: &str) -> String {
    format!(
        "/api/v1/namespaces/{}/pods/{}/log",
        segment(namespace),
        segment(pod)
    )
}

/// Path of one Secret.
pub(crate) fn secret_path(namespace: &str, name: &str) -> String {
    format!("{}/{}", secrets_path(namespace), segment(name))
}
