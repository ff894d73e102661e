//! Carrying effects out: what a claimed lane has next, and what is written about it.
//!
//! Every answer is fenced by the claim and is written once: an effect that is done, refused, dead or withdrawn is not answered again.

use std::cell::Cell;
use std::sync::Arc;

use penstock_model::admit::{Order, Task};
use penstock_model::flow::{Flow, FlowLimits};
use penstock_model::id::{Digest, EffectId, RouteName, Timestamp};
use penstock_model::run::RunState;

use crate::backend::Tx;
use crate::backend::dialect::Dialect;
use crate::backend::value::params;
use crate::claim::{Claim, First, Onward, Queue, Then, fence, go_on, opened};
use crate::delivery::DeliveryKey;
use crate::error::{LaneError, StoreError, failures};
use crate::flow::{self, Room, Start};
use crate::outbox::{EffectState, follow, read_order};
use crate::store::Store;
use crate::{cancel, run, run_end};

/// An effect to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What is to be done.
    pub order: Order,
    /// The delivery that led to it.
    pub delivery: DeliveryKey,
    /// The route.
    pub route: RouteName,
    /// The attempt.
    pub attempt: u32,
    /// How often it was tried.
    pub tries: u32,
    /// When it was first tried.
    pub first_tried_at: Option<Timestamp>,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// A PipelineRun that was created.
#[derive(Clone, Debug)]
pub struct CreatedRun {
    /// The effect.
    pub id: EffectId,
    /// UID of the PipelineRun.
    pub uid: String,
    /// Digest of its spec as the API server stored it.
    pub stored_digest: Digest,
    /// Its page.
    pub web_url: Option<String>,
    /// What follows, such as a status.
    pub follow_ups: Vec<Order>,
}

/// What became of a run that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is known.
    Recorded,
    /// It was cancelled meanwhile: an order to stop it is in the outbox, and what was to follow is not.
    Withdrawn,
}

/// Why the answer about an effect was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The claim ended or another worker has it. Nothing was written.
    #[error("the claim on lane `{lane}` is no longer held")]
    Fenced {
        /// The lane.
        lane: String,
    },
    /// It is answered already, or cancelled.
    #[error("effect {id} waits no longer: it is {state}", state = state.as_str())]
    NotWaiting {
        /// The effect.
        id: EffectId,
        /// Where it stands.
        state: EffectState,
    },
    /// The lane has no such effect.
    #[error("there is no effect {id} in this lane")]
    NotFound {
        /// The effect.
        id: EffectId,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

failures!(ActError);

impl From<LaneError> for ActError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Fenced { lane } => Self::Fenced { lane },
            LaneError::Store(error) => Self::Store(error),
            LaneError::NotFound { .. } => Self::Store(StoreError::unreadable(error.to_string())),
        }
    }
}

/// An effect that was taken up, its order packed.
pub(crate) struct Packed {
    id: String,
    content: Vec<u8>,
    delivery: DeliveryKey,
    route: RouteName,
    attempt: u32,
    tries: u32,
    first_tried_at: Option<Timestamp>,
    created_at: Timestamp,
    /// It starts a run.
    starts: bool,
    /// The order, if it was read already.
    order: Option<Order>,
}

impl Packed {
    /// Reads the order.
    pub(crate) fn open(self) -> Result<Effect, StoreError> {
        let order = match self.order {
            Some(order) => order,
            None => read_order(&self.content, &self.id)?,
        };
        Ok(Effect {
            order,
            delivery: self.delivery,
            route: self.route,
            attempt: self.attempt,
            tries: self.tries,
            first_tried_at: self.first_tried_at,
            created_at: self.created_at,
        })
    }
}

