//! One route of one delivery: the plugin is asked, its plan is judged, and everything is committed at once.

mod call;

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_model::admit::Admitted;
use penstock_model::id::{RouteName, Timestamp};
use penstock_model::record::{DecisionRecord, Failure, Outcome};
use penstock_store::{
    Claim, CommitError, Committed, Decision, LaneError, Onward, Pending, PendingRoute, Settlement,
    Then,
};

use self::call::{Call, NotNow, prepare};
use super::{Delivery, Wait, postpone};
use crate::host::Host;
use crate::trace;

/// How often a call is made anew when the state changed under it.
const CONFLICTS: u32 = 5;
/// How often a call is made in which what GitLab says of the event changed.
const CHANGES: u32 = 3;
/// How often a call is made that passes its deadline.
const DEADLINES: u32 = 3;

/// Decides one route. `unwritten`: what the delivery is routed to, where that is not written down yet; it is, with the first
/// thing that is written. With a decision the lane goes on as `then` says.
pub(super) async fn route(
    host: &Arc<Host>,
    claim: &Claim,
    delivery: &Delivery,
    pending: &PendingRoute,
    unwritten: &mut Option<Vec<RouteName>>,
    then: Then,
) -> Result<Onward<Pending>, LaneError> {
    let mut step = Step {
        host,
        claim,
        delivery,
        pending,
        unwritten,
        then,
    };
    let (mut conflicts, mut deadlines, mut changes) = (0, 0, 0);
    loop {
        // Each round confirms anew, so that rights are never older than the client's caches.
        let mut call = match prepare(host, delivery, pending).await {
            Ok(call) => call,
            Err(not_now) => return step.not_now(not_now).await,
        };
        // A call that lost its state to others is made again with nobody beside it. Whoever has a slot waits for no turn.
        let _turn = match call.state() {
            None => None,
            Some(whose) if conflicts == 0 => Some(host.turns.beside(whose).await),
            Some(whose) => Some(host.turns.alone(whose).await),
        };
        let Some(slot) = call.turn().await else {
            let why = format!("plugin `{}` is busy", call.route.plugin);
            let pause = call.slot.pause();
            return step.not_now(NotNow::Busy { why, pause }).await;
        };
        let begun = Instant::now();
        let traced = trace::begin(trace::here(), "plugin", || call.facts());
        let record = match traced.around(Box::pin(call.ask(slot))).await {
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
        match call.still_holds(delivery).await {
            Ok(true) => {}
            Ok(false) => {
                changes += 1;
                let why = "what GitLab says of the event changed under a slow call";
                if changes == CHANGES {
                    return step.postpone(why, None).await;
                }
                tracing::info!(changes, "{why}; it is made anew");
                continue;
            }
            Err(not_now) => return step.not_now(not_now).await,
        }
        let record = Arc::new(record);
        match step.commit(&call, Arc::clone(&record)).await {
            Err(CommitError::Conflict { what }) => {
                conflicts += 1;
                tracing::info!(
                    what,
                    conflicts,
                    "the state changed under a call; it is made anew"
                );
                if conflicts == CONFLICTS {
                    let failure = Failure::StateConflict { tries: CONFLICTS };
                    return step.withhold(&call, record, failure).await;
                }
            }
            Err(CommitError::Store(error)) if !error.is_unavailable() => {
                // The same answer would be refused for ever: it is the plugin's failure, not the store's.
                tracing::error!(%error, route = %pending.route, "the store does not take a decision");
                let message = error.to_string();
                let failure = Failure::NotStored { message };
                return step.withhold(&call, record, failure).await;
            }
            Err(CommitError::StateFull { what, limit }) => {
                let failure = Failure::StateFull { what, limit };
                return step.withhold(&call, record, failure).await;
            }
            Ok(onward) => return Ok(onward),
            Err(CommitError::AlreadyDecided { .. }) => return Ok(Onward::Stays),
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
    unwritten: &'a mut Option<Vec<RouteName>>,
    then: Then,
}

impl Step<'_> {
    async fn commit(
        &mut self,
        call: &Call,
        record: Arc<DecisionRecord>,
    ) -> Result<Onward<Pending>, CommitError> {
        let decision = call.judge(self.delivery, self.pending, record);
        let refused = decision.admitted.refused.len();
        let (committed, onward) = self.write(decision).await?;
        tracing::info!(
            route = %self.pending.route,
            refused,
            withdrawn = committed.withdrawn.len(),
            stopping = committed.stopping.len(),
            "decided"
        );
        Ok(onward)
    }

    /// Ends the route as failed, with the record of a call whose answer can't be committed: the answer is in it, and why it does not hold.
    async fn withhold(
        &mut self,
        call: &Call,
        record: Arc<DecisionRecord>,
        failure: Failure,
    ) -> Result<Onward<Pending>, LaneError> {
        let plugin = call.route.plugin.as_str();
        self.host.metrics.plugin_failed(plugin, failure.word());
        let why = failure.to_string();
        let record = Arc::new(Arc::unwrap_or_clone(record).withhold(failure));
        match self
            .settled(call.judge(self.delivery, self.pending, record))
            .await
        {
            // It is the record that the store does not take: what is left is to say so.
            Err(LaneError::Store(error)) if !error.is_unavailable() => {
                self.fail(why, Some(call)).await
            }
            ended => ended,
        }
    }

    /// Commits a decision with the routes, where they are not written yet.
    async fn write(
        &mut self,
        decision: Decision,
    ) -> Result<(Committed, Onward<Pending>), CommitError> {
        let routes = self.unwritten.clone();
        let committed = self
            .host
            .store
            .commit_then(self.claim, decision, routes, self.then, Timestamp::now())
            .await?;
        *self.unwritten = None;
        Ok(committed)
    }

    /// Writes the routes down, where they are not.
    async fn write_routes(&mut self) -> Result<(), LaneError> {
        let Some(routes) = self.unwritten.clone() else {
            return Ok(());
        };
        let key = &self.delivery.stored.key;
        self.host
            .store
            .route(self.claim, key, routes, Timestamp::now())
            .await?;
        *self.unwritten = None;
        Ok(())
    }

    /// Something is away: tried again with backoff.
    async fn postpone(
        &mut self,
        why: &str,
        after: Option<Duration>,
    ) -> Result<Onward<Pending>, LaneError> {
        self.write_routes().await?;
        let wait = Wait::of(self.pending, after);
        postpone(
            self.host,
            self.claim,
            self.delivery,
            Some(self.pending),
            why,
            wait,
        )
        .await?;
        Ok(Onward::Stays)
    }

    /// Leaves the route until it can be decided, or for good.
    async fn not_now(&mut self, not_now: NotNow) -> Result<Onward<Pending>, LaneError> {
        match not_now {
            NotNow::Busy { why, pause } => self.put_off(&why, pause).await,
            NotNow::Later { why, after } => self.postpone(&why, after).await,
            NotNow::Never(why) => self.fail(why, None).await,
            NotNow::Forged(why) => self.settle(Settlement::Failed, why).await,
            NotNow::NotMeant(why) => self.settle(Settlement::Decided, why).await,
        }
    }

    /// Looks at the route again a little later, and holds up no other plugin's.
    async fn put_off(&mut self, why: &str, pause: Duration) -> Result<Onward<Pending>, LaneError> {
        self.write_routes().await?;
        let now = Timestamp::now();
        let key = &self.delivery.stored.key;
        self.host
            .store
            .put_off(
                self.claim,
                key,
                &self.pending.route,
                now.plus(pause),
                why,
                now,
            )
            .await?;
        Ok(Onward::Stays)
    }

    /// Ends the route as failed, with a failed status.
    async fn fail(
        &mut self,
        why: String,
        call: Option<&Call>,
    ) -> Result<Onward<Pending>, LaneError> {
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
    async fn settle(
        &mut self,
        settlement: Settlement,
        why: String,
    ) -> Result<Onward<Pending>, LaneError> {
        self.settled(decision(self.delivery, self.pending, settlement, Some(why)))
            .await
    }

    async fn settled(&mut self, decision: Decision) -> Result<Onward<Pending>, LaneError> {
        if let Some(why) = &decision.why {
            tracing::warn!(route = %decision.route, why, "a route ends without a plan");
        }
        match self.write(decision).await {
            Ok((_, onward)) => Ok(onward),
            Err(CommitError::AlreadyDecided { .. }) => Ok(Onward::Stays),
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
        refused_ends: Vec::new(),
        head: None,
    }
}
