//! What a plugin may ask goes up through [`World`]: the server answers it with GitLab, the store and the cluster.

use std::pin::Pin;

use penstock_model::lookup::{Answer, HostFault, Lookup, LookupError};

/// A future that somebody else wrote.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An answer about the world, or why the host could not ask.
pub type Asked = Result<Result<Answer, LookupError>, HostFault>;

/// Answers lookups that were granted and counted.
///
/// The future is polled on a guest's thread, but inside the tokio runtime that the call came from, so its timers, sockets and tasks are there. It
/// must not compute for long: a body to be parsed or compressed belongs in a task.
///
/// Each lookup has one fitting variant of [`Answer`]; any other is a fault of the host and ends the call:
///
/// | lookup | answer |
/// |---|---|
/// | `Payload` | `Text` |
/// | `PayloadAt` | `Part` |
/// | `Headers` | `Headers` |
/// | `Folder` | `Folder` |
/// | `Files` | `Files`: one for each path, in order |
/// | `Resolve` | `CommitId` |
/// | `FindCommit` | `Commit` |
/// | `ChangedPaths` | `Changes` |
/// | `FindMergeRequest` | `MergeRequest` |
/// | `OpenMergeRequests` | `MergeRequests` |
/// | `MergeRequestApprovals` | `Approvals` |
/// | `FindUser` | `User` |
/// | `Access`, `GroupAccess` | `Access` |
/// | `Places` | `Places` |
/// | `Runs` | `Runs` |
/// | `History` | `Summary` |
/// | `Fetch` | `Fetched` |
/// | `StateGet` | `State` |
/// | `StateKeys` | `Keys`: the first `limit` keys with the prefix, by their bytes; never asked for more than 1,000 and as many as the call removed |
///
/// `StateGet` and `StateKeys` come only for events of a project, and their texts hold no control characters. `StatePut` and `StateDelete` never come: they are
/// what a denied write leaves in a record.
pub trait World: Send + Sync {
    /// Answers.
    ///
    /// # Errors
    /// [`HostFault`] when the host itself could not ask: it ends the call, which is made again later.
    fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked>;
}
