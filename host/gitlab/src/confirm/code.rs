//! Where the code of an event is: on its branch or tag, in its merge request, in a fork, or nowhere to be found.

use penstock_model::event::{EventKind, NoteTarget};
use penstock_model::id::{CommitId, ProjectId, RefName};
use penstock_model::scope::Project;

use super::known;
use crate::api::MergeRequestRow;
use crate::claims::full_ref;
use crate::client::Client;
use crate::error::ApiError;
use crate::parse::Parsed;
use crate::trust::Code;

/// What is known of the code.
pub(super) struct Found {
    pub(super) code: Code,
    pub(super) commit: Option<CommitId>,
    pub(super) head: Option<CommitId>,
    pub(super) ref_name: Option<RefName>,
    pub(super) source_project: Option<Project>,
    pub(super) merge_request: Option<MergeRequestRow>,
    /// GitLab has gone on since the event.
    pub(super) past: bool,
}

impl Found {
    fn nothing(code: Code, ref_name: Option<RefName>) -> Self {
        Self {
            code,
            commit: None,
            head: None,
            ref_name,
            source_project: None,
            merge_request: None,
            past: false,
        }
    }
}

/// What GitLab says of the code that an event is about.
pub(super) async fn find(
    client: &Client,
    parsed: &Parsed,
    project: &Project,
) -> Result<Found, ApiError> {
    let iid = match &parsed.kind {
        EventKind::MergeRequest(event) => Some(event.merge_request.iid),
        EventKind::Note(note) => match &note.target {
            NoteTarget::MergeRequest(merge_request) => Some(merge_request.iid),
            NoteTarget::Commit(id) => return on_any_ref(client, project.id, id).await,
            NoteTarget::Other(_) => None,
        },
        EventKind::Pipeline(pipeline) => pipeline.merge_request,
        EventKind::Sweep(sweep) => sweep.merge_request.as_ref().map(|request| request.iid),
        _ => None,
    };
    if let Some(iid) = iid {
        return in_merge_request(client, parsed, project, iid).await;
    }
    if let EventKind::Deployment(deployment) = &parsed.kind {
        return of_deployment(client, parsed, project.id, &deployment.git_ref).await;
    }
    match (&parsed.ref_name, parsed.revision.as_deref()) {
        (Some(ref_name), None) if parsed.asked.is_some() => {
            at_head(client, project.id, ref_name).await
        }
        (Some(ref_name), Some(revision)) => on_ref(client, project.id, ref_name, revision).await,
        (Some(ref_name), None) => Ok(Found {
            past: is_deletion(&parsed.kind) && is_there(client, project.id, ref_name).await?,
            ..Found::nothing(Code::None, Some(ref_name.clone()))
        }),
        (None, _) => Ok(Found::nothing(Code::None, None)),
    }
}

fn is_deletion(kind: &EventKind) -> bool {
    match kind {
        EventKind::Push(push) => push.after.is_none(),
        EventKind::TagPush(push) => push.after.is_none(),
        _ => false,
    }
}

/// The branch or tag exists.
async fn is_there(client: &Client, project: ProjectId, name: &RefName) -> Result<bool, ApiError> {
    let text = name.as_str();
    Ok(match text.strip_prefix("refs/tags/") {
        Some(tag) => known(client.tag(project, tag).await)?.is_some(),
        None => {
            let branch = text.strip_prefix("refs/heads/").unwrap_or(text);
            known(client.branch(project, branch).await)?.is_some()
        }
    })
}

/// The branch as it is now.
async fn at_head(
    client: &Client,
    project: ProjectId,
    ref_name: &RefName,
) -> Result<Found, ApiError> {
    let text = ref_name.as_str();
    let name = text.strip_prefix("refs/heads/").unwrap_or(text);
    let Some(branch) = known(client.branch(project, name).await)? else {
        return Ok(Found::nothing(Code::Unconfirmed, Some(ref_name.clone())));
    };
    let head = branch.commit.id;
    Ok(Found {
        commit: Some(head.clone()),
        head: Some(head),
        ..Found::nothing(
            code(branch.protected.unwrap_or(false)),
            Some(ref_name.clone()),
        )
    })
}

/// The commit is on the branch or tag, or was: it is an ancestor of its head.
async fn on_ref(
    client: &Client,
    project: ProjectId,
    ref_name: &RefName,
    revision: &str,
) -> Result<Found, ApiError> {
    let text = ref_name.as_str();
    if let Some(tag) = text.strip_prefix("refs/tags/") {
        return on_tag(client, project, ref_name, tag, revision).await;
    }
    let name = text.strip_prefix("refs/heads/").unwrap_or(text);
    let Some(branch) = known(client.branch(project, name).await)? else {
        return unconfirmed_code(client, project, ref_name, revision).await;
    };
    let head = branch.commit.id;
    if !client.is_ancestor(project, revision, &head).await? {
        let found = unconfirmed_code(client, project, ref_name, revision).await?;
        return Ok(Found {
            head: Some(head),
            ..found
        });
    }
    let protected = branch.protected.unwrap_or(false);
    Ok(Found {
        commit: CommitId::parse(revision).ok(),
        head: Some(head),
        ..Found::nothing(code(protected), Some(ref_name.clone()))
    })
}

fn code(protected: bool) -> Code {
    if protected {
        Code::Protected
    } else {
        Code::Own
    }
}

