//! The bodies of webhooks, field for field as GitLab sends them.

use serde_json::{Value, json};

use super::{
    merge_requests::MergeRequest,
    notes::Note,
    project::{Access, Project},
    repository::{Commit, ZERO},
    statuses::{self, Pipeline},
    world::{Group, World},
};

/// A push lists at most this many commits.
const LISTED_COMMITS: usize = 20;

fn project(world: &World, project: &Project) -> Value {
    let (space, name) = project.path.rsplit_once('/').unwrap_or(("", &project.path));
    let web = format!("{}/{}", world.base, project.path);
    let host = world.base.trim_start_matches("http://");
    let ssh = format!("git@{host}:{}.git", project.path);
    json!({
        "id": project.id,
        "name": name,
        "description": null,
        "web_url": web,
        "avatar_url": null,
        "git_ssh_url": ssh,
        "git_http_url": format!("{web}.git"),
        "namespace": space,
        "visibility_level": project.visibility.number(),
        "path_with_namespace": project.path,
        "default_branch": project.default_branch,
        "ci_config_path": "",
        "homepage": web,
        "url": ssh,
        "ssh_url": ssh,
        "http_url": format!("{web}.git"),
    })
}

fn repository(world: &World, of: &Project) -> Value {
    let shown = project(world, of);
    json!({
        "name": shown["name"],
        "url": shown["url"],
        "description": null,
        "homepage": shown["homepage"],
        "git_http_url": shown["git_http_url"],
        "git_ssh_url": shown["git_ssh_url"],
        "visibility_level": shown["visibility_level"],
    })
}

fn user(world: &World, id: u64) -> Value {
    let user = &world.users[&id];
    json!({
        "id": user.id,
        "name": user.name,
        "username": user.username,
        "avatar_url": null,
        "email": "[REDACTED]",
    })
}

fn commit(world: &World, of: &Project, commit: &Commit) -> Value {
    json!({
        "id": commit.id,
        "message": commit.message,
        "title": commit.title(),
        "timestamp": commit.at.to_string(),
        "url": format!("{}/{}/-/commit/{}", world.base, of.path, commit.id),
        "author": { "name": commit.author_name, "email": commit.author_email },
    })
}

fn commit_with_files(world: &World, of: &Project, pushed: &Commit) -> Value {
    let mut shown = commit(world, of, pushed);
    let parent = pushed
        .parents
        .first()
        .and_then(|id| world.objects.commit(id));
    let old = parent.map(|parent| parent.tree.clone()).unwrap_or_default();
    let (mut added, mut modified, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for path in pushed.tree.keys() {
        match old.get(path) {
            None => added.push(path.clone()),
            Some(blob) if blob != &pushed.tree[path] => modified.push(path.clone()),
            Some(_) => {}
        }
    }
    removed.extend(
        old.keys()
            .filter(|path| !pushed.tree.contains_key(*path))
            .cloned(),
    );
    shown["added"] = json!(added);
    shown["modified"] = json!(modified);
    shown["removed"] = json!(removed);
    shown
}

/// A ref that moved.
pub(crate) struct Moved<'a> {
    pub(crate) of: &'a Project,
    pub(crate) by: u64,
    /// `refs/heads/…` or `refs/tags/…`.
    pub(crate) name: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
    /// Oldest first.
    pub(crate) commits: Vec<&'a Commit>,
    pub(crate) message: Option<&'a str>,
}

/// `push` or `tag_push`, by the ref's prefix.
pub(crate) fn push(world: &World, moved: &Moved<'_>) -> Value {
    let kind = if moved.name.starts_with("refs/tags/") {
        "tag_push"
    } else {
        "push"
    };
    let by = user(world, moved.by);
    let newest = moved
        .commits
        .iter()
        .skip(moved.commits.len().saturating_sub(LISTED_COMMITS));
    let commits: Vec<Value> = newest
        .map(|pushed| commit_with_files(world, moved.of, pushed))
        .collect();
    json!({
        "object_kind": kind,
        "event_name": kind,
        "before": moved.before,
        "after": moved.after,
        "ref": moved.name,
        "ref_protected": moved.of.is_protected(moved.name),
        "checkout_sha": if moved.after == ZERO { Value::Null } else { json!(moved.after) },
        "message": moved.message,
        "user_id": by["id"],
        "user_name": by["name"],
        "user_username": by["username"],
        "user_email": "",
        "user_avatar": null,
        "project_id": moved.of.id,
        "project": project(world, moved.of),
        "commits": commits,
        "total_commits_count": moved.commits.len(),
        "push_options": {},
        "repository": repository(world, moved.of),
    })
}

