//! From a delivery in a lane to what is to be decided about it next.
//!
//! Deliveries are routed in their order. A route that waits holds up the same route of later deliveries in its lane and no other:
//! no plugin waits for another plugin's. One that was tried and is put off is overtaken by what may supersede or end it, so that
//! a push, a close or a `/cancel` never waits for the retries of what it is about.

use std::time::Duration;

use penstock_model::admit::Order;
use penstock_model::id::{RouteName, Timestamp};

use crate::backend::Tx;
use crate::backend::value::{Row, params};
use crate::blob;
use crate::claim::{Caps, Claim, Draw, Drawn, First, Queue, draw, fence, unpacked};
use crate::delivery::{DeliveryKey, DeliveryOutcome, StoredDelivery, delivery_columns, read};
use crate::error::{LaneError, StoreError};
use crate::outbox::{self, Origin};
use crate::store::Store;

/// The oldest delivery of a lane with something to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// It, with its body if that is small: [`Store::body`] loads others.
    pub delivery: StoredDelivery,
    /// Its routes are known.
    pub routed: bool,
    /// Those that are due.
    pub routes: Vec<PendingRoute>,
    /// Routes that earlier deliveries of the lane wait for: this one must not go ahead of them.
    pub behind: Vec<RouteName>,
    /// How often it could not be routed.
    pub tries: u32,
    /// When that was first tried.
    pub first_tried_at: Option<Timestamp>,
}

/// A route to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRoute {
    /// Its name.
    pub route: RouteName,
    /// From 1; one more for each `deliveries retry`.
    pub attempt: u32,
    /// How often this attempt was put off.
    pub tries: u32,
    /// When this attempt was first tried.
    pub first_tried_at: Option<Timestamp>,
}

impl PendingRoute {
    /// A route that nobody has tried yet.
    pub fn first(route: RouteName) -> Self {
        Self {
            route,
            attempt: 1,
            tries: 0,
            first_tried_at: None,
        }
    }
}

/// The first thing that waits, for each route of a lane and for routing itself.
#[derive(Debug, Default)]
struct Front {
    unrouted: Option<Waiting>,
    routes: Vec<(Waiting, PendingRoute)>,
}

/// Of which delivery, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    seq: u64,
    next_at: Timestamp,
}

impl Front {
    /// What is behind a delivery that is not routed waits for it.
    fn reachable(&self) -> impl Iterator<Item = &(Waiting, PendingRoute)> {
        let end = self.unrouted.map_or(u64::MAX, |waiting| waiting.seq);
        self.routes
            .iter()
            .filter(move |(waiting, _)| waiting.seq < end)
    }

    /// When there is something to do.
    fn ready_at(&self) -> Option<Timestamp> {
        self.reachable()
            .map(|(waiting, _)| *waiting)
            .chain(self.unrouted)
            .map(|waiting| waiting.next_at)
            .min()
    }

    /// The oldest delivery with something to do now.
    fn due(&self, now: Timestamp) -> Option<u64> {
        self.reachable()
            .map(|(waiting, _)| *waiting)
            .chain(self.unrouted)
            .filter(|waiting| waiting.next_at <= now)
            .map(|waiting| waiting.seq)
            .min()
    }
}

/// The first that waits for the first route of a lane, in the order of their names.
const FIRST_ROUTE: &str = "SELECT position, seq, next_at, route, attempt, tries, first_tried_at FROM routes \
    WHERE lane = ?1 AND outcome = 'waiting' ORDER BY route, seq LIMIT 1";
/// The first that waits for the route after this one.
const NEXT_ROUTE: &str = "SELECT position, seq, next_at, route, attempt, tries, first_tried_at FROM routes \
    WHERE lane = ?1 AND outcome = 'waiting' AND route > ?2 ORDER BY route, seq LIMIT 1";

