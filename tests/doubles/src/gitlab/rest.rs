//! The REST API's map from path to function, and what people, groups, projects and members look like.

use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    code, hooks, merge_requests, notes,
    notes::Subject,
    project::{Access, Allowed, Project, Protected, Visibility},
    statuses,
    world::{Group, World},
};

/// Answers every call that needs no network of its own.
pub(crate) fn answer(world: &mut World, call: &Call) -> Result<Answer, ApiError> {
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET", ["version"]) => Ok(Answer::ok(
            json!({ "version": world.version, "revision": "0d0ab1e5" }),
        )),
        ("GET", ["metadata"]) => Ok(Answer::ok(json!({
            "version": world.version,
            "revision": "0d0ab1e5",
            "kas": { "enabled": false, "externalUrl": null, "externalK8sProxyUrl": null, "version": null },
            "enterprise": world.version.ends_with("-ee"),
        }))),
        ("GET", ["user"]) => {
            let mut shown = show_user(world, call.who.user);
            let user = &world.users[&call.who.user];
            shown["bot"] = json!(user.bot);
            shown["email"] = json!(format!("{}@example.com", user.username));
            shown["is_admin"] = json!(user.admin);
            Ok(Answer::ok(shown))
        }
        ("GET", ["users"]) => {
            let wanted = call.text("username").map(|name| name.to_lowercase());
            let users = world.users.values().filter(|user| {
                wanted
                    .as_ref()
                    .is_none_or(|name| user.username.to_lowercase() == *name)
            });
            Ok(Answer::Rows(
                users.map(|user| show_user(world, user.id)).collect(),
            ))
        }
        ("GET", ["users", id]) => {
            let id: u64 = id
                .parse()
                .map_err(|_| ApiError::parameter("id is invalid".to_owned()))?;
            world
                .users
                .get(&id)
                .ok_or_else(|| ApiError::not_found("User"))?;
            Ok(Answer::ok(show_user(world, id)))
        }
        ("GET", ["personal_access_tokens", "self"]) => {
            let token = world
                .tokens
                .iter()
                .find(|token| token.id == call.who.token)
                .expect("the caller's token");
            Ok(Answer::ok(token.show(world)))
        }
        ("GET", ["projects"]) => {
            let visible = world
                .projects
                .values()
                .filter(|project| sees(world, project, call.who.user));
            Ok(Answer::Rows(
                visible
                    .map(|project| show_project(world, project, call.who.user))
                    .collect(),
            ))
        }
        (_, ["projects", id, rest @ ..]) => {
            let id = find_project(world, id, call.who.user)?;
            in_project(world, call, id, rest)
        }
        (_, ["groups", id, rest @ ..]) => {
            let id = find_group(world, id)?;
            in_group(world, call, id, rest)
        }
        _ => Err(ApiError::error(404, "404 Not Found")),
    }
}

