//! A PipelineRun from a plugin's wish for one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::about::About;
use super::rules::{Rules, Verdict, shown, variable};
use super::schema::{PIPELINE_RUN, Rule};
use super::walk::{Fault, Walk};
use super::{Context, RunOrder, clone, duration, label, manifest};
use crate::effect::StartRun;
use crate::grant::Grant;
use crate::host_event::LONGEST_CHAIN;
use crate::id::{CommitId, Digest, EffectId, RefName};
use crate::lane::Lane;
use crate::tenant::{Place, choose_place};

/// GitLab keeps so many characters of a status' name.
pub(super) const STATUS_NAME: usize = 255;

/// Characters of a queue's name.
const QUEUE_NAME: usize = 255;

/// Judges one; every fault that can be told at once is.
pub(super) fn judge(
    id: EffectId,
    start: &StartRun,
    grant: &Grant,
    about: &About<'_>,
    context: Context<'_>,
) -> Result<RunOrder, Vec<Fault>> {
    let mut faults = unbuilt(start);
    faults.extend(limit_faults(start));
    faults.extend(chain_fault(context));
    if !label::is_value(&start.pipeline) {
        faults.push(Fault::new(
            "pipeline",
            "the name of a pipeline is 1 to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
            "let the plugin give it such a name",
        ));
    }
    let status_name = start
        .status_name
        .clone()
        .unwrap_or_else(|| start.pipeline.clone());
    faults.extend(status_name_fault("status-name", &status_name));
    let target = target(start, about, context)
        .map_err(|fault| faults.push(fault))
        .ok();
    let place = choose_place(context.places, start.place.as_ref(), context.event.provenance.trust)
        .map_err(|error| {
            faults.push(Fault::new(
                "place",
                error.to_string(),
                "write `places` of the tenant for events of this trust, or let the plugin name one that takes them",
            ));
        })
        .ok();
    let (Some(target), Some(place)) = (target, place) else {
        return Err(faults);
    };
    let secrets = clone::judge(id, &start.secrets, place, grant)
        .map_err(|more| faults.extend(more))
        .unwrap_or_default();
    let rebuilt = rebuild(&start.manifest, place, &secrets.names)
        .map_err(|more| faults.extend(more))
        .ok();
    let Some(mut rebuilt) = rebuilt.filter(|_| faults.is_empty()) else {
        return Err(faults);
    };
    let name = id.object_name(&start.pipeline);
    stamp(
        &mut rebuilt,
        &Stamp {
            id,
            name: &name,
            place,
            pipeline: &start.pipeline,
            target: &target,
            about,
        },
        context,
    );
    let mut sent = Value::Object(rebuilt);
    sent.sort_all_objects();
    // The digest's own annotation is put in afterwards: it is not part of what is digested.
    let bytes = manifest::compact(&sent);
    let digest = Digest::of(&bytes);
    if let Some(annotations) = sent
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.insert(label::MANIFEST_DIGEST.to_owned(), digest.to_string().into());
        // Everything else is in order already.
        annotations.sort_keys();
    }
    manifest::fits(&sent, bytes.len()).map_err(|fault| vec![fault])?;
    Ok(RunOrder {
        of: about.of.clone(),
        plugin: context.plugin.clone(),
        plugin_digest: context.digest,
        place: place.name.clone(),
        cluster: place.cluster.clone(),
        namespace: place.namespace.clone(),
        creator: place.creator.clone(),
        run_as: place.run_as.clone(),
        name,
        manifest: sent,
        manifest_digest: digest,
        pipeline: start.pipeline.clone(),
        status_name,
        commit: target.commit,
        ref_name: target.ref_name,
        merge_request: target.merge_request,
        source_project: about.source_project,
        trust: context.event.provenance.trust,
        lane: Lane::clone(context.lane),
        queue: start.queue.clone(),
        keep: kept(start.keep, place),
        secrets: secrets.made,
        end_at_depth: None,
    })
}

/// A run that starts a run that starts a run comes to an end.
fn chain_fault(context: Context<'_>) -> Option<Fault> {
    let depth = context.event.kind.next_depth();
    (depth > LONGEST_CHAIN).then(|| {
        Fault::new(
            "",
            format!("{LONGEST_CHAIN} run-finished events led here, and no more may lead to a run"),
            "let the plugin look at `depth` of the event and start nothing from there on",
        )
    })
}

