//! One run: from a PipelineRun of the folder to what the host is asked to start.

use std::collections::BTreeMap;

use penstock_sdk::events::EventKind;
use penstock_sdk::{CancelRuns, CancelScope, Problem, RunTarget, SecretSource, StartRun, Trust};
use serde_json::{Map, Value};

use crate::annotations::GROUP;
use crate::choice::Candidate;
use crate::document::Document;
use crate::facts::{Facts, Trigger, short};
use crate::fill::{CLONE_SECRET, Filler};
use crate::place::Places;
use crate::settings::Settings;

/// Name of the queue that all runs of a project share.
const QUEUE: &str = "repository";

/// A run that is to be started.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) start: StartRun,
    /// Earlier runs of the pipeline end.
    pub(crate) cancel: Option<CancelRuns>,
    /// What stays as it is.
    pub(crate) warnings: Vec<Problem>,
    /// What was left out.
    pub(crate) notes: Vec<String>,
}

/// Its pipeline's name as the repository has it, without the dash of a `generateName`.
pub(crate) fn name(document: &Document, filler: &mut Filler<'_>) -> Option<String> {
    let written = ["/metadata/generateName", "/metadata/name"]
        .into_iter()
        .map(|pointer| document.text_at(pointer))
        .find(|it| !it.is_empty())?;
    let filled = filler.text(written);
    let name = filled.trim_end_matches('-').to_owned();
    (!name.is_empty()).then_some(name)
}

/// A name as the host takes it: a label's value.
pub(crate) fn pipeline(name: &str) -> String {
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    let bent: String = name
        .chars()
        .map(|it| if fits(it) { it } else { '-' })
        .collect();
    let edge = |it: char| !it.is_ascii_alphanumeric();
    let cut: String = bent.trim_start_matches(edge).chars().take(63).collect();
    cut.trim_end_matches(edge).to_owned()
}

