//! `/_double/…`: what a demo or a shell script asks of the stand-in; no token, loopback alone.

use std::sync::Arc;

use axum::body::Body;
use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Access, Break, Change, Fault, GitLab, Hook, ProjectSeed, Proposal, Push, Shared, Token,
    Visibility, actions::Acting, notes::Subject, send::Sent,
};
use crate::wire::Received;

/// What `/_double/seed` takes; everything may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Seed {
    version: Option<String>,
    users: Vec<String>,
    bots: Vec<String>,
    groups: Vec<String>,
    projects: Vec<SeedProject>,
    members: Vec<SeedMember>,
    tokens: Vec<SeedToken>,
    hooks: Vec<SeedHook>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedProject {
    path: String,
    #[serde(default)]
    visibility: Visibility,
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedMember {
    path: String,
    user: String,
    access: Access,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedToken {
    secret: String,
    user: String,
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedHook {
    project: Option<String>,
    group: Option<String>,
    url: String,
    token: Option<String>,
    signing_token: Option<String>,
}

impl std::fmt::Debug for SeedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedToken")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SeedHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedHook")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderedFault {
    #[serde(default = "any")]
    method: String,
    path: String,
    how: Break,
    times: Option<u32>,
    after: Option<u32>,
    percent: Option<(u8, u64)>,
}

fn any() -> String {
    ".*".to_owned()
}

/// What `/_double/do` takes: one thing that a person does; its webhooks are sent.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
enum Deed {
    Push {
        project: String,
        branch: String,
        by: String,
        files: std::collections::BTreeMap<String, Option<String>>,
        message: Option<String>,
    },
    Tag {
        project: String,
        name: String,
        at: String,
        by: String,
    },
    Propose {
        project: String,
        branch: String,
        by: String,
        fork: Option<String>,
        title: Option<String>,
    },
    Comment {
        project: String,
        iid: u64,
        by: String,
        body: String,
    },
    Merge {
        project: String,
        iid: u64,
        by: String,
    },
    Close {
        project: String,
        iid: u64,
        by: String,
    },
}

pub(crate) async fn answer(shared: &Arc<Shared>, received: &Received) -> Response<Body> {
    let (status, body) = match act(shared, received).await {
        Ok(body) => (200, body),
        Err(problem) => (400, json!({ "error": problem })),
    };
    let builder = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    builder
        .body(Body::from(body.to_string()))
        .expect("a response")
}

async fn act(shared: &Arc<Shared>, received: &Received) -> Result<Value, String> {
    let read = |error: serde_json::Error| format!("can't read the body: {error}");
    match (received.method.as_str(), received.path.as_str()) {
        ("POST", "/_double/seed") => {
            let seed: Seed = serde_json::from_slice(&received.body).map_err(read)?;
            plant(shared, seed)
        }
        ("POST", "/_double/faults") => {
            let ordered: OrderedFault = serde_json::from_slice(&received.body).map_err(read)?;
            for pattern in [&ordered.method, &ordered.path] {
                regex::Regex::new(pattern).map_err(|error| error.to_string())?;
            }
            let mut fault = Fault::new(&ordered.method, &ordered.path, ordered.how);
            if let Some(times) = ordered.times {
                fault = fault.times(times);
            }
            if let Some(after) = ordered.after {
                fault = fault.after(after);
            }
            if let Some((chance, seed)) = ordered.percent {
                fault = fault.percent(chance, seed);
            }
            shared.desk().faults.push(fault);
            Ok(json!({}))
        }
        ("DELETE", "/_double/faults") => {
            shared.desk().faults.clear();
            Ok(json!({}))
        }
        ("GET", "/_double/journal") => {
            let desk = shared.desk();
            let rows = desk.journal.iter().map(|heard| {
                json!({
                    "at": heard.at.to_string(),
                    "method": heard.method,
                    "path": heard.path,
                    "user": heard.user,
                    "status": heard.status,
                    "body": heard.json(),
                })
            });
            Ok(rows.collect())
        }
        ("POST", "/_double/do") => {
            let deed: Deed = serde_json::from_slice(&received.body).map_err(read)?;
            let change = carry_out(shared, deed)?;
            let sent = change.send().await;
            Ok(
                json!({ "commit": change.commit, "number": change.number, "sent": sent.iter().map(show_sent).collect::<Vec<_>>() }),
            )
        }
        _ => Err("the stand-in knows /_double/seed, faults, journal and do".to_owned()),
    }
}

fn show_sent(sent: &Sent) -> Value {
    json!({ "hook": sent.hook, "status": sent.status, "disabled": sent.disabled, "event": sent.event, "key": sent.key, "body": sent.body })
}

fn plant(shared: &Shared, seed: Seed) -> Result<Value, String> {
    let mut world = shared.world();
    if let Some(version) = &seed.version {
        world.version(version);
    }
    for user in &seed.users {
        world.user(user);
    }
    for bot in &seed.bots {
        world.bot(bot);
    }
    for group in &seed.groups {
        world.group(group);
    }
    for project in seed.projects {
        let mut planted = ProjectSeed::new(&project.path).visibility(project.visibility);
        for (path, content) in project.files {
            planted = planted.file(&path, content);
        }
        world.project(planted);
    }
    for member in &seed.members {
        if world.user_named(&member.user).is_none() {
            return Err(format!("there is no user `{}`", member.user));
        }
        world.member(&member.path, &member.user, member.access);
    }
    for token in &seed.tokens {
        let mut planted = Token::new(&token.secret, &token.user);
        if !token.scopes.is_empty() {
            planted = planted.scopes(&token.scopes.iter().map(String::as_str).collect::<Vec<_>>());
        }
        world.token(planted);
    }
    let mut hooks = Vec::new();
    for seeded in seed.hooks {
        let mut hook = match (&seeded.project, &seeded.group) {
            (Some(path), None) => Hook::project(path, &seeded.url),
            (None, Some(path)) => Hook::group(path, &seeded.url),
            _ => return Err("a hook belongs to a project or to a group".to_owned()),
        };
        if let Some(token) = &seeded.token {
            hook = hook.token(token);
        }
        if let Some(token) = &seeded.signing_token {
            hook = hook.signing_token(token);
        }
        hooks.push(world.hook(hook));
    }
    let projects: serde_json::Map<String, Value> = world
        .projects
        .values()
        .map(|project| (project.path.clone(), json!(project.id)))
        .collect();
    Ok(json!({ "hooks": hooks, "projects": projects }))
}

fn carry_out(shared: &Arc<Shared>, deed: Deed) -> Result<Change, String> {
    let acting = Acting { shared };
    let (project, by) = match &deed {
        Deed::Push { project, by, .. }
        | Deed::Tag { project, by, .. }
        | Deed::Propose { project, by, .. }
        | Deed::Comment { project, by, .. }
        | Deed::Merge { project, by, .. }
        | Deed::Close { project, by, .. } => (project, by),
    };
    {
        let world = shared.world();
        if !world.projects.values().any(|known| known.path == *project) {
            return Err(format!("there is no project `{project}`"));
        }
        world
            .user_named(by)
            .ok_or_else(|| format!("there is no user `{by}`"))?;
        if let Deed::Comment { iid, .. } | Deed::Merge { iid, .. } | Deed::Close { iid, .. } = &deed
            && !world
                .project_named(project)
                .merge_requests
                .contains_key(iid)
        {
            return Err(format!("there is no merge request !{iid}"));
        }
        let missing = match &deed {
            Deed::Tag { at, .. } => world.commit_id(project, at).is_none(),
            Deed::Propose {
                branch, fork: None, ..
            } => world
                .commit_id(project, &format!("refs/heads/{branch}"))
                .is_none(),
            _ => false,
        };
        if missing {
            return Err("there is no such branch or commit".to_owned());
        }
    }
    Ok(match deed {
        Deed::Push {
            project,
            branch,
            by,
            files,
            message,
        } => {
            let mut push = Push::new(&project, &branch, &by);
            for (path, content) in files {
                push = match content {
                    Some(content) => push.write(&path, content),
                    None => push.delete(&path),
                };
            }
            if let Some(message) = message {
                push = push.message(&message);
            }
            acting.push(push)
        }
        Deed::Tag {
            project,
            name,
            at,
            by,
        } => acting.tag(&project, &name, &at, None, &by),
        Deed::Propose {
            project,
            branch,
            by,
            fork,
            title,
        } => {
            let mut proposal = Proposal::new(&project, &branch, &by);
            if let Some(fork) = fork {
                proposal = proposal.from_fork(&fork);
            }
            if let Some(title) = title {
                proposal = proposal.title(&title);
            }
            acting.propose(proposal)
        }
        Deed::Comment {
            project,
            iid,
            by,
            body,
        } => acting.note(&project, &Subject::MergeRequest(iid), &by, &body),
        Deed::Merge { project, iid, by } => acting.merge(&project, iid, &by),
        Deed::Close { project, iid, by } => GitLab::close_in(&acting, &project, iid, &by),
    })
}
