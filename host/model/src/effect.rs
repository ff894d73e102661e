//! What a plugin may ask for: a plan, a list of effects with keys of the plugin's own.
//!
//! The shapes follow `wit/effects.wit`. Nothing here was checked: see [`crate::admit`].

use serde::{Deserialize, Serialize};

use crate::id::{CommitId, EffectKey, PlaceName, RefName};

/// A value that a later release may add: name and JSON.
pub type Extra = (String, String);

/// What a run is about, where it isn't what the event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTarget {
    /// The commit.
    pub commit: CommitId,
    /// The ref it belongs to.
    pub ref_name: Option<RefName>,
    /// Or the merge request.
    pub merge_request: Option<u64>,
}

/// A limit that runs share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Unique in the project.
    pub name: String,
    /// At most this many at a time.
    pub concurrency: Option<u32>,
}

/// What the host puts into a Secret that it makes for the run and deletes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// Credentials that clone the project and these others, by path.
    Clone(Vec<String>),
    /// A reference such as `vault:path#field`.
    Reference(String),
}

/// A Secret of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSecret {
    /// The Secret's name in the manifest.
    pub name: String,
    /// What is in it.
    pub source: SecretSource,
}

/// Start a Tekton PipelineRun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRun {
    /// A PipelineRun, YAML or JSON.
    pub manifest: String,
    /// What kind of run it is, in the project.
    pub pipeline: String,
    /// None: the event's commit, ref and merge request.
    pub target: Option<RunTarget>,
    /// None: the place that fits the provenance.
    pub place: Option<PlaceName>,
    /// Key of a `request-approval` in the same plan that this run waits for.
    pub gate: Option<EffectKey>,
    /// Name of the commit status; none: `pipeline`.
    pub status_name: Option<String>,
    /// None: only the host's own limits.
    pub queue: Option<Queue>,
    /// Finished runs of this pipeline in the project to keep.
    pub keep: Option<u32>,
    /// Secrets that the manifest names.
    pub secrets: Vec<RunSecret>,
    /// Nothing yet.
    pub extras: Vec<Extra>,
}

/// Which runs a cancel is about: always of this plugin, in the project, and decided before this event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CancelScope {
    /// Those of the event's lane whose commit is no longer the head.
    Superseded,
    /// All of the event's lane.
    Earlier,
    /// Those of a merge request.
    MergeRequest(u64),
    /// Those of a ref.
    Ref(RefName),
    /// Those of a commit.
    Commit(CommitId),
    /// Those of these ids.
    Runs(Vec<String>),
}

/// Cancel runs, those not yet created among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRuns {
    /// Which.
    pub scope: CancelScope,
    /// Only those of this pipeline.
    pub pipeline: Option<String>,
    /// For the run's and the status' message.
    pub reason: String,
}

/// What a comment is written on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommentTarget {
    /// A merge request of the project.
    MergeRequest(u64),
    /// A commit of the project.
    Commit(CommitId),
}

/// One living comment for (plugin, target, key).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Where.
    pub target: CommentTarget,
    /// Markdown; none takes the comment away.
    pub body: Option<String>,
}

/// GitLab's states of a commit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusState {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Well.
    Success,
    /// Not well.
    Failed,
    /// Stopped.
    Canceled,
    /// Not needed.
    Skipped,
}

impl StatusState {
    /// GitLab's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }

    /// It can't be left.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Set a commit status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// Of which commit.
    pub commit: CommitId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: StatusState,
    /// At most 255 characters are kept.
    pub description: String,
    /// Where a click leads.
    pub target_url: Option<String>,
}

/// Ask for an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestApproval {
    /// Name of a policy of the tenant.
    pub policy: Option<String>,
    /// Title.
    pub title: String,
    /// Markdown.
    pub description: String,
    /// GitLab's environment.
    pub environment: Option<String>,
    /// For the policy.
    pub arguments: Vec<(String, String)>,
}

/// A kind of effect that this version has no type for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its kind.
    pub kind: String,
    /// What it says.
    pub json: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start a run.
    StartRun(Box<StartRun>),
    /// Cancel runs.
    CancelRuns(CancelRuns),
    /// Write, edit or take away a comment.
    Comment(Comment),
    /// Set a commit status.
    CommitStatus(CommitStatus),
    /// Ask for an approval.
    RequestApproval(RequestApproval),
    /// Anything later.
    Extension(Extension),
}

impl Action {
    /// The kind, as a grant names it.
    pub fn kind(&self) -> EffectKind {
        match self {
            Self::StartRun(_) => EffectKind::StartRun,
            Self::CancelRuns(_) => EffectKind::CancelRuns,
            Self::Comment(_) => EffectKind::Comment,
            Self::CommitStatus(_) => EffectKind::CommitStatus,
            Self::RequestApproval(_) => EffectKind::RequestApproval,
            Self::Extension(_) => EffectKind::Extension,
        }
    }
}

/// The kinds of effects, as grants name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectKind {
    /// Start a run.
    StartRun,
    /// Cancel runs.
    CancelRuns,
    /// Comment.
    Comment,
    /// Set a commit status.
    CommitStatus,
    /// Ask for an approval.
    RequestApproval,
    /// Anything later.
    Extension,
}

impl EffectKind {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartRun => "start-run",
            Self::CancelRuns => "cancel-runs",
            Self::Comment => "comment",
            Self::CommitStatus => "commit-status",
            Self::RequestApproval => "request-approval",
            Self::Extension => "extension",
        }
    }
}

/// An action with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Unique in the plan.
    pub key: EffectKey,
    /// What to do.
    pub action: Action,
}

/// Something to say about a place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A file's path in the repository, or the path of a setting.
    pub path: String,
    /// From 1.
    pub line: Option<u32>,
    /// From 1.
    pub column: Option<u32>,
    /// What is wrong and what to do.
    pub message: String,
}

/// What a trigger plugin decides. No effects is a decision too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// All are committed together.
    pub effects: Vec<Effect>,
    /// Why, for people.
    pub reasons: Vec<String>,
    /// Things to mend in the repository that did not stop the plan.
    pub warnings: Vec<Problem>,
}

/// Why a plugin gives no plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginError {
    /// The settings can't be used. The delivery has failed.
    Settings(Vec<Problem>),
    /// What the repository holds can't be used. The delivery is decided, with no effects and no state written.
    Source(Vec<Problem>),
    /// Anything else. The delivery has failed.
    Other(String),
}