fn front(tx: &mut dyn Tx, lane: &str) -> Result<Front, StoreError> {
    let unrouted = tx
        .first(
            "SELECT seq, next_at FROM deliveries WHERE lane = ?1 AND routed = 0 ORDER BY seq LIMIT 1",
            params![lane],
        )?
        .map(|mut row| {
            Ok::<_, StoreError>(Waiting {
                seq: row.uint()?,
                next_at: row.opt_time()?.unwrap_or_default(),
            })
        })
        .transpose()?;
    // One step in the index for each route, however many deliveries wait for it. No recursive statement: SQLite makes a table of
    // its own for each run of one.
    let mut routes = Vec::new();
    let mut first = tx.first(FIRST_ROUTE, params![lane])?;
    while let Some(mut row) = first {
        let position = row.uint()?;
        let (waiting, route) = read_waiting(row)?;
        first = tx.first(NEXT_ROUTE, params![lane, route.route.as_str()])?;
        routes.push((position, (waiting, route)));
    }
    routes.sort_by_key(|(position, (waiting, _))| (waiting.seq, *position));
    let mut routes: Vec<_> = routes.into_iter().map(|(_, route)| route).collect();
    let mut overtaking = Vec::new();
    for (waiting, route) in routes.iter().filter(|(_, route)| route.tries > 0) {
        overtaking.extend(overtakes(tx, lane, *waiting, &route.route)?);
    }
    routes.extend(overtaking);
    Ok(Front { unrouted, routes })
}

fn read_waiting(mut row: Row) -> Result<(Waiting, PendingRoute), StoreError> {
    let waiting = Waiting {
        seq: row.uint()?,
        next_at: row.opt_time()?.unwrap_or_default(),
    };
    let route = PendingRoute {
        route: RouteName::new(row.text()?),
        attempt: row.small()?,
        tries: row.small()?,
        first_tried_at: row.opt_time()?,
    };
    Ok((waiting, route))
}

/// What may go before a route that was tried and is put off: the next that may supersede or end what it would start. It is only
/// taken while the first is not due.
fn overtakes(
    tx: &mut dyn Tx,
    lane: &str,
    first: Waiting,
    route: &RouteName,
) -> Result<Option<(Waiting, PendingRoute)>, StoreError> {
    tx.first(
        "SELECT r.seq, r.next_at, r.route, r.attempt, r.tries, r.first_tried_at FROM routes r \
         JOIN deliveries d ON d.instance = r.instance AND d.id = r.delivery \
         WHERE r.lane = ?1 AND r.outcome = 'waiting' AND r.route = ?2 AND r.seq > ?3 \
         AND d.kind IN ('push', 'tag_push', 'merge_request', 'note') ORDER BY r.next_at, r.seq LIMIT 1",
        params![lane, route.as_str(), first.seq],
    )?
    .map(read_waiting)
    .transpose()
}

/// When a lane has something to decide.
pub(crate) fn ready_at(tx: &mut dyn Tx, lane: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(front(tx, lane)?.ready_at())
}

/// Larger bodies than this are not loaded with what waits.
const SMALL_BODY: usize = 64 * 1024;

/// The oldest delivery of a lane with something to do now, its body packed.
pub(crate) struct Packed {
    pending: Pending,
    body: Option<Vec<u8>>,
}

impl Packed {
    /// Takes the body out of its packing.
    pub(crate) fn open(self) -> Result<Pending, StoreError> {
        let mut pending = self.pending;
        pending.delivery.body = self
            .body
            .map(|content| blob::unpack(&content))
            .transpose()?;
        Ok(pending)
    }
}

/// What a lane has to decide first.
pub(crate) fn look(
    tx: &mut dyn Tx,
    lane: &str,
    now: Timestamp,
) -> Result<First<Packed>, StoreError> {
    let front = front(tx, lane)?;
    let Some(seq) = front.due(now) else {
        return Ok(First::NotBefore(front.ready_at()));
    };
    let mut row = tx
        .first(
            concat!(
                "SELECT d.routed, d.tries, d.first_tried_at, ",
                delivery_columns!(),
                ", b.content FROM deliveries d LEFT JOIN blobs b ON b.digest = d.body AND d.body_size <= ?2 WHERE d.seq = ?1"
            ),
            params![seq, SMALL_BODY],
        )?
        .ok_or_else(|| StoreError::unreadable("a delivery that has routes is gone"))?;
    let behind = front
        .routes
        .iter()
        .filter(|(waiting, _)| waiting.seq < seq)
        .map(|(_, route)| route.route.clone())
        .collect();
    let routes = front
        .routes
        .into_iter()
        .filter(|(waiting, _)| waiting.seq == seq && waiting.next_at <= now)
        .map(|(_, route)| route)
        .collect();
    let pending = Pending {
        routed: row.flag()?,
        tries: row.small()?,
        first_tried_at: row.opt_time()?,
        delivery: read(&mut row)?,
        routes,
        behind,
    };
    Ok(First::Due(Packed {
        pending,
        body: row.opt_bytes()?,
    }))
}

