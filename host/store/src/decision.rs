//! A decision, whole, in one transaction: its outcome, its record, its state writes, its orders.
//!
//! A (delivery, route, attempt) is decided once. If what the call read of its state has changed, nothing at all is written.

use std::sync::Arc;

use penstock_model::admit::{Admitted, Order};
use penstock_model::effect::{PluginError, Problem};
use penstock_model::host_event::HostEvent;
use penstock_model::id::{Digest, EffectId, RouteName, Timestamp};
use penstock_model::record::{DecisionRecord, Outcome, StateChange, Usage};
use serde::{Deserialize, Serialize};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::blob::{self, Packed};
use crate::claim::{Claim, Onward, Queue, Then, fence, go_on, opened};
use crate::delivery::DeliveryKey;
use crate::dispatch::{self, Pending, settle_delivery, write_routes};
use crate::error::{LaneError, StoreError, failures};
use crate::explain::AdmittedOrder;
use crate::heads::{self, DecidedHead};
use crate::outbox::{self, Cancelled, Origin};
use crate::run_end;
use crate::state::{self, StateScope, Unfit};
use crate::store::Store;

/// How a route ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// There is a decision.
    Decided,
    /// There is none, and trying again by itself would not help.
    Failed,
}

/// Whether a decision is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Act,
    /// It is recorded alone.
    Observe,
}

impl Mode {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Observe => "observe",
        }
    }
}

/// What was decided about a delivery on a route.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The delivery.
    pub delivery: DeliveryKey,
    /// The route.
    pub route: RouteName,
    /// The attempt.
    pub attempt: u32,
    /// How the route ends.
    pub settlement: Settlement,
    /// Why, for people.
    pub why: Option<String>,
    /// Whether `admitted` is carried out.
    pub mode: Mode,
    /// The plugin call; none: it did not come to one.
    pub record: Option<Arc<DecisionRecord>>,
    /// What the plan came to.
    pub admitted: Admitted,
    /// State that the call read and wrote; to write none, leave it empty.
    pub state: StateChange,
    /// What the host itself wants done, such as a failed status: in either mode.
    pub orders: Vec<Order>,
    /// Ends of runs that were not admitted, where the plugin wants to hear of them; told only if `admitted` is carried out.
    pub refused_ends: Vec<HostEvent>,
    /// The head that it is about, known from now on.
    pub head: Option<DecidedHead>,
}

/// What a commit did to runs that were there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Never created, and never will be.
    pub withdrawn: Vec<EffectId>,
    /// Created; an order to stop each is in the outbox.
    pub stopping: Vec<EffectId>,
}

impl From<Cancelled> for Committed {
    fn from(cancelled: Cancelled) -> Self {
        Self {
            withdrawn: cancelled.withdrawn,
            stopping: cancelled.stopping,
        }
    }
}

/// Why a decision was not committed. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The claim ended or another worker has it.
    #[error("the claim on lane `{lane}` is no longer held")]
    Fenced {
        /// The lane.
        lane: String,
    },
    /// State that the call read was changed since: make the call again.
    #[error("state-conflict: {what} changed while the plugin decided")]
    Conflict {
        /// What changed.
        what: String,
    },
    /// The plugin would have more state in the project than it may. To make the call again would not help.
    #[error(
        "state-full: the plugin would have more than {limit} {what} of state in this project; let it remove keys or give them an expiry"
    )]
    StateFull {
        /// `keys` or `bytes`.
        what: String,
        /// How many it may have.
        limit: u64,
    },
    /// It is decided already.
    #[error("delivery `{delivery}` is already decided on route `{route}`, attempt {attempt}")]
    AlreadyDecided {
        /// The delivery.
        delivery: String,
        /// The route.
        route: RouteName,
        /// The attempt.
        attempt: u32,
    },
    /// The lane has no such delivery, route and attempt.
    #[error("delivery `{delivery}` has no route `{route}`, attempt {attempt}, in this lane")]
    NotFound {
        /// The delivery.
        delivery: String,
        /// The route.
        route: RouteName,
        /// The attempt.
        attempt: u32,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

failures!(CommitError);

impl From<LaneError> for CommitError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Fenced { lane } => Self::Fenced { lane },
            LaneError::Store(error) => Self::Store(error),
            LaneError::NotFound { .. } => Self::Store(StoreError::unreadable(error.to_string())),
        }
    }
}

