//! Orders of the outbox are carried out: runs in a cluster, statuses and comments in GitLab.
//!
//! Each order is idempotent by its effect's id, so it may be tried again after any failure. What is transient is tried again with backoff for a day; what is
//! permanent is settled at once, and a run that never came to be shows as a failed status.

use std::sync::Arc;
use std::time::Duration;

use penstock_cluster::{LinkTo, Stopped};
use penstock_gitlab::StatusOutcome;
use penstock_model::admit::{
    CommentOrder, DeleteOrder, Order, RunOrder, StatusOrder, StopHow, StopOrder, Task,
};
use penstock_model::effect::StatusState;
use penstock_model::id::{EffectId, InstanceName, Timestamp};
use penstock_model::run::RunState;
use penstock_store::{ActError, Claim, CreatedRun, Effect, Onward, Then};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backoff::{self, GIVE_UP_AFTER};
use crate::clone::NotYet;
use crate::host::Host;
use crate::lanes::After;
use crate::live::{Instance, Live};
use crate::status::{self, News};
use crate::trace;

/// Works through one lane until nothing of it is due.
pub async fn lane(
    host: Arc<Host>,
    claim: Claim,
    first: Option<Effect>,
    stop: CancellationToken,
) -> After {
    let mut next = first;
    loop {
        let effect = match next.take() {
            // It was handed out: it is carried out whatever else happens.
            Some(effect) => effect,
            None if stop.is_cancelled() => return After::GiveBack,
            None => match host.store.next_effect(&claim, Timestamp::now()).await {
                Ok(Some(effect)) => effect,
                Ok(None) => return After::GiveBack,
                Err(error) => {
                    tracing::warn!(%error, lane = claim.lane, "could not read the next effect of a lane");
                    return After::GiveBackLater;
                }
            },
        };
        let then = if stop.is_cancelled() {
            Then::GiveBack
        } else {
            Then::GoOn
        };
        let span = tracing::info_span!(
            "act", delivery.id = %effect.delivery.id, effect.id = %effect.order.id, effect.kind = kind(&effect.order)
        );
        let facts = || {
            [
                ("delivery.id", effect.delivery.id.to_string().into()),
                ("effect.id", effect.order.id.to_string().into()),
                ("effect.kind", kind(&effect.order).into()),
                ("effect.tries", i64::from(effect.tries).into()),
            ]
        };
        let traced = trace::begin(trace::of(&effect.delivery), "act", facts);
        // On the heap: it is large, and would be moved about on the stack.
        let work = Box::pin(step(&host, &claim, effect, then)).instrument(span);
        match traced.around(work).await {
            Ok(Onward::Next(effect)) => next = Some(effect),
            Ok(Onward::GivenBack) => return After::GivenBack,
            // The watch may have seen the run before its creation was told of: then it is settled already.
            Ok(Onward::Stays) | Err(ActError::NotWaiting { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, lane = claim.lane, "a lane is left as it is");
                // The order may have been carried out and its end not kept: given back now, a cancel would take it for not begun.
                return After::Lapse;
            }
        }
    }
}

/// The cluster crate's word for a denial by RBAC.
const DENIED: &str = "denied";
/// Pauses before a denial is believed. An API server that has just started denies what it will allow in a moment, when it has read its rules.
const DENIAL_PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// What came of one try.
enum Tried {
    Done(serde_json::Value),
    /// A run exists; the store may find that it was cancelled meanwhile.
    Created(Box<CreatedRun>),
    Again {
        why: String,
        after: Option<Duration>,
    },
    /// It can't be done, now or later.
    Never(String),
}

