//! A run's end, given to the plugin that started it: an event of the host's own, kept in the transaction that settles the run.
//!
//! It is a delivery like any other from then on, routed already: to the route that started the run, in the lane of its event, behind all
//! that came before.

use bytes::Bytes;
use penstock_model::admit::RunOrder;
use penstock_model::event::EventKind;
use penstock_model::host_event::{Failed, HostEvent, host_hook};
use penstock_model::id::{EffectId, RouteName, Timestamp};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::blob::{self, Packed};
use crate::claim::{Queue, wake_lane};
use crate::error::StoreError;
use crate::run;

/// The header that a webhook would have had.
const EVENT: &str = "Run Finished";

/// Remembers that the end of a run is wanted.
pub(crate) fn expect(tx: &mut dyn Tx, id: &EffectId, order: &RunOrder) -> Result<(), StoreError> {
    let Some(depth) = order.end_at_depth else {
        return Ok(());
    };
    tx.execute(
        "INSERT INTO run_ends (run, depth) VALUES (?1, ?2) ON CONFLICT (run) DO NOTHING",
        params![&id.hex(), depth],
    )
    .map(drop)
}

/// Holds the lane in which a run's end will be told. Before anything else is held: whoever decides in that lane holds it first, too, and
/// comes to the run afterwards.
pub(crate) fn hold(tx: &mut dyn Tx, id: &str, now: Timestamp) -> Result<(), StoreError> {
    let lane = tx.first(
        "SELECT r.tenant, r.lane FROM run_ends e JOIN runs r ON r.id = e.run WHERE e.run = ?1 AND r.finished = 0",
        params![id],
    )?;
    let Some(mut row) = lane else {
        return Ok(());
    };
    let (tenant, lane) = (row.text()?, row.text()?);
    let lane = format!("{tenant}|{lane}");
    wake_lane(tx, Queue::Dispatch, &lane, &tenant, now, now)
}

/// Tells of a run that has just ended, if its end is wanted.
pub(crate) fn tell(tx: &mut dyn Tx, id: &str, now: Timestamp) -> Result<(), StoreError> {
    let wanted = tx.first("SELECT depth FROM run_ends WHERE run = ?1", params![id])?;
    let Some(mut row) = wanted else {
        return Ok(());
    };
    let depth = row.small()?;
    let stored =
        run::find(tx, id)?.ok_or_else(|| StoreError::unreadable(format!("run {id} is gone")))?;
    let lane = format!("{}|{}", stored.of.tenant, stored.lane);
    let subject = stored
        .lane
        .strip_prefix(&format!("{}/{}/", stored.of.instance, stored.of.project))
        .unwrap_or("-")
        .to_owned();
    // A run that was refused can be tried again and end once more.
    let event_id = format!("run-finished:{id}:{}", now.0);
    let route = stored.route;
    let event = HostEvent::run_finished(
        stored.of,
        stored.run,
        Failed {
            task: stored.failed_task,
            log_excerpt: stored.log_excerpt,
        },
        depth,
        stored.source_project,
        stored.trust,
    );
    append(
        tx,
        &event,
        &Place {
            id: &event_id,
            lane: &lane,
            subject: &subject,
            route: &route,
        },
        now,
    )
}

/// Tells of a run that was never admitted: there is no row of it, and its end is the one thing that comes of it. The claim on the lane is held.
pub(crate) fn tell_refused(
    tx: &mut dyn Tx,
    event: &HostEvent,
    lane: &str,
    route: &RouteName,
    now: Timestamp,
) -> Result<(), StoreError> {
    let EventKind::RunFinished(finished) = &event.kind else {
        return Ok(());
    };
    let of = &event.of;
    let prefix = format!("{}|{}/{}/", of.tenant, of.instance, of.project);
    let place = Place {
        id: &format!("run-finished:{}:{}", finished.run.id, now.0),
        lane,
        subject: lane.strip_prefix(&prefix).unwrap_or("-"),
        route,
    };
    append(tx, event, &place, now)
}

/// Where an event of the host's own goes.
struct Place<'a> {
    id: &'a str,
    lane: &'a str,
    subject: &'a str,
    route: &'a RouteName,
}

fn append(
    tx: &mut dyn Tx,
    event: &HostEvent,
    place: &Place<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (of, lane) = (&event.of, place.lane);
    let body = packed(event)?;
    blob::put(tx, &body, now)?;
    let inserted = tx.first(
        "INSERT INTO deliveries (instance, id, hook, event_header, kind, tenant, project, project_path, lane, subject, \
         received_at, headers, body, body_size, received_digest, outcome, routed, tries) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, '[]', ?12, ?13, ?12, 'waiting', 1, 0) \
         ON CONFLICT (instance, id) DO NOTHING RETURNING seq",
        params![
            of.instance.as_str(),
            place.id,
            host_hook().as_str(),
            EVENT,
            event.kind.word(),
            of.tenant.as_str(),
            of.project.0,
            of.path.as_str(),
            lane,
            place.subject,
            now,
            &body.digest,
            body.size,
        ],
    )?;
    let Some(mut row) = inserted else {
        return Ok(());
    };
    let seq = row.uint()?;
    tx.execute(
        "INSERT INTO routes (instance, delivery, route, attempt, seq, lane, position, outcome, tries, next_at) \
         VALUES (?1, ?2, ?3, 1, ?4, ?5, 0, 'waiting', 0, ?6)",
        params![
            of.instance.as_str(),
            place.id,
            place.route.as_str(),
            seq,
            lane,
            now
        ],
    )?;
    wake_lane(tx, Queue::Dispatch, lane, of.tenant.as_str(), now, now)
}

fn packed(event: &HostEvent) -> Result<Packed, StoreError> {
    debug_assert!(matches!(event.kind, EventKind::RunFinished(_)));
    let json =
        serde_json::to_vec(event).map_err(|error| StoreError::unreadable(error.to_string()))?;
    blob::packed_here(&Bytes::from(json))
}