/// What is shown of a decision without its record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Brief {
    /// `plan`, `error`, or the failure's word.
    pub(crate) answer: Option<String>,
    #[serde(default)]
    pub(crate) reasons: Vec<String>,
    #[serde(default)]
    pub(crate) warnings: Vec<Problem>,
    #[serde(default)]
    pub(crate) refused: Vec<penstock_model::admit::Refusal>,
    #[serde(default)]
    pub(crate) admitted: Vec<AdmittedOrder>,
    pub(crate) usage: Option<Usage>,
}

impl Brief {
    fn of(decision: &Decision) -> Self {
        let mut brief = Self {
            refused: decision.admitted.refused.clone(),
            admitted: decision
                .admitted
                .orders
                .iter()
                .map(AdmittedOrder::of)
                .collect(),
            ..Self::default()
        };
        let Some(record) = &decision.record else {
            return brief;
        };
        brief.usage = Some(record.usage);
        match &record.outcome {
            Outcome::Plan(plan) => {
                brief.answer = Some("plan".to_owned());
                brief.reasons.clone_from(&plan.reasons);
                brief.warnings.clone_from(&plan.warnings);
            }
            Outcome::Error(error) => {
                brief.answer = Some("error".to_owned());
                match error {
                    PluginError::Settings(problems) | PluginError::Source(problems) => {
                        brief.warnings.clone_from(problems);
                    }
                    PluginError::Other(text) => brief.reasons.push(text.clone()),
                }
            }
            Outcome::Failure(failure) => {
                brief.answer = Some(failure.word().to_owned());
                brief.reasons.push(failure.to_string());
            }
        }
        brief
    }
}

/// A decision with all that can be made ready before the transaction.
struct Ready {
    decision: Decision,
    plugin: Option<(String, Digest)>,
    record: Option<Packed>,
    brief: String,
    routes: Option<Vec<RouteName>>,
}

async fn ready(
    mut decision: Decision,
    routes: Option<Vec<RouteName>>,
) -> Result<Ready, StoreError> {
    let encoding = |error: serde_json::Error| StoreError::unreadable(error.to_string());
    let brief = serde_json::to_string(&Brief::of(&decision)).map_err(encoding)?;
    let mut plugin = None;
    let mut packed = None;
    if let Some(record) = decision.record.take() {
        plugin = Some((record.plugin.as_str().to_owned(), record.digest));
        let canonical = record.canonical().map_err(encoding)?;
        packed = Some(blob::packed(canonical).await?);
    }
    Ok(Ready {
        decision,
        plugin,
        record: packed,
        brief,
        routes,
    })
}

fn commit(
    tx: &mut dyn Tx,
    claim: &Claim,
    ready: &Ready,
    now: Timestamp,
) -> Result<Cancelled, CommitError> {
    fence(tx, claim, now)?;
    let decision = &ready.decision;
    let origin = match &ready.routes {
        Some(routes) => settle_first(tx, claim, ready, routes, now)?,
        None => settle(tx, claim, ready, now)?,
    };
    apply_state(tx, ready, now)?;
    if let Some(record) = &ready.record {
        blob::put(tx, record, now)?;
    }
    if let Some(head) = &decision.head {
        heads::decided(tx, &decision.delivery.instance, head, now)?;
    }
    let mut cancelled = Cancelled::default();
    if decision.mode == Mode::Act {
        cancelled = outbox::enqueue(tx, &decision.admitted.orders, &origin, now)?;
        for end in &decision.refused_ends {
            run_end::tell_refused(tx, end, &claim.lane, &decision.route, now)?;
        }
    }
    outbox::enqueue(tx, &decision.orders, &origin, now)?;
    Ok(cancelled)
}