async fn on_tag(
    client: &Client,
    project: ProjectId,
    ref_name: &RefName,
    name: &str,
    revision: &str,
) -> Result<Found, ApiError> {
    let Some(tag) = known(client.tag(project, name).await)? else {
        return unconfirmed_code(client, project, ref_name, revision).await;
    };
    let commit = tag.commit.id;
    if revision != commit.as_str() && revision != tag.target {
        let found = unconfirmed_code(client, project, ref_name, revision).await?;
        return Ok(Found {
            head: Some(commit),
            ..found
        });
    }
    let protected = match tag.protected {
        Some(protected) => protected,
        None => client
            .tag_rules(project)
            .await?
            .unwrap_or_default()
            .iter()
            .any(|rule| rule.covers(name)),
    };
    Ok(Found {
        commit: Some(commit.clone()),
        head: Some(commit),
        ..Found::nothing(code(protected), Some(ref_name.clone()))
    })
}

/// What is left of a commit that is not where it should be: GitLab may still have it, so that its files can be read.
async fn unconfirmed_code(
    client: &Client,
    project: ProjectId,
    ref_name: &RefName,
    revision: &str,
) -> Result<Found, ApiError> {
    let commit = match client.commit(project, revision).await {
        Err(ApiError::Refused { .. }) => None,
        other => known(other)?,
    };
    Ok(Found {
        commit,
        ..Found::nothing(Code::Unconfirmed, Some(ref_name.clone()))
    })
}

/// The merge request was closed, merged or opened again since.
fn is_in_another_state(kind: &EventKind, row: &MergeRequestRow) -> bool {
    match kind {
        EventKind::MergeRequest(event) => {
            let said = event.merge_request.state.as_str();
            !said.is_empty() && !row.state.is_empty() && said != row.state
        }
        _ => false,
    }
}

async fn on_any_ref(client: &Client, project: ProjectId, id: &CommitId) -> Result<Found, ApiError> {
    let Some(commit) = known(client.commit(project, id.as_str()).await)? else {
        return Ok(Found::nothing(Code::Unconfirmed, None));
    };
    let on_ref = known(client.is_on_some_ref(project, &commit).await)?.unwrap_or(false);
    let code = if on_ref { Code::Own } else { Code::Unconfirmed };
    Ok(Found {
        commit: Some(commit),
        ..Found::nothing(code, None)
    })
}

async fn of_deployment(
    client: &Client,
    parsed: &Parsed,
    project: ProjectId,
    name: &str,
) -> Result<Found, ApiError> {
    let Some(revision) = parsed.revision.as_deref().filter(|_| !name.is_empty()) else {
        return Ok(Found::nothing(Code::None, None));
    };
    // The payload may give a short id; a tag and a branch of the same name are told apart by what holds the commit.
    let Some(commit) = known(client.commit(project, revision).await)? else {
        return Ok(Found::nothing(Code::Unconfirmed, None));
    };
    let branch = on_ref(client, project, &full_ref(name, false), commit.as_str()).await?;
    if branch.code != Code::Unconfirmed {
        return Ok(branch);
    }
    on_ref(client, project, &full_ref(name, true), commit.as_str()).await
}

async fn in_merge_request(
    client: &Client,
    parsed: &Parsed,
    project: &Project,
    iid: u64,
) -> Result<Found, ApiError> {
    let Some(row) = known(client.merge_request(project.id, iid).await)? else {
        return Ok(Found::nothing(Code::Unconfirmed, parsed.ref_name.clone()));
    };
    let ref_name = full_ref(&row.source_branch, false);
    let (Some(head), Some(revision)) = (row.sha.clone(), parsed.revision.as_deref()) else {
        return Ok(Found {
            merge_request: Some(row),
            ..Found::nothing(Code::Unconfirmed, Some(ref_name))
        });
    };
    // Commits of a fork's merge request can be read in the target project.
    let holds = client.is_ancestor(project.id, revision, &head).await?;
    let mut found = if holds {
        Found {
            commit: CommitId::parse(revision).ok(),
            ..Found::nothing(Code::Own, Some(ref_name.clone()))
        }
    } else {
        unconfirmed_code(client, project.id, &ref_name, revision).await?
    };
    found.head = Some(head);
    found.past = is_in_another_state(&parsed.kind, &row);
    match row.source_project_id.map(ProjectId) {
        Some(source) if source == project.id => {
            let branch = known(client.branch(project.id, &row.source_branch).await)?;
            // The branch may have been made anew since: what protects it says nothing of another branch's commit.
            if let Some(branch) = branch.filter(|branch| branch.protected.unwrap_or(false))
                && found.code == Code::Own
                && client
                    .is_ancestor(project.id, revision, &branch.commit.id)
                    .await?
            {
                found.code = Code::Protected;
            }
        }
        Some(source) => {
            if found.code == Code::Own {
                found.code = Code::Foreign;
            }
            found.source_project = Some(known(client.project(source).await)?.unwrap_or_else(
                || Project {
                    id: source,
                    path: "".into(),
                    default_branch: None,
                    web_url: String::new(),
                    visibility: "private".to_owned(),
                },
            ));
        }
        // The fork is gone.
        None => found.code = Code::Unconfirmed,
    }
    found.merge_request = Some(row);
    Ok(found)
}