async fn step(
    host: &Host,
    claim: &Claim,
    effect: Effect,
    then: Then,
) -> Result<Onward<Effect>, ActError> {
    let live = host.live();
    let tried = match &effect.order.task {
        Task::StartRun(order) => {
            match crate::clone::prepare(host, &live, order, effect.order.id).await {
                Ok(()) => start_run(host, &live, claim, order, effect.order.id).await,
                Err(NotYet::Again { why, after }) => Tried::Again { why, after },
                Err(NotYet::Never(why)) => Tried::Never(why),
            }
        }
        Task::StopRun(order) => stop_run(host, &live, &effect.order, order).await,
        Task::DeleteRun(order) => delete_run(&live, order).await,
        Task::SetStatus(status) if no_longer_waits(host, status).await => {
            Tried::Done(posted(&StatusOutcome::Overtaken { pipeline: None }))
        }
        Task::SetStatus(status) => {
            set_status(&live, status, status::is_unconfirmed(&effect.order)).await
        }
        Task::Comment(order) => comment(host, &live, order).await,
        // The transaction that commits a decision resolves it to orders that stop runs; one in the outbox is a fault of ours.
        Task::CancelRuns(_) => {
            Tried::Never("a cancel was not resolved to runs when it was decided".to_owned())
        }
    };
    let now = Timestamp::now();
    let (store, id) = (&host.store, effect.order.id);
    let count = |outcome| {
        host.metrics.effect(kind(&effect.order), outcome);
        trace::note(
            "effect.outcome",
            outcome,
            matches!(outcome, "refused" | "dead"),
        );
    };
    match tried {
        Tried::Done(result) => {
            count("done");
            tracing::info!(tries = effect.tries, "acted");
            store.effect_done_then(claim, &id, result, then, now).await
        }
        Tried::Created(run) => {
            count("done");
            tracing::info!(tries = effect.tries, run.uid, "acted");
            store.run_created_then(claim, *run, then, now).await
        }
        Tried::Again { why, .. }
            if effect
                .first_tried_at
                .is_some_and(|first| now.since(first) > GIVE_UP_AFTER) =>
        {
            count("dead");
            tracing::error!(
                why,
                tries = effect.tries,
                "gave an effect up after a day; `effects retry` tries again"
            );
            let said = format!("given up after a day: {why}");
            store
                .effect_dead(claim, &id, &why, told(&effect.order, &said), now)
                .await
                .map(|()| Onward::Stays)
        }
        Tried::Again { why, after } => {
            count("again");
            let pause = backoff::wait(effect.tries, after, rand::random());
            tracing::warn!(why, tries = effect.tries, pause = ?pause, "an effect is tried again");
            store
                .effect_retry(claim, &id, now.plus(pause), &why, now)
                .await
                .map(|()| Onward::Stays)
        }
        Tried::Never(why) => {
            count("refused");
            tracing::warn!(why, "an effect can't be done");
            store
                .effect_refused(claim, &id, &why, told(&effect.order, &why), now)
                .await
                .map(|()| Onward::Stays)
        }
    }
}

/// A run that never came to be is told of; other effects are shown by `explain` alone.
fn told(order: &Order, why: &str) -> Vec<Order> {
    match &order.task {
        Task::StartRun(run) => {
            vec![status::of_run(
                order.id,
                run.as_ref(),
                News {
                    state: RunState::Refused,
                    reason: why,
                    url: None,
                },
            )]
        }
        _ => Vec::new(),
    }
}

async fn start_run(
    host: &Host,
    live: &Live,
    claim: &Claim,
    order: &RunOrder,
    id: EffectId,
) -> Tried {
    let Some(cluster) = live.cluster(&order.cluster) else {
        return Tried::Never(format!(
            "the configuration has no cluster `{}` any more",
            order.cluster
        ));
    };
    let mut pauses = DENIAL_PAUSES.into_iter();
    let created = loop {
        let create = cluster.create_run(order, id);
        let created = host
            .creations
            .turn(&order.cluster, &claim.tenant, create)
            .await;
        match (created, pauses.next()) {
            (Err(error), Some(pause)) if error.kind() == DENIED => tokio::time::sleep(pause).await,
            (answer, _) => break answer,
        }
    };
    match created {
        Ok(created) => {
            let spec_digest = match created.stored.spec_digest() {
                Ok(digest) => digest,
                Err(error) => {
                    let why = format!("the cluster's answer to the create can't be read: {error}");
                    return Tried::Again { why, after: None };
                }
            };
            let to = LinkTo {
                cluster: &order.cluster,
                namespace: &order.namespace,
                name: &order.name,
                uid: Some(&created.uid),
                effect: id,
            };
            let link = live.run_link(cluster, &to);
            let reason = format!("running as {}/{}", order.namespace, order.name);
            let news = News {
                state: RunState::Running,
                reason: &reason,
                url: link.as_deref(),
            };
            Tried::Created(Box::new(CreatedRun {
                id,
                stored_digest: spec_digest,
                follow_ups: vec![status::of_run(id, order, news)],
                uid: created.uid,
                web_url: link,
            }))
        }
        Err(error) if error.is_transient() => Tried::Again {
            after: error.retry_after(),
            why: error.to_string(),
        },
        Err(error) => Tried::Never(error.to_string()),
    }
}