impl Settlement {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Failed => "failed",
        }
    }
}

/// Writes the first decision about a delivery down together with all that it is routed to.
fn settle_first(
    tx: &mut dyn Tx,
    claim: &Claim,
    ready: &Ready,
    routes: &[RouteName],
    now: Timestamp,
) -> Result<Origin, CommitError> {
    let decision = &ready.decision;
    let key = &decision.delivery;
    let unrouted = tx.first(
        "SELECT seq FROM deliveries WHERE instance = ?1 AND id = ?2 AND lane = ?3 AND routed = 0",
        params![key.instance.as_str(), key.id.as_str(), &claim.lane],
    )?;
    let known = decision.attempt == 1 && routes.contains(&decision.route);
    let Some(mut row) = unrouted.filter(|_| known) else {
        write_routes(tx, claim, key, routes, now)?;
        return settle(tx, claim, ready, now);
    };
    let seq = row.uint()?;
    for (position, route) in routes.iter().enumerate() {
        let decided = (*route == decision.route).then_some(ready);
        tx.execute(
            "INSERT INTO routes (instance, delivery, route, attempt, seq, lane, position, outcome, tries, next_at, \
             why, settled_at, mode, plugin, plugin_digest, summary, record) \
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                key.instance.as_str(),
                key.id.as_str(),
                route.as_str(),
                seq,
                &claim.lane,
                position,
                decided.map_or("waiting", |_| decision.settlement.as_str()),
                decided.is_none().then_some(now),
                decided.and(decision.why.as_ref()),
                decided.map(|_| now),
                decided.map(|_| decision.mode.as_str()),
                decided.and(ready.plugin.as_ref()).map(|(name, _)| name),
                decided.and(ready.plugin.as_ref()).map(|(_, digest)| digest),
                decided.map(|ready| &ready.brief),
                decided.and(ready.record.as_ref()).map(|record| &record.digest),
            ],
        )?;
    }
    // The other routes wait still.
    let outcome = match routes {
        [_] => decision.settlement.as_str(),
        _ => "waiting",
    };
    tx.execute(
        "UPDATE deliveries SET routed = 1, next_at = NULL, why = NULL, outcome = ?3 WHERE instance = ?1 AND id = ?2",
        params![key.instance.as_str(), key.id.as_str(), outcome],
    )?;
    Ok(ready.origin(seq))
}

impl Ready {
    fn origin(&self, seq: u64) -> Origin {
        Origin {
            delivery: self.decision.delivery.clone(),
            seq,
            route: self.decision.route.clone(),
            attempt: self.decision.attempt,
        }
    }
}

/// Writes the outcome down, if the route waits for one.
fn settle(
    tx: &mut dyn Tx,
    claim: &Claim,
    ready: &Ready,
    now: Timestamp,
) -> Result<Origin, CommitError> {
    let decision = &ready.decision;
    let outcome = decision.settlement.as_str();
    let (instance, id) = (
        decision.delivery.instance.as_str(),
        decision.delivery.id.as_str(),
    );
    let settled = tx.first(
        "UPDATE routes SET outcome = ?6, why = ?7, settled_at = ?8, next_at = NULL, mode = ?9, plugin = ?10, \
         plugin_digest = ?11, summary = ?12, record = ?13 \
         WHERE instance = ?1 AND delivery = ?2 AND route = ?3 AND attempt = ?4 AND lane = ?5 AND outcome = 'waiting' \
         RETURNING seq",
        params![
            instance,
            id,
            decision.route.as_str(),
            decision.attempt,
            &claim.lane,
            outcome,
            decision.why.as_ref(),
            now,
            decision.mode.as_str(),
            ready.plugin.as_ref().map(|(name, _)| name),
            ready.plugin.as_ref().map(|(_, digest)| digest),
            &ready.brief,
            ready.record.as_ref().map(|record| &record.digest),
        ],
    )?;
    if let Some(mut row) = settled {
        settle_delivery(tx, &decision.delivery)?;
        return Ok(ready.origin(row.uint()?));
    }
    let known = tx.first(
        "SELECT 1 FROM routes WHERE instance = ?1 AND delivery = ?2 AND route = ?3 AND attempt = ?4 AND lane = ?5",
        params![
            instance,
            id,
            decision.route.as_str(),
            decision.attempt,
            &claim.lane
        ],
    )?;
    let (delivery, route) = (id.to_owned(), decision.route.clone());
    let attempt = decision.attempt;
    Err(match known {
        Some(_) => CommitError::AlreadyDecided {
            delivery,
            route,
            attempt,
        },
        None => CommitError::NotFound {
            delivery,
            route,
            attempt,
        },
    })
}