fn in_project(world: &mut World, call: &Call, id: u64, path: &[&str]) -> Result<Answer, ApiError> {
    let found = project(world, id);
    let user = call.who.user;
    let level = found.level(world, user);
    let commit = |name: &str| {
        found
            .refs
            .resolve(name, &found.default_branch)
            .ok_or_else(|| ApiError::not_found("Commit"))
    };
    match (call.method.as_str(), path) {
        ("GET", []) => Ok(Answer::ok(show_project(world, found, user))),
        ("GET", ["members", "all"]) => {
            let people = world
                .users
                .keys()
                .filter(|user| member_level(world, found, **user) > 0);
            Ok(Answer::Rows(
                people
                    .map(|user| show_member(world, *user, member_level(world, found, *user)))
                    .collect(),
            ))
        }
        ("GET", ["members"]) => Ok(Answer::Rows(
            found
                .members
                .iter()
                .map(|(user, access)| show_member(world, *user, *access as u8))
                .collect(),
        )),
        ("GET", ["members", "all", id]) => {
            member(world, id, |user| member_level(world, found, user))
        }
        ("GET", ["members", id]) => member(world, id, |user| {
            found.members.get(&user).map_or(0, |access| *access as u8)
        }),
        ("GET", ["protected_branches"]) => {
            let rules = found.protected_branches.iter();
            Ok(Answer::Rows(
                rules.map(|rule| show_rule(world, rule)).collect(),
            ))
        }
        ("GET", ["protected_branches", name]) => {
            let rule = found
                .protected_branches
                .iter()
                .find(|rule| rule.name == *name);
            Ok(Answer::ok(show_rule(
                world,
                rule.ok_or_else(|| ApiError::not_found(""))?,
            )))
        }
        ("GET", ["protected_tags"]) => Ok(Answer::Rows(
            found
                .protected_tags
                .iter()
                .map(|rule| show_tag_rule(world, rule))
                .collect(),
        )),
        ("GET", ["protected_tags", name]) => {
            let rule = found.protected_tags.iter().find(|rule| rule.name == *name);
            Ok(Answer::ok(show_tag_rule(
                world,
                rule.ok_or_else(|| ApiError::not_found(""))?,
            )))
        }
        (_, ["hooks", rest @ ..]) => {
            if level < Access::Maintainer as u8 {
                return Err(ApiError::forbidden());
            }
            hooks::answer(world, call, hooks::Owner::Project(id), rest)
        }
        (_, ["merge_requests", rest @ ..]) => merge_requests::answer(world, call, id, rest),
        ("POST", ["statuses", sha]) => statuses::set(world, call, id, sha),
        ("GET", ["pipelines"]) => {
            let (sha, git_ref) = (call.text("sha"), call.text("ref"));
            let rows = found.pipelines.iter().rev().filter(|pipeline| {
                sha.as_ref().is_none_or(|sha| pipeline.sha == *sha)
                    && git_ref.as_ref().is_none_or(|name| pipeline.name == *name)
            });
            Ok(Answer::Rows(
                rows.map(|row| statuses::show_pipeline(world, found, row))
                    .collect(),
            ))
        }
        ("GET", ["pipelines", number]) => {
            let row = found
                .pipelines
                .iter()
                .find(|row| row.id.to_string() == *number);
            let row = row.ok_or_else(|| ApiError::not_found(""))?;
            Ok(Answer::ok(statuses::show_pipeline(world, found, row)))
        }
        (_, ["repository", ..])
            if found.visibility == Visibility::Private && level < Access::Reporter as u8 =>
        {
            Err(ApiError::forbidden())
        }
        ("GET", ["repository", "commits", sha, "statuses"]) => {
            statuses::list(world, call, found, sha)
        }
        (_, ["repository", "commits", sha, "comments"]) => {
            let sha = commit(sha)?;
            notes::answer_comments(world, call, id, &sha)
        }
        (_, ["repository", "commits", sha, "discussions", rest @ ..]) => {
            let on = Subject::Commit(commit(sha)?);
            notes::answer_discussions(world, call, id, &on, rest)
        }
        (_, ["repository", "commits", sha, "notes", rest @ ..]) => {
            let on = Subject::Commit(commit(sha)?);
            notes::answer(world, call, id, &on, rest)
        }
        ("GET", ["repository", rest @ ..]) => code::answer(world, call, found, rest),
        _ => Err(ApiError::error(404, "404 Not Found")),
    }
}

fn in_group(world: &mut World, call: &Call, id: u64, path: &[&str]) -> Result<Answer, ApiError> {
    let found = &world.groups[&id];
    let level = world.level_in_group(call.who.user, found);
    let level_of = |user: u64| {
        if world.users.get(&user).is_some_and(|user| user.admin)
            && !found.members.contains_key(&user)
        {
            return 0;
        }
        world.level_in_group(user, found)
    };
    match (call.method.as_str(), path) {
        ("GET", []) => Ok(Answer::ok(show_group(world, found))),
        ("GET", ["projects"]) => {
            let deep = call.flag("include_subgroups").unwrap_or(false);
            let inside = world.projects.values().filter(|project| {
                project
                    .path
                    .strip_prefix(&found.path)
                    .and_then(|rest| rest.strip_prefix('/'))
                    .is_some_and(|rest| deep || !rest.contains('/'))
                    && sees(world, project, call.who.user)
            });
            Ok(Answer::Rows(
                inside
                    .map(|project| show_project(world, project, call.who.user))
                    .collect(),
            ))
        }
        ("GET", ["members", "all"]) => {
            let people = world.users.keys().filter(|user| level_of(**user) > 0);
            Ok(Answer::Rows(
                people
                    .map(|user| show_member(world, *user, level_of(*user)))
                    .collect(),
            ))
        }
        ("GET", ["members", "all", user]) => member(world, user, level_of),
        ("GET", ["members", user]) => member(world, user, |user| {
            found.members.get(&user).map_or(0, |access| *access as u8)
        }),
        (_, ["hooks", rest @ ..]) => {
            if level < Access::Owner as u8 {
                return Err(ApiError::forbidden());
            }
            hooks::answer(world, call, hooks::Owner::Group(id), rest)
        }
        _ => Err(ApiError::error(404, "404 Not Found")),
    }
}

