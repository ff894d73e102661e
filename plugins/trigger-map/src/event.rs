//! The event as rules see it: a mapping with plain names.
//!
//! What is said at the top is always there, empty where there is nothing to say.
//! The part that belongs to the kind (`event.push`, `event.merge_request`, …) is
//! there for that kind alone; `has(event.merge_request)` asks for it.

use penstock_sdk::events::{self, MergeRequest, MergeRequestEvent, NoteTarget, RunState};
use penstock_sdk::{Event, EventKind, Scope, Trust};
use serde_json::{Value, json};

/// Every kind that `on` may name.
pub(crate) const KINDS: [&str; 11] = [
    "push",
    "tag_push",
    "merge_request",
    "note",
    "pipeline",
    "deployment",
    "release",
    "token_expiring",
    "request",
    "run_finished",
    "other",
];

/// Kinds of a rule without `on`: all but the end of runs, which would start others for ever.
pub(crate) const KINDS_BY_DEFAULT: [&str; 10] = [
    "push",
    "tag_push",
    "merge_request",
    "note",
    "pipeline",
    "deployment",
    "release",
    "token_expiring",
    "request",
    "other",
];

/// The kind by which rules are chosen. A sweep stands for the push or the change of
/// a merge request whose delivery was lost.
pub(crate) fn kind(event: &Event) -> &'static str {
    match &event.kind {
        EventKind::Push(_) => "push",
        EventKind::TagPush(_) => "tag_push",
        EventKind::MergeRequest(_) => "merge_request",
        EventKind::Note(_) => "note",
        EventKind::Pipeline(_) => "pipeline",
        EventKind::Deployment(_) => "deployment",
        EventKind::Release(_) => "release",
        EventKind::TokenExpiring(_) => "token_expiring",
        EventKind::Sweep(sweep) if sweep.merge_request.is_some() => "merge_request",
        EventKind::Sweep(sweep) if sweep.ref_name.starts_with("refs/tags/") => "tag_push",
        EventKind::Sweep(_) => "push",
        EventKind::Request(_) => "request",
        EventKind::RunFinished(_) => "run_finished",
        EventKind::Other(_) => "other",
    }
}

