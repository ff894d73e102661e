//! What GitLab can still say of a commit or a merge request whose event never came, and which deliveries tell of a commit.

use penstock_model::id::{CommitId, Timestamp};
use penstock_model::scope::Project;
use serde::Deserialize;
use serde_json::Value;

use crate::api::or_default;
use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;

/// Rows of a project's activity that are looked through.
const MOST_ACTIVITY: &str = "100";

/// Where an event names the commit that it is about.
const HEADS: [&str; 7] = [
    "/after",
    "/checkout_sha",
    "/object_attributes/last_commit/id",
    "/object_attributes/commit_id",
    "/object_attributes/sha",
    "/merge_request/last_commit/id",
    "/commit/id",
];

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
    /// Pushes of several refs at once, newest first: GitLab tells of no push of more than three.
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

/// A push of several refs at once.
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
        let refs = row.push_data?.ref_count.filter(|count| *count > 1)?;
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

/// The body of a webhook tells of a commit, as its head or among what was pushed. `commit` is an id or the beginning of one, in lower case.
pub fn tells_of(body: &[u8], commit: &str) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let is = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .is_some_and(|id| id.starts_with(commit))
    };
    let pushed = body.get("commits").and_then(Value::as_array);
    HEADS.iter().any(|head| is(body.pointer(head)))
        || is(body.get("commit"))
        || pushed
            .into_iter()
            .flatten()
            .any(|pushed| is(pushed.get("id")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn check(body: Value, expect: bool) {
        for commit in [SHA, &SHA[..7]] {
            assert_eq!(
                tells_of(body.to_string().as_bytes(), commit),
                expect,
                "{body}"
            );
        }
    }

    #[test]
    fn a_body_tells_of_the_commits_that_it_brings_and_not_of_those_that_it_replaces() {
        check(json!({ "after": SHA }), true);
        check(json!({ "after": "f00", "commits": [{ "id": SHA }] }), true);
        check(
            json!({ "object_attributes": { "last_commit": { "id": SHA } } }),
            true,
        );
        check(
            json!({ "merge_request": { "last_commit": { "id": SHA } } }),
            true,
        );
        check(json!({ "before": SHA, "after": "f00" }), false);
        check(json!({ "object_attributes": { "oldrev": SHA } }), false);
        check(json!([SHA]), false);
        assert!(!tells_of(b"{", SHA));
    }
}
