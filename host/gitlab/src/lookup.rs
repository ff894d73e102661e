//! Answers what plugins ask of GitLab.
//!
//! Files are read at commits, never at names: a name is resolved once for each plugin call and stays what it was. An answer about
//! the world (not found, denied, too large) is the plugin's; a fault of the host or of GitLab ends the call. What a plugin may
//! ask is the caller's to decide; here only the shape of a question is checked, because a guest wrote it.

use std::collections::HashMap;
use std::sync::Arc;

use penstock_model::event::Event;
use penstock_model::id::{CommitId, ProjectId, ProjectPath, UserId};
use penstock_model::lookup::{
    Answer, HostFault, Lookup, LookupError, MergeRequestApproval, Source,
};
use penstock_model::scope::Project;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::api::{MergeRequestRow, UserRow, or_default};
use crate::call::Call;
use crate::client::Client;
use crate::confirm::OwnUsers;
use crate::error::ApiError;

mod batch;
mod changes;
mod commit;
mod files;

/// Pages of merge requests of one source branch.
const MOST_MERGE_REQUEST_PAGES: usize = 5;

/// What the questions of one plugin call are about. Made anew for each call: names that were resolved stay resolved in it.
pub struct EventContext {
    event: Arc<Event>,
    own: Arc<OwnUsers>,
    max_bytes: u64,
    pins: Mutex<HashMap<Source, Place>>,
}

impl EventContext {
    /// `max_bytes`: most bytes of one answer.
    pub fn new(event: Arc<Event>, own: Arc<OwnUsers>, max_bytes: u64) -> Self {
        Self {
            event,
            own,
            max_bytes,
            pins: Mutex::default(),
        }
    }
}

/// A commit of a project.
#[derive(Clone, Debug)]
struct Place {
    project: ProjectId,
    path: ProjectPath,
    commit: CommitId,
}

/// Why a question has no answer, on its way to being the plugin's or the host's business.
enum Failure {
    World(LookupError),
    Host(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NotFound(_) => Self::World(LookupError::NotFound),
            ApiError::Forbidden(said) => Self::World(LookupError::Denied(format!(
                "GitLab refuses it to Penstock's user: {said}"
            ))),
            ApiError::TooLarge { size, .. } => Self::World(LookupError::TooLarge(size)),
            ApiError::Refused { status, message } if status < 500 => Self::World(
                LookupError::Invalid(format!("GitLab answered {status}: {message}")),
            ),
            error => Self::Host(error),
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        Self::World(error)
    }
}

fn invalid(problem: impl Into<String>) -> Failure {
    Failure::World(LookupError::Invalid(problem.into()))
}

/// Answers a question.
///
/// # Errors
/// GitLab can't be asked now, or not with this token: the route is tried again later.
pub async fn lookup(
    client: &Client,
    context: &EventContext,
    lookup: &Lookup,
) -> Result<Result<Answer, LookupError>, HostFault> {
    match (Asked { client, context }).answer(lookup).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Failure::World(error)) => Ok(Err(error)),
        Err(Failure::Host(error)) => Err(error.into()),
    }
}

#[derive(Clone, Copy)]
struct Asked<'a> {
    client: &'a Client,
    context: &'a EventContext,
}

impl<'a> Asked<'a> {
    async fn answer(self, lookup: &Lookup) -> Result<Answer, Failure> {
        match lookup {
            Lookup::Folder { source, path } => {
                let place = self.resolve(source).await?;
                Ok(Answer::Folder(self.folder(&place, path).await?))
            }
            Lookup::Files { source, paths } => {
                let place = self.resolve(source).await?;
                Ok(Answer::Files(self.files(&place, paths).await?))
            }
            Lookup::Resolve(source) => Ok(Answer::CommitId(self.resolve(source).await?.commit)),
            Lookup::FindCommit(id) => Ok(Answer::Commit(Box::new(self.find_commit(id).await?))),
            Lookup::ChangedPaths => Ok(Answer::Changes(self.changed_paths().await?)),
            Lookup::FindMergeRequest(iid) => {
                let row = self.client.merge_request(self.project()?.id, *iid).await?;
                let found = row.to_model().ok_or(LookupError::NotFound)?;
                Ok(Answer::MergeRequest(Box::new(found)))
            }
            Lookup::OpenMergeRequests(branch) => self.open_merge_requests(branch).await,
            Lookup::MergeRequestApprovals(iid) => self.approvals(*iid).await,
            Lookup::FindUser(name) => self.find_user(name).await,
            Lookup::Access(user) => Ok(Answer::Access(
                self.client.access(self.project()?.id, *user).await?,
            )),
            Lookup::GroupAccess { user, group } => {
                // Asked first: a user who is no member and a group that is not there are both 404 below.
                let group = self.client.group(group).await?;
                Ok(Answer::Access(
                    self.client.group_access(group.id, *user).await?,
                ))
            }
            Lookup::Payload
            | Lookup::PayloadAt(_)
            | Lookup::Headers
            | Lookup::Places
            | Lookup::Runs { .. }
            | Lookup::History { .. }
            | Lookup::Fetch(_)
            | Lookup::StateGet(_)
            | Lookup::StatePut(_)
            | Lookup::StateDelete(_)
            | Lookup::StateKeys { .. } => Err(invalid("this is no question for GitLab")),
        }
    }

