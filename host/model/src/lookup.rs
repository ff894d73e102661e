//! What a plugin may ask while it decides, and what it is answered.
//!
//! Every host call is one [`Lookup`] and one [`Answer`], so that each can be granted, counted, recorded and given again.

use serde::{Deserialize, Serialize};

use crate::event::MergeRequest;
use crate::id::{CommitId, Digest, RefName, Timestamp, UserId};
use crate::run::Run;
use crate::scope::{Actor, Author};

/// Bytes in a record: base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Where to read files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// At the event's commit.
    Event,
    /// At a commit of the project.
    Commit(CommitId),
    /// At the head of the merge request's target branch when the event was decided.
    TargetBranch,
    /// At the head of the default branch when the event was decided.
    DefaultBranch,
    /// At the head of a ref of the project.
    Ref(RefName),
    /// In another project of the same GitLab.
    Elsewhere {
        /// Its path.
        project: String,
        /// A branch, tag or commit.
        revision: String,
    },
}

/// Which runs are asked for. What is none does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFilter {
    /// Of this commit.
    pub commit: Option<CommitId>,
    /// Of this merge request.
    pub merge_request: Option<u64>,
    /// Of this ref.
    pub ref_name: Option<RefName>,
    /// Of this pipeline.
    pub pipeline: Option<String>,
}

/// One question of a plugin to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// `delivery.payload`
    Payload,
    /// `delivery.at`: an RFC 6901 pointer.
    PayloadAt(String),
    /// `delivery.headers`
    Headers,
    /// `gitlab-read.folder`
    Folder {
        /// Where.
        source: Source,
        /// Path of the folder.
        path: String,
    },
    /// `gitlab-read.files`
    Files {
        /// Where.
        source: Source,
        /// Paths of the files.
        paths: Vec<String>,
    },
    /// `gitlab-read.resolve`
    Resolve(Source),
    /// `gitlab-read.find-commit`
    FindCommit(CommitId),
    /// `gitlab-read.changed-paths`
    ChangedPaths,
    /// `gitlab-read.find-merge-request`
    FindMergeRequest(u64),
    /// `gitlab-read.open-merge-requests`: name of the source branch.
    OpenMergeRequests(String),
    /// `gitlab-read.merge-request-approvals`
    MergeRequestApprovals(u64),
    /// `gitlab-read.find-user`
    FindUser(String),
    /// `gitlab-read.access`
    Access(UserId),
    /// `gitlab-read.group-access`
    GroupAccess {
        /// Whose.
        user: UserId,
        /// Full path of the group.
        group: String,
    },
    /// `cluster-read.places`
    Places,
    /// `cluster-read.runs`
    Runs {
        /// Which.
        filter: RunFilter,
        /// How many at most.
        limit: u32,
    },
    /// `history.summarize`
    History {
        /// The pipeline.
        pipeline: String,
        /// How far back.
        days: u32,
    },
    /// `fetch.get`
    Fetch(String),
    /// `state.get`
    StateGet(String),
    /// `state.put` of a key, where it was not allowed: a write that was is in the record's state.
    StatePut(String),
    /// `state.delete` of a key, where it was not allowed.
    StateDelete(String),
    /// `state.keys`
    StateKeys {
        /// What they begin with.
        prefix: String,
        /// How many at most.
        limit: u32,
    },
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path in the repository.
    pub path: String,
    /// Git's id of the blob.
    pub blob: String,
    /// What is in it.
    pub content: Content,
}

/// What the whole push or merge request changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Paths.
    pub added: Vec<String>,
    /// Paths.
    pub modified: Vec<String>,
    /// Paths.
    pub deleted: Vec<String>,
    /// Before and after.
    pub renamed: Vec<(String, String)>,
    /// GitLab gave no complete list.
    pub truncated: bool,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitInfo {
    /// Full id.
    pub id: CommitId,
    /// Whole message.
    pub message: String,
    /// Who wrote it.
    pub author: Author,
    /// Who committed it.
    pub committer: Author,
    /// Its page.
    pub web_url: String,
}

/// Somebody's approval of a merge request in GitLab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeRequestApproval {
    /// Whose.
    pub by: Actor,
    /// When.
    pub at: Option<Timestamp>,
}

/// A place of the tenant, as a plugin sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// The event's provenance allows it.
    pub allowed: bool,
}

/// Runs of one pipeline in the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub runs: u32,
    /// How many failed.
    pub failed: u32,
    /// How many were canceled.
    pub canceled: u32,
    /// Seconds.
    pub median_duration: Option<u32>,
    /// When one last succeeded.
    pub last_success: Option<Timestamp>,
    /// When one last failed.
    pub last_failure: Option<Timestamp>,
    /// Gates that people opened.
    pub approved_by_people: u32,
    /// Gates that people refused.
    pub refused_by_people: u32,
}

/// A value of a plugin's state, with the version that a commit must still find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateValue {
    /// The value.
    pub value: Content,
    /// Rises with each write.
    pub version: u64,
}

/// What the host answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A text, such as the payload.
    Text(String),
    /// A part of the payload; none: there is no such part.
    Part(Option<String>),
    /// The headers.
    Headers(Vec<(String, String)>),
    /// Files of a folder.
    Folder(Vec<File>),
    /// One answer for each path that was asked for.
    Files(Vec<Result<File, LookupError>>),
    /// A commit's id.
    CommitId(CommitId),
    /// A commit.
    Commit(Box<CommitInfo>),
    /// Changed paths.
    Changes(Changes),
    /// A merge request.
    MergeRequest(Box<MergeRequest>),
    /// Merge requests.
    MergeRequests(Vec<MergeRequest>),
    /// Approvals.
    Approvals(Vec<MergeRequestApproval>),
    /// A user.
    User(Actor),
    /// An access level.
    Access(u32),
    /// Places.
    Places(Vec<PlaceView>),
    /// Runs.
    Runs(Vec<Run>),
    /// Figures of the past.
    Summary(Summary),
    /// What came from a URL.
    Fetched {
        /// The bytes.
        content: Content,
        /// Their digest.
        digest: Digest,
    },
    /// A value of the state; none: no such key.
    State(Option<StateValue>),
    /// Keys of the state.
    Keys(Vec<String>),
}

/// Why the host has no answer about the world: the plugin sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum LookupError {
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// The plugin has no grant for it, or GitLab refuses it. Says which.
    #[error("denied: {0}")]
    Denied(String),
    /// Larger than the plugin's limit: its size in bytes.
    #[error("too large: {0} bytes")]
    TooLarge(u64),
    /// The question is malformed.
    #[error("invalid: {0}")]
    Invalid(String),
}

/// Why the host could not ask (network, rate limit, store): it ends the call, and the route is tried again later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct HostFault {
    /// What could not be asked and why, without secrets.
    pub what: String,
    /// What the other side asked to wait, in milliseconds.
    pub retry_after: Option<u64>,
}