/// A project that exists.
pub(crate) fn project(world: &World, id: u64) -> &Project {
    world
        .projects
        .get(&id)
        .expect("a project that was found before")
}

/// By number or full path; one that the caller may not see is not there.
fn find_project(world: &World, id: &str, user: u64) -> Result<u64, ApiError> {
    let found = id
        .parse::<u64>()
        .ok()
        .and_then(|id| world.projects.get(&id));
    let found = found.or_else(|| {
        world
            .projects
            .values()
            .find(|project| project.path.eq_ignore_ascii_case(id))
    });
    let found = found
        .filter(|project| sees(world, project, user))
        .ok_or_else(|| ApiError::not_found("Project"))?;
    Ok(found.id)
}

fn find_group(world: &World, id: &str) -> Result<u64, ApiError> {
    let found = id.parse::<u64>().ok().and_then(|id| world.groups.get(&id));
    let found = found.or_else(|| {
        world
            .groups
            .values()
            .find(|group| group.path.eq_ignore_ascii_case(id))
    });
    Ok(found.ok_or_else(|| ApiError::not_found("Group"))?.id)
}

fn sees(world: &World, project: &Project, user: u64) -> bool {
    project.visibility != Visibility::Private || project.level(world, user) > 0
}

/// A level through membership: an administrator who is no member has none.
fn member_level(world: &World, project: &Project, user: u64) -> u8 {
    let own = project.members.get(&user).copied();
    let above = world
        .ancestors(&project.path)
        .into_iter()
        .filter_map(|group| group.members.get(&user).copied());
    above
        .chain(own)
        .map(|access| access as u8)
        .max()
        .unwrap_or(0)
}

fn member(world: &World, id: &str, level: impl Fn(u64) -> u8) -> Result<Answer, ApiError> {
    let id: u64 = id
        .parse()
        .map_err(|_| ApiError::parameter("user_id is invalid".to_owned()))?;
    match level(id) {
        0 => Err(ApiError::message(404, "404 Not found")),
        level => Ok(Answer::ok(show_member(world, id, level))),
    }
}

fn show_member(world: &World, user: u64, level: u8) -> Value {
    let mut shown = show_user(world, user);
    shown["access_level"] = json!(level);
    shown["created_at"] = json!("2026-01-05T09:00:00.000Z");
    shown["expires_at"] = Value::Null;
    shown["membership_state"] = json!("active");
    shown
}

/// A user, as authors and members are shown.
pub(crate) fn show_user(world: &World, id: u64) -> Value {
    let Some(user) = world.users.get(&id) else {
        return Value::Null;
    };
    json!({
        "id": user.id,
        "username": user.username,
        "public_email": "",
        "name": user.name,
        "state": user.state,
        "locked": false,
        "avatar_url": null,
        "web_url": format!("{}/{}", world.base, user.username),
    })
}

fn show_group(world: &World, group: &Group) -> Value {
    let (parent, name) = group.path.rsplit_once('/').unwrap_or(("", &group.path));
    json!({
        "id": group.id,
        "web_url": format!("{}/groups/{}", world.base, group.path),
        "name": name,
        "path": name,
        "description": "",
        "visibility": "private",
        "full_name": group.path.replace('/', " / "),
        "full_path": group.path,
        "parent_id": world.groups.values().find(|other| other.path == parent).map(|other| other.id),
        "created_at": "2026-01-05T09:00:00.000Z",
    })
}