fn merge_request_attributes(world: &World, target: &Project, request: &MergeRequest) -> Value {
    let source = world.projects.get(&request.source_project);
    let last = world.objects.commit(&request.sha);
    let pipeline = statuses::head_pipeline(world, target, request.iid);
    json!({
        "id": request.id,
        "iid": request.iid,
        "assignee_id": null,
        "assignee_ids": [],
        "author_id": request.author,
        "approval_rules": [],
        "blocking_discussions_resolved": true,
        "created_at": request.created_at.to_string(),
        "description": request.description,
        "detailed_merge_status": if request.draft() { "draft_status" } else { "mergeable" },
        "draft": request.draft(),
        "first_contribution": false,
        "head_pipeline_id": pipeline.map(|(_, pipeline)| pipeline.id),
        "human_time_change": null,
        "human_time_estimate": null,
        "human_total_time_spent": null,
        "labels": labels(target, request),
        "last_commit": last.map(|last| commit(world, source.unwrap_or(target), last)),
        "last_edited_at": null,
        "last_edited_by_id": null,
        "merge_commit_sha": request.merge_commit,
        "merge_error": null,
        "merge_params": { "force_remove_source_branch": "1" },
        "merge_status": "can_be_merged",
        "merge_user_id": request.merged_by,
        "merge_when_pipeline_succeeds": false,
        "milestone_id": null,
        "prepared_at": request.created_at.to_string(),
        "reviewer_ids": [],
        "source": source.map(|source| project(world, source)),
        "source_branch": request.source_branch,
        "source_project_id": request.source_project,
        "state": request.state,
        "state_id": match request.state { "opened" => 1, "closed" => 2, _ => 3 },
        "target": project(world, target),
        "target_branch": request.target_branch,
        "target_project_id": target.id,
        "time_change": 0,
        "time_estimate": 0,
        "title": request.title,
        "total_time_spent": 0,
        "updated_at": request.updated_at.to_string(),
        "updated_by_id": null,
        "url": format!("{}/{}/-/merge_requests/{}", world.base, target.path, request.iid),
        "work_in_progress": request.draft(),
    })
}

fn labels(target: &Project, request: &MergeRequest) -> Value {
    let shown = request.labels.iter().enumerate().map(|(index, title)| {
        json!({
            "id": index + 1,
            "title": title,
            "color": "#428bca",
            "project_id": target.id,
            "created_at": request.created_at.to_string(),
            "updated_at": request.created_at.to_string(),
            "template": false,
            "description": null,
            "type": "ProjectLabel",
            "group_id": null,
        })
    });
    shown.collect()
}

/// A merge request's event; `further` is merged into the attributes (`oldrev`, `system_action`).
pub(crate) fn merge_request(
    world: &World,
    target: &Project,
    request: &MergeRequest,
    by: u64,
    action: &str,
    further: Value,
    changes: Value,
) -> Value {
    let mut attributes = merge_request_attributes(world, target, request);
    attributes["action"] = json!(action);
    if let Value::Object(further) = further {
        for (name, value) in further {
            attributes[name] = value;
        }
    }
    json!({
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": user(world, by),
        "project": project(world, target),
        "object_attributes": attributes,
        "labels": labels(target, request),
        "changes": changes,
        "repository": {
            "name": project(world, target)["name"],
            "url": project(world, target)["url"],
            "description": null,
            "homepage": project(world, target)["homepage"],
        },
    })
}

/// A note on a merge request (`on`) or, without one, on the commit `sha`.
pub(crate) fn note(
    world: &World,
    of: &Project,
    on: Option<&MergeRequest>,
    sha: &str,
    written: &Note,
    action: &str,
) -> Value {
    let shown = project(world, of);
    let (kind, place) = match on {
        Some(request) => ("MergeRequest", format!("merge_requests/{}", request.iid)),
        None => ("Commit", format!("commit/{sha}")),
    };
    let mut body = json!({
        "object_kind": "note",
        "event_type": "note",
        "user": user(world, written.author),
        "project_id": of.id,
        "project": shown,
        "object_attributes": {
            "action": action,
            "attachment": null,
            "author_id": written.author,
            "change_position": null,
            "commit_id": on.is_none().then_some(sha),
            "created_at": written.created_at.to_string(),
            "description": written.body,
            "discussion_id": written.discussion,
            "id": written.id,
            "internal": written.internal,
            "line_code": null,
            "note": written.body,
            "noteable_id": on.map(|request| request.id),
            "noteable_type": kind,
            "original_position": null,
            "position": null,
            "project_id": of.id,
            "resolved_at": null,
            "resolved_by_id": null,
            "resolved_by_push": null,
            "st_diff": null,
            "system": written.system,
            "type": null,
            "updated_at": written.updated_at.to_string(),
            "updated_by_id": (action == "update").then_some(written.author),
            "url": format!("{}/{}/-/{place}#note_{}", world.base, of.path, written.id),
        },
        "repository": {
            "name": shown["name"],
            "url": shown["url"],
            "description": null,
            "homepage": shown["homepage"],
        },
    });
    match on {
        Some(request) => body["merge_request"] = merge_request_attributes(world, of, request),
        None => {
            body["commit"] = world
                .objects
                .commit(sha)
                .map_or(Value::Null, |found| commit(world, of, found))
        }
    }
    body
}

