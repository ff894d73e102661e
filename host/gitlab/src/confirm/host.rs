//! Confirms what the host itself found out: an event without a webhook, without a hook's scope and without an actor.
//!
//! The end of a run may do what the event could that the run came of, and no more: its trust was confirmed then. A sweep is asked anew, as if
//! the event that was lost had come: a head of a branch or tag proves that somebody could change it; a merge request is trusted no further than
//! its author. Who really did it is not known, so no actor is named. A comment is its author's, as GitLab lists it.

use penstock_model::event::{EventKind, Sweep};
use penstock_model::host_event::HostEvent;
use penstock_model::id::{CommitId, ProjectId, RefName};
use penstock_model::run::Run;
use penstock_model::scope::{Project, Provenance, Scope, Trust};

use super::{Confirmed, OwnUsers, in_project, known, unconfirmed, who};
use crate::client::Client;
use crate::error::ApiError;
use crate::parse::{ActorClaim, Parsed, ScopeClaim};
use crate::trust::{Code, ProvesRef, judge};

/// What an event of the host's own says, in the words of a delivery.
pub fn host_claims(event: &HostEvent) -> Parsed {
    Parsed {
        kind: event.kind.clone(),
        scope: ScopeClaim::Project {
            id: event.of.project,
            path: event.of.path.clone(),
        },
        actor: event.suspect.as_ref().map(|suspect| ActorClaim {
            id: suspect.id,
            username: suspect.username.clone(),
        }),
        ref_name: event.ref_name.clone(),
        revision: event
            .commit
            .as_ref()
            .map(|commit| commit.as_str().to_owned()),
        source_project: event.source_project,
        asked: None,
        happened_at: None,
    }
}

/// Asks GitLab about an event of the host's own.
///
/// # Errors
/// GitLab has no answer now.
pub async fn confirm_host(
    client: &Client,
    event: &HostEvent,
    own: &OwnUsers,
) -> Result<Confirmed, ApiError> {
    let parsed = host_claims(event);
    let Some(project) = known(client.project(event.of.project).await)? else {
        let scope = Scope::Project(nameless(event.of.project));
        return Ok(Confirmed {
            actor: None,
            ..unconfirmed(&parsed, scope, own)
        });
    };
    match &event.kind {
        EventKind::RunFinished(finished) => of_run(client, event, &finished.run, project).await,
        // GitLab itself names who wrote it.
        EventKind::Note(_) => in_project(client, &parsed, project, own).await,
        EventKind::Sweep(sweep) => of_sweep(client, &parsed, sweep, project, own).await,
        _ => Ok(Confirmed {
            actor: None,
            ..unconfirmed(&parsed, Scope::Project(project), own)
        }),
    }
}

fn nameless(id: ProjectId) -> Project {
    Project {
        id,
        path: "".into(),
        default_branch: None,
        web_url: String::new(),
        visibility: "private".to_owned(),
    }
}

async fn of_run(
    client: &Client,
    event: &HostEvent,
    run: &Run,
    project: Project,
) -> Result<Confirmed, ApiError> {
    let head = match run.merge_request {
        Some(iid) => known(client.merge_request(project.id, iid).await)?.and_then(|row| row.sha),
        None => head_of(client, project.id, run.ref_name.as_ref()).await?,
    };
    let source_project = match event.source_project {
        Some(source) => {
            Some(known(client.project(source).await)?.unwrap_or_else(|| nameless(source)))
        }
        None => None,
    };
    Ok(Confirmed {
        past: head.is_some() && head != event.commit,
        kind: event.kind.clone(),
        provenance: Provenance {
            trust: event.most,
            ref_protected: event.most == Trust::Protected,
            confirmed: event.most != Trust::Untrusted || source_project.is_some(),
            source_project,
        },
        scope: Scope::Project(project),
        actor: None,
        ref_name: event.ref_name.clone(),
        commit: event.commit.clone(),
        head,
    })
}

async fn head_of(
    client: &Client,
    project: ProjectId,
    ref_name: Option<&RefName>,
) -> Result<Option<CommitId>, ApiError> {
    let Some(name) = ref_name.map(RefName::as_str) else {
        return Ok(None);
    };
    Ok(match name.strip_prefix("refs/tags/") {
        Some(tag) => known(client.tag(project, tag).await)?.map(|row| row.commit.id),
        None => {
            let branch = name.strip_prefix("refs/heads/").unwrap_or(name);
            known(client.branch(project, branch).await)?.map(|row| row.commit.id)
        }
    })
}

async fn of_sweep(
    client: &Client,
    parsed: &Parsed,
    sweep: &Sweep,
    project: Project,
    own: &OwnUsers,
) -> Result<Confirmed, ApiError> {
    let id = project.id;
    let mut confirmed = in_project(client, parsed, project, own).await?;
    if sweep.merge_request.is_some() && sweep.found.is_none() {
        // It is closed: there is no commit to look for, and what may be done is what its author could have asked for.
        let foreign = confirmed
            .provenance
            .source_project
            .as_ref()
            .is_some_and(|source| source.id != id);
        let code = if foreign { Code::Foreign } else { Code::None };
        let who = who(parsed, confirmed.actor.as_ref(), false);
        let (trust, sure) = judge(code, who, ProvesRef::No);
        confirmed.provenance.trust = trust;
        confirmed.provenance.confirmed = sure;
        confirmed.head = None;
    }
    confirmed.actor = None;
    Ok(confirmed)
}
