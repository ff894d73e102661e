//! Runs that wait to be created, and that this is told of once.
//!
//! What tells of it is put into the outbox while the run still waits, in a transaction that holds the run's effect: whoever creates, ends
//! or withdraws the run holds it too, so what tells of that comes after.

use penstock_model::admit::Order;
use penstock_model::id::{EffectId, Timestamp};

use crate::backend::value::params;
use crate::claim::Queue;
use crate::error::StoreError;
use crate::outbox;
use crate::run::{self, StoredRun};
use crate::store::Store;

/// What a run waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Room under a limit, and which.
    Room(String),
    /// Another try.
    Another,
    /// Those before it.
    Others,
}

/// A run that waits to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRun {
    /// The run.
    pub run: StoredRun,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// Its number; what came later has a greater one.
    pub seq: u64,
}

impl Store {
    /// Runs that wait since before a time and that nobody was told of, at most so many, the oldest after this number first.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs_waiting(
        &self,
        after: u64,
        before: Timestamp,
        most: u32,
    ) -> Result<Vec<WaitingRun>, StoreError> {
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT e.seq, e.id, e.tries, (SELECT l.why FROM flow_waiting w JOIN flow_lines l ON l.line = w.line WHERE w.id = e.id) \
                 FROM effects e JOIN runs r ON r.id = e.id \
                 WHERE e.state = 'waiting' AND e.seq > ?1 AND e.kind = 'start-run' AND e.created_at < ?2 \
                 AND r.state = 'queued' AND r.told_waiting = 0 ORDER BY e.seq LIMIT ?3",
                params![after, before, most],
            )?;
            let mut waiting = Vec::new();
            for mut row in rows {
                let (seq, id, tries, why) = (row.uint()?, row.text()?, row.uint()?, row.opt_text()?);
                let waits_for = match why {
                    Some(why) => WaitsFor::Room(why),
                    None if tries > 0 => WaitsFor::Another,
                    None => WaitsFor::Others,
                };
                if let Some(run) = run::find(tx, &id)? {
                    waiting.push(WaitingRun {
                        run,
                        waits_for,
                        seq,
                    });
                }
            }
            Ok(waiting)
        })
        .await
    }

    /// Puts in what tells of a run that it waits, if it still does and nobody was told; says whether it was put in.
    ///
    /// # Errors
    /// The store's.
    pub async fn tell_waiting(
        &self,
        id: &EffectId,
        order: Order,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = *id;
        let told = self
            .write(move |tx| {
                let hex = id.hex();
                let waits = tx.first(
                    "SELECT 1 FROM effects WHERE id = ?1 AND state = 'waiting' FOR UPDATE",
                    params![&hex],
                )?;
                if waits.is_none() {
                    return Ok(false);
                }
                let told = tx.execute(
                    "UPDATE runs SET told_waiting = 1 WHERE id = ?1 AND state = 'queued' AND told_waiting = 0",
                    params![&hex],
                )?;
                if told > 0 {
                    outbox::follow(tx, &id, std::slice::from_ref(&order), now)?;
                }
                Ok(told > 0)
            })
            .await?;
        if told {
            self.hint(Queue::Act);
        }
        Ok(told)
    }
}