/// The event as a mapping.
pub(crate) fn view(event: &Event) -> Value {
    let ref_name = event.ref_name.as_deref().unwrap_or_default();
    let mut view = json!({
        "id": event.delivery,
        "kind": kind(event),
        "received_at": event.received_at,
        "instance": event.instance,
        "instance_url": event.instance_url,
        "tenant": event.tenant,
        "ref": ref_name,
        "branch": ref_name.strip_prefix("refs/heads/").unwrap_or_default(),
        "tag": ref_name.strip_prefix("refs/tags/").unwrap_or_default(),
        "commit": event.commit.as_deref().unwrap_or_default(),
        "actor": actor(event),
        "trust": match event.provenance.trust {
            Trust::Untrusted => "untrusted",
            Trust::Member => "member",
            Trust::Protected => "protected",
        },
        "protected": event.provenance.ref_protected,
        "confirmed": event.provenance.confirmed,
        "fork": event.provenance.source_project.is_some(),
        "swept": matches!(event.kind, EventKind::Sweep(_)),
        "code_changed": code_changed(event),
    });
    let mut put = |name: &str, part: Value| {
        if let Some(view) = view.as_object_mut() {
            view.insert(name.to_owned(), part);
        }
    };
    match &event.scope {
        Scope::Project(project) => put("project", self::project(project)),
        Scope::Group(group) => put(
            "group",
            json!({ "id": group.id, "path": group.path, "web_url": group.web_url }),
        ),
        Scope::Instance => {}
    }
    match &event.kind {
        EventKind::Push(it) => put("push", push(it)),
        EventKind::TagPush(it) => put(
            "tag_push",
            json!({ "message": it.message.as_deref().unwrap_or_default() }),
        ),
        EventKind::MergeRequest(it) => {
            put("merge_request", merge_request(&it.merge_request, Some(it)))
        }
        EventKind::Note(it) => {
            put("note", note(it));
            if let NoteTarget::MergeRequest(merge_request) = &it.target {
                put("merge_request", self::merge_request(merge_request, None));
            }
        }
        EventKind::Pipeline(it) => put(
            "pipeline",
            json!({
                "id": it.id, "ref": it.ref_, "tag": it.tag, "sha": it.sha, "status": it.status,
                "source": it.source, "merge_request": it.merge_request.unwrap_or_default(),
            }),
        ),
        EventKind::Deployment(it) => put(
            "deployment",
            json!({
                "id": it.id, "status": it.status, "environment": it.environment,
                "tier": it.tier.as_deref().unwrap_or_default(), "ref": it.ref_, "sha": it.sha,
            }),
        ),
        EventKind::Release(it) => put(
            "release",
            json!({ "tag": it.tag, "name": it.name, "action": it.action }),
        ),
        EventKind::TokenExpiring(it) => put(
            "token_expiring",
            json!({
                "token_id": it.token_id, "name": it.name,
                "owner": it.owner.as_deref().unwrap_or_default(), "expires_at": it.expires_at,
            }),
        ),
        EventKind::Sweep(it) => match &it.merge_request {
            Some(merge_request) => put("merge_request", self::merge_request(merge_request, None)),
            None => put(
                "push",
                json!({
                    "before": it.last_decided.as_deref().unwrap_or_default(),
                    "after": it.found.as_deref().unwrap_or_default(),
                    "created": it.last_decided.is_none(),
                    "deleted": it.found.is_none(),
                    "commits": [],
                    "total_commits": 0,
                }),
            ),
        },
        EventKind::Request(it) => put(
            "request",
            json!({
                "name": it.name.as_deref().unwrap_or_default(), "source": it.source,
                "parameters": pairs(&it.parameters),
            }),
        ),
        EventKind::RunFinished(it) => put("run", run(it, &event.extras)),
        EventKind::Other(name) => put("other", json!(name)),
    }
    view
}

/// An event with every part, to know a name that no event ever has. Below `null`
/// anything may be.
pub(crate) fn sample() -> Value {
    json!({
        "id": "", "kind": "", "received_at": 0, "instance": "", "instance_url": "", "tenant": "",
        "ref": "", "branch": "", "tag": "", "commit": "", "trust": "", "protected": false,
        "confirmed": false, "fork": false, "swept": false, "code_changed": false, "other": "",
        "actor": { "id": 0, "username": "", "bot": false, "access": 0 },
        "project": {
            "id": 0, "path": "", "name": "", "namespace": "", "default_branch": "", "web_url": "",
            "clone_url": "", "visibility": "",
        },
        "group": { "id": 0, "path": "", "web_url": "" },
        "push": { "before": "", "after": "", "created": false, "deleted": false, "commits": null, "total_commits": 0 },
        "tag_push": { "message": "" },
        "merge_request": {
            "iid": 0, "title": "", "state": "", "draft": false, "source_branch": "",
            "target_branch": "", "head": "", "author": 0, "labels": null, "web_url": "",
            "action": "", "old_head": "", "changed": null, "system": false,
        },
        "note": { "id": 0, "text": "", "target": "", "created": false, "system": false },
        "pipeline": { "id": 0, "ref": "", "tag": false, "sha": "", "status": "", "source": "", "merge_request": 0 },
        "deployment": { "id": 0, "status": "", "environment": "", "tier": "", "ref": "", "sha": "" },
        "release": { "tag": "", "name": "", "action": "" },
        "token_expiring": { "token_id": 0, "name": "", "owner": "", "expires_at": "" },
        "request": { "name": "", "source": "", "parameters": null },
        "run": empty_run(),
    })
}

fn empty_run() -> Value {
    json!({
        "id": "", "plugin": "", "key": "", "pipeline": "", "place": "", "state": "", "reason": "",
        "web_url": "", "results": null, "depth": 0, "failed_task": "",
        "log_excerpt": "",
    })
}

