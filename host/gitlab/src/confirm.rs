//! Asks GitLab, by id, what an event only says.
//!
//! The project (is it the hook's?), the actor's access, the ref and whether it is protected, the commit and whether it is on that
//! ref, the merge request and where its code comes from. [`crate::trust`] has the table of what follows. What GitLab
//! says is not there, or does not show, is not confirmed and counts as a fork; what GitLab can't say now (429, 5xx, no answer)
//! is an error and asked again: it never widens and never narrows a grant.
//!
//! | event | ref | commit | head | who |
//! |---|---|---|---|---|
//! | push | the branch | `after`, if the branch's head or an ancestor of it | the branch's head | the ref proves it |
//! | tag push, release | the tag | the tag's commit, if the event's id is the tag or its commit | the same | the ref proves it |
//! | merge request, note on one | the source branch | the event's head, if the merge request's or an ancestor of it | the merge request's | the actor |
//! | pipeline, job | the merge request's source, else its ref | likewise | likewise | the actor |
//! | deployment | the branch, else the tag, of its name | likewise | likewise | the actor |
//! | request by `/incoming` | the branch | the branch's head | the same | whoever holds the secret, as GitLab |
//! | note on a commit | none | the commit, if some ref of the project holds it | none | the actor |
//! | anything else, a deleted ref | its name | none | none | the actor |
//!
//! An event is past if the head is another commit than its own, if the ref that it says was deleted is there, if the merge
//! request is in another state than it says, or if it is a comment of more than an hour ago.

use std::collections::BTreeSet;
use std::time::Duration;

use penstock_model::event::{EventKind, MergeRequest, NoteTarget, Request};
use penstock_model::id::{CommitId, ProjectId, ProjectPath, RefName, Timestamp, UserId};
use penstock_model::scope::{Actor, Group, Project, Provenance, Scope};
use penstock_model::tenant::Visibility;

use crate::api::to_actor;
use crate::client::Client;
use crate::error::ApiError;
use crate::parse::{ActorClaim, Parsed, ScopeClaim};
use crate::scope::HookScope;
use crate::trust::{Code, MAINTAINER, ProvesRef, Who, judge};

mod code;
mod host;

pub use host::{confirm_host, host_claims};

/// Ids of Penstock's own users in this GitLab: the token's and those it had before.
pub type OwnUsers = BTreeSet<UserId>;

/// What GitLab said of an event.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Confirmed {
    /// What happened; where a merge request's code comes from and who opened it are GitLab's word of now.
    pub kind: EventKind,
    /// What it happened in.
    pub scope: Scope,
    /// Who did it; none: nobody, or somebody whom GitLab does not know.
    pub actor: Option<Actor>,
    /// How far it is trusted.
    pub provenance: Provenance,
    /// Full name of the ref that it is about.
    pub ref_name: Option<RefName>,
    /// The commit that files are read at: GitLab has it.
    pub commit: Option<CommitId>,
    /// Head of the ref or merge request as it is now: what supersedes. None: there is none, or it could not be confirmed.
    pub head: Option<CommitId>,
    /// GitLab has gone on since: another head, a ref that is there again, a merge request in another state, a comment of hours ago.
    /// Such an event, taken in late, ends nothing that came after it.
    pub past: bool,
}

impl Confirmed {
    /// GitLab showed the project or group itself. If not, even its path is only what the body said.
    pub fn is_known(&self) -> bool {
        match &self.scope {
            Scope::Project(project) => !project.web_url.is_empty(),
            Scope::Group(group) => !group.web_url.is_empty(),
            Scope::Instance => true,
        }
    }
}

/// Why an event is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// By id it is not the hook's project or group: the body is forged, or the project has moved. It has failed for good.
    #[error(
        "the event came by the hook of {scope}, and by id it is about `{path}`, which is not the hook's"
    )]
    OutOfScope {
        /// The hook's scope.
        scope: String,
        /// Path that GitLab gave for the id.
        path: String,
    },
    /// GitLab has no answer now: try again.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Whether the project of this id bears this path now: a body may name any id beside a path of its own.
///
/// # Errors
/// GitLab has no answer now.
pub async fn is_at(client: &Client, id: ProjectId, path: &ProjectPath) -> Result<bool, ApiError> {
    let found = known(client.project(id).await)?;
    Ok(found.is_some_and(|project| project.path.as_str().eq_ignore_ascii_case(path.as_str())))
}