/// What a lane has to carry out first.
fn look(tx: &mut dyn Tx, lane: &str, now: Timestamp) -> Result<First<Packed>, StoreError> {
    let first = tx.first(
        "SELECT next_at, id, content, instance, delivery, route, attempt, tries, first_tried_at, created_at, kind \
         FROM effects WHERE lane = ?1 AND state = 'waiting' AND overtakes < 2 ORDER BY overtakes, seq LIMIT 1",
        params![lane],
    )?;
    let Some(mut row) = first else {
        return Ok(First::NotBefore(None));
    };
    let next_at = row.opt_time()?.unwrap_or_default();
    if next_at > now {
        return Ok(First::NotBefore(Some(next_at)));
    }
    Ok(First::Due(Packed {
        id: row.text()?,
        content: row.bytes()?,
        delivery: DeliveryKey {
            instance: row.text()?.into(),
            id: row.text()?.into(),
        },
        route: RouteName::new(row.text()?),
        attempt: row.small()?,
        tries: row.small()?,
        first_tried_at: row.opt_time()?,
        created_at: row.time()?,
        starts: row.text()? == "start-run",
        order: None,
    }))
}

/// Starts that are lined up in one transaction at most: others wait for it.
const LINED_UP: u32 = 32;

/// What takes effects up among other work of a transaction.
pub(crate) struct Hands {
    limits: Arc<FlowLimits>,
    /// Starts that found no room.
    lined_up: Cell<u32>,
}

impl Hands {
    pub(crate) fn new(limits: &Arc<FlowLimits>) -> Self {
        Self {
            limits: Arc::clone(limits),
            lined_up: Cell::new(0),
        }
    }

    /// Takes up what a lane has to carry out first; a start that finds no room makes way for the next. None: it is one that must
    /// be taken up in a transaction of its own.
    pub(crate) fn take_up(
        &self,
        tx: &mut dyn Tx,
        lane: &str,
        now: Timestamp,
    ) -> Result<First<Option<Packed>>, StoreError> {
        loop {
            let mut packed = match look(tx, lane, now)? {
                First::Due(packed) => packed,
                First::NotBefore(ready_at) => return Ok(First::NotBefore(ready_at)),
            };
            if !packed.starts {
                return Ok(First::Due(Some(packed)));
            }
            if self.lined_up.get() >= LINED_UP {
                return Ok(First::Due(None));
            }
            let order = read_order(&packed.content, &packed.id)?;
            let Task::StartRun(run) = &order.task else {
                return Ok(First::Due(Some(packed)));
            };
            let start = Start {
                id: order.id,
                flow: Flow::from(run.as_ref()),
            };
            // Whoever counts in Postgres holds no row before it may count.
            if tx.dialect() == Dialect::Postgres && !flow::is_free(&start, &self.limits) {
                return Ok(First::Due(None));
            }
            match flow::hand_out(tx, &start, lane, &self.limits, now)? {
                Room::Found => {
                    packed.order = Some(order);
                    return Ok(First::Due(Some(packed)));
                }
                Room::None => self.lined_up.set(self.lined_up.get() + 1),
                Room::Gone => {}
            }
        }
    }

    /// A start found no room and waits in its line.
    pub(crate) fn lined_up(&self) -> bool {
        self.lined_up.get() > 0
    }
}

/// Marks that a run's creation is in a worker's hands, before it is: who withdraws the run from now on orders a stop too. One
/// that finds no room is not handed out.
fn hand_out(
    tx: &mut dyn Tx,
    claim: &Claim,
    start: &Start,
    limits: &FlowLimits,
    now: Timestamp,
) -> Result<Room, LaneError> {
    flow::prepare(tx, start, limits)?;
    fence(tx, claim, now)?;
    Ok(flow::hand_out(tx, start, &claim.lane, limits, now)?)
}

/// Why nothing waited under this id.
fn not_waiting(tx: &mut dyn Tx, claim: &Claim, id: &EffectId) -> ActError {
    let found = tx.first(
        "SELECT state FROM effects WHERE id = ?1 AND lane = ?2",
        params![&id.hex(), &claim.lane],
    );
    match found.and_then(|row| row.map(|mut row| row.text()).transpose()) {
        Ok(Some(word)) => match EffectState::parse(&word) {
            Some(state) => ActError::NotWaiting { id: *id, state },
            None => ActError::Store(StoreError::unreadable(format!(
                "`{word}` is no state of an effect"
            ))),
        },
        Ok(None) => ActError::NotFound { id: *id },
        Err(error) => ActError::Store(error),
    }
}

/// How an effect ended.
struct Ending {
    id: EffectId,
    state: EffectState,
    why: Option<String>,
    result: Option<String>,
    follow_ups: Vec<Order>,
    now: Timestamp,
}

