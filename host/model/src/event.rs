//! A delivery, read into a typed value.
//!
//! The shapes follow `wit/events.wit` item by item; words that GitLab may extend stay strings.

use serde::{Deserialize, Serialize};

use crate::id::{
    CommitId, DeliveryId, InstanceName, ProjectId, RefName, TenantName, Timestamp, UserId,
};
use crate::run::Run;
use crate::scope::{Actor, Provenance, Scope};

/// One commit of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Full id.
    pub id: CommitId,
    /// First line of the message.
    pub title: String,
    /// Whole message.
    pub message: String,
    /// As the commit says.
    pub author_name: String,
    /// As the commit says.
    pub author_email: String,
    /// Paths.
    pub added: Vec<String>,
    /// Paths.
    pub modified: Vec<String>,
    /// Paths.
    pub removed: Vec<String>,
}

/// A branch moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The branch's full ref name.
    pub ref_name: RefName,
    /// None: the branch is new.
    pub before: Option<CommitId>,
    /// None: the branch was deleted.
    pub after: Option<CommitId>,
    /// At most 20; a new branch may list none.
    pub commits: Vec<Commit>,
    /// How many there are.
    pub total_commits: u32,
}

/// A tag was made, moved or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagPush {
    /// The tag's full ref name.
    pub ref_name: RefName,
    /// Id of a tag object or a commit; none: the tag is new.
    pub before: Option<String>,
    /// Id of a tag object or a commit; none: the tag was deleted.
    pub after: Option<String>,
    /// Message of an annotated tag.
    pub message: Option<String>,
}

/// A merge request as an event or GitLab's API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeRequest {
    /// Number in the project.
    pub iid: u64,
    /// Title.
    pub title: String,
    /// GitLab's word: `opened`, `closed`, `merged`, `locked`.
    pub state: String,
    /// It is a draft.
    pub draft: bool,
    /// Another than the event's for a fork; none if the source is gone.
    pub source_project: Option<ProjectId>,
    /// Name of the branch.
    pub source_branch: String,
    /// Name of the branch.
    pub target_branch: String,
    /// Head of the source branch.
    pub head: CommitId,
    /// Who opened it.
    pub author: UserId,
    /// Titles of the labels.
    pub labels: Vec<String>,
    /// Its page.
    pub web_url: String,
}

/// A merge request changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeRequestEvent {
    /// The merge request.
    pub merge_request: MergeRequest,
    /// GitLab's word, such as `open` or `update`.
    pub action: String,
    /// The head before, where the code changed.
    pub old_head: Option<CommitId>,
    /// Names of the fields that changed.
    pub changed: Vec<String>,
    /// GitLab did it, not a person.
    pub system: bool,
}

/// What a comment is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteTarget {
    /// A merge request.
    MergeRequest(MergeRequest),
    /// A commit.
    Commit(CommitId),
    /// GitLab's word for anything else.
    Other(String),
}

/// A comment was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// GitLab's id.
    pub id: u64,
    /// Markdown.
    pub text: String,
    /// What it is on.
    pub target: NoteTarget,
    /// False for a comment that was edited: nothing is granted on an edit.
    pub created: bool,
    /// GitLab wrote it, not a person.
    pub system: bool,
}

/// A pipeline in GitLab changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// GitLab's id.
    pub id: u64,
    /// Short name of the branch or tag.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// It is of a tag.
    pub tag: bool,
    /// Its commit.
    pub sha: CommitId,
    /// GitLab's word.
    pub status: String,
    /// GitLab's word.
    pub source: String,
    /// Number of its merge request.
    pub merge_request: Option<u64>,
}

/// A deployment changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// GitLab's id.
    pub id: u64,
    /// GitLab's word.
    pub status: String,
    /// Name of the environment.
    pub environment: String,
    /// GitLab's word.
    pub tier: Option<String>,
    /// Short name of the branch or tag.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// Commit, as GitLab writes it: it may be short.
    pub sha: String,
}

/// A release was made, changed or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Name of the tag.
    pub tag: String,
    /// Title.
    pub name: String,
    /// GitLab's word: `create`, `update`, `delete`.
    pub action: String,
}

/// A token is about to expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenExpiring {
    /// GitLab's id.
    pub token_id: u64,
    /// Its name.
    pub name: String,
    /// Path of the project or group that owns it; none for a person's.
    pub owner: Option<String>,
    /// ISO 8601 date.
    pub expires_at: String,
}