async fn stop_run(host: &Host, live: &Live, whole: &Order, order: &StopOrder) -> Tried {
    let Some(cluster) = live.cluster(&order.cluster) else {
        return Tried::Never(format!(
            "the configuration has no cluster `{}` any more",
            order.cluster
        ));
    };
    let mut pauses = DENIAL_PAUSES.into_iter();
    let stopped = loop {
        match (cluster.stop_run(order).await, pauses.next()) {
            (Err(error), Some(pause)) if error.kind() == DENIED => tokio::time::sleep(pause).await,
            (answer, _) => break answer,
        }
    };
    match stopped {
        Ok(Stopped::Asked) if order.how == StopHow::RunFinally => {
            let now = Timestamp::now();
            let at = now.plus(live.cancel_grace(&order.cluster));
            match host.store.stop_later(whole, at, now).await {
                Ok(()) => Tried::Done(json!({ "stopped": "Asked", "at_once_after": at })),
                Err(error) => Tried::Again {
                    why: format!("its stop at once could not be ordered: {error}"),
                    after: None,
                },
            }
        }
        Ok(stopped) => Tried::Done(json!({ "stopped": format!("{stopped:?}") })),
        Err(error) if error.is_transient() => Tried::Again {
            after: error.retry_after(),
            why: error.to_string(),
        },
        Err(error) => Tried::Never(error.to_string()),
    }
}

async fn delete_run(live: &Live, order: &DeleteOrder) -> Tried {
    let Some(cluster) = live.cluster(&order.cluster) else {
        return Tried::Never(format!(
            "the configuration has no cluster `{}` any more",
            order.cluster
        ));
    };
    match cluster.delete_run(order).await {
        Ok(deleted) => Tried::Done(json!({ "deleted": format!("{deleted:?}") })),
        Err(error) if error.is_transient() => Tried::Again {
            after: error.retry_after(),
            why: error.to_string(),
        },
        Err(error) => Tried::Never(error.to_string()),
    }
}

fn instance<'a>(live: &'a Live, name: &InstanceName) -> Result<&'a Arc<Instance>, Tried> {
    live.instance(name).ok_or_else(|| {
        Tried::Never(format!(
            "the configuration has no GitLab instance `{name}` any more"
        ))
    })
}

/// That a run waits is not worth a call any more: it runs or has ended, and what tells of that stands behind.
async fn no_longer_waits(host: &Host, status: &StatusOrder) -> bool {
    let (StatusState::Pending, Some(run)) = (status.state, &status.run) else {
        return false;
    };
    matches!(host.store.run(run).await, Ok(Some(run)) if !matches!(run.run.state, RunState::Queued | RunState::Gated))
}

async fn set_status(live: &Live, order: &StatusOrder, unconfirmed: bool) -> Tried {
    let instance = match instance(live, &order.of.instance) {
        Ok(instance) => instance,
        Err(never) => return never,
    };
    if unconfirmed {
        let of = &order.of;
        match penstock_gitlab::is_at(&instance.client, of.project, &of.path).await {
            Ok(true) => {}
            Ok(false) => {
                return Tried::Never(format!("project {} is not `{}`", of.project, of.path));
            }
            Err(error) => {
                return Tried::Again {
                    after: error.retry_after(),
                    why: error.to_string(),
                };
            }
        }
    }
    match penstock_gitlab::set_status(&instance.client, order).await {
        Ok(outcome) => Tried::Done(posted(&outcome)),
        Err(error) => failed(error),
    }
}

/// What is kept of a status: the pipeline that has it, which a newer one is held against, and whose it is.
fn posted(outcome: &StatusOutcome) -> serde_json::Value {
    match outcome {
        StatusOutcome::Set {
            pipeline,
            project,
            user,
        } => json!({ "status": "set", "pipeline": pipeline, "project": project, "user": user }),
        StatusOutcome::Already { pipeline } => {
            json!({ "status": "already", "pipeline": pipeline })
        }
        StatusOutcome::Overtaken { pipeline } => {
            json!({ "status": "overtaken", "pipeline": pipeline })
        }
    }
}

async fn comment(host: &Host, live: &Live, order: &CommentOrder) -> Tried {
    let instance = match instance(live, &order.of.instance) {
        Ok(instance) => instance,
        Err(never) => return never,
    };
    let own = match instance.own_users(&host.store).await {
        Ok(own) => own,
        Err(error) => {
            return Tried::Again {
                after: error.retry_after(),
                why: error.to_string(),
            };
        }
    };
    match penstock_gitlab::comment(&instance.client, order, &own).await {
        Ok(outcome) => Tried::Done(json!({ "comment": format!("{outcome:?}") })),
        Err(error) => failed(error),
    }
}

fn failed(error: penstock_gitlab::ActError) -> Tried {
    match error {
        penstock_gitlab::ActError::Permanent(why) => Tried::Never(why),
        penstock_gitlab::ActError::Retry { what, after } => Tried::Again { why: what, after },
    }
}

/// The word for metrics and logs.
fn kind(order: &Order) -> &'static str {
    match &order.task {
        Task::StartRun(_) => "start-run",
        Task::StopRun(_) => "stop-run",
        Task::DeleteRun(_) => "delete-run",
        Task::CancelRuns(_) => "cancel-runs",
        Task::Comment(_) => "comment",
        Task::SetStatus(_) => "commit-status",
    }
}
