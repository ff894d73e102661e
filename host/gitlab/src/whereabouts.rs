//! What GitLab can still say of a commit or a merge request whose event never came.

use penstock_model::id::{CommitId, Timestamp};
use penstock_model::scope::Project;
use serde::Deserialize;

use crate::api::or_default;
use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;

/// GitLab sends no push event for a push of more refs than this.
pub const MOST_REFS_TOLD: u64 = 3;

/// Rows of a project's activity that are looked through.
const MOST_ACTIVITY: &str = "100";

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// A commit, by its id or the beginning of it.
    Commit(String),
    /// A merge request, by its number in the project.
    MergeRequest(u64),
}

/// What GitLab says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The project; none: there is none of this path, or it is not shown.
    pub project: Option<Project>,
    /// The commit, or the merge request's head; none: the project has none.
    pub commit: Option<FoundCommit>,
    /// Short names of branches and tags that hold it, at most a hundred. Of a merge request's head they are not asked for.
    pub refs: Vec<String>,
    /// Pushes of more refs at once than GitLab tells of, newest first.
    pub bulk_pushes: Vec<BulkPush>,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCommit {
    /// Full id.
    pub id: CommitId,
    /// Whole message.
    pub message: String,
}

/// A push of more refs at once than [`MOST_REFS_TOLD`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkPush {
    /// How many refs.
    pub refs: u64,
    /// By whom.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

#[derive(Deserialize)]
struct CommitRow {
    id: CommitId,
    #[serde(default, deserialize_with = "or_default")]
    message: String,
}

#[derive(Deserialize)]
struct ActivityRow {
    #[serde(default, deserialize_with = "or_default")]
    created_at: String,
    #[serde(default, deserialize_with = "or_default")]
    author_username: String,
    #[serde(default)]
    push_data: Option<PushData>,
}

#[derive(Deserialize)]
struct PushData {
    #[serde(default)]
    ref_count: Option<u64>,
}

/// Asks where something is. What GitLab does not show is left out.
///
/// # Errors
/// GitLab has no answer now.
pub async fn whereabouts(
    client: &Client,
    path: &str,
    sought: &Sought,
) -> Result<Whereabouts, ApiError> {
    let mut found = Whereabouts::default();
    let Some(project) = shown(client.project_by_path(path).await)? else {
        return Ok(found);
    };
    let id = project.id.to_string();
    let revision = match sought {
        Sought::Commit(sha) => sha.clone(),
        // GitLab keeps the head of each under this name, whatever became of its branch.
        Sought::MergeRequest(iid) => format!("refs/merge-requests/{iid}/head"),
    };
    let path = ["projects", &id, "repository", "commits", &revision];
    let call = Call::get("commit", &path)
        .with("stats", "false")
        .of(project.id);
    if let Some(row) = shown(client.now::<CommitRow>(&call).await)? {
        if matches!(sought, Sought::Commit(_)) {
            found.refs =
                shown(client.refs_that_hold(project.id, &row.id, 100).await)?.unwrap_or_default();
        }
        found.commit = Some(FoundCommit {
            id: row.id,
            message: row.message,
        });
    }
    found.bulk_pushes = bulk_pushes(client, &project).await?;
    found.project = Some(project);
    Ok(found)
}

async fn bulk_pushes(client: &Client, project: &Project) -> Result<Vec<BulkPush>, ApiError> {
    let id = project.id.to_string();
    let path = ["projects", &id, "events"];
    let call = Call::get("activity", &path)
        .with("action", "pushed")
        .with("per_page", MOST_ACTIVITY)
        .of(project.id);
    let rows: Vec<ActivityRow> = shown(client.now(&call).await)?.unwrap_or_default();
    let found = rows.into_iter().filter_map(|row| {
        let refs = row.push_data?.ref_count;
        let refs = refs.filter(|count| *count > MOST_REFS_TOLD)?;
        let at = row.created_at.parse::<jiff::Timestamp>().ok()?;
        Some(BulkPush {
            refs,
            by: row.author_username,
            at: Timestamp(u64::try_from(at.as_millisecond()).unwrap_or_default()),
        })
    });
    Ok(found.collect())
}

/// None: GitLab says that it is not there, does not show it, or refuses the name.
fn shown<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(ApiError::Refused { .. }) => Ok(None),
        Err(error) if error.is_denial() => Ok(None),
        Err(error) => Err(error),
    }
}