/// The host found a head that no delivery told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The ref.
    pub ref_name: RefName,
    /// As it is now.
    pub merge_request: Option<MergeRequest>,
    /// The commit that was decided last.
    pub last_decided: Option<CommitId>,
    /// None: the ref is gone, or the merge request is no longer open.
    pub found: Option<CommitId>,
}

/// A run of the plugin reached a state that it can't leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFinished {
    /// The run.
    pub run: Run,
    /// How many run-finished events led here: 0 for a run that anything else started.
    pub depth: u32,
    /// The first task of the pipeline that failed, by its name there.
    #[serde(default)]
    pub failed_task: Option<String>,
    /// The end of the failed step's log, where the place lets logs be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_excerpt: Option<String>,
}

/// A GitLab CI job, a person or an incoming webhook asks for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The pipeline asked for.
    pub name: Option<String>,
    /// The ref.
    pub ref_name: RefName,
    /// The commit.
    pub commit: CommitId,
    /// Parameters.
    pub parameters: Vec<(String, String)>,
    /// `ci-job`, `person`, `incoming` or `schedule`.
    pub source: String,
}

/// The word by which a route takes the ends of runs.
pub const RUN_FINISHED: &str = "run_finished";

/// The kinds that are read into types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A branch moved.
    Push(Push),
    /// A tag moved.
    TagPush(TagPush),
    /// A merge request changed.
    MergeRequest(MergeRequestEvent),
    /// A comment was written.
    Note(Note),
    /// A pipeline in GitLab changed.
    Pipeline(Pipeline),
    /// A deployment changed.
    Deployment(Deployment),
    /// A release changed.
    Release(Release),
    /// A token is about to expire.
    TokenExpiring(TokenExpiring),
    /// The host found a head that no delivery told of.
    Sweep(Sweep),
    /// Somebody asks for a run.
    Request(Request),
    /// A run ended.
    RunFinished(RunFinished),
    /// GitLab's `object_kind` or `event_name`; everything is in the payload.
    Other(String),
}

impl EventKind {
    /// The word that routes, metrics and messages use for the kind: GitLab's own where GitLab has one.
    pub fn word(&self) -> &str {
        match self {
            Self::Push(_) => "push",
            Self::TagPush(_) => "tag_push",
            Self::MergeRequest(_) => "merge_request",
            Self::Note(_) => "note",
            Self::Pipeline(_) => "pipeline",
            Self::Deployment(_) => "deployment",
            Self::Release(_) => "release",
            Self::TokenExpiring(_) => "access_token",
            Self::Sweep(_) => "sweep",
            Self::Request(_) => "request",
            Self::RunFinished(_) => RUN_FINISHED,
            Self::Other(word) => word,
        }
    }

    /// How many run-finished events lead to a run that this event starts.
    pub fn next_depth(&self) -> u32 {
        match self {
            Self::RunFinished(finished) => finished.depth.saturating_add(1),
            _ => 0,
        }
    }

    /// Number of the merge request that it is about, whether the event has more of it or not.
    pub fn merge_request_iid(&self) -> Option<u64> {
        match self {
            Self::Pipeline(pipeline) => pipeline.merge_request,
            Self::RunFinished(finished) => finished.run.merge_request,
            kind => kind.merge_request().map(|it| it.iid),
        }
    }

    /// The merge request that it is about.
    pub fn merge_request(&self) -> Option<&MergeRequest> {
        match self {
            Self::MergeRequest(event) => Some(&event.merge_request),
            Self::Note(Note {
                target: NoteTarget::MergeRequest(it),
                ..
            }) => Some(it),
            Self::Sweep(sweep) => sweep.merge_request.as_ref(),
            _ => None,
        }
    }
}

/// One delivery, read and confirmed: what a trigger plugin is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The delivery.
    pub delivery: DeliveryId,
    /// When it was received.
    pub received_at: Timestamp,
    /// Name of the GitLab instance in the configuration.
    pub instance: InstanceName,
    /// Base URL of that instance, without a slash at the end.
    pub instance_url: String,
    /// The tenant whose project it is.
    pub tenant: TenantName,
    /// What it happened in.
    pub scope: Scope,
    /// None: nobody did it.
    pub actor: Option<Actor>,
    /// How far it is trusted.
    pub provenance: Provenance,
    /// Full name of the ref that it is about: the source branch of a merge request.
    pub ref_name: Option<RefName>,
    /// The commit that files are read at, confirmed by the host.
    pub commit: Option<CommitId>,
    /// What happened.
    pub kind: EventKind,
}