fn show_project(world: &World, project: &Project, user: u64) -> Value {
    let (space, name) = project.path.rsplit_once('/').unwrap_or(("", &project.path));
    let group = world.groups.values().find(|group| group.path == space);
    let level = project.level(world, user);
    let access = if level == 0 {
        Value::Null
    } else {
        json!({ "access_level": level, "notification_level": 3 })
    };
    let url = format!("{}/{}", world.base, project.path);
    let mut shown = json!({
        "id": project.id,
        "description": null,
        "name": name,
        "name_with_namespace": project.path.replace('/', " / "),
        "path": name,
        "path_with_namespace": project.path,
        "created_at": project.created_at.to_string(),
        "default_branch": project.default_branch,
        "tag_list": [],
        "topics": [],
        "ssh_url_to_repo": format!("git@{}:{}.git", world.base.trim_start_matches("http://"), project.path),
        "http_url_to_repo": format!("{url}.git"),
        "web_url": url,
        "readme_url": format!("{url}/-/blob/{}/README.md", project.default_branch),
        "forks_count": world.projects.values().filter(|other| other.forked_from == Some(project.id)).count(),
        "avatar_url": null,
        "star_count": 0,
        "last_activity_at": project.created_at.to_string(),
        "namespace": {
            "id": group.map(|group| group.id),
            "name": space,
            "path": space.rsplit('/').next().unwrap_or_default(),
            "kind": if group.is_some() { "group" } else { "user" },
            "full_path": space,
            "parent_id": null,
            "web_url": format!("{}/groups/{space}", world.base),
        },
        "empty_repo": project.refs.branches.is_empty(),
        "archived": false,
        "visibility": project.visibility.word(),
        "merge_requests_enabled": true,
        "jobs_enabled": true,
        "merge_requests_access_level": "enabled",
        "builds_access_level": "enabled",
        "shared_runners_enabled": false,
        "creator_id": 1,
        "import_status": "none",
        "ci_config_path": "",
        "public_jobs": true,
        "only_allow_merge_if_pipeline_succeeds": false,
        "merge_method": "merge",
        "squash_option": "default_off",
        "permissions": { "project_access": access, "group_access": null },
    });
    if let Some(source) = project.forked_from.and_then(|id| world.projects.get(&id)) {
        shown["forked_from_project"] = json!({
            "id": source.id,
            "path_with_namespace": source.path,
            "default_branch": source.default_branch,
            "web_url": format!("{}/{}", world.base, source.path),
        });
    }
    shown
}

fn show_allowed(world: &World, index: usize, allowed: &Allowed) -> Value {
    let (level, user, words) = match allowed {
        Allowed::Nobody => (0, None, "No one".to_owned()),
        Allowed::From(Access::Developer) => (30, None, "Developers + Maintainers".to_owned()),
        Allowed::From(access) => (*access as u8, None, format!("{access:?}s")),
        Allowed::User(name) => (40, world.user_named(name).map(|user| user.id), name.clone()),
    };
    json!({
        "id": index + 1,
        "access_level": level,
        "access_level_description": words,
        "deploy_key_id": null,
        "user_id": user,
        "group_id": null,
    })
}

fn show_list(world: &World, allowed: &[Allowed]) -> Value {
    allowed
        .iter()
        .enumerate()
        .map(|(index, allowed)| show_allowed(world, index, allowed))
        .collect()
}

fn show_rule(world: &World, rule: &Protected) -> Value {
    json!({
        "id": rule.id,
        "name": rule.name,
        "push_access_levels": show_list(world, &rule.push),
        "merge_access_levels": show_list(world, &rule.merge),
        "unprotect_access_levels": [],
        "allow_force_push": rule.force_push,
        "code_owner_approval_required": false,
        "inherited": false,
    })
}

fn show_tag_rule(world: &World, rule: &Protected) -> Value {
    json!({ "name": rule.name, "create_access_levels": show_list(world, &rule.push) })
}