impl Ending {
    fn done(id: EffectId, result: &serde_json::Value, now: Timestamp) -> Self {
        Self {
            id,
            state: EffectState::Done,
            why: None,
            result: Some(result.to_string()),
            follow_ups: Vec::new(),
            now,
        }
    }
}

fn end(tx: &mut dyn Tx, claim: &Claim, ending: &Ending) -> Result<(), ActError> {
    let id = ending.id.hex();
    if ending.state == EffectState::Refused {
        run_end::hold(tx, &id, ending.now)?;
    }
    fence(tx, claim, ending.now)?;
    let ended = tx.first(
        "UPDATE effects SET state = ?3, why = coalesce(?4, why), result = ?5, settled_at = ?6, next_at = NULL, \
         tries = tries + 1, first_tried_at = coalesce(first_tried_at, ?6) \
         WHERE id = ?1 AND lane = ?2 AND state = 'waiting' RETURNING kind",
        params![
            &id,
            &claim.lane,
            ending.state.as_str(),
            ending.why.as_ref(),
            ending.result.as_ref(),
            ending.now
        ],
    )?;
    let Some(mut row) = ended else {
        return Err(not_waiting(tx, claim, &ending.id));
    };
    if row.text()? == "start-run" {
        if ending.state != EffectState::Done {
            flow::land(tx, &id)?;
        }
        let why = ending.why.as_deref().unwrap_or_default();
        match ending.state {
            EffectState::Refused => {
                run::end_unstarted(tx, &id, RunState::Refused, why, ending.now)?;
            }
            // It may be tried again: the run stays queued and says why.
            EffectState::Dead => run::explain(tx, &id, why)?,
            EffectState::Waiting | EffectState::Done | EffectState::Withdrawn => {}
        }
    }
    follow(tx, &ending.id, &ending.follow_ups, ending.now)?;
    Ok(())
}

/// An effect that is put off.
struct Delay {
    id: EffectId,
    next_at: Timestamp,
    why: String,
    /// 1 for a try that failed, 0 for a wait.
    tries: u32,
    now: Timestamp,
}

fn delay(tx: &mut dyn Tx, claim: &Claim, it: &Delay) -> Result<(), ActError> {
    fence(tx, claim, it.now)?;
    let first_tried_at = (it.tries > 0).then_some(it.now);
    let put_off = tx.execute(
        "UPDATE effects SET tries = tries + ?3, first_tried_at = coalesce(first_tried_at, ?4), next_at = ?5, why = ?6, \
         handed_out = CASE WHEN handed_out > 0 THEN handed_out - 1 ELSE 0 END \
         WHERE id = ?1 AND lane = ?2 AND state = 'waiting'",
        params![
            &it.id.hex(),
            &claim.lane,
            it.tries,
            first_tried_at,
            it.next_at,
            &it.why
        ],
    )?;
    if put_off == 0 {
        return Err(not_waiting(tx, claim, &it.id));
    }
    // While it waits to be tried again others may have its room.
    Ok(flow::land(tx, &it.id.hex())?)
}

fn created(
    tx: &mut dyn Tx,
    claim: &Claim,
    run: &CreatedRun,
    now: Timestamp,
) -> Result<Created, ActError> {
    fence(tx, claim, now)?;
    let id = run.id.hex();
    let result = serde_json::json!({ "uid": run.uid }).to_string();
    let done = tx.execute(
        "UPDATE effects SET state = 'done', result = ?3, settled_at = ?4, next_at = NULL, tries = tries + 1, \
         first_tried_at = coalesce(first_tried_at, ?4) \
         WHERE id = ?1 AND lane = ?2 AND state = 'waiting' AND kind = 'start-run'",
        params![&id, &claim.lane, &result, now],
    )?;
    if done > 0 {
        return recorded(tx, run, now);
    }
    match not_waiting(tx, claim, &run.id) {
        // It was seen in its cluster before its creator was answered.
        ActError::NotWaiting {
            state: EffectState::Done,
            ..
        } if run::has_uid(tx, &run.id, &run.uid)? => recorded(tx, run, now),
        ActError::NotWaiting {
            state: EffectState::Withdrawn,
            ..
        } => {
            run::created(tx, run, now)?;
            cancel::stop_withdrawn(tx, &run.id, now)?;
            Ok(Created::Withdrawn)
        }
        other => Err(other),
    }
}