fn apply_state(tx: &mut dyn Tx, ready: &Ready, now: Timestamp) -> Result<(), CommitError> {
    let change = &ready.decision.state;
    if change.read.is_empty() && change.listed.is_empty() && change.written.is_empty() {
        return Ok(());
    }
    let delivery = &ready.decision.delivery;
    let project = tx
        .first(
            "SELECT project FROM deliveries WHERE instance = ?1 AND id = ?2",
            params![delivery.instance.as_str(), delivery.id.as_str()],
        )?
        .map(|mut row| row.opt_uint())
        .transpose()?
        .flatten();
    let (Some(project), Some((plugin, _))) = (project, &ready.plugin) else {
        return Err(CommitError::Store(StoreError::Rejected {
            what: "state is kept for a plugin in a project, and this decision has not both"
                .to_owned(),
        }));
    };
    let scope = StateScope {
        instance: delivery.instance.clone(),
        project: penstock_model::id::ProjectId(project),
        plugin: plugin.as_str().into(),
    };
    match state::apply(tx, &scope, change, now)? {
        None => Ok(()),
        Some(Unfit::Changed { what }) => Err(CommitError::Conflict { what }),
        Some(Unfit::Full { what, limit }) => Err(CommitError::StateFull {
            what: what.to_owned(),
            limit,
        }),
    }
}

impl Store {
    /// Commits a decision: all of it, once, or nothing.
    ///
    /// # Errors
    /// The claim is no longer held, state that the call read has changed, it wrote too much state, it is decided already, or the store's.
    pub async fn commit(
        &self,
        claim: &Claim,
        decision: Decision,
        now: Timestamp,
    ) -> Result<Committed, CommitError> {
        let (committed, _) = self
            .commit_then(claim, decision, None, Then::Stay, now)
            .await?;
        Ok(committed)
    }

    /// Commits a decision; in the same transaction the lane goes on as `then` says. `routes`: all that the delivery is routed to,
    /// where that is not written down yet.
    ///
    /// # Errors
    /// As [`Store::commit`] and [`Store::route`]; then nothing was written and the lane is still held.
    pub async fn commit_then(
        &self,
        claim: &Claim,
        decision: Decision,
        routes: Option<Vec<RouteName>>,
        then: Then,
        now: Timestamp,
    ) -> Result<(Committed, Onward<Pending>), CommitError> {
        let held = claim.clone();
        let ready = ready(decision, routes).await?;
        let (cancelled, onward) = self
            .write_for(claim, move |tx| {
                let cancelled = commit(tx, &held, &ready, now)?;
                let look = |tx: &mut dyn Tx, claim: &Claim| dispatch::look(tx, &claim.lane, now);
                Ok::<_, CommitError>((cancelled, go_on(tx, &held, then, now, look)?))
            })
            .await?;
        self.hint(Queue::Act);
        if !cancelled.withdrawn.is_empty() {
            self.hint_room();
            self.hint(Queue::Dispatch);
        }
        let onward = opened(claim, onward, dispatch::Packed::open);
        Ok((cancelled.into(), onward))
    }
}