/// Whether there is code that nothing has been decided about yet.
fn code_changed(event: &Event) -> bool {
    match &event.kind {
        EventKind::Push(push) => push.after.is_some(),
        EventKind::TagPush(push) => push.after.is_some(),
        EventKind::MergeRequest(it) => {
            // One that has ended since runs nothing, in whatever order GitLab's deliveries came.
            it.merge_request.state == "opened"
                && (it.action == "open"
                    || it.action == "reopen"
                    || (it.action == "update" && it.old_head.is_some()))
        }
        EventKind::Sweep(sweep) => sweep.found.is_some(),
        _ => false,
    }
}

fn actor(event: &Event) -> Value {
    match &event.actor {
        Some(it) => json!({
            "id": it.id, "username": it.username, "bot": it.bot, "access": it.access.unwrap_or_default(),
        }),
        None => json!({ "id": 0, "username": "", "bot": false, "access": 0 }),
    }
}

fn project(project: &penstock_sdk::types::Project) -> Value {
    let (namespace, name) = project.path.rsplit_once('/').unwrap_or(("", &project.path));
    json!({
        "id": project.id,
        "path": project.path,
        "name": name,
        "namespace": namespace,
        "default_branch": project.default_branch.as_deref().unwrap_or_default(),
        "web_url": project.web_url,
        "clone_url": format!("{}.git", project.web_url),
        "visibility": project.visibility,
    })
}

fn push(push: &events::Push) -> Value {
    let commits: Vec<Value> = push
        .commits
        .iter()
        .map(|it| {
            json!({
                "id": it.id, "title": it.title, "message": it.message,
                "author_name": it.author_name, "author_email": it.author_email,
                "added": it.added, "modified": it.modified, "removed": it.removed,
            })
        })
        .collect();
    json!({
        "before": push.before.as_deref().unwrap_or_default(),
        "after": push.after.as_deref().unwrap_or_default(),
        "created": push.before.is_none(),
        "deleted": push.after.is_none(),
        "commits": commits,
        "total_commits": push.total_commits,
    })
}

fn merge_request(it: &MergeRequest, event: Option<&MergeRequestEvent>) -> Value {
    json!({
        "iid": it.iid,
        "title": it.title,
        "state": it.state,
        "draft": it.draft,
        "source_branch": it.source_branch,
        "target_branch": it.target_branch,
        "head": it.head,
        "author": it.author,
        "labels": it.labels,
        "web_url": it.web_url,
        "action": event.map_or("", |it| it.action.as_str()),
        "old_head": event.and_then(|it| it.old_head.as_deref()).unwrap_or_default(),
        "changed": event.map(|it| it.changed.clone()).unwrap_or_default(),
        "system": event.is_some_and(|it| it.system),
    })
}

fn note(note: &events::Note) -> Value {
    let target = match &note.target {
        NoteTarget::MergeRequest(_) => "merge_request",
        NoteTarget::Commit(_) => "commit",
        NoteTarget::Other(word) => word,
    };
    json!({
        "id": note.id, "text": note.text, "target": target, "created": note.created, "system": note.system,
    })
}

fn run(event: &events::RunFinished, extras: &[(String, String)]) -> Value {
    let run = &event.run;
    let state = match run.state {
        RunState::Queued => "queued",
        RunState::Gated => "gated",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Canceled => "canceled",
        RunState::Refused => "refused",
        RunState::Gone => "gone",
    };
    json!({
        "id": run.id, "plugin": run.plugin, "key": run.key, "pipeline": run.pipeline,
        "place": run.place, "state": state, "reason": run.reason,
        "web_url": run.web_url.as_deref().unwrap_or_default(),
        "results": pairs(&run.results), "depth": event.depth,
        "failed_task": event.failed_task.as_deref().unwrap_or_default(),
        "log_excerpt": log_excerpt(extras),
    })
}

/// The end of the failed step's log; empty where the place lets none be shown.
fn log_excerpt(extras: &[(String, String)]) -> String {
    let found = extras.iter().find(|(name, _)| name == "log-excerpt");
    found
        .and_then(|(_, json)| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

fn pairs(pairs: &[(String, String)]) -> Value {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect()
}
