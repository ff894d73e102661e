//! Commit statuses: where one goes, and setting it.
//!
//! GitLab keeps a status in a *pipeline*, which it finds by project, commit and ref; 'Pipelines must succeed' looks at one pipeline
//! alone, the merge request's head pipeline. So where a status goes decides whether it counts ([`placement`]):
//!
//! | what it is about | project | ref | pipeline |
//! |---|---|---|---|
//! | a merge request whose head pipeline has the commit | that pipeline's | that pipeline's | that pipeline |
//! | a merge request otherwise | the source project: branch pipelines of a fork are looked up there alone | the source branch | - |
//! | a branch or tag | where the code comes from | its short name | - |
//! | a commit alone | where the code comes from | - | - |
//!
//! A merged-results pipeline has another commit and can't be given one of ours. Where a fork does not let us, the status goes to
//! the target project under `refs/merge-requests/N/head`: people see it on the commit, and no branch of the target is touched.

use penstock_model::admit::StatusOrder;
use penstock_model::effect::StatusState;
use penstock_model::id::{CommitId, ProjectId, UserId};
use penstock_model::scope::short_ref;
use serde::Deserialize;
use serde_json::json;

use crate::api::MergeRequestRow;
use crate::call::Call;
use crate::client::Client;
use crate::error::{ActError, ApiError};

/// Longest description, name and address, in characters.
const LONGEST: usize = 255;

/// What of a merge request decides where its status goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeRequestNow {
    /// Number in the target project.
    pub iid: u64,
    /// None: the fork is gone.
    pub source_project: Option<ProjectId>,
    /// Name of the branch.
    pub source_branch: String,
    /// The pipeline that decides whether it may be merged.
    pub head_pipeline: Option<HeadPipeline>,
}

/// A merge request's head pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadPipeline {
    /// GitLab's id.
    pub id: u64,
    /// The project that it runs in; none: GitLab does not say, and it is the target's.
    pub project: Option<ProjectId>,
    /// Its commit.
    pub sha: String,
    /// Its ref as GitLab writes it: a short name, or `refs/merge-requests/N/head`.
    pub git_ref: String,
}

impl From<&MergeRequestRow> for MergeRequestNow {
    fn from(row: &MergeRequestRow) -> Self {
        Self {
            iid: row.iid,
            source_project: row.source_project_id.map(ProjectId),
            source_branch: row.source_branch.clone(),
            head_pipeline: row.head_pipeline.as_ref().map(|pipeline| HeadPipeline {
                id: pipeline.id,
                project: pipeline.project_id.map(ProjectId),
                sha: pipeline.sha.clone(),
                git_ref: pipeline.git_ref.clone(),
            }),
        }
    }
}

/// Where a status goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The project that gets it.
    pub project: ProjectId,
    /// `ref`; none: GitLab takes any branch that holds the commit.
    pub git_ref: Option<String>,
    /// `pipeline_id`.
    pub pipeline: Option<u64>,
    /// Where it goes if that project is another and does not let us.
    pub otherwise: Option<Box<Placement>>,
}

/// Decides where a status goes. `merge_request` is the order's, as GitLab has it now; none: it has none, or GitLab does not show it.
pub fn placement(order: &StatusOrder, merge_request: Option<&MergeRequestNow>) -> Placement {
    let own = order.of.project;
    let otherwise = |project: ProjectId| {
        let iid = merge_request.map(|it| it.iid).or(order.merge_request);
        (project != own).then(|| {
            Box::new(Placement {
                project: own,
                git_ref: iid.map(|iid| format!("refs/merge-requests/{iid}/head")),
                pipeline: None,
                otherwise: None,
            })
        })
    };
    if let Some(merge_request) = merge_request {
        let head = merge_request.head_pipeline.as_ref();
        if let Some(pipeline) = head.filter(|pipeline| pipeline.sha == order.commit.as_str()) {
            let project = pipeline.project.unwrap_or(own);
            return Placement {
                project,
                git_ref: Some(pipeline.git_ref.clone()),
                pipeline: Some(pipeline.id),
                otherwise: otherwise(project),
            };
        }
        let project = merge_request
            .source_project
            .or(order.source_project)
            .unwrap_or(own);
        return Placement {
            project,
            git_ref: Some(merge_request.source_branch.clone()),
            pipeline: None,
            otherwise: otherwise(project),
        };
    }
    let project = order.source_project.unwrap_or(own);
    Placement {
        project,
        git_ref: order
            .ref_name
            .as_ref()
            .map(|name| short_ref(name).to_owned()),
        pipeline: None,
        otherwise: otherwise(project),
    }
}

/// What came of setting a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusOutcome {
    /// It is set.
    Set {
        /// The pipeline that it is in.
        pipeline: Option<u64>,
        /// The project that has it.
        project: ProjectId,
        /// Whose it is: GitLab finds a running status again for this user alone.
        user: Option<UserId>,
    },
    /// It had that state already.
    Already {
        /// The pipeline that it was posted for.
        pipeline: Option<u64>,
    },
    /// It was further already: a `pending` that came after `running`.
    Overtaken {
        /// The pipeline that it was posted for.
        pipeline: Option<u64>,
    },
}

