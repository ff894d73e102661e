//! Where everything stands in a project right now: what a delivery that was lost would have told of.

use penstock_model::event::MergeRequest;
use penstock_model::id::{CommitId, ProjectId, Timestamp, UserId};
use penstock_model::scope::Project;
use serde::Deserialize;

use crate::api::{IdRow, MergeRequestRow, ProjectRow, or_default};
use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;
use crate::scope::HookScope;

/// Pages of a hundred rows that are read of each list.
const MOST_PAGES: usize = 30;

/// A comment that changed no later than this after it was written was written so, in milliseconds.
const SAME_MOMENT: u64 = 1_000;

/// Heads of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Short names of branches and their commits.
    pub branches: Vec<(String, CommitId)>,
    /// Short names of tags and the commits that they lead to.
    pub tags: Vec<(String, CommitId)>,
    /// Open merge requests.
    pub merge_requests: Vec<OpenRequest>,
    /// Names of the lists that were too long to be read whole: what is missing in one of them says nothing.
    pub cut: Vec<&'static str>,
}

/// An open merge request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// It.
    pub request: MergeRequest,
    /// Name of who opened it.
    pub author_name: String,
    /// When anything of it last changed, its comments too.
    pub updated_at: Timestamp,
}

/// Rows of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// They.
    pub rows: Vec<T>,
    /// It was not too long to be read whole.
    pub complete: bool,
}

/// A comment of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNote {
    /// GitLab's id.
    pub id: u64,
    /// Markdown.
    pub text: String,
    /// Who wrote it.
    pub author: UserId,
    /// GitLab's name.
    pub author_name: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// It may say something else than it did then.
    pub edited: bool,
}

#[derive(Deserialize)]
struct RefRow {
    name: String,
    commit: IdRow,
}

#[derive(Deserialize)]
struct Named {
    id: u64,
    #[serde(default, deserialize_with = "or_default")]
    username: String,
}

#[derive(Deserialize)]
struct NoteRow {
    id: u64,
    #[serde(default, deserialize_with = "or_default")]
    body: String,
    #[serde(default, deserialize_with = "or_default")]
    system: bool,
    author: Named,
    #[serde(default, deserialize_with = "or_default")]
    created_at: String,
    #[serde(default, deserialize_with = "or_default")]
    updated_at: String,
}

/// Heads of branches, tags and open merge requests.
///
/// # Errors
/// GitLab has no answer, or does not show the project to our user.
pub async fn heads(client: &Client, project: ProjectId) -> Result<Heads, ApiError> {
    let id = project.to_string();
    let mut heads = Heads::default();
    for list in ["branches", "tags"] {
        let path = ["projects", &id, "repository", list];
        let call = Call::get("heads", &path).of(project);
        let found = client.pages::<RefRow>(&call, MOST_PAGES).await?;
        let rows = found.rows.into_iter().map(|row| (row.name, row.commit.id));
        match list {
            "tags" => heads.tags = rows.collect(),
            _ => heads.branches = rows.collect(),
        }
        if !found.complete {
            heads.cut.push(list);
        }
    }
    let path = ["projects", &id, "merge_requests"];
    let call = Call::get("heads", &path)
        .with("state", "opened")
        .of(project);
    let found = client.pages::<MergeRequestRow>(&call, MOST_PAGES).await?;
    if !found.complete {
        heads.cut.push("merge_requests");
    }
    heads.merge_requests = found
        .rows
        .into_iter()
        .filter_map(|row| {
            Some(OpenRequest {
                request: row.to_model()?,
                author_name: row.author_name().to_owned(),
                updated_at: time(&row.updated_at),
            })
        })
        .collect();
    Ok(heads)
}

/// A merge request as it is now, open or not; none: it is not there, or GitLab does not show it.
///
/// # Errors
/// GitLab has no answer now.
pub async fn merge_request_now(
    client: &Client,
    project: ProjectId,
    iid: u64,
) -> Result<Option<MergeRequest>, ApiError> {
    match client.merge_request(project, iid).await {
        Ok(row) => Ok(row.to_model()),
        Err(error) if error.is_denial() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Comments that people wrote on a merge request since a time, oldest first; of too many the newest.
///
/// # Errors
/// GitLab has no answer, or does not show them to our user.
pub async fn notes_since(
    client: &Client,
    project: ProjectId,
    iid: u64,
    since: Timestamp,
) -> Result<Listed<SeenNote>, ApiError> {
    let (id, iid) = (project.to_string(), iid.to_string());
    let path = ["projects", &id, "merge_requests", &iid, "notes"];
    let call = Call::get("notes", &path)
        .with("order_by", "created_at")
        .with("sort", "desc")
        .of(project);
    // Newest first: what is older than the time need not be read.
    let older = |row: &NoteRow| time(&row.created_at) < since;
    let found = client.pages_until(&call, MOST_PAGES, older).await?;
    let mut notes: Vec<SeenNote> = found
        .rows
        .into_iter()
        .filter(|row| !row.system)
        .map(|row| SeenNote {
            id: row.id,
            text: row.body,
            author: UserId(row.author.id),
            author_name: row.author.username,
            created_at: time(&row.created_at),
            edited: time(&row.updated_at).0 > time(&row.created_at).0.saturating_add(SAME_MOMENT),
        })
        .filter(|note| note.created_at >= since)
        .collect();
    notes.sort_by_key(|note| note.id);
    Ok(Listed {
        rows: notes,
        complete: found.complete,
    })
}

/// The projects that a hook speaks for; none for a system hook, whose projects are too many to go through.
///
/// # Errors
/// GitLab has no answer, or does not show the group to our user.
pub async fn projects_of(
    client: &Client,
    scope: &HookScope,
) -> Result<Option<Listed<Project>>, ApiError> {
    let one = |project| Listed {
        rows: vec![project],
        complete: true,
    };
    match scope {
        HookScope::Group(group) => {
            let path = ["groups", group.as_str(), "projects"];
            let call = Call::get("group.projects", &path)
                .with("include_subgroups", "true")
                .with("archived", "false")
                .with("with_shared", "false");
            let found = client.pages::<ProjectRow>(&call, MOST_PAGES).await?;
            Ok(Some(Listed {
                rows: found.rows.into_iter().map(Project::from).collect(),
                complete: found.complete,
            }))
        }
        HookScope::Project(path) => Ok(Some(one(client.project_by_path(path).await?))),
        HookScope::ProjectId(id) => Ok(Some(one(client.project(*id).await?))),
        HookScope::Instance => Ok(None),
    }
}

/// A time of GitLab's; one that can't be read is later than all others, so that nothing is missed because of it.
fn time(text: &str) -> Timestamp {
    let read = text.parse::<jiff::Timestamp>().ok();
    let millis = read.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    Timestamp(millis.unwrap_or(u64::MAX))
}
