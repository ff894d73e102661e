//! Merge requests: state, what their endpoints answer, and approvals bound to a head.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    code, notes,
    notes::{Note, Subject},
    project::{Access, Project},
    rest, show, statuses,
    world::World,
};

/// A merge request of its target project.
#[derive(Clone, Debug)]
pub(crate) struct MergeRequest {
    pub(crate) id: u64,
    pub(crate) iid: u64,
    pub(crate) title: String,
    pub(crate) description: String,
    /// `opened`, `closed` or `merged`.
    pub(crate) state: &'static str,
    pub(crate) source_project: u64,
    pub(crate) source_branch: String,
    pub(crate) target_branch: String,
    pub(crate) author: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) sha: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) merged_at: Option<Timestamp>,
    pub(crate) closed_at: Option<Timestamp>,
    pub(crate) merged_by: Option<u64>,
    pub(crate) merge_commit: Option<String>,
    pub(crate) notes: Vec<Note>,
    pub(crate) approved_by: Vec<u64>,
    pub(crate) approvals_required: usize,
    /// Kept from the moment of merging or closing, when branches move on.
    pub(crate) fixed_base: Option<(String, String)>,
}

impl MergeRequest {
    pub(crate) fn draft(&self) -> bool {
        let title = self.title.to_lowercase();
        title.starts_with("draft:") || title.starts_with("[draft]") || title.starts_with("(draft)")
    }

    /// (merge base, head of the target).
    pub(crate) fn base(&self, world: &World, target: &Project) -> (String, String) {
        if let Some(fixed) = &self.fixed_base {
            return fixed.clone();
        }
        let start = target
            .refs
            .branches
            .get(&self.target_branch)
            .cloned()
            .unwrap_or_default();
        let base = world
            .objects
            .merge_base(&start, &self.sha)
            .unwrap_or_else(|| start.clone());
        (base, start)
    }
}

/// `/projects/:id/merge_requests…`.
pub(crate) fn answer(
    world: &mut World,
    call: &Call,
    project: u64,
    path: &[&str],
) -> Result<Answer, ApiError> {
    let found = rest::project(world, project);
    if found.visibility == super::Visibility::Private
        && found.level(world, call.who.user) < Access::Planner as u8
    {
        return Err(ApiError::forbidden());
    }
    if path.is_empty() {
        return match call.method.as_str() {
            "GET" => list(world, call, found),
            _ => Err(ApiError::error(405, "405 Not Allowed")),
        };
    }
    let iid: u64 = path[0]
        .parse()
        .map_err(|_| ApiError::parameter("merge_request_iid is invalid".to_owned()))?;
    let request = found
        .merge_requests
        .get(&iid)
        .ok_or_else(|| ApiError::not_found(""))?;
    let (base, _) = request.base(world, found);
    let all_changes = || {
        let trees = world
            .objects
            .commit(&base)
            .zip(world.objects.commit(&request.sha));
        trees.map_or_else(Vec::new, |(old, new)| {
            code::show_changes(world, &old.tree, &new.tree)
        })
    };
    match (call.method.as_str(), &path[1..]) {
        ("GET", []) => Ok(Answer::ok(show_one(world, found, request))),
        ("PUT", []) => edit(world, call, project, iid),
        ("GET", ["diffs"]) => Ok(Answer::Rows(all_changes())),
        ("GET", ["changes"]) => {
            let mut shown = show_one(world, found, request);
            shown["changes"] = Value::Array(all_changes());
            shown["overflow"] = json!(false);
            Ok(Answer::ok(shown))
        }
        ("GET", ["commits"]) => {
            let mut commits = world.objects.between(&base, &request.sha);
            commits.reverse();
            Ok(Answer::Rows(
                commits
                    .into_iter()
                    .map(|commit| code::show_commit(world, found, commit))
                    .collect(),
            ))
        }
        ("GET", ["pipelines"]) => Ok(Answer::Rows(pipelines(world, found, request))),
        ("GET", ["approvals"]) => Ok(Answer::ok(show_approvals(
            world,
            found,
            request,
            call.who.user,
        ))),
        ("POST", ["approve"]) => approve(world, call, project, iid),
        ("GET", ["participants"]) => {
            let mut people = vec![request.author];
            people.extend(request.notes.iter().map(|note| note.author));
            people.dedup();
            Ok(Answer::Rows(
                people
                    .into_iter()
                    .map(|user| show::show_user(world, user))
                    .collect(),
            ))
        }
        (_, ["notes", rest_of_path @ ..]) => notes::answer(
            world,
            call,
            project,
            &Subject::MergeRequest(iid),
            rest_of_path,
        ),
        (_, ["discussions", rest_of_path @ ..]) => notes::answer_discussions(
            world,
            call,
            project,
            &Subject::MergeRequest(iid),
            rest_of_path,
        ),
        _ => Err(ApiError::not_found("")),
    }
}

