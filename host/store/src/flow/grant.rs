//! Gives room to those that wait.

use std::collections::HashMap;

use penstock_model::flow::{Flow, FlowLimits};
use penstock_model::id::{EffectId, Timestamp};

use super::books::{Books, Place};
use super::{guarded, take_off};
use crate::backend::Tx;
use crate::backend::dialect::{Sequence, next};
use crate::backend::value::{Row, params};
use crate::claim::{Queue, wake_lane};
use crate::error::StoreError;
use crate::store::Store;

/// Starts that are let in by one transaction.
const AT_ONCE: usize = 64;

/// What came of giving room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Starts that may go out now.
    pub granted: u32,
    /// Others still wait.
    pub waiting: bool,
    /// There may be room for more at once.
    pub more: bool,
    /// When time alone makes room for one.
    pub again_at: Option<Timestamp>,
}

/// The start that is first in its line.
struct Head {
    id: EffectId,
    seq: u64,
    lane: String,
    tenant: String,
}

impl Head {
    fn read(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.effect_id()?,
            seq: row.uint()?,
            lane: row.text()?,
            tenant: row.text()?,
        })
    }
}

struct Line {
    key: String,
    place: Place,
    blocked_on: String,
    why: String,
    head: Head,
}

fn lines(tx: &mut dyn Tx, limits: &FlowLimits) -> Result<Vec<Line>, StoreError> {
    tx.execute(
        "DELETE FROM flow_lines WHERE NOT EXISTS (SELECT 1 FROM flow_waiting w WHERE w.line = flow_lines.line)",
        &[],
    )?;
    let rows = tx.query(
        "SELECT l.line, l.blocked_on, l.why, w.id, w.seq, w.lane, w.tenant FROM flow_lines l JOIN flow_waiting w \
         ON w.line = l.line AND w.seq = (SELECT min(m.seq) FROM flow_waiting m WHERE m.line = l.line)",
        &[],
    )?;
    rows.into_iter()
        .map(|mut row| {
            let key = row.text()?;
            let flow: Flow = serde_json::from_str(&key)
                .map_err(|error| StoreError::unreadable(format!("a line `{key}`: {error}")))?;
            Ok(Line {
                key,
                place: Place::new(flow, limits),
                blocked_on: row.text()?,
                why: row.text()?,
                head: Head::read(&mut row)?,
            })
        })
        .collect()
}

/// When tenants and projects were last served.
#[derive(Default)]
struct Turns(HashMap<String, u64>);

impl Turns {
    const QUEUE: &str = "flow";

    fn keys(flow: &Flow) -> [String; 2] {
        [
            flow.tenant.to_string(),
            format!("{}|{}", flow.tenant, flow.project_key()),
        ]
    }

    fn read(&mut self, tx: &mut dyn Tx, flow: &Flow) -> Result<(), StoreError> {
        for key in Self::keys(flow) {
            if self.0.contains_key(&key) {
                continue;
            }
            let served = tx
                .first(
                    "SELECT served FROM turns WHERE queue = ?1 AND tenant = ?2",
                    params![Self::QUEUE, &key],
                )?
                .map(|mut row| row.uint())
                .transpose()?;
            self.0.insert(key, served.unwrap_or_default());
        }
        Ok(())
    }

    fn of(&self, flow: &Flow) -> [u64; 2] {
        Self::keys(flow).map(|key| self.0.get(&key).copied().unwrap_or_default())
    }

    fn serve(&mut self, tx: &mut dyn Tx, flow: &Flow) -> Result<(), StoreError> {
        let epoch = next(tx, Sequence::Epochs)?;
        for key in Self::keys(flow) {
            tx.execute(
                "INSERT INTO turns (queue, tenant, served) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (queue, tenant) DO UPDATE SET served = excluded.served",
                params![Self::QUEUE, &key, epoch],
            )?;
            self.0.insert(key, epoch);
        }
        Ok(())
    }
}

fn grant(tx: &mut dyn Tx, limits: &FlowLimits, now: Timestamp) -> Result<Granted, StoreError> {
    guarded(tx)?;
    let mut open = lines(tx, limits)?;
    let (mut books, mut turns) = (Books::default(), Turns::default());
    for line in &open {
        books.read(tx, &line.place, now)?;
        turns.read(tx, &line.place.flow)?;
    }
    let mut granted = Granted::default();
    while (granted.granted as usize) < AT_ONCE {
        let mut shut = Vec::new();
        open.retain_mut(|line| match books.blocked(&line.place, now) {
            None => true,
            Some(blocked) => {
                granted.waiting = true;
                granted.again_at = match (granted.again_at, blocked.until) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                let on = blocked.scope.to_string();
                if on != line.blocked_on || blocked.why != line.why {
                    shut.push((std::mem::take(&mut line.key), on, blocked.why));
                }
                false
            }
        });
        for (key, on, why) in shut {
            tx.execute(
                "UPDATE flow_lines SET blocked_on = ?2, why = ?3 WHERE line = ?1",
                params![&key, &on, &why],
            )?;
        }
        let first = open
            .iter()
            .enumerate()
            .min_by_key(|(_, line)| {
                let (tenant, project) = books.held(&line.place);
                let [tenant_served, project_served] = turns.of(&line.place.flow);
                (
                    tenant,
                    tenant_served,
                    project,
                    project_served,
                    line.head.seq,
                )
            })
            .map(|(n, _)| n);
        let Some(n) = first else { break };
        let mut line = open.swap_remove(n);
        if let_in(tx, &line, now)? {
            books.enter(&line.place, now);
            turns.serve(tx, &line.place.flow)?;
            granted.granted += 1;
        }
        let following = tx.first(
            "SELECT id, seq, lane, tenant FROM flow_waiting WHERE line = ?1 ORDER BY seq LIMIT 1",
            params![&line.key],
        )?;
        match following {
            Some(mut row) => {
                line.head = Head::read(&mut row)?;
                open.push(line);
            }
            None => {
                tx.execute("DELETE FROM flow_lines WHERE line = ?1", params![&line.key])?;
            }
        }
    }
    granted.more = !open.is_empty();
    granted.waiting |= granted.more;
    books.close(tx)?;
    Ok(granted)
}

/// Puts a start back into its lane's order, counted; says whether it still waited.
fn let_in(tx: &mut dyn Tx, line: &Line, now: Timestamp) -> Result<bool, StoreError> {
    let (head, id) = (&line.head, line.head.id.hex());
    wake_lane(tx, Queue::Act, &head.lane, &head.tenant, now, now)?;
    let back = tx.execute(
        "UPDATE effects SET overtakes = 1, next_at = ?2 WHERE id = ?1 AND state = 'waiting' AND overtakes = 2",
        params![&id, now],
    )?;
    tx.execute("DELETE FROM flow_waiting WHERE id = ?1", params![&id])?;
    if back > 0 {
        take_off(tx, &head.id, &line.place.flow)?;
    }
    Ok(back > 0)
}

impl Store {
    /// Gives room to starts that wait, as far as there is some.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_room(&self, now: Timestamp) -> Result<Granted, StoreError> {
        let lines = self
            .read(|tx| tx.first("SELECT 1 FROM flow_lines LIMIT 1", &[]))
            .await?;
        if lines.is_none() {
            return Ok(Granted::default());
        }
        let limits = self.flow_limits();
        let granted = self.write(move |tx| grant(tx, &limits, now)).await?;
        if granted.granted > 0 {
            self.hint(Queue::Act);
        }
        Ok(granted)
    }
}
