//! One route of one delivery: the plugin is asked, its plan is judged, and everything is committed at once.

mod call;

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_model::admit::Admitted;
use penstock_model::id::Timestamp;
use penstock_model::record::{DecisionRecord, Failure, Outcome};
use penstock_store::{Claim, CommitError, Decision, LaneError, PendingRoute, Settlement};

use self::call::{Call, NotNow, prepare};
use super::{Delivery, Wait, postpone};
use crate::host::Host;

/// How often a call is made anew when the state changed under it.
const CONFLICTS: u32 = 5;
/// How often a call is made that passes its deadline.
const DEADLINES: u32 = 3;

/// Decides one route.
pub(super) async fn route(
    host: &Arc<Host>,
    claim: &Claim,
    delivery: &Delivery,
    pending: &PendingRoute,
) -> Result<(), LaneError> {
    let step = Step {
        host,
        claim,
        delivery,
        pending,
    };
    let (mut conflicts, mut deadlines) = (0, 0);
    loop {
        // Each round confirms anew, so that rights are never older than the client's caches.
        let call = match prepare(host, delivery, pending).await {
            Ok(call) => call,
            Err(NotNow::Later { why, after }) => return step.postpone(&why, after).await,
            Err(NotNow::Never(why)) => return step.fail(why, None).await,
            Err(NotNow::Forged(why)) => return step.settle(Settlement::Failed, why).await,
            Err(NotNow::NotMeant(why)) => return step.settle(Settlement::Decided, why).await,
        };
        let Some(_hand) = call.slot.hand() else {
            return step.put_off(&call).await;
        };
        // A call that lost its state to others is made again with nobody beside it.
        let _turn = match call.state() {
            None => None,
            Some(whose) if conflicts == 0 => Some(host.turns.beside(whose).await),
            Some(whose) => Some(host.turns.alone(whose).await),
        };
        let begun = Instant::now();
        let record = match call.ask().await {
            Ok(record) => record,
            Err(fault) => {
                return step
                    .postpone(&fault.what, fault.retry_after.map(Duration::from_millis))
                    .await;
            }
        };
        call.count(host, &record, begun.elapsed());
        if let Outcome::Failure(Failure::DeadlinePassed { .. }) = &record.outcome {
            deadlines += 1;
            if deadlines < DEADLINES {
                continue;
            }
        }
        match step.commit(&call, record).await {
            Err(CommitError::Conflict { what }) => {
                conflicts += 1;
                tracing::info!(
                    what,
                    conflicts,
                    "the state changed under a call; it is made anew"
                );
                if conflicts == CONFLICTS {
                    let failure = Failure::StateConflict { tries: CONFLICTS };
                    host.metrics
                        .plugin_failed(call.route.plugin.as_str(), failure.word());
                    return step.fail(failure.to_string(), Some(&call)).await;
                }
            }
            Err(CommitError::Store(error)) if !error.is_unavailable() => {
                // The same answer would be refused for ever: it is the plugin's failure, not the store's.
                tracing::error!(%error, route = %pending.route, "the store does not take a decision");
                let why = format!("the decision can't be stored: {error}");
                return step.fail(why, Some(&call)).await;
            }
            Err(CommitError::StateFull { what, limit }) => {
                let failure = Failure::StateExceeded { what, limit };
                host.metrics
                    .plugin_failed(call.route.plugin.as_str(), failure.word());
                return step.fail(failure.to_string(), Some(&call)).await;
            }
            Ok(()) | Err(CommitError::AlreadyDecided { .. }) => return Ok(()),
            Err(error) => return Err(lane_error(&claim.lane, error)),
        }
    }
}

/// What every step of a route needs.
struct Step<'a> {
    host: &'a Arc<Host>,
    claim: &'a Claim,
    delivery: &'a Delivery,
    pending: &'a PendingRoute,
}

impl Step<'_> {
    async fn commit(&self, call: &Call, record: DecisionRecord) -> Result<(), CommitError> {
        let decision = call.judge(self.delivery, self.pending, record);
        let refused = decision.admitted.refused.len();
        let committed = self
            .host
            .store
            .commit(self.claim, decision, Timestamp::now())
            .await?;
        tracing::info!(
            route = %self.pending.route,
            refused,
            withdrawn = committed.withdrawn.len(),
            stopping = committed.stopping.len(),
            "decided"
        );
        Ok(())
    }

    /// Something is away: tried again with backoff.
    async fn postpone(&self, why: &str, after: Option<Duration>) -> Result<(), LaneError> {
        let wait = Wait::of(self.pending, after);
        postpone(
            self.host,
            self.claim,
            self.delivery,
            Some(self.pending),
            why,
            wait,
        )
        .await
    }

    /// The plugin has enough to do: its route is looked at again a little later, and other plugins' routes are not held up.
    async fn put_off(&self, call: &Call) -> Result<(), LaneError> {
        let now = Timestamp::now();
        let next = now.plus(call.slot.pause());
        let why = format!("plugin `{}` is busy", call.route.plugin);
        let key = &self.delivery.stored.key;
        self.host
            .store
            .put_off(self.claim, key, &self.pending.route, next, &why, now)
            .await
    }

    /// Ends the route as failed, with a failed status.
    async fn fail(&self, why: String, call: Option<&Call>) -> Result<(), LaneError> {
        let status = match call {
            Some(call) => call.failed_status(&why),
            None => self
                .delivery
                .unconfirmed_status(Some(&self.pending.route), &why),
        };
        let mut decision = decision(self.delivery, self.pending, Settlement::Failed, Some(why));
        decision.orders.extend(status);
        self.settled(decision).await
    }

    /// Ends the route without telling GitLab.
    async fn settle(&self, settlement: Settlement, why: String) -> Result<(), LaneError> {
        self.settled(decision(self.delivery, self.pending, settlement, Some(why)))
            .await
    }

    async fn settled(&self, decision: Decision) -> Result<(), LaneError> {
        if let Some(why) = &decision.why {
            tracing::warn!(route = %decision.route, why, "a route ends without a plan");
        }
        match self
            .host
            .store
            .commit(self.claim, decision, Timestamp::now())
            .await
        {
            Ok(_) | Err(CommitError::AlreadyDecided { .. }) => Ok(()),
            Err(error) => Err(lane_error(&self.claim.lane, error)),
        }
    }
}

fn lane_error(lane: &str, error: CommitError) -> LaneError {
    match error {
        CommitError::Fenced { lane } => LaneError::Fenced { lane },
        CommitError::Store(error) => LaneError::Store(error),
        other => LaneError::NotFound {
            lane: lane.to_owned(),
            what: other.to_string(),
        },
    }
}

fn decision(
    delivery: &Delivery,
    pending: &PendingRoute,
    settlement: Settlement,
    why: Option<String>,
) -> Decision {
    Decision {
        delivery: delivery.stored.key.clone(),
        route: pending.route.clone(),
        attempt: pending.attempt,
        settlement,
        why,
        mode: penstock_store::Mode::Act,
        record: None,
        admitted: Admitted::default(),
        state: penstock_model::record::StateChange::default(),
        orders: Vec::new(),
    }
}
