//! How people, groups, projects, members and protection rules look.

use serde_json::{Value, json};

use super::{
    project::{Access, Allowed, Project, Protected},
    world::{Group, World},
};

pub(crate) fn show_member(world: &World, user: u64, level: u8) -> Value {
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

pub(crate) fn show_group(world: &World, group: &Group) -> Value {
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

pub(crate) fn show_project(world: &World, project: &Project, user: u64) -> Value {
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

pub(crate) fn show_rule(world: &World, rule: &Protected) -> Value {
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

pub(crate) fn show_tag_rule(world: &World, rule: &Protected) -> Value {
    json!({ "name": rule.name, "create_access_levels": show_list(world, &rule.push) })
}
