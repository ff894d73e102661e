//! A PipelineRun as a plugin wrote it, read; and the digest of one as it is sent.

use serde_json::{Map, Value};

use super::label;
use super::walk::Fault;
use crate::id::Digest;

/// Bytes of a PipelineRun as it is sent. Tekton copies the spec into the status, and etcd takes 1.5 MiB.
pub(super) const MAX_SENT: usize = 1024 * 1024;

/// Bytes of a manifest as it is read: comments and blanks are not sent.
const MAX_READ: usize = 4 * 1024 * 1024;

/// Reads YAML or JSON, one document, an object.
///
/// Numbers and truth values are read as `kubectl` reads them (`0644` is octal), so that what a team's file means elsewhere it means here.
pub(super) fn read(text: &str) -> Result<Map<String, Value>, Fault> {
    let fault = |rule: String| {
        Fault::new(
            "manifest",
            rule,
            "write one PipelineRun, as YAML or JSON, and let `kubectl apply --dry-run=client` read it",
        )
    };
    if text.len() > MAX_READ {
        return Err(fault(format!(
            "the manifest has {} KiB, at most {} KiB are read",
            text.len() / 1024,
            MAX_READ / 1024
        )));
    }
    let value = parse(text).map_err(fault)?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Err(fault("the manifest is empty".to_owned())),
        _ => Err(fault("the manifest is no object".to_owned())),
    }
}

fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_nodes: 100_000,
            max_events: 300_000,
            max_documents: 1,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_total_scalar_bytes: MAX_READ,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message: String = error.to_string().chars().take(300).collect();
        format!("the manifest can't be read: {message}")
    })
}

/// Digest of a PipelineRun as it is sent: SHA-256 of its compact JSON with the keys of every object sorted, its own annotation
/// [`label::MANIFEST_DIGEST`] left out.
pub fn manifest_digest(manifest: &Value) -> Digest {
    let mut manifest = manifest.clone();
    if let Some(annotations) = manifest
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(label::MANIFEST_DIGEST);
    }
    manifest.sort_all_objects();
    Digest::of(&compact(&manifest))
}

/// JSON without blanks.
#[expect(
    clippy::expect_used,
    reason = "a value has keys of text alone and memory takes every byte"
)]
pub(super) fn compact(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value is JSON")
}

/// Refuses what can't be stored, and names what makes it large. `size` is that of its JSON.
pub(super) fn fits(manifest: &Value, size: usize) -> Result<(), Fault> {
    if size <= MAX_SENT {
        return Ok(());
    }
    let tasks = ["tasks", "finally"].into_iter().filter_map(|part| {
        manifest
            .pointer(&format!("/spec/pipelineSpec/{part}"))?
            .as_array()
    });
    let mut sizes: Vec<(usize, &str)> = tasks
        .flatten()
        .map(|task| {
            let name = task
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or("(unnamed)");
            (task.to_string().len(), name)
        })
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let largest: Vec<String> = sizes
        .iter()
        .take(3)
        .map(|(size, name)| {
            let name: String = name.chars().take(63).collect();
            format!("`{name}` ({} KiB)", size.div_ceil(1024))
        })
        .collect();
    let named = if largest.is_empty() {
        String::new()
    } else {
        format!("; its largest tasks: {}", largest.join(", "))
    };
    Err(Fault::new(
        "manifest",
        format!(
            "the run has {} KiB, and a run of more than {} KiB can't be stored{named}",
            size.div_ceil(1024),
            MAX_SENT / 1024
        ),
        "move long scripts into an image or the repository, or refer to tasks instead of writing them out",
    ))
}