/// A queue or a number of runs to keep that can't be meant.
fn limit_faults(start: &StartRun) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(queue) = &start.queue {
        let fits = (1..=QUEUE_NAME).contains(&queue.name.chars().count())
            && !queue.name.chars().any(char::is_control);
        if !fits {
            faults.push(Fault::new(
                "queue.name",
                format!("the name of a queue is 1 to {QUEUE_NAME} characters, none of them a control character"),
                "let the plugin give it such a name",
            ));
        }
        if queue.concurrency == Some(0) {
            faults.push(Fault::new(
                "queue.concurrency",
                "nothing of a queue that takes no run would ever start",
                "write 1 or more, or leave it out",
            ));
        }
    }
    if start.keep == Some(0) {
        faults.push(Fault::new(
            "keep",
            "a run that is not kept at all would be gone before anyone could look at it",
            "write 1 or more, or leave it out",
        ));
    }
    faults
}

/// Finished runs of the pipeline to keep: what is asked for, held to what the place allows.
fn kept(asked: Option<u32>, place: &Place) -> Option<u32> {
    match (asked, place.policy.keep_runs) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

/// What the contract has and this release has not. A run with a gate is refused, never run without it.
fn unbuilt(start: &StartRun) -> Vec<Fault> {
    let fault = |path: &str, what: &str| {
        Fault::new(
            path,
            format!("{what} not built yet in this release"),
            "leave it out, or wait for the release that has it",
        )
    };
    let mut faults = Vec::new();
    if start.gate.is_some() {
        faults.push(fault("gate", "gates are"));
    }
    if let Some((name, _)) = start.extras.first() {
        let name: String = name.chars().take(80).flat_map(char::escape_debug).collect();
        faults.push(fault("extras", &format!("`{name}` is")));
    }
    faults
}

/// A status' name that GitLab won't take.
pub(super) fn status_name_fault(path: &str, name: &str) -> Option<Fault> {
    let fits =
        (1..=STATUS_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    (!fits).then(|| {
        Fault::new(
            path,
            format!("the name of a commit status is 1 to {STATUS_NAME} characters, none of them a control character"),
            "let the plugin give it such a name",
        )
    })
}

/// What a run is about.
struct Target {
    commit: CommitId,
    ref_name: Option<RefName>,
    merge_request: Option<u64>,
}

fn target(start: &StartRun, about: &About<'_>, context: Context<'_>) -> Result<Target, Fault> {
    let event = context.event;
    let remedy = "leave `target` out, or name what the event is about";
    let Some(target) = &start.target else {
        let commit = event.commit.clone().ok_or_else(|| {
            Fault::new(
                "target",
                "the event is about no commit",
                "let the plugin start runs only for events that have one",
            )
        })?;
        return Ok(Target {
            commit,
            ref_name: event.ref_name.clone(),
            merge_request: about.merge_request,
        });
    };
    if !about.is_commit(&target.commit) {
        return Err(Fault::new(
            "target.commit",
            format!(
                "{} is not the commit of the event, nor the head that GitLab confirmed",
                target.commit
            ),
            remedy,
        ));
    }
    let ref_name = match &target.ref_name {
        None => &event.ref_name,
        same if *same == event.ref_name => &event.ref_name,
        // A comment on a commit is about no ref; the plugin found out whose head the commit is.
        Some(name) if event.ref_name.is_none() && is_head(name, &target.commit, context) => {
            &target.ref_name
        }
        Some(_) => {
            return Err(Fault::new(
                "target.ref-name",
                "the ref is not the event's, nor one whose head the plugin asked for and found to be the commit",
                remedy,
            ));
        }
    };
    if target.merge_request.is_some() && target.merge_request != about.merge_request {
        return Err(Fault::new(
            "target.merge-request",
            "the merge request is not the event's",
            remedy,
        ));
    }
    Ok(Target {
        commit: target.commit.clone(),
        ref_name: ref_name.clone(),
        merge_request: about.merge_request,
    })
}

fn is_head(name: &RefName, commit: &CommitId, context: Context<'_>) -> bool {
    let mut heads = context.heads.iter();
    heads.any(|(known, head)| known == name && head == commit)
}

/// The manifest rebuilt from the allow-list, with the place's accounts and timeout.
fn rebuild(
    text: &str,
    place: &Place,
    secrets: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, Vec<Fault>> {
    let read = manifest::read(text).map_err(|fault| vec![fault])?;
    let rules = Rules { place, secrets };
    // What is no PipelineRun v1 at all is told in one line, not in one for each of its fields.
    for (field, rule) in [("apiVersion", Rule::ApiVersion), ("kind", Rule::Kind)] {
        let value = read.get(field).unwrap_or(&Value::Null);
        if let Verdict::Refuse(faults) =
            rules.judge(Some(rule), value, &format!("manifest.{field}"))
        {
            return Err(faults);
        }
    }
    let mut walk = Walk::new(&rules, "manifest");
    let mut rebuilt = walk.object(PIPELINE_RUN, read);
    match rebuilt.get_mut("spec").and_then(Value::as_object_mut) {
        Some(spec) => {
            if let Some(fault) = timeout(spec, place) {
                walk.fault(fault);
            }
            let template = spec.entry("taskRunTemplate").or_insert_with(|| json!({}));
            if let Some(template) = template.as_object_mut() {
                template.insert("serviceAccountName".to_owned(), place.run_as.clone().into());
            }
        }
        None => walk.fault(Fault::new(
            "manifest.spec",
            "a run without a spec does nothing",
            "write `spec` with a `pipelineSpec` or a `pipelineRef`",
        )),
    }
    let faults = walk.into_faults();
    if faults.is_empty() {
        Ok(rebuilt)
    } else {
        Err(faults)
    }
}

/// Holds the run to the place's greatest timeout.
fn timeout(spec: &mut Map<String, Value>, place: &Place) -> Option<Fault> {
    let seconds = place.policy.timeout?;
    let timeouts = spec
        .entry("timeouts")
        .or_insert_with(|| json!({}))
        .as_object_mut()?;
    let Some(asked) = timeouts.get("pipeline") else {
        timeouts.insert("pipeline".to_owned(), format!("{seconds}s").into());
        return None;
    };
    let path = "manifest.spec.timeouts.pipeline";
    if let Some(fault) = variable(asked, path) {
        return Some(fault);
    }
    let fits = asked
        .as_str()
        .and_then(duration::parse)
        .is_some_and(|it| !it.is_zero() && it <= Duration::from_secs(seconds));
    (!fits).then(|| {
        Fault::new(
            path,
            format!(
                "place `{}` lets a run take {seconds}s at most, and {} is no such time",
                place.name,
                shown(asked)
            ),
            format!("write `{seconds}s` or less, or leave it out"),
        )
    })
}

/// What the host writes about a run.
struct Stamp<'a> {
    id: EffectId,
    name: &'a str,
    place: &'a Place,
    pipeline: &'a str,
    target: &'a Target,
    about: &'a About<'a>,
}

fn stamp(manifest: &mut Map<String, Value>, stamp: &Stamp<'_>, context: Context<'_>) {
    let id = stamp.id.hex();
    let of = &stamp.about.of;
    let event = context.event;
    let short: String = id.chars().take(label::EFFECT_DIGITS).collect();
    let commit: String = stamp.target.commit.as_str().chars().take(40).collect();
    let number = stamp.target.merge_request.map(|iid| iid.to_string());
    let labels = [
        (label::MANAGED_BY, Some(label::MANAGER.to_owned())),
        (label::EFFECT, Some(short)),
        (label::INSTANCE, Some(label::value(of.instance.as_str()))),
        (label::PROJECT_ID, Some(of.project.to_string())),
        (label::PIPELINE, Some(label::value(stamp.pipeline))),
        (label::MERGE_REQUEST, number),
        (label::COMMIT, Some(commit)),
    ];
    let annotations = [
        (label::EFFECT_ID, Some(id)),
        (label::DELIVERY, Some(event.delivery.to_string())),
        (label::DELIVERY_URL, context.delivery_url.map(str::to_owned)),
        (label::ROUTE, Some(context.route.to_string())),
        (label::PLUGIN, Some(context.plugin.to_string())),
        (label::PLUGIN_DIGEST, Some(context.digest.to_string())),
        (label::PROJECT, Some(of.path.to_string())),
        (
            label::REF,
            stamp.target.ref_name.as_ref().map(ToString::to_string),
        ),
        (label::COMMIT, Some(stamp.target.commit.to_string())),
        (
            label::TRUST,
            Some(event.provenance.trust.as_str().to_owned()),
        ),
    ];
    let metadata = manifest.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    metadata.insert("name".to_owned(), stamp.name.into());
    metadata.insert("namespace".to_owned(), stamp.place.namespace.clone().into());
    write(metadata, "labels", labels);
    write(metadata, "annotations", annotations);
}

fn write<const N: usize>(
    metadata: &mut Map<String, Value>,
    map: &str,
    entries: [(&str, Option<String>); N],
) {
    let map = metadata.entry(map).or_insert_with(|| json!({}));
    if let Some(map) = map.as_object_mut() {
        for (key, value) in entries {
            if let Some(value) = value {
                map.insert(key.to_owned(), value.into());
            }
        }
    }
}