/// A pipeline's event.
pub(crate) fn pipeline(
    world: &World,
    of: &Project,
    run: &Pipeline,
    request: Option<&MergeRequest>,
) -> Value {
    let state = statuses::pipeline_state(of, run);
    let done = matches!(
        state.as_str(),
        "success" | "failed" | "canceled" | "skipped"
    );
    json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": run.id,
            "iid": run.iid,
            "name": null,
            "ref": run.name,
            "tag": of.refs.tags.contains_key(&run.name),
            "sha": run.sha,
            "before_sha": ZERO,
            "source": run.source,
            "status": state,
            "detailed_status": if state == "success" { "passed" } else { state.as_str() },
            "stages": ["test"],
            "created_at": run.created_at.to_string(),
            "finished_at": done.then(|| run.updated_at.to_string()),
            "duration": done.then_some(63),
            "queued_duration": 1,
            "protected_ref": of.is_protected(&run.name),
            "variables": [],
            "url": format!("{}/{}/-/pipelines/{}", world.base, of.path, run.id),
        },
        "merge_request": request.map(|request| json!({
            "id": request.id,
            "iid": request.iid,
            "title": request.title,
            "source_branch": request.source_branch,
            "source_project_id": request.source_project,
            "target_branch": request.target_branch,
            "target_project_id": of.id,
            "state": request.state,
            "merge_status": "can_be_merged",
            "detailed_merge_status": "mergeable",
            "url": format!("{}/{}/-/merge_requests/{}", world.base, of.path, request.iid),
        })),
        "user": user(world, run.user),
        "project": project(world, of),
        "commit": world.objects.commit(&run.sha).map(|found| commit(world, of, found)),
        "builds": [],
    })
}

/// What a deployment says.
pub(crate) struct Deployed<'a> {
    pub(crate) id: u64,
    pub(crate) environment: &'a str,
    pub(crate) status: &'a str,
    pub(crate) name: &'a str,
    pub(crate) sha: &'a str,
    pub(crate) by: u64,
}

/// A deployment's event.
pub(crate) fn deployment(world: &World, of: &Project, deployed: &Deployed<'_>) -> Value {
    let found = world.objects.commit(deployed.sha);
    let tier = if deployed.environment.starts_with("prod") {
        "production"
    } else {
        "staging"
    };
    json!({
        "object_kind": "deployment",
        "status": deployed.status,
        "status_changed_at": world.now().to_string(),
        "deployment_id": deployed.id,
        "deployable_id": deployed.id + 1,
        "deployable_url": format!("{}/{}/-/jobs/{}", world.base, of.path, deployed.id + 1),
        "environment": deployed.environment,
        "environment_tier": tier,
        "environment_slug": deployed.environment,
        "environment_external_url": null,
        "project": project(world, of),
        "short_sha": &deployed.sha[..8],
        "user": user(world, deployed.by),
        "user_url": format!("{}/{}", world.base, world.users[&deployed.by].username),
        "commit_url": format!("{}/{}/-/commit/{}", world.base, of.path, deployed.sha),
        "commit_title": found.map(Commit::title),
        "ref": deployed.name,
    })
}

/// A release's event.
pub(crate) fn release(world: &World, of: &Project, id: u64, tag: &str, description: &str) -> Value {
    let target = &of.refs.tags[tag].target;
    let now = world.now().to_string();
    json!({
        "object_kind": "release",
        "id": id,
        "created_at": now,
        "description": description,
        "name": tag,
        "released_at": now,
        "tag": tag,
        "project": project(world, of),
        "url": format!("{}/{}/-/releases/{tag}", world.base, of.path),
        "action": "create",
        "assets": { "count": 0, "links": [], "sources": [] },
        "commit": world.objects.commit(target).map(|found| commit(world, of, found)),
    })
}

/// A token's approaching end; of a project or of a group.
pub(crate) fn access_token(
    world: &World,
    of: Result<&Project, &Group>,
    token: &super::tokens::Token,
) -> Value {
    let mut body = json!({
        "object_kind": "access_token",
        "event_name": "expiring_access_token",
        "object_attributes": {
            "id": token.id,
            "user_id": world.user_id(&token.user),
            "name": token.name,
            "created_at": token.created_at.to_string(),
            "expires_at": token.expires_at.map(|at| at.strftime("%Y-%m-%d").to_string()),
            "last_used_at": token.last_used_at.map(|at| at.to_string()),
        },
    });
    match of {
        Ok(of) => body["project"] = project(world, of),
        Err(group) => {
            body["group"] = json!({
                "group_name": group.path,
                "group_path": group.path,
                "full_path": group.path,
                "group_id": group.id,
            });
        }
    }
    body
}

/// A member who came (`user_add_to_group`), changed or went.
pub(crate) fn member(world: &World, group: &Group, of: u64, access: Access, event: &str) -> Value {
    let user = &world.users[&of];
    let now = world.now().to_string();
    json!({
        "created_at": now,
        "updated_at": now,
        "group_name": group.path.rsplit('/').next(),
        "group_path": group.path.rsplit('/').next(),
        "group_id": group.id,
        "user_username": user.username,
        "user_name": user.name,
        "user_email": "[REDACTED]",
        "user_id": user.id,
        "group_access": format!("{access:?}"),
        "group_plan": null,
        "expires_at": null,
        "event_name": event,
    })
}