    fn project(self) -> Result<&'a Project, Failure> {
        let project = self.context.event.scope.project();
        project.ok_or_else(|| invalid("the event is about no project"))
    }

    /// The commit that a source stands for, the same for the whole plugin call.
    async fn resolve(self, source: &Source) -> Result<Place, Failure> {
        // One at a time, so that two questions at once can't resolve a name to two commits.
        let mut pins = self.context.pins.lock().await;
        if let Some(place) = pins.get(source) {
            return Ok(place.clone());
        }
        let place = self.resolve_now(source).await?;
        pins.insert(source.clone(), place.clone());
        Ok(place)
    }

    async fn resolve_now(self, source: &Source) -> Result<Place, Failure> {
        if let Source::Elsewhere { project, revision } = source {
            let Project { id, path, .. } = self.client.project_by_path(project).await?;
            let commit = self.client.commit(id, revision).await?;
            return Ok(Place {
                project: id,
                path,
                commit,
            });
        }
        let event = &self.context.event;
        let project = self.project()?;
        let branch = |name: String| async move {
            self.client
                .branch(project.id, &name)
                .await
                .map(|row| row.commit.id)
        };
        let commit = match source {
            Source::Event => event
                .commit
                .clone()
                .ok_or_else(|| invalid("the event has no commit"))?,
            Source::Commit(commit) => self.client.commit(project.id, commit.as_str()).await?,
            Source::TargetBranch => {
                let merge_request = event.kind.merge_request();
                let target =
                    merge_request.ok_or_else(|| invalid("the event is about no merge request"))?;
                branch(target.target_branch.clone()).await?
            }
            Source::DefaultBranch => {
                let name = project.default_branch.clone();
                branch(name.ok_or(LookupError::NotFound)?).await?
            }
            Source::Ref(name) => {
                let text = name.as_str();
                if let Some(name) = text.strip_prefix("refs/heads/") {
                    branch(name.to_owned()).await?
                } else if let Some(tag) = text.strip_prefix("refs/tags/") {
                    self.client.tag(project.id, tag).await?.commit.id
                } else if text.starts_with("refs/") {
                    self.client.commit(project.id, text).await?
                } else {
                    return Err(invalid(format!(
                        "`{text}` is no full ref name such as `refs/heads/main`"
                    )));
                }
            }
            Source::Elsewhere { .. } => return Err(LookupError::NotFound.into()),
        };
        Ok(Place {
            project: project.id,
            path: project.path.clone(),
            commit,
        })
    }

    async fn open_merge_requests(self, branch: &str) -> Result<Answer, Failure> {
        let project = self.project()?.id;
        let id = project.to_string();
        let path = ["projects", &id, "merge_requests"];
        let call = Call::get("merge_requests", &path)
            .with("state", "opened")
            .with("source_branch", branch)
            .of(project);
        let found = self
            .client
            .pages::<MergeRequestRow>(&call, MOST_MERGE_REQUEST_PAGES)
            .await?;
        // A fork's branch may bear the same name.
        let own = found
            .rows
            .iter()
            .filter(|row| row.source_project_id == Some(project.0));
        Ok(Answer::MergeRequests(
            own.filter_map(MergeRequestRow::to_model).collect(),
        ))
    }

    async fn approvals(self, iid: u64) -> Result<Answer, Failure> {
        #[derive(Deserialize)]
        struct Approvals {
            #[serde(default, deserialize_with = "or_default")]
            approved_by: Vec<Approval>,
        }
        #[derive(Deserialize)]
        struct Approval {
            user: UserRow,
            #[serde(default)]
            approved_at: Option<jiff::Timestamp>,
        }
        let project = self.project()?.id;
        let (id, iid) = (project.to_string(), iid.to_string());
        let path = ["projects", &id, "merge_requests", &iid, "approvals"];
        let found: Approvals = self
            .client
            .now(&Call::get("approvals", &path).of(project))
            .await?;
        let mut approvals = Vec::new();
        for approval in found.approved_by {
            let by = self
                .client
                .actor(project, UserId(approval.user.id), &self.context.own)
                .await?;
            let at = approval
                .approved_at
                .and_then(|at| u64::try_from(at.as_millisecond()).ok());
            approvals.push(MergeRequestApproval {
                by,
                at: at.map(penstock_model::id::Timestamp),
            });
        }
        Ok(Answer::Approvals(approvals))
    }

    async fn find_user(self, name: &str) -> Result<Answer, Failure> {
        let project = self.project()?.id;
        let path = ["users"];
        let rows: Vec<UserRow> = self
            .client
            .recent(&Call::get("users", &path).with("username", name))
            .await?;
        let user = rows
            .into_iter()
            .find(|row| row.username.eq_ignore_ascii_case(name));
        let user = user.ok_or(LookupError::NotFound)?;
        Ok(Answer::User(
            self.client
                .actor(project, UserId(user.id), &self.context.own)
                .await?,
        ))
    }
}
