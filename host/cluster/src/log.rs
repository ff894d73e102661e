//! Reads the end of a step's log, with the rights of the place's creator account and no others: `get` of `pods/log` is all that it
//! takes, and only a place whose logs may be shown needs it.
//!
//! What comes back was written by whoever can push. Nothing of it is judged or changed here.

use std::time::Duration;

use crate::{
    Cluster,
    names::{log_path, segment},
    observe::Call,
    refusal::Trouble,
    token::{Account, TokenError},
    wire::Ask,
};

/// Lines that are asked for.
const LINES: usize = 200;
/// Bytes that are asked for; a log of longer lines is cut at its end.
const BYTES: usize = 256 << 10;

/// Which log.
#[derive(Clone, Copy, Debug)]
pub struct LogAt<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The account that reads it.
    pub creator: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// The container of the step.
    pub container: &'a str,
}

/// The last lines of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// What was printed; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// The last line is not whole: there was more than is read.
    pub cut: bool,
}

/// Why a log can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// RBAC does not let the creator, or lets the host not have its token.
    #[error("denied by the cluster: {message}; {remedy}")]
    Denied {
        /// The API server's words.
        message: String,
        /// The rule to add.
        remedy: String,
    },
    /// The pod or its node is gone, and the log with it.
    #[error("the log is gone with its pod")]
    Gone,
    /// Not now.
    #[error("the log could not be read now: {why}")]
    Unavailable {
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

/// The rule that a creator needs where logs are shown.
pub(crate) fn logs_remedy(namespace: &str, creator: &str) -> String {
    format!(
        "grant account `{creator}` in namespace `{namespace}` the rule `apiGroups: [\"\"], resources: [pods/log], verbs: [get]` with a Role and a RoleBinding (examples/cluster/place.yaml has both), or take `log-excerpts` off the place"
    )
}

impl LogError {
    fn of_token(error: TokenError) -> Self {
        let (remedy, message) = (error.remedy().unwrap_or_default(), error.to_string());
        match error {
            TokenError::Denied { .. } => Self::Denied { message, remedy },
            TokenError::NoNamespace { .. } | TokenError::NoAccount { .. } => Self::Gone,
            TokenError::Unavailable { retry_after, .. } => Self::Unavailable {
                why: message,
                retry_after,
            },
        }
    }

    fn of(trouble: Trouble, at: LogAt<'_>) -> Self {
        let unavailable = |why: String| Self::Unavailable {
            why,
            retry_after: None,
        };
        match trouble {
            Trouble::Denied(message) => Self::Denied {
                message,
                remedy: logs_remedy(at.namespace, at.creator),
            },
            Trouble::NotFound(_) | Trouble::Terminating | Trouble::NoResource => Self::Gone,
            Trouble::Unavailable { why, retry_after } => Self::Unavailable { why, retry_after },
            // A container that never ran, or was taken away while its pod stands, is a bad request to the API server.
            Trouble::Refused(why) | Trouble::Unauthorized(why) | Trouble::Conflict(why) => {
                unavailable(why)
            }
            Trouble::Exists | Trouble::TooLarge => {
                unavailable("the API server gave an answer that fits no question".to_owned())
            }
        }
    }
}

impl Cluster {
    /// The last lines of a step's log, at most 200 and at most 256 KiB.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn log_end(&self, at: LogAt<'_>) -> Result<LogEnd, LogError> {
        let account = Account {
            namespace: at.namespace.to_owned(),
            name: at.creator.to_owned(),
        };
        let path = format!(
            "{}?container={}&tailLines={LINES}&limitBytes={BYTES}",
            log_path(at.namespace, at.pod),
            segment(at.container)
        );
        let ask = || Ask::get(Call::ReadLog, path.clone());
        let answer = self
            .tokens
            .ask(&account, ask)
            .await
            .map_err(LogError::of_token)?
            .map_err(|trouble| LogError::of(trouble, at))?;
        let bytes = answer.body.get(..BYTES).unwrap_or(&answer.body);
        Ok(LogEnd {
            text: String::from_utf8_lossy(bytes).into_owned(),
            cut: answer.body.len() >= BYTES,
        })
    }
}