/// Makes it of a run that is resolved.
///
/// # Errors
/// Why it can't be made, with the places.
pub(crate) fn make(
    candidate: &Candidate<'_>,
    resolved: Value,
    settings: &Settings,
    facts: &Facts<'_>,
    places: &Places<'_>,
    filler: &mut Filler<'_>,
) -> Result<Made, Vec<Problem>> {
    let (document, name) = (candidate.document, candidate.name.as_str());
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let place = candidate.value("target-namespace").and_then(|namespace| {
        places
            .of_namespace(&namespace)
            .map_err(|why| problems.push(document.problem(&["target-namespace"], why)))
            .ok()
    });
    let namespace = || match place {
        Some(place) => Ok(place.namespace.clone()),
        None => places.namespace(),
    };
    let mut inner = Filler::new(filler.placeholders, filler.variables, &namespace);
    let mut manifest = inner.fill(&resolved);
    problems.append(&mut inner.problems);
    metadata(&mut manifest, name, settings, facts, &mut notes);
    let pipeline = pipeline(name);
    let mut start =
        StartRun::new(&pipeline, manifest.to_string()).status_name(status_name(settings, name));
    start.place = place.map(|it| it.name.clone());
    // A comment on a commit is of no branch; whose head the commit is was found out.
    if facts.event.ref_name.is_none() && facts.merge_request.is_none() {
        start.target = Some(RunTarget {
            commit: facts.commit.to_owned(),
            ref_name: Some(facts.target_ref.clone()),
            merge_request: None,
        });
    }
    if let Some(limit) = settings.concurrency {
        start = start.queue(QUEUE, limit);
    }
    start.keep = match candidate.value("max-keep-runs").map(|it| it.parse::<u32>()) {
        Some(Ok(number)) if number > 0 => settings.kept(Some(number)),
        Some(_) => {
            problems.push(document.problem(
                &["max-keep-runs"],
                "`max-keep-runs` must be a whole number of at least 1",
            ));
            None
        }
        None => settings.kept(None),
    };
    if inner.clones {
        // A stranger's code reads no other project.
        let fork = facts.event.provenance.trust == Trust::Untrusted;
        let others = if fork {
            Vec::new()
        } else {
            settings.clone_also.clone()
        };
        start = start.secret(CLONE_SECRET, SecretSource::Clone(others));
    }
    let cancel = match candidate.value("cancel-in-progress").as_deref() {
        Some("true") => true,
        Some("false") => false,
        Some(_) => {
            problems.push(document.problem(
                &["cancel-in-progress"],
                "`cancel-in-progress` must be `true` or `false`",
            ));
            false
        }
        None if facts.trigger == Trigger::PullRequest => settings.cancel_merge_requests,
        None => settings.cancel_pushes,
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let scope = match &facts.event.kind {
        // A comment on a commit is in no lane of a branch.
        EventKind::Note(_) if facts.merge_request.is_none() => {
            CancelScope::Commit(facts.commit.to_owned())
        }
        _ => CancelScope::Earlier,
    };
    Ok(Made {
        start,
        cancel: cancel
            .then(|| CancelRuns::new(scope, "a newer run takes its place").pipeline(&pipeline)),
        warnings: inner.warnings,
        notes,
    })
}

/// Name of the run's commit status.
pub(crate) fn status_name(settings: &Settings, name: &str) -> String {
    format!("{} / {name}", settings.application)
}

/// The manifest's own labels and annotations: those of Pipelines-as-Code have done their
/// part, and a place for forks takes none at all.
fn metadata(
    manifest: &mut Value,
    name: &str,
    settings: &Settings,
    facts: &Facts<'_>,
    notes: &mut Vec<String>,
) {
    let Some(object) = manifest.as_object_mut() else {
        return;
    };
    object.remove("status");
    let mut own = object
        .remove("metadata")
        .and_then(|it| match it {
            Value::Object(metadata) => Some(metadata),
            _ => None,
        })
        .unwrap_or_default();
    let mut kept = Map::new();
    let fork = facts.event.provenance.trust == Trust::Untrusted;
    for map in ["labels", "annotations"] {
        let mut entries: Map<String, Value> = match own.remove(map) {
            Some(Value::Object(entries)) => entries,
            _ => Map::new(),
        };
        entries.retain(|key, _| !key.starts_with(GROUP));
        if fork && !entries.is_empty() {
            notes.push(format!(
                "`{name}`: its {map} are left out, a place for forks takes none"
            ));
            entries.clear();
        }
        if settings.run_labels && !fork {
            let values = if map == "labels" {
                labels(name, facts)
            } else {
                told(facts)
            };
            for (key, value) in values {
                entries.insert(format!("{GROUP}{key}"), value.into());
            }
        }
        if !entries.is_empty() {
            kept.insert(map.to_owned(), Value::Object(entries));
        }
    }
    if !kept.is_empty() {
        object.insert("metadata".to_owned(), Value::Object(kept));
    }
}

/// Labels that Pipelines-as-Code gives a run: dashboards and scripts select by them.
fn labels(name: &str, facts: &Facts<'_>) -> BTreeMap<&'static str, String> {
    let (owner, project) = facts
        .project
        .path
        .rsplit_once('/')
        .unwrap_or(("", &facts.project.path));
    let mut labels: BTreeMap<&'static str, String> = [
        ("url-org", pipeline(owner)),
        ("url-repository", pipeline(project)),
        ("repository", pipeline(project)),
        ("sha", facts.commit.chars().take(63).collect()),
        ("event-type", facts.event_type.to_owned()),
        ("original-prname", pipeline(name)),
        ("git-provider", "gitlab".to_owned()),
    ]
    .into_iter()
    .collect();
    if let Some(merge_request) = facts.merge_request {
        labels.insert("pull-request", merge_request.iid.to_string());
    }
    labels
}

/// Annotations that Pipelines-as-Code gives a run.
fn told(facts: &Facts<'_>) -> BTreeMap<&'static str, String> {
    let variables = facts.variables();
    let of = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let url = &facts.project.web_url;
    [
        ("branch", short(&facts.target_ref).to_owned()),
        ("source-branch", short(&facts.source_ref).to_owned()),
        ("sender", of("sender")),
        ("sha-title", of("event_title")),
        ("sha-url", format!("{url}/-/commit/{}", facts.commit)),
        ("repo-url", url.clone()),
        ("source-repo-url", of("source_url")),
        ("target-project-id", facts.project.id.to_string()),
        (
            "source-project-id",
            facts
                .event
                .provenance
                .source_project
                .as_ref()
                .map_or(facts.project.id, |it| it.id)
                .to_string(),
        ),
    ]
    .into_iter()
    .collect()
}
