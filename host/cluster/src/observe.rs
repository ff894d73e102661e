//! Tells whoever counts how long the API server took. Owns no metrics itself.

use std::{sync::Arc, time::Duration};

use penstock_model::id::ClusterName;

/// Is called after each request, on the task that made it; it must not block. Watches are not counted: they are meant
/// to last.
pub type OnCall = Arc<dyn Fn(&CallSeen<'_>) + Send + Sync>;

/// One request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct CallSeen<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// What was asked.
    pub call: Call,
    /// HTTP status of the answer; none: there was no answer.
    pub status: Option<u16>,
    /// From sending to the answer's last byte.
    pub took: Duration,
}

/// What was asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A token of an account.
    Token,
    /// A PipelineRun to be created.
    CreateRun,
    /// A PipelineRun to be read.
    ReadRun,
    /// A PipelineRun to be stopped.
    StopRun,
    /// A PipelineRun to be deleted.
    DeleteRun,
    /// A Secret to be made.
    MakeSecret,
    /// A Secret to be deleted.
    DeleteSecret,
    /// The TaskRuns of a run.
    ListTaskRuns,
    /// The log of a step.
    ReadLog,
    /// What somebody may do.
    Review,
    /// What the cluster is and has.
    Discover,
}

impl Call {
    /// A word for a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::CreateRun => "create-run",
            Self::ReadRun => "read-run",
            Self::StopRun => "stop-run",
            Self::DeleteRun => "delete-run",
            Self::MakeSecret => "make-secret",
            Self::DeleteSecret => "delete-secret",
            Self::ListTaskRuns => "list-task-runs",
            Self::ReadLog => "read-log",
            Self::Review => "review",
            Self::Discover => "discover",
        }
    }
}