fn list(world: &World, call: &Call, project: &Project) -> Result<Answer, ApiError> {
    let text = |name: &str| call.text(name);
    let (state, source, target) = (text("state"), text("source_branch"), text("target_branch"));
    let (author, iids) = (text("author_username"), call.list("iids"));
    let mut found: Vec<&MergeRequest> = project
        .merge_requests
        .values()
        .filter(|request| {
            state
                .as_deref()
                .is_none_or(|state| state == "all" || request.state == state)
                && source
                    .as_ref()
                    .is_none_or(|name| request.source_branch == *name)
                && target
                    .as_ref()
                    .is_none_or(|name| request.target_branch == *name)
                && author
                    .as_ref()
                    .is_none_or(|name| world.users[&request.author].username == *name)
                && (iids.is_empty() || iids.contains(&request.iid.to_string()))
        })
        .collect();
    found.sort_by_key(|request| std::cmp::Reverse(request.iid));
    Ok(Answer::Rows(
        found
            .into_iter()
            .map(|request| show(world, project, request))
            .collect(),
    ))
}

fn pipelines(world: &World, target: &Project, request: &MergeRequest) -> Vec<Value> {
    let own = format!("refs/merge-requests/{}/", request.iid);
    let mut found: Vec<(bool, u64, Value)> = Vec::new();
    let mut collect = |project: &Project, in_target: bool| {
        for pipeline in &project.pipelines {
            let is_own = in_target && pipeline.name.starts_with(&own);
            let of_branch =
                project.id == request.source_project && pipeline.name == request.source_branch;
            if is_own || of_branch {
                found.push((
                    is_own,
                    pipeline.id,
                    statuses::show_pipeline(world, project, pipeline),
                ));
            }
        }
    };
    collect(target, true);
    if request.source_project != target.id
        && let Some(source) = world.projects.get(&request.source_project)
    {
        collect(source, false);
    }
    found.sort_by_key(|(is_own, id, _)| std::cmp::Reverse((*is_own, *id)));
    found.into_iter().map(|(_, _, shown)| shown).collect()
}

fn edit(world: &mut World, call: &Call, project: u64, iid: u64) -> Result<Answer, ApiError> {
    let level = rest::project(world, project).level(world, call.who.user);
    let now = world.now();
    let found = world.projects.get_mut(&project).expect("a project");
    let request = found.merge_requests.get_mut(&iid).expect("a merge request");
    if request.author != call.who.user && level < Access::Developer as u8 {
        return Err(ApiError::forbidden());
    }
    if let Some(title) = call.text("title") {
        request.title = title;
    }
    if let Some(description) = call.text("description") {
        request.description = description;
    }
    if let Some(labels) = call.text("labels") {
        request.labels = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .map(str::to_owned)
            .collect();
    }
    match call.text("state_event").as_deref() {
        Some("close") if request.state == "opened" => {
            request.state = "closed";
            request.closed_at = Some(now);
        }
        Some("reopen") if request.state == "closed" => {
            request.state = "opened";
            request.closed_at = None;
        }
        _ => {}
    }
    request.updated_at = now;
    let found = rest::project(world, project);
    Ok(Answer::ok(show_one(
        world,
        found,
        &found.merge_requests[&iid],
    )))
}

fn approve(world: &mut World, call: &Call, project: u64, iid: u64) -> Result<Answer, ApiError> {
    let user = call.who.user;
    let found = rest::project(world, project);
    let request = &found.merge_requests[&iid];
    if call.text("sha").is_some_and(|sha| sha != request.sha) {
        let said = format!("SHA does not match HEAD of source branch: {}", request.sha);
        return Err(ApiError::message(409, said));
    }
    let may = found.level(world, user) >= Access::Developer as u8;
    if !may
        || request.author == user
        || request.approved_by.contains(&user)
        || request.state != "opened"
    {
        return Err(ApiError::message(401, "401 Unauthorized"));
    }
    let found = world.projects.get_mut(&project).expect("a project");
    found
        .merge_requests
        .get_mut(&iid)
        .expect("a merge request")
        .approved_by
        .push(user);
    let found = rest::project(world, project);
    Ok(Answer::created(show_approvals(
        world,
        found,
        &found.merge_requests[&iid],
        user,
    )))
}

