//! Reads single objects with the host's own rights.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Cluster,
    names::run_path,
    observe::Call,
    refusal::{Trouble, accepted},
    status::{RunStatus, status_of},
    wire::{Answer, Ask},
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
        let ask = Ask::get(Call::ReadRun, run_path(namespace, name));
        let object = found(self.host_answer(ask).await, "pipelineruns")?;
        Ok(object.as_ref().and_then(status_of))
    }

    /// A list with the host's rights. One that isn't found is no empty list: its resource is away.
    pub(crate) async fn list(&self, ask: Ask) -> Result<Value, ReadError> {
        self.host_answer(ask).await.and_then(parsed).map_err(away)
    }

    /// What the API server says about itself, or about a right, with the host's rights; none: it does not know the path.
    pub(crate) async fn read(&self, ask: Ask) -> Result<Option<Value>, ReadError> {
        match self.host_answer(ask).await.and_then(parsed) {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::NotFound(_) | Trouble::NoResource) => Ok(None),
            Err(trouble) => Err(away(trouble)),
        }
    }

    async fn host_answer(&self, ask: Ask) -> Result<Answer, Trouble> {
        self.wire
            .as_host(ask)
            .await
            .map_err(Trouble::from)
            .and_then(accepted)
    }
}

/// An object, or none if the API server itself says that there is none of this kind and name. A 404 in any other words is a proxy's, or of a resource
/// that is just being replaced: who took it for the object's end would forget a run that goes on.
fn found(answer: Result<Answer, Trouble>, kind: &str) -> Result<Option<Value>, ReadError> {
    match answer.and_then(parsed) {
        Ok(value) => Ok(Some(value)),
        Err(Trouble::NotFound(what)) if what == kind => Ok(None),
        Err(trouble) => Err(away(trouble)),
    }
}

fn parsed(answer: Answer) -> Result<Value, Trouble> {
    serde_json::from_slice(&answer.body).map_err(|_| Trouble::Unavailable {
        why: "the API server's answer can't be read".to_owned(),
        retry_after: None,
    })
}

/// Trouble while something is read.
fn away(trouble: Trouble) -> ReadError {
    let unavailable = |why: String| ReadError::Unavailable {
        why,
        retry_after: None,
    };
    match trouble {
        Trouble::Denied(message) => ReadError::Denied {
            message,
            remedy: HOST_REMEDY.to_owned(),
        },
        Trouble::Unavailable { why, retry_after } => ReadError::Unavailable { why, retry_after },
        Trouble::Unauthorized(said) => unavailable(format!(
            "the API server does not take the host's own credentials: {said}"
        )),
        Trouble::Refused(said) | Trouble::Conflict(said) => unavailable(said),
        Trouble::NotFound(what) => unavailable(format!("the API server finds no {what}")),
        Trouble::NoResource => {
            unavailable("the cluster does not know the resource just now".to_owned())
        }
        Trouble::Terminating | Trouble::Exists | Trouble::TooLarge => {
            unavailable("the API server gave an answer that does not fit".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    fn check(code: u16, body: &str) -> Result<Option<Value>, ReadError> {
        let answer = accepted(Answer {
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: None,
            body: Bytes::from(body.to_owned()),
        });
        found(answer, "pipelineruns")
    }

    fn status(kind: &str) -> String {
        json!({
            "kind": "Status",
            "message": format!("{kind} \"x\" not found"),
            "reason": "NotFound",
            "details": { "name": "x", "kind": kind },
        })
        .to_string()
    }

    #[test]
    fn a_run_is_gone_only_if_the_api_server_says_so_of_that_run() {
        assert_eq!(check(404, &status("pipelineruns")), Ok(None));
        for body in [
            "404 page not found",
            "<html>no such host</html>",
            "{}",
            &status("services"),
            &status(""),
            r#"{"message": "the server could not find the requested resource", "reason": "NotFound", "details": {}}"#,
        ] {
            let error = check(404, body).unwrap_err();
            assert!(error.is_transient(), "{body}: {error}");
        }
    }

    #[test]
    fn what_is_no_json_is_not_read() {
        assert_eq!(check(200, r#"{"a": 1}"#), Ok(Some(json!({ "a": 1 }))));
        assert!(check(200, "<html>").unwrap_err().is_transient());
    }
}