/// Who can see the project now. What GitLab does not say, or does not show, counts as seen by everybody.
///
/// # Errors
/// GitLab has no answer now.
pub async fn visibility(client: &Client, id: ProjectId) -> Result<Visibility, ApiError> {
    let word = known(client.visibility(id).await)?.flatten();
    let found = word.as_deref().and_then(Visibility::parse);
    Ok(found.unwrap_or(Visibility::Public))
}

/// Asks GitLab what an event only says.
///
/// # Errors
/// The project or group is not the hook's, or GitLab has no answer now.
pub async fn confirm(
    client: &Client,
    parsed: &Parsed,
    scope: &HookScope,
    own: &OwnUsers,
) -> Result<Confirmed, ConfirmError> {
    match &parsed.scope {
        ScopeClaim::Project { id, path } => match known(client.project(*id).await)? {
            Some(project) => {
                if !scope.contains_project(project.id, project.path.as_str()) {
                    return Err(out_of_scope(scope, project.path.as_str()));
                }
                Ok(in_project(client, parsed, project, own).await?)
            }
            None => Ok(unconfirmed(
                parsed,
                Scope::Project(Project {
                    id: *id,
                    path: path.clone(),
                    default_branch: None,
                    web_url: String::new(),
                    visibility: "private".to_owned(),
                }),
                own,
            )),
        },
        ScopeClaim::Group { id, path } => match known(client.group(&id.to_string()).await)? {
            Some(group) => {
                if !scope.contains(&group.path) {
                    return Err(out_of_scope(scope, &group.path));
                }
                Ok(in_group(client, parsed, group, own).await?)
            }
            // Without a full path nothing but GitLab can tell whose group it is.
            None => match path.as_deref().filter(|path| scope.contains(path)) {
                Some(path) => Ok(unconfirmed(
                    parsed,
                    Scope::Group(Group {
                        id: *id,
                        path: path.to_owned(),
                        web_url: String::new(),
                    }),
                    own,
                )),
                None => Err(out_of_scope(scope, &format!("group {id}"))),
            },
        },
        ScopeClaim::Instance if *scope == HookScope::Instance => {
            Ok(unconfirmed(parsed, Scope::Instance, own))
        }
        ScopeClaim::Instance => Err(out_of_scope(scope, "the whole instance")),
    }
}

fn out_of_scope(scope: &HookScope, path: &str) -> ConfirmError {
    ConfirmError::OutOfScope {
        scope: scope.to_string(),
        path: path.to_owned(),
    }
}

