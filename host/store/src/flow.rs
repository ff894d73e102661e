//! Limits on runs in flight and on creations a second.
//!
//! A run is counted from the moment its creation may go out until it has ended. One that finds no room leaves its lane's order and
//! waits in a line with those that are counted alike; it holds up nothing else. Who waits for a scope goes before whoever comes
//! later: a newcomer joins a line too while somebody waits for a scope of its own. Room goes to the tenant with the fewest runs in
//! flight, then to the one served longest ago; within it to a project likewise; within that to the oldest. All of it is in the
//! store: a restart changes no place.

mod books;
mod grant;
mod queue;

use penstock_model::flow::{Flow, FlowLimits};
use penstock_model::id::{EffectId, Timestamp};

use self::books::{Blocked, Books, Place};
pub use self::grant::Granted;
pub use self::queue::Queued;
pub(crate) use self::queue::waits;
use crate::backend::Tx;
use crate::backend::dialect::{guard, guard_key};
use crate::backend::value::params;
use crate::error::StoreError;

/// A start that asks for room.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) id: EffectId,
    pub(crate) flow: Flow,
}

/// Whether there is room for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It is counted; its creation may go out.
    Found,
    /// It waits in a line.
    None,
    /// It waits for nobody any more: it was cancelled, or seen in its cluster.
    Gone,
}

/// Two transactions that count at a time could each find the last room.
fn guarded(tx: &mut dyn Tx) -> Result<(), StoreError> {
    guard(tx, guard_key(["flow"]))
}

/// Keeps others from counting, where this start is limited. To be called before any row is held.
pub(crate) fn prepare(
    tx: &mut dyn Tx,
    start: &Start,
    limits: &FlowLimits,
) -> Result<(), StoreError> {
    if is_free(start, limits) {
        return Ok(());
    }
    guarded(tx)
}

/// Nothing limits this start.
pub(crate) fn is_free(start: &Start, limits: &FlowLimits) -> bool {
    Place::new(start.flow.clone(), limits).is_free()
}

/// Finds room for a start of this lane, marks it as handed out and counts it; or puts it into its line.
pub(crate) fn hand_out(
    tx: &mut dyn Tx,
    start: &Start,
    lane: &str,
    limits: &FlowLimits,
    now: Timestamp,
) -> Result<Room, StoreError> {
    let place = Place::new(start.flow.clone(), limits);
    let mut books = Books::default();
    let counted = !place.is_free() && !is_in_flight(tx, &start.id)?;
    if counted {
        books.read(tx, &place, now)?;
        let blocked = match books.blocked(&place, now) {
            Some(blocked) => Some(blocked),
            None => others_first(tx, &place)?,
        };
        if let Some(blocked) = blocked {
            return line_up(tx, start, lane, &blocked, now);
        }
    }
    let marked = tx.execute(
        "UPDATE effects SET handed_out = handed_out + 1 WHERE id = ?1 AND lane = ?2 AND state = 'waiting'",
        params![&start.id.hex(), lane],
    )?;
    if marked == 0 {
        return Ok(Room::Gone);
    }
    take_off(tx, &start.id, &start.flow)?;
    if counted {
        books.enter(&place, now);
        books.close(tx)?;
    }
    Ok(Room::Found)
}

fn is_in_flight(tx: &mut dyn Tx, id: &EffectId) -> Result<bool, StoreError> {
    let found = tx.first(
        "SELECT 1 FROM flow_flights WHERE id = ?1",
        params![&id.hex()],
    )?;
    Ok(found.is_some())
}

/// Somebody waits for a scope of this run: there may be room, but it is theirs.
fn others_first(tx: &mut dyn Tx, place: &Place) -> Result<Option<Blocked>, StoreError> {
    let [cluster, tenant, at, project, pipeline, queue] = place.keys();
    let row = tx.first(
        "SELECT blocked_on, why FROM flow_lines WHERE blocked_on IN (?1, ?2, ?3, ?4, ?5, ?6) LIMIT 1",
        params![&cluster, &tenant, &at, &project, &pipeline, &queue],
    )?;
    row.map(|mut row| {
        let on = row.text()?;
        let scope = place.scope(&on).ok_or_else(|| {
            StoreError::unreadable(format!("a line waits for `{on}`, which is no scope"))
        })?;
        Ok(Blocked {
            scope,
            why: row.text()?,
            until: None,
        })
    })
    .transpose()
}

fn line_up(
    tx: &mut dyn Tx,
    start: &Start,
    lane: &str,
    blocked: &Blocked,
    now: Timestamp,
) -> Result<Room, StoreError> {
    let id = start.id.hex();
    let put = tx.first(
        "UPDATE effects SET overtakes = 2, next_at = NULL WHERE id = ?1 AND lane = ?2 AND state = 'waiting' \
         RETURNING seq, tenant",
        params![&id, lane],
    )?;
    let Some(mut row) = put else {
        return Ok(Room::Gone);
    };
    let (seq, tenant) = (row.uint()?, row.text()?);
    let line = line_of(&start.flow)?;
    tx.execute(
        "INSERT INTO flow_lines (line, blocked_on, why) VALUES (?1, ?2, ?3) ON CONFLICT (line) DO NOTHING",
        params![&line, &blocked.scope.to_string(), &blocked.why],
    )?;
    tx.execute(
        "INSERT INTO flow_waiting (id, line, seq, lane, tenant, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (id) DO NOTHING",
        params![&id, &line, seq, lane, &tenant, now],
    )?;
    Ok(Room::None)
}

/// The line's key: runs that are counted alike have the same.
fn line_of(flow: &Flow) -> Result<String, StoreError> {
    serde_json::to_string(flow).map_err(|error| StoreError::unreadable(error.to_string()))
}

/// Counts a run.
fn take_off(tx: &mut dyn Tx, id: &EffectId, flow: &Flow) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO flow_flights (id, cluster, tenant, place, project, pipeline, queue) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
        params![
            &id.hex(),
            flow.cluster.as_str(),
            flow.tenant.as_str(),
            &flow.place_key(),
            &flow.project_key(),
            &flow.pipeline,
            flow.queue.as_ref(),
        ],
    )
    .map(drop)
}

/// A run that has ended, or whose creation has failed, is counted no more.
pub(crate) fn land(tx: &mut dyn Tx, id: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM flow_flights WHERE id = ?1", params![id])
        .map(drop)
}

/// A run that will not be started waits in no line. An empty line goes when room is next given out.
pub(crate) fn leave(tx: &mut dyn Tx, id: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM flow_waiting WHERE id = ?1", params![id])?;
    land(tx, id)
}

/// A run was seen in its cluster before its creator was answered: it waits no more, and is counted until it ends.
pub(crate) fn seen(tx: &mut dyn Tx, id: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM flow_waiting WHERE id = ?1", params![id])?;
    tx.execute(
        "INSERT INTO flow_flights (id, cluster, tenant, place, project, pipeline, queue) \
         SELECT id, cluster, tenant, cluster || '/' || namespace || '/' || place, instance || '/' || project, pipeline, queue \
         FROM runs WHERE id = ?1 AND finished = 0 ON CONFLICT (id) DO NOTHING",
        params![id],
    )
    .map(drop)
}
