//! The REST API's map from path to function, and who may see which project and group.

use serde_json::json;

use super::{
    activity,
    answer::{Answer, ApiError},
    call::Call,
    code, deploy_tokens, hooks, merge_requests, notes,
    notes::Subject,
    project::{Access, Project, Visibility},
    show::{show_group, show_member, show_project, show_rule, show_tag_rule, show_user},
    statuses,
    world::World,
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
        ("GET", ["events"]) => Ok(activity::answer(world, call, found)),
        (_, ["deploy_tokens", rest @ ..]) => deploy_tokens::answer(world, call, id, level, rest),
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
pub(crate) fn find_project(world: &World, id: &str, user: u64) -> Result<u64, ApiError> {
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
