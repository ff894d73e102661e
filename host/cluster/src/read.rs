//! Reads single objects with the host's own rights.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Cluster,
    names::run_path,
    observe::Call,
    refusal::{Trouble, accepted},
    status::{RunStatus, status_of},
    wire::Ask,
};

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// RBAC does not let the host.
    #[error("denied by the cluster: {message}; {remedy}")]
    Denied {
        /// The API server's words.
        message: String,
        /// The rule to add.
        remedy: String,
    },
    /// Not now.
    #[error("the cluster could not be read now: {why}")]
    Unavailable {
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

impl ReadError {
    /// It may be readable later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// The rule that the host needs.
pub(crate) const HOST_REMEDY: &str = "grant the host's account the rule `apiGroups: [tekton.dev], resources: [pipelineruns, taskruns], verbs: [get, list, watch]` with a ClusterRole and a ClusterRoleBinding (examples/cluster/penstock.yaml has both)";

impl Cluster {
    /// Where a run stands now. None: there is no such object, or it isn't a run of Penstock's.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn run_status(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<RunStatus>, ReadError> {
        let object = self
            .read(Ask::get(Call::ReadRun, run_path(namespace, name)))
            .await?;
        Ok(object.as_ref().and_then(status_of))
    }

    /// An object or a list with the host's rights; none: not found.
    pub(crate) async fn read(&self, ask: Ask) -> Result<Option<Value>, ReadError> {
        let answer = self
            .wire
            .as_host(ask)
            .await
            .map_err(Trouble::from)
            .and_then(accepted);
        let unavailable = |why: String| ReadError::Unavailable {
            why,
            retry_after: None,
        };
        match answer {
            Ok(answer) => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|_| unavailable("the API server's answer can't be read".to_owned())),
            Err(Trouble::NotFound(_) | Trouble::NoResource) => Ok(None),
            Err(Trouble::Denied(message)) => Err(ReadError::Denied {
                message,
                remedy: HOST_REMEDY.to_owned(),
            }),
            Err(Trouble::Unavailable { why, retry_after }) => {
                Err(ReadError::Unavailable { why, retry_after })
            }
            Err(Trouble::Unauthorized(said)) => Err(unavailable(format!(
                "the API server does not take the host's own credentials: {said}"
            ))),
            Err(Trouble::Refused(said) | Trouble::Conflict(said)) => Err(unavailable(said)),
            Err(Trouble::Terminating | Trouble::Exists | Trouble::TooLarge) => Err(unavailable(
                "the API server gave an answer that does not fit".to_owned(),
            )),
        }
    }
}