/// What the lane has next, after an answer that found the claim unchanged; and whether a start found no room.
fn onward(
    tx: &mut dyn Tx,
    claim: &Claim,
    limits: &Arc<FlowLimits>,
    then: Then,
    now: Timestamp,
) -> Result<(Onward<Packed>, bool), ActError> {
    let hands = Hands::new(limits);
    let look = |tx: &mut dyn Tx, claim: &Claim| hands.take_up(tx, &claim.lane, now);
    let onward = match go_on(tx, claim, then, now, look)? {
        Onward::Next(Some(packed)) => Onward::Next(packed),
        Onward::Next(None) | Onward::Stays => Onward::Stays,
        Onward::GivenBack => Onward::GivenBack,
    };
    Ok((onward, hands.lined_up()))
}

/// Writes down a run that was created, and what follows unless the watch has told more already.
fn recorded(tx: &mut dyn Tx, run: &CreatedRun, now: Timestamp) -> Result<Created, ActError> {
    if run::created(tx, run, now)? {
        follow(tx, &run.id, &run.follow_ups, now)?;
    }
    Ok(Created::Recorded)
}

impl Store {
    /// The next effect of a claimed lane, if it is due and the claim is held. That a run's creation was handed out is on the
    /// disk before it is; each attempt that begins should be answered, with `effect_done`, `effect_retry`, `effect_refused`,
    /// `effect_dead` or `run_created`, and one that never is counts as begun.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_effect(
        &self,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Option<Effect>, StoreError> {
        loop {
            let lane = claim.lane.clone();
            let effect = match self.read(move |tx| look(tx, &lane, now)).await? {
                First::Due(packed) => packed.open()?,
                First::NotBefore(_) => return Ok(None),
            };
            let Task::StartRun(run) = &effect.order.task else {
                return Ok(Some(effect));
            };
            let start = Start {
                id: effect.order.id,
                flow: Flow::from(run.as_ref()),
            };
            let (held, limits) = (claim.clone(), self.flow_limits());
            match self
                .write(move |tx| hand_out(tx, &held, &start, &limits, now))
                .await
            {
                Ok(Room::Found) => return Ok(Some(effect)),
                Ok(Room::None) => self.hint_room(),
                // Withdrawn, or seen in its cluster, a moment ago.
                Ok(Room::Gone) => {}
                Err(LaneError::Store(error)) => return Err(error),
                Err(LaneError::Fenced { .. } | LaneError::NotFound { .. }) => return Ok(None),
            }
        }
    }

    /// An effect is done; in the same transaction the lane goes on as `then` says. What is next was taken up as by
    /// [`Store::next_effect`].
    ///
    /// # Errors
    /// As [`Store::effect_done`]; then the lane is still held.
    pub async fn effect_done_then(
        &self,
        claim: &Claim,
        id: &EffectId,
        result: serde_json::Value,
        then: Then,
        now: Timestamp,
    ) -> Result<Onward<Effect>, ActError> {
        let ending = Ending::done(*id, &result, now);
        let (held, limits) = (claim.clone(), self.flow_limits());
        let (onward, lined_up) = self
            .write(move |tx| {
                end(tx, &held, &ending)?;
                onward(tx, &held, &limits, then, now)
            })
            .await?;
        if lined_up {
            self.hint_room();
        }
        Ok(opened(claim, onward, Packed::open))
    }

    async fn effect_ends(&self, claim: &Claim, ending: Ending) -> Result<(), ActError> {
        let claim = claim.clone();
        let follows = !ending.follow_ups.is_empty();
        let refused = ending.state == EffectState::Refused;
        self.write(move |tx| end(tx, &claim, &ending)).await?;
        self.hint_room();
        if refused {
            self.hint(Queue::Dispatch);
        }
        if follows {
            self.hint(Queue::Act);
        }
        Ok(())
    }

