//! Stops PipelineRuns, with the rights of the account that created them. Never stops an object that merely bears the
//! name of a run.

use std::time::Duration;

use penstock_model::admit::{StopHow, StopOrder};
use penstock_model::id::EffectId;
use penstock_model::run::RunState;
use serde_json::{Value, json};

use crate::{
    Cluster,
    create::{CREATOR_VERBS, rule_remedy},
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
    /// It had ended, and tasks of it went on: they were told.
    LeftOver {
        /// How many TaskRuns.
        tasks: usize,
    },
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

/// The run that an order is about.
pub(crate) struct Meant<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) creator: &'a str,
    pub(crate) name: &'a str,
    pub(crate) run: EffectId,
    pub(crate) uid: Option<&'a str>,
    /// What the creator needs for it.
    pub(crate) verbs: &'a str,
}

/// Tekton's word for how a run is stopped.
fn spec_status(how: StopHow) -> &'static str {
    match how {
        StopHow::RunFinally => "CancelledRunFinally",
        StopHow::AtOnce => "Cancelled",
    }
}

/// A run whose spec says this needs no other word. What was cancelled at once is never softened.
fn is_said_by(how: StopHow, status: &str) -> bool {
    status == "Cancelled" || status == spec_status(how)
}

impl Cluster {
    /// Stops the run as the order says: after its `finally` tasks, or at once. May be repeated.
    ///
    /// # Errors
    /// See [`StopError`].
    pub async fn stop_run(&self, order: &StopOrder) -> Result<Stopped, StopError> {
        let creator = Account {
            namespace: order.namespace.clone(),
            name: order.creator.clone(),
        };
        let meant = Meant {
            namespace: &order.namespace,
            creator: &order.creator,
            name: &order.name,
            run: order.run,
            uid: order.uid.as_deref(),
            verbs: CREATOR_VERBS,
        };
        let Some(run) = self.meant(&meant, &creator).await? else {
            return Ok(Stopped::Gone);
        };
        if run.state == RunState::Canceled {
            let left = self
                .stop_left_over(order, &meant, &creator, &run.uid)
                .await?;
            return Ok(match left {
                0 => Stopped::AlreadyFinished,
                tasks => Stopped::LeftOver { tasks },
            });
        }
        if run.state.is_final() {
            return Ok(Stopped::AlreadyFinished);
        }
        if run
            .spec_status
            .as_deref()
            .is_some_and(|status| is_said_by(order.how, status))
        {
            return Ok(Stopped::Asked);
        }
        // The UID makes the API server refuse the change if another object bears the name by now.
        let patch =
            json!({ "metadata": { "uid": run.uid }, "spec": { "status": spec_status(order.how) } })
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
            Err(error) => return gone_or(error).map(|()| Stopped::Gone),
        };
        // Tekton refuses changes of a run that has ended, the API server those of another object.
        if matches!(trouble, Trouble::Refused(_) | Trouble::Conflict(_)) {
            match self.meant(&meant, &creator).await? {
                None => return Ok(Stopped::Gone),
                Some(now) if now.uid != run.uid => return Ok(Stopped::Gone),
                Some(now) if now.state.is_final() => return Ok(Stopped::AlreadyFinished),
                Some(_) => {}
            }
        }
        Err(error(trouble, &meant))
    }

    /// The run that is meant, and no other object of its name.
    pub(crate) async fn meant(
        &self,
        meant: &Meant<'_>,
        creator: &Account,
    ) -> Result<Option<RunStatus>, StopError> {
        let get = || Ask::get(Call::ReadRun, run_path(meant.namespace, meant.name));
        let answer = match self.tokens.ask(creator, get).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Trouble::NotFound(_))) => return Ok(None),
            Ok(Err(trouble)) => return Err(error(trouble, meant)),
            Err(TokenError::NoNamespace { .. }) => return Ok(None),
            Err(error) => return gone_or(error).map(|()| None),
        };
        let object: Value =
            serde_json::from_slice(&answer.body).map_err(|_| StopError::Unavailable {
                why: "the API server answered with something that is no PipelineRun".to_owned(),
                retry_after: None,
            })?;
        Ok(status_of(&object)
            .filter(|run| run.effect == meant.run && meant.uid.is_none_or(|uid| *uid == run.uid)))
    }
}

/// Without its namespace a run is gone.
pub(crate) fn gone_or(error: TokenError) -> Result<(), StopError> {
    let remedy = error.remedy().unwrap_or_default();
    let message = error.to_string();
    Err(match error {
        TokenError::NoNamespace { .. } => return Ok(()),
        TokenError::Denied { .. } => StopError::Denied { message, remedy },
        TokenError::NoAccount { namespace, account } => StopError::NoAccount { namespace, account },
        TokenError::Unavailable { retry_after, .. } => StopError::Unavailable {
            why: message,
            retry_after,
        },
    })
}

pub(crate) fn error(trouble: Trouble, meant: &Meant<'_>) -> StopError {
    let not_now = |why: String| StopError::Unavailable {
        why,
        retry_after: None,
    };
    match trouble {
        Trouble::Denied(message) => StopError::Denied {
            message,
            remedy: rule_remedy(meant.namespace, meant.creator, meant.verbs),
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