fn show_approvals(world: &World, project: &Project, request: &MergeRequest, user: u64) -> Value {
    let left = request
        .approvals_required
        .saturating_sub(request.approved_by.len());
    let by: Vec<Value> = request
        .approved_by
        .iter()
        .map(|user| json!({ "user": show::show_user(world, *user), "approved_at": request.updated_at.to_string() }))
        .collect();
    json!({
        "id": request.id,
        "iid": request.iid,
        "project_id": project.id,
        "title": request.title,
        "description": request.description,
        "state": request.state,
        "created_at": request.created_at.to_string(),
        "updated_at": request.updated_at.to_string(),
        "merge_status": "can_be_merged",
        "approved": left == 0,
        "approvals_required": request.approvals_required,
        "approvals_left": left,
        "approved_by": by,
        "user_has_approved": request.approved_by.contains(&user),
        "user_can_approve": request.author != user && !request.approved_by.contains(&user),
    })
}

/// As the list shows it.
pub(crate) fn show(world: &World, project: &Project, request: &MergeRequest) -> Value {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let url = format!(
        "{}/{}/-/merge_requests/{}",
        world.base, project.path, request.iid
    );
    json!({
        "id": request.id,
        "iid": request.iid,
        "project_id": project.id,
        "title": request.title,
        "description": request.description,
        "state": request.state,
        "created_at": request.created_at.to_string(),
        "updated_at": request.updated_at.to_string(),
        "merged_by": request.merged_by.map(|user| show::show_user(world, user)),
        "merge_user": request.merged_by.map(|user| show::show_user(world, user)),
        "merged_at": time(request.merged_at),
        "closed_by": null,
        "closed_at": time(request.closed_at),
        "target_branch": request.target_branch,
        "source_branch": request.source_branch,
        "user_notes_count": request.notes.iter().filter(|note| !note.system).count(),
        "upvotes": 0,
        "downvotes": 0,
        "author": show::show_user(world, request.author),
        "assignees": [],
        "assignee": null,
        "reviewers": [],
        "source_project_id": request.source_project,
        "target_project_id": project.id,
        "labels": request.labels,
        "draft": request.draft(),
        "work_in_progress": request.draft(),
        "milestone": null,
        "merge_when_pipeline_succeeds": false,
        "merge_status": "can_be_merged",
        "detailed_merge_status": if request.draft() { "draft_status" } else { "mergeable" },
        "sha": request.sha,
        "merge_commit_sha": request.merge_commit,
        "squash_commit_sha": null,
        "discussion_locked": null,
        "should_remove_source_branch": null,
        "force_remove_source_branch": false,
        "prepared_at": request.created_at.to_string(),
        "reference": format!("!{}", request.iid),
        "references": {
            "short": format!("!{}", request.iid),
            "relative": format!("!{}", request.iid),
            "full": format!("{}!{}", project.path, request.iid),
        },
        "web_url": url,
        "squash": false,
        "has_conflicts": false,
        "blocking_discussions_resolved": true,
    })
}

/// As a single request shows it: with its diff refs and its pipeline.
pub(crate) fn show_one(world: &World, project: &Project, request: &MergeRequest) -> Value {
    let mut shown = show(world, project, request);
    let (base, start) = request.base(world, project);
    let pipeline =
        statuses::head_pipeline(world, project, request.iid).and_then(|(id, pipeline)| {
            Some(statuses::show_pipeline(
                world,
                world.projects.get(&id)?,
                &pipeline,
            ))
        });
    let changed = world
        .objects
        .commit(&base)
        .zip(world.objects.commit(&request.sha));
    let changed = changed.map_or(0, |(old, new)| {
        world.objects.differences(&old.tree, &new.tree).len()
    });
    shown["diff_refs"] = json!({ "base_sha": base, "start_sha": start, "head_sha": request.sha });
    shown["head_pipeline"] = pipeline.clone().unwrap_or(Value::Null);
    shown["pipeline"] = pipeline.unwrap_or(Value::Null);
    shown["changes_count"] = json!(changed.to_string());
    shown["subscribed"] = json!(false);
    shown["merge_error"] = Value::Null;
    shown["diverged_commits_count"] = json!(0);
    shown["user"] = json!({ "can_merge": true });
    shown
}