    /// An effect is done.
    ///
    /// # Errors
    /// The claim is no longer held, nothing waits under this id, or the store's.
    pub async fn effect_done(
        &self,
        claim: &Claim,
        id: &EffectId,
        result: serde_json::Value,
        now: Timestamp,
    ) -> Result<(), ActError> {
        let ending = Ending::done(*id, &result, now);
        self.effect_ends(claim, ending).await
    }

    /// The other side refuses an effect for good. A run that was to be started is `refused`.
    ///
    /// # Errors
    /// As [`Store::effect_done`].
    pub async fn effect_refused(
        &self,
        claim: &Claim,
        id: &EffectId,
        why: &str,
        follow_ups: Vec<Order>,
        now: Timestamp,
    ) -> Result<(), ActError> {
        let ending = Ending {
            id: *id,
            state: EffectState::Refused,
            why: Some(why.to_owned()),
            result: None,
            follow_ups,
            now,
        };
        self.effect_ends(claim, ending).await
    }

    /// An effect was tried for too long: it is dead until somebody tries it again.
    ///
    /// # Errors
    /// As [`Store::effect_done`].
    pub async fn effect_dead(
        &self,
        claim: &Claim,
        id: &EffectId,
        why: &str,
        follow_ups: Vec<Order>,
        now: Timestamp,
    ) -> Result<(), ActError> {
        let ending = Ending {
            id: *id,
            state: EffectState::Dead,
            why: Some(why.to_owned()),
            result: None,
            follow_ups,
            now,
        };
        self.effect_ends(claim, ending).await
    }

    /// A try failed; the next is at `next_at`.
    ///
    /// # Errors
    /// As [`Store::effect_done`].
    pub async fn effect_retry(
        &self,
        claim: &Claim,
        id: &EffectId,
        next_at: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<(), ActError> {
        self.effect_delayed(claim, *id, next_at, why, 1, now).await
    }

    /// An effect waits for its turn, over a limit; nothing was tried.
    ///
    /// # Errors
    /// As [`Store::effect_done`].
    pub async fn effect_wait(
        &self,
        claim: &Claim,
        id: &EffectId,
        next_at: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<(), ActError> {
        self.effect_delayed(claim, *id, next_at, why, 0, now).await
    }

    async fn effect_delayed(
        &self,
        claim: &Claim,
        id: EffectId,
        next_at: Timestamp,
        why: &str,
        tries: u32,
        now: Timestamp,
    ) -> Result<(), ActError> {
        let claim = claim.clone();
        let it = Delay {
            id,
            next_at,
            why: why.to_owned(),
            tries,
            now,
        };
        self.write(move |tx| delay(tx, &claim, &it)).await?;
        self.hint_room();
        Ok(())
    }

    /// A PipelineRun was created. What follows is dropped if the run was seen further along meanwhile.
    ///
    /// # Errors
    /// As [`Store::effect_done`]. That the run was seen in its cluster first, with this UID, is no error, and neither is it to
    /// say this twice. That the run was cancelled meanwhile is no error: see [`Created::Withdrawn`].
    pub async fn run_created(
        &self,
        claim: &Claim,
        run: CreatedRun,
        now: Timestamp,
    ) -> Result<Created, ActError> {
        let claim = claim.clone();
        let made = self.write(move |tx| created(tx, &claim, &run, now)).await?;
        self.hint(Queue::Act);
        Ok(made)
    }

    /// As [`Store::run_created`]; in the same transaction the lane goes on as `then` says. What is next was taken up as by
    /// [`Store::next_effect`].
    ///
    /// # Errors
    /// As [`Store::run_created`]; then the lane is still held.
    pub async fn run_created_then(
        &self,
        claim: &Claim,
        run: CreatedRun,
        then: Then,
        now: Timestamp,
    ) -> Result<Onward<Effect>, ActError> {
        let (held, limits) = (claim.clone(), self.flow_limits());
        let (onward, lined_up) = self
            .write(move |tx| {
                created(tx, &held, &run, now)?;
                onward(tx, &held, &limits, then, now)
            })
            .await?;
        if lined_up {
            self.hint_room();
        }
        self.hint(Queue::Act);
        Ok(opened(claim, onward, Packed::open))
    }
}