fn not_found(claim: &Claim, what: &str) -> LaneError {
    LaneError::NotFound {
        lane: claim.lane.clone(),
        what: what.to_owned(),
    }
}

fn route(
    tx: &mut dyn Tx,
    claim: &Claim,
    key: &DeliveryKey,
    routes: &[RouteName],
    now: Timestamp,
) -> Result<(), LaneError> {
    fence(tx, claim, now)?;
    write_routes(tx, claim, key, routes, now)?;
    settle_delivery(tx, key)?;
    Ok(())
}

/// Writes down where a delivery is routed to, under a claim that was found unchanged in this transaction.
pub(crate) fn write_routes(
    tx: &mut dyn Tx,
    claim: &Claim,
    key: &DeliveryKey,
    routes: &[RouteName],
    now: Timestamp,
) -> Result<(), LaneError> {
    let mut row = tx
        .first(
            "SELECT seq, routed, outcome FROM deliveries WHERE instance = ?1 AND id = ?2 AND lane = ?3",
            params![key.instance.as_str(), key.id.as_str(), &claim.lane],
        )?
        .ok_or_else(|| not_found(claim, "such delivery"))?;
    let (seq, routed, outcome) = (row.uint()?, row.flag()?, row.text()?);
    if routed && outcome != DeliveryOutcome::Waiting.as_str() {
        return Err(not_found(claim, "such delivery"));
    }
    for (position, route) in routes.iter().enumerate() {
        tx.execute(
            "INSERT INTO routes (instance, delivery, route, attempt, seq, lane, position, outcome, tries, next_at) \
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, 'waiting', 0, ?7) ON CONFLICT (instance, delivery, route, attempt) DO NOTHING",
            params![
                key.instance.as_str(),
                key.id.as_str(),
                route.as_str(),
                seq,
                &claim.lane,
                position,
                now
            ],
        )?;
    }
    tx.execute(
        "UPDATE deliveries SET routed = 1, next_at = NULL, why = NULL WHERE instance = ?1 AND id = ?2",
        params![key.instance.as_str(), key.id.as_str()],
    )?;
    Ok(())
}

/// Ends a delivery that has no routes.
fn end_unrouted(
    tx: &mut dyn Tx,
    claim: &Claim,
    key: &DeliveryKey,
    outcome: DeliveryOutcome,
    why: &str,
    now: Timestamp,
) -> Result<(), LaneError> {
    fence(tx, claim, now)?;
    let ended = tx.execute(
        "UPDATE deliveries SET routed = 1, next_at = NULL, outcome = ?4, why = ?5 \
         WHERE instance = ?1 AND id = ?2 AND lane = ?3 AND routed = 0",
        params![
            key.instance.as_str(),
            key.id.as_str(),
            &claim.lane,
            outcome.as_str(),
            why
        ],
    )?;
    match ended {
        0 => Err(not_found(claim, "such delivery without routes")),
        _ => Ok(()),
    }
}

/// Writes down where a delivery stands, from the newest attempt of each of its routes.
pub(crate) fn settle_delivery(tx: &mut dyn Tx, key: &DeliveryKey) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE deliveries SET outcome = \
           (SELECT CASE min(CASE r.outcome WHEN 'waiting' THEN 0 WHEN 'dead' THEN 1 WHEN 'failed' THEN 2 ELSE 3 END) \
              WHEN 0 THEN 'waiting' WHEN 1 THEN 'dead' WHEN 2 THEN 'failed' ELSE 'decided' END \
            FROM routes r WHERE r.instance = ?1 AND r.delivery = ?2 AND NOT EXISTS ( \
              SELECT 1 FROM routes n WHERE n.instance = ?1 AND n.delivery = ?2 AND n.route = r.route AND n.attempt > r.attempt)) \
         WHERE instance = ?1 AND id = ?2",
        params![key.instance.as_str(), key.id.as_str()],
    )
    .map(drop)
}