/// None: GitLab says that it is not there or does not show it.
fn known<T>(found: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_denial() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What counts where nothing could be confirmed: the claims, with no rights.
fn unconfirmed(parsed: &Parsed, scope: Scope, own: &OwnUsers) -> Confirmed {
    Confirmed {
        kind: parsed.kind.clone(),
        scope,
        actor: parsed.actor.as_ref().map(|claim| nameless(claim, own)),
        provenance: Provenance::unconfirmed(),
        ref_name: parsed.ref_name.clone(),
        commit: None,
        head: None,
        past: false,
    }
}

fn nameless(claim: &ActorClaim, own: &OwnUsers) -> Actor {
    Actor {
        id: claim.id,
        username: claim.username.clone(),
        bot: false,
        host: own.contains(&claim.id),
        access: None,
    }
}

async fn in_group(
    client: &Client,
    parsed: &Parsed,
    group: Group,
    own: &OwnUsers,
) -> Result<Confirmed, ApiError> {
    let actor = match &parsed.actor {
        Some(claim) => Some(match known(client.user(claim.id).await)? {
            Some(user) => {
                let access = known(client.group_access(group.id, claim.id).await)?;
                to_actor(&user, access, own)
            }
            None => nameless(claim, own),
        }),
        None => None,
    };
    let (trust, confirmed) = judge(
        Code::None,
        who(parsed, actor.as_ref(), false),
        ProvesRef::No,
    );
    Ok(Confirmed {
        provenance: Provenance {
            trust,
            ref_protected: false,
            source_project: None,
            confirmed,
        },
        actor,
        ..unconfirmed(parsed, Scope::Group(group), own)
    })
}

async fn in_project(
    client: &Client,
    parsed: &Parsed,
    project: Project,
    own: &OwnUsers,
) -> Result<Confirmed, ApiError> {
    let actor = match &parsed.actor {
        Some(claim) => Some(
            match known(client.actor(project.id, claim.id, own).await)? {
                Some(actor) => actor,
                None => nameless(claim, own),
            },
        ),
        None => None,
    };
    let found = code::find(client, parsed, &project).await?;
    let proves_ref = proves_ref(&parsed.kind);
    let may_change = match (&actor, &found.ref_name) {
        (Some(actor), Some(ref_name))
            if found.code == Code::Protected && proves_ref == ProvesRef::No =>
        {
            may_change_ref(client, project.id, ref_name, actor).await?
        }
        _ => false,
    };
    let (trust, confirmed) = judge(
        found.code,
        who(parsed, actor.as_ref(), may_change),
        proves_ref,
    );
    let mut kind = parsed.kind.clone();
    if let (Some(asked), Some(ref_name), Some(commit)) =
        (&parsed.asked, &found.ref_name, &found.commit)
    {
        kind = EventKind::Request(Request {
            name: asked.name.clone(),
            ref_name: ref_name.clone(),
            commit: commit.clone(),
            parameters: asked.parameters.clone(),
            source: crate::incoming::KIND.to_owned(),
        });
    }
    if let (Some(row), Some(merge_request)) = (&found.merge_request, merge_request_of(&mut kind)) {
        merge_request.source_project = row.source_project_id.map(ProjectId);
        merge_request.author = row.author();
        // What was open when the event was sent may have ended since: nothing is to run for it.
        if !row.state.is_empty() {
            row.state.clone_into(&mut merge_request.state);
        }
    }
    let superseded = found.head.is_some() && found.head != found.commit;
    Ok(Confirmed {
        past: found.past || superseded || is_late(parsed, Timestamp::now()),
        kind,
        provenance: Provenance {
            trust,
            ref_protected: found.code == Code::Protected,
            source_project: found.source_project,
            confirmed,
        },
        scope: Scope::Project(project),
        actor,
        ref_name: found.ref_name,
        commit: found.commit,
        head: found.head,
    })
}

/// Nobody waits so long for what a comment asks to be ended: it was sent again, or waited here.
const LATE: Duration = Duration::from_secs(60 * 60);

fn is_late(parsed: &Parsed, now: Timestamp) -> bool {
    parsed.happened_at.is_some_and(|at| now.since(at) > LATE)
}

fn merge_request_of(kind: &mut EventKind) -> Option<&mut MergeRequest> {
    match kind {
        EventKind::MergeRequest(event) => Some(&mut event.merge_request),
        EventKind::Sweep(sweep) => sweep.merge_request.as_mut(),
        EventKind::Note(note) => match &mut note.target {
            NoteTarget::MergeRequest(merge_request) => Some(merge_request),
            NoteTarget::Commit(_) | NoteTarget::Other(_) => None,
        },
        _ => None,
    }
}

fn proves_ref(kind: &EventKind) -> ProvesRef {
    match kind {
        EventKind::Push(_) | EventKind::TagPush(_) | EventKind::Release(_) => ProvesRef::Yes,
        // That a branch or tag has this head proves that somebody could move it there.
        EventKind::Sweep(sweep) if sweep.merge_request.is_none() => ProvesRef::Yes,
        _ => ProvesRef::No,
    }
}

fn who(parsed: &Parsed, actor: Option<&Actor>, may_change_ref: bool) -> Who {
    match (actor, &parsed.kind) {
        (Some(actor), _) => Who::User {
            access: actor.access,
            may_change_ref,
        },
        (None, EventKind::Release(_) | EventKind::TokenExpiring(_)) => Who::Gitlab,
        // Whoever holds the secret of an entry of `incoming`, which the operator gave for these branches.
        (None, _) if parsed.asked.is_some() => Who::Gitlab,
        (None, EventKind::Sweep(sweep)) if sweep.merge_request.is_none() => Who::Gitlab,
        (None, _) => Who::Unknown,
    }
}

/// The rules of the protected ref let this user change it; where rules are not shown: a maintainer.
async fn may_change_ref(
    client: &Client,
    project: ProjectId,
    ref_name: &RefName,
    actor: &Actor,
) -> Result<bool, ApiError> {
    let Some(access) = actor.access else {
        return Ok(false);
    };
    let (rules, short) = match ref_name.as_str().strip_prefix("refs/tags/") {
        Some(tag) => (client.tag_rules(project).await?, tag),
        None => (
            client.branch_rules(project).await?,
            ref_name
                .as_str()
                .strip_prefix("refs/heads/")
                .unwrap_or(ref_name.as_str()),
        ),
    };
    Ok(match rules {
        Some(rules) => rules
            .iter()
            .any(|rule| rule.covers(short) && rule.lets(actor.id, access)),
        None => access >= MAINTAINER,
    })
}
