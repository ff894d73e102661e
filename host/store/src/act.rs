//! Effects that were carried out: what is written about them.
//!
//! Every answer is fenced by the claim and is written once: an effect that is done, refused, dead or withdrawn is not answered again.

use std::sync::Arc;

use penstock_model::admit::Order;
use penstock_model::flow::FlowLimits;
use penstock_model::id::{Digest, EffectId, Timestamp};
use penstock_model::run::RunState;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::claim::{Claim, Onward, Queue, Then, fence, go_on, opened};
use crate::error::{LaneError, StoreError, failures};
use crate::flow;
use crate::outbox::{EffectState, follow};
use crate::store::Store;
use crate::take_up::{Effect, Hands, Packed};
use crate::{cancel, run, run_end};

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
            .write_for(claim, move |tx| {
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
        let held = claim.clone();
        let follows = !ending.follow_ups.is_empty();
        let refused = ending.state == EffectState::Refused;
        self.write_for(claim, move |tx| end(tx, &held, &ending))
            .await?;
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
        let held = claim.clone();
        let it = Delay {
            id,
            next_at,
            why: why.to_owned(),
            tries,
            now,
        };
        self.write_for(claim, move |tx| delay(tx, &held, &it))
            .await?;
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
        let held = claim.clone();
        let made = self
            .write_for(claim, move |tx| created(tx, &held, &run, now))
            .await?;
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
            .write_for(claim, move |tx| {
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