/// Something that could not be done for reasons of the host's.
struct Postponement {
    route: Option<RouteName>,
    why: String,
    /// 1 for a try that failed, 0 for a wait.
    tries: u32,
    now: Timestamp,
}

fn postpone(
    tx: &mut dyn Tx,
    claim: &Claim,
    key: &DeliveryKey,
    it: &Postponement,
    next_at: Timestamp,
) -> Result<(), LaneError> {
    fence(tx, claim, it.now)?;
    let (instance, id) = (key.instance.as_str(), key.id.as_str());
    let tried_at = (it.tries > 0).then_some(it.now);
    let put_off = match &it.route {
        Some(route) => tx.execute(
            "UPDATE routes SET tries = tries + ?8, first_tried_at = coalesce(first_tried_at, ?5), next_at = ?6, why = ?7 \
             WHERE instance = ?1 AND delivery = ?2 AND lane = ?3 AND route = ?4 AND outcome = 'waiting'",
            params![instance, id, &claim.lane, route.as_str(), tried_at, next_at, &it.why, it.tries],
        )?,
        None => tx.execute(
            "UPDATE deliveries SET tries = tries + ?7, first_tried_at = coalesce(first_tried_at, ?4), next_at = ?5, why = ?6 \
             WHERE instance = ?1 AND id = ?2 AND lane = ?3 AND routed = 0",
            params![instance, id, &claim.lane, tried_at, next_at, &it.why, it.tries],
        )?,
    };
    match put_off {
        0 => Err(not_found(claim, "such route")),
        _ => Ok(()),
    }
}

fn give_up(
    tx: &mut dyn Tx,
    claim: &Claim,
    key: &DeliveryKey,
    it: &Postponement,
    follow_ups: &[Order],
) -> Result<(), LaneError> {
    let Some(route) = &it.route else {
        end_unrouted(tx, claim, key, DeliveryOutcome::Dead, &it.why, it.now)?;
        let origin = Origin::of_delivery(tx, key)?;
        return Ok(outbox::enqueue(tx, follow_ups, &origin, it.now).map(drop)?);
    };
    fence(tx, claim, it.now)?;
    let mut row = tx
        .first(
            "UPDATE routes SET outcome = 'dead', tries = tries + 1, first_tried_at = coalesce(first_tried_at, ?5), \
             next_at = NULL, why = ?6, settled_at = ?5 \
             WHERE instance = ?1 AND delivery = ?2 AND lane = ?3 AND route = ?4 AND outcome = 'waiting' RETURNING seq, attempt",
            params![
                key.instance.as_str(),
                key.id.as_str(),
                &claim.lane,
                route.as_str(),
                it.now,
                &it.why
            ],
        )?
        .ok_or_else(|| not_found(claim, "such route"))?;
    let origin = Origin {
        delivery: key.clone(),
        seq: row.uint()?,
        route: route.clone(),
        attempt: row.small()?,
    };
    settle_delivery(tx, key)?;
    outbox::enqueue(tx, follow_ups, &origin, it.now)?;
    Ok(())
}

impl Store {
    /// Draws lanes with deliveries to decide now, at most `most`, for `ttl`.
    ///
    /// # Errors
    /// The store's.
    pub async fn draw_deliveries(
        &self,
        worker: &str,
        ttl: Duration,
        caps: Caps,
        most: u32,
        now: Timestamp,
    ) -> Result<Vec<Drawn<Pending>>, StoreError> {
        let drawing = Draw::of(self, Queue::Dispatch, worker, ttl, caps, most, now);
        let (drawn, after) = self
            .write(move |tx| draw(tx, &drawing, |tx, claim| look(tx, &claim.lane, drawing.now)))
            .await?;
        self.serve(Queue::Dispatch, after);
        Ok(unpacked(drawn, Packed::open))
    }

    /// The oldest delivery of a claimed lane with something to do now.
    ///
    /// # Errors
    /// The store's.
    pub async fn head(&self, claim: &Claim, now: Timestamp) -> Result<Option<Pending>, StoreError> {
        let lane = claim.lane.clone();
        match self.read(move |tx| look(tx, &lane, now)).await? {
            First::Due(packed) => packed.open().map(Some),
            First::NotBefore(_) => Ok(None),
        }
    }

