//! Stops PipelineRuns, with the rights of the account that created them. Never stops an object that merely bears the
//! name of a run.

use std::time::Duration;

use penstock_model::admit::StopOrder;
use serde_json::{Value, json};

use crate::{
    Cluster,
    create::creator_remedy,
    names::{FIELD_MANAGER, run_path},
    observe::Call,
    refusal::Trouble,
    status::{RunStatus, status_of},
    token::{Account, TokenError},
    wire::Ask,
};

/// What became of an order to stop. All of these are a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Tekton was told; the watch says when the run has ended.
    Asked,
    /// It had ended before.
    AlreadyFinished,
    /// It does not exist any more.
    Gone,
}

/// Why a run could not be stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// RBAC does not let the creator, or lets the host not have its token.
    #[error("denied by the cluster: {message}; {remedy}")]
    Denied {
        /// The API server's words.
        message: String,
        /// The rule to add.
        remedy: String,
    },
    /// An admission webhook does not take the change.
    #[error("refused by the cluster: {message}")]
    Refused {
        /// The API server's words.
        message: String,
    },
    /// No such creator.
    #[error(
        "namespace `{namespace}` has no account `{account}` to stop runs; create it with its role"
    )]
    NoAccount {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
    },
    /// Not now: the same order may succeed later.
    #[error("the cluster could not stop the run now: {why}")]
    Unavailable {
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

impl StopError {
    /// The same order may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The rule to add, where one is missing.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Denied { remedy, .. } => Some(remedy),
            _ => None,
        }
    }

    /// How long the API server wishes to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A word for metrics and records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::NoAccount { .. } => "no-account",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// How a run is stopped.
#[derive(Clone, Copy)]
enum How {
    /// Tasks are cancelled, `finally` tasks still run.
    RunFinally,
    /// Everything is cancelled.
    AtOnce,
}

impl How {
    fn status(self) -> &'static str {
        match self {
            Self::RunFinally => "CancelledRunFinally",
            Self::AtOnce => "Cancelled",
        }
    }

    /// A run whose spec says this needs no other word. What was cancelled at once is never softened.
    fn is_said_by(self, status: &str) -> bool {
        status == "Cancelled" || status == self.status()
    }
}

impl Cluster {
    /// Cancels the run; its `finally` tasks still run. May be repeated.
    ///
    /// # Errors
    /// See [`StopError`].
    pub async fn stop_run(&self, order: &StopOrder) -> Result<Stopped, StopError> {
        self.stop(order, How::RunFinally).await
    }

    /// Cancels the run and its `finally` tasks: for a run that [`Cluster::stop_run`] did not end in time.
    ///
    /// # Errors
    /// See [`StopError`].
    pub async fn stop_run_hard(&self, order: &StopOrder) -> Result<Stopped, StopError> {
        self.stop(order, How::AtOnce).await
    }

    async fn stop(&self, order: &StopOrder, how: How) -> Result<Stopped, StopError> {
        let creator = Account {
            namespace: order.namespace.clone(),
            name: order.creator.clone(),
        };
        let Some(run) = self.run_to_stop(order, &creator).await? else {
            return Ok(Stopped::Gone);
        };
        if run.state.is_final() {
            return Ok(Stopped::AlreadyFinished);
        }
        if run
            .spec_status
            .as_deref()
            .is_some_and(|status| how.is_said_by(status))
        {
            return Ok(Stopped::Asked);
        }
        // The UID makes the API server refuse the change if another object bears the name by now.
        let patch = json!({ "metadata": { "uid": run.uid }, "spec": { "status": how.status() } })
            .to_string();
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}",
            run_path(&order.namespace, &order.name)
        );
        let patch = || Ask::merge_patch(Call::StopRun, path.clone(), patch.clone());
        let trouble = match self.tokens.ask(&creator, patch).await {
            Ok(Ok(_)) => return Ok(Stopped::Asked),
            Ok(Err(Trouble::NotFound(_) | Trouble::Terminating)) => return Ok(Stopped::Gone),
            Ok(Err(trouble)) => trouble,
            Err(error) => return gone_or(error),
        };
        // Tekton refuses changes of a run that has ended, the API server those of another object.
        if matches!(trouble, Trouble::Refused(_) | Trouble::Conflict(_)) {
            match self.run_to_stop(order, &creator).await? {
                None => return Ok(Stopped::Gone),
                Some(now) if now.uid != run.uid => return Ok(Stopped::Gone),
                Some(now) if now.state.is_final() => return Ok(Stopped::AlreadyFinished),
                Some(_) => {}
            }
        }
        Err(error(trouble, order))
    }

    /// The run that is meant, and no other object of its name.
    async fn run_to_stop(
        &self,
        order: &StopOrder,
        creator: &Account,
    ) -> Result<Option<RunStatus>, StopError> {
        let get = || Ask::get(Call::ReadRun, run_path(&order.namespace, &order.name));
        let answer = match self.tokens.ask(creator, get).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Trouble::NotFound(_))) => return Ok(None),
            Ok(Err(trouble)) => return Err(error(trouble, order)),
            Err(TokenError::NoNamespace { .. }) => return Ok(None),
            Err(error) => return gone_or(error).map(|_| None),
        };
        let object: Value =
            serde_json::from_slice(&answer.body).map_err(|_| StopError::Unavailable {
                why: "the API server answered with something that is no PipelineRun".to_owned(),
                retry_after: None,
            })?;
        Ok(status_of(&object).filter(|run| {
            run.effect == order.run && order.uid.as_ref().is_none_or(|uid| *uid == run.uid)
        }))
    }
}

/// Without its namespace a run is gone.
fn gone_or(error: TokenError) -> Result<Stopped, StopError> {
    let remedy = error.remedy().unwrap_or_default();
    let message = error.to_string();
    Err(match error {
        TokenError::NoNamespace { .. } => return Ok(Stopped::Gone),
        TokenError::Denied { .. } => StopError::Denied { message, remedy },
        TokenError::NoAccount { namespace, account } => StopError::NoAccount { namespace, account },
        TokenError::Unavailable { retry_after, .. } => StopError::Unavailable {
            why: message,
            retry_after,
        },
    })
}

fn error(trouble: Trouble, order: &StopOrder) -> StopError {
    let not_now = |why: String| StopError::Unavailable {
        why,
        retry_after: None,
    };
    match trouble {
        Trouble::Denied(message) => StopError::Denied {
            message,
            remedy: creator_remedy(&order.namespace, &order.creator),
        },
        Trouble::Refused(message) => StopError::Refused { message },
        Trouble::Unavailable { why, retry_after } => StopError::Unavailable { why, retry_after },
        Trouble::Unauthorized(why) | Trouble::Conflict(why) => not_now(why),
        Trouble::NotFound(what) => not_now(format!("the API server finds no {what}")),
        Trouble::NoResource => not_now("the cluster does not know PipelineRuns".to_owned()),
        Trouble::Terminating | Trouble::Exists | Trouble::TooLarge => {
            not_now("the API server gave an answer that does not fit".to_owned())
        }
    }
}
