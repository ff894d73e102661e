//! A run, and where it stands.

use serde::{Deserialize, Serialize};

use crate::id::{CommitId, EffectKey, PlaceName, PluginName, RefName, Timestamp};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Not yet created: over a limit, or the cluster has not answered.
    Queued,
    /// Waits for an approval.
    Gated,
    /// Created and not finished.
    Running,
    /// Finished well.
    Succeeded,
    /// Finished not well.
    Failed,
    /// Stopped.
    Canceled,
    /// Never created: not admitted, not approved, or denied by the cluster.
    Refused,
    /// It vanished before its outcome was read.
    Gone,
}

impl RunState {
    /// The word of the contract, the store and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Gated => "gated",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }

    /// Reads [`RunState::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Gated,
            Self::Running,
            Self::Succeeded,
            Self::Failed,
            Self::Canceled,
            Self::Refused,
            Self::Gone,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// It can't be left.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Gated | Self::Running)
    }
}

/// A run, as plugins and people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id: the id of the effect that started it.
    pub id: String,
    /// The plugin that started it.
    pub plugin: PluginName,
    /// Key of the effect that started it.
    pub key: EffectKey,
    /// What kind of run it is.
    pub pipeline: String,
    /// Where it runs.
    pub place: PlaceName,
    /// The ref it is about.
    pub ref_name: Option<RefName>,
    /// The merge request it is about.
    pub merge_request: Option<u64>,
    /// The commit it is about.
    pub commit: CommitId,
    /// Where it stands.
    pub state: RunState,
    /// For people.
    pub reason: String,
    /// Its page.
    pub web_url: Option<String>,
    /// When the effect was committed.
    pub created_at: Timestamp,
    /// When Tekton started it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Tekton's results.
    pub results: Vec<(String, String)>,
}