    /// Writes down where a delivery is routed to. To do it again changes nothing.
    ///
    /// # Errors
    /// The claim is no longer held, the lane has no such delivery that waits, or the store's.
    pub async fn route(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        routes: Vec<RouteName>,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let (held, delivery) = (claim.clone(), delivery.clone());
        self.write_for(claim, move |tx| route(tx, &held, &delivery, &routes, now))
            .await
    }

    /// Writes down that no route leads anywhere from a delivery, and why.
    ///
    /// # Errors
    /// As [`Store::route`].
    pub async fn unrouted(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        why: &str,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        self.end(claim, delivery, DeliveryOutcome::Unrouted, why, now)
            .await
    }

    /// Writes down that a delivery can't be read into an event, and why.
    ///
    /// # Errors
    /// As [`Store::route`].
    pub async fn unreadable(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        why: &str,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        self.end(claim, delivery, DeliveryOutcome::Unreadable, why, now)
            .await
    }

    async fn end(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        outcome: DeliveryOutcome,
        why: &str,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let (held, delivery, why) = (claim.clone(), delivery.clone(), why.to_owned());
        self.write_for(claim, move |tx| {
            end_unrouted(tx, &held, &delivery, outcome, &why, now)
        })
        .await
    }

    /// Puts a route off until `next_at` because the host could not do its part; without a route: the routing itself.
    ///
    /// # Errors
    /// As [`Store::route`].
    pub async fn postpone(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        route: Option<&RouteName>,
        next_at: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let (held, delivery) = (claim.clone(), delivery.clone());
        let it = Postponement {
            route: route.cloned(),
            why: why.to_owned(),
            tries: 1,
            now,
        };
        self.write_for(claim, move |tx| {
            postpone(tx, &held, &delivery, &it, next_at)
        })
        .await
    }

    /// Puts a route off until `next_at` because it is not its turn yet, such as when all slots of its plugin are taken. Nothing
    /// was tried: no try is counted.
    ///
    /// # Errors
    /// As [`Store::route`].
    pub async fn put_off(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        route: &RouteName,
        next_at: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let (held, delivery) = (claim.clone(), delivery.clone());
        let it = Postponement {
            route: Some(route.clone()),
            why: why.to_owned(),
            tries: 0,
            now,
        };
        self.write_for(claim, move |tx| {
            postpone(tx, &held, &delivery, &it, next_at)
        })
        .await
    }

    /// Ends a route that the host could not do its part for in all its tries: it is dead until `deliveries retry`.
    ///
    /// # Errors
    /// As [`Store::route`].
    pub async fn give_up(
        &self,
        claim: &Claim,
        delivery: &DeliveryKey,
        route: Option<&RouteName>,
        why: &str,
        follow_ups: Vec<Order>,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let (held, delivery) = (claim.clone(), delivery.clone());
        let it = Postponement {
            route: route.cloned(),
            why: why.to_owned(),
            tries: 1,
            now,
        };
        self.write_for(claim, move |tx| {
            give_up(tx, &held, &delivery, &it, &follow_ups)
        })
        .await?;
        self.hint(Queue::Act);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seq: u64, next_at: u64) -> Waiting {
        Waiting {
            seq,
            next_at: Timestamp(next_at),
        }
    }

    fn route(seq: u64, next_at: u64, name: &str) -> (Waiting, PendingRoute) {
        let route = PendingRoute {
            route: name.into(),
            attempt: 1,
            tries: 0,
            first_tried_at: None,
        };
        (waiting(seq, next_at), route)
    }

    #[test]
    fn a_route_that_is_put_off_holds_up_no_other() {
        let front = Front {
            unrouted: Some(waiting(3, 0)),
            routes: vec![route(1, 500, "a"), route(2, 0, "b")],
        };
        assert_eq!(front.due(Timestamp(100)), Some(2));
        assert_eq!(front.ready_at(), Some(Timestamp(0)));
    }

    #[test]
    fn nothing_behind_a_delivery_that_is_not_routed_goes_on() {
        let front = Front {
            unrouted: Some(waiting(1, 500)),
            routes: vec![route(2, 0, "a")],
        };
        assert_eq!(front.due(Timestamp(100)), None);
        assert_eq!(front.ready_at(), Some(Timestamp(500)));
    }
}
