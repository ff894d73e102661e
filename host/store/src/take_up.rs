//! Taking effects up: what a claimed lane has to carry out first.
//!
//! That a run's creation is in a worker's hands is on the disk before it is. A start that finds no room under the limits makes way for what the
//! lane has next.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use penstock_model::admit::{Order, Task};
use penstock_model::flow::{Flow, FlowLimits};
use penstock_model::id::{RouteName, Timestamp};

use crate::backend::Tx;
use crate::backend::dialect::Dialect;
use crate::backend::value::params;
use crate::claim::{Caps, Claim, Draw, Drawn, First, Queue, draw, fence, unpacked};
use crate::delivery::DeliveryKey;
use crate::error::{LaneError, StoreError};
use crate::flow::{self, Room, Start};
use crate::outbox::read_order;
use crate::store::Store;

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

impl Store {
    /// Draws lanes with effects to carry out now, at most `most`, for `ttl`. What is said of [`Store::next_effect`] holds for
    /// the first effect of each; none: it is to be asked for with that.
    ///
    /// # Errors
    /// The store's.
    pub async fn draw_effects(
        &self,
        worker: &str,
        ttl: Duration,
        caps: Caps,
        most: u32,
        now: Timestamp,
    ) -> Result<Vec<Drawn<Option<Effect>>>, StoreError> {
        let drawing = Draw::of(self, Queue::Act, worker, ttl, caps, most, now);
        let limits = self.flow_limits();
        let ((drawn, after), lined_up) = self
            .write(move |tx| {
                let hands = Hands::new(&limits);
                let look =
                    |tx: &mut dyn Tx, claim: &Claim| hands.take_up(tx, &claim.lane, drawing.now);
                Ok::<_, StoreError>((draw(tx, &drawing, look)?, hands.lined_up()))
            })
            .await?;
        if lined_up {
            self.hint_room();
        }
        self.serve(Queue::Act, after);
        let open = |packed: Option<Packed>| packed.map(Packed::open).transpose();
        Ok(unpacked(drawn, open))
    }

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
                .write_for(claim, move |tx| hand_out(tx, &held, &start, &limits, now))
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
}