/// Sets a commit status, one at a time for each project and commit.
///
/// # Errors
/// GitLab refuses for good, or asks to try again.
pub async fn set_status(client: &Client, order: &StatusOrder) -> Result<StatusOutcome, ActError> {
    let merge_request = match order.merge_request {
        Some(iid) => match client.merge_request(order.of.project, iid).await {
            Ok(row) => Some(MergeRequestNow::from(&row)),
            Err(error) if error.is_denial() => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let mut place = placement(order, merge_request.as_ref());
    loop {
        match post(client, order, &place).await {
            Err(error) if error.is_denial() => match place.otherwise.take() {
                Some(otherwise) => place = *otherwise,
                None => return Err(denied(order, &place, &error)),
            },
            other => return outcome(order, &place, other),
        }
    }
}

#[derive(Deserialize)]
struct StatusRow {
    #[serde(default)]
    pipeline_id: Option<u64>,
    #[serde(default)]
    author: Option<IdOfUser>,
}

#[derive(Deserialize)]
struct IdOfUser {
    id: u64,
}

/// A merge request's head pipeline, where it is of the head commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadNow {
    /// GitLab's id of the pipeline.
    pub pipeline: u64,
    /// The commit.
    pub commit: CommitId,
    /// The project that the code comes from.
    pub source: ProjectId,
}

/// The head pipeline of a merge request, as it is now; none: it has none of its head commit, which a status could be in.
///
/// # Errors
/// GitLab has no answer now.
pub async fn head_pipeline(
    client: &Client,
    project: ProjectId,
    iid: u64,
) -> Result<Option<HeadNow>, ApiError> {
    let row = match client.merge_request(project, iid).await {
        Ok(row) => row,
        Err(error) if error.is_denial() => return Ok(None),
        Err(error) => return Err(error),
    };
    let source = row.source_project_id.map_or(project, ProjectId);
    let head = row.sha.zip(row.head_pipeline);
    Ok(head
        .filter(|(commit, pipeline)| pipeline.sha == commit.as_str())
        .map(|(commit, pipeline)| HeadNow {
            pipeline: pipeline.id,
            commit,
            source,
        }))
}

async fn post(
    client: &Client,
    order: &StatusOrder,
    place: &Placement,
) -> Result<StatusRow, ApiError> {
    let gate = client
        .shared
        .status_gates
        .gate((place.project, order.commit.clone()));
    let _one_at_a_time = gate.lock().await;
    let project = place.project.to_string();
    let path = ["projects", &project, "statuses", order.commit.as_str()];
    let mut body = json!({
        "state": order.state.as_str(),
        "name": cut(&order.name),
        "description": cut(&order.description),
    });
    if let Some(fields) = body.as_object_mut() {
        if let Some(git_ref) = &place.git_ref {
            fields.insert("ref".to_owned(), json!(git_ref));
        }
        if let Some(pipeline) = place.pipeline {
            fields.insert("pipeline_id".to_owned(), json!(pipeline));
        }
        // Half an address would lead nowhere.
        if let Some(url) = order
            .target_url
            .as_ref()
            .filter(|url| url.chars().count() <= LONGEST)
        {
            fields.insert("target_url".to_owned(), json!(url));
        }
    }
    let call = Call::new(http::Method::POST, "status.set", &path)
        .json(body)
        .of(order.of.project);
    client.now(&call).await
}

fn outcome(
    order: &StatusOrder,
    place: &Placement,
    answer: Result<StatusRow, ApiError>,
) -> Result<StatusOutcome, ActError> {
    match answer {
        Ok(row) => Ok(StatusOutcome::Set {
            pipeline: row.pipeline_id.or(place.pipeline),
            project: place.project,
            user: row.author.map(|author| UserId(author.id)),
        }),
        Err(ApiError::Refused {
            status: 400,
            message,
        }) => match state_before(&message) {
            Some(state) if state == order.state.as_str() => Ok(StatusOutcome::Already {
                pipeline: place.pipeline,
            }),
            Some("running") if order.state == StatusState::Pending => {
                Ok(StatusOutcome::Overtaken {
                    pipeline: place.pipeline,
                })
            }
            _ => Err(ActError::Permanent(format!(
                "GitLab does not take the status `{}` of {}: {message}",
                order.name, order.commit
            ))),
        },
        // The status was set and its answer can't be read: setting it again does no harm.
        Err(error) => Err(error.into()),
    }
}

/// The state in `Cannot transition status via :run from :running`.
fn state_before(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("Cannot transition status via ")?;
    let (_, state) = after.split_once("from :")?;
    let end = state
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(state.len());
    state.get(..end)
}

fn denied(order: &StatusOrder, place: &Placement, error: &ApiError) -> ActError {
    let about = match &place.git_ref {
        Some(git_ref) => format!("`{git_ref}` of project {}", place.project),
        None => format!("project {}", place.project),
    };
    let remedy = match error {
        ApiError::Forbidden(_) => {
            "give Penstock's user the Developer role there, and the right to push or merge if the ref is protected"
        }
        _ => "the commit or the project is gone, or Penstock's user may not see it",
    };
    ActError::Permanent(format!(
        "the status `{}` can't be set on {about}: {error}; {remedy}",
        order.name
    ))
}

/// The first 255 characters; what was longer ends in an ellipsis.
fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(LONGEST - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_model::admit::ProjectOf;
    use penstock_model::id::CommitId;

    fn commit() -> CommitId {
        CommitId::parse(&"a".repeat(40)).unwrap()
    }

    fn order(
        merge_request: Option<u64>,
        ref_name: Option<&str>,
        source: Option<u64>,
    ) -> StatusOrder {
        StatusOrder {
            of: ProjectOf {
                instance: "main".into(),
                project: ProjectId(7),
                path: "acme/api".into(),
                tenant: "acme/**".into(),
            },
            commit: commit(),
            name: "build".into(),
            state: StatusState::Running,
            description: String::new(),
            target_url: None,
            ref_name: ref_name.map(Into::into),
            merge_request,
            source_project: source.map(ProjectId),
            run: None,
        }
    }

    fn request(source: Option<u64>, pipeline: Option<(u64, &str, &str)>) -> MergeRequestNow {
        MergeRequestNow {
            iid: 4,
            source_project: source.map(ProjectId),
            source_branch: "feature".into(),
            head_pipeline: pipeline.map(|(project, sha, git_ref)| HeadPipeline {
                id: 100,
                project: Some(ProjectId(project)),
                sha: sha.into(),
                git_ref: git_ref.into(),
            }),
        }
    }

    fn shape(place: &Placement) -> (u64, Option<&str>, Option<u64>) {
        (place.project.0, place.git_ref.as_deref(), place.pipeline)
    }

    #[test]
    fn a_branch_or_tag_goes_by_its_short_name() {
        for (name, short) in [("refs/heads/a/b", "a/b"), ("refs/tags/v1", "v1")] {
            assert_eq!(
                shape(&placement(&order(None, Some(name), None), None)),
                (7, Some(short), None)
            );
        }
        assert_eq!(
            shape(&placement(&order(None, None, None), None)),
            (7, None, None)
        );
    }

    #[test]
    fn a_head_pipeline_with_the_commit_gets_it() {
        let sha = commit();
        let found = request(
            Some(7),
            Some((7, sha.as_str(), "refs/merge-requests/4/head")),
        );
        let place = placement(
            &order(Some(4), Some("refs/heads/feature"), None),
            Some(&found),
        );
        assert_eq!(
            shape(&place),
            (7, Some("refs/merge-requests/4/head"), Some(100))
        );
        assert_eq!(place.otherwise, None);
    }

    #[test]
    fn a_head_pipeline_of_another_commit_is_not_named() {
        let found = request(
            Some(7),
            Some((7, &"b".repeat(40), "refs/merge-requests/4/merge")),
        );
        let place = placement(
            &order(Some(4), Some("refs/heads/feature"), None),
            Some(&found),
        );
        assert_eq!(shape(&place), (7, Some("feature"), None));
    }

    #[test]
    fn a_fork_gets_its_own_and_else_the_target_gets_it_under_the_merge_request() {
        let place = placement(
            &order(Some(4), Some("refs/heads/feature"), Some(9)),
            Some(&request(Some(9), None)),
        );
        assert_eq!(shape(&place), (9, Some("feature"), None));
        let otherwise = place.otherwise.unwrap();
        assert_eq!(
            shape(&otherwise),
            (7, Some("refs/merge-requests/4/head"), None)
        );
        assert_eq!(otherwise.otherwise, None);
    }

    #[test]
    fn a_branch_pipeline_of_a_fork_is_met_in_the_fork() {
        let sha = commit();
        let found = request(Some(9), Some((9, sha.as_str(), "feature")));
        let place = placement(&order(Some(4), None, Some(9)), Some(&found));
        assert_eq!(shape(&place), (9, Some("feature"), Some(100)));
        assert!(place.otherwise.is_some());
    }

    #[test]
    fn a_fork_that_is_gone_leaves_the_target() {
        let place = placement(&order(Some(4), None, None), Some(&request(None, None)));
        assert_eq!(shape(&place), (7, Some("feature"), None));
    }

    #[test]
    fn the_state_before_is_read_out_of_the_message() {
        for (message, state) in [
            (
                "Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")",
                Some("running"),
            ),
            (
                "Cannot transition status via :enqueue from :pending",
                Some("pending"),
            ),
            ("state does not have a valid value", None),
        ] {
            assert_eq!(state_before(message), state);
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"ü".repeat(300));
        assert_eq!(long.chars().count(), 255);
        assert!(long.ends_with('…'));
    }
}
