//! What waits for room, for people.

use penstock_model::flow::Flow;
use penstock_model::id::{EffectId, ProjectPath, Timestamp};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::delivery::DeliveryKey;
use crate::error::StoreError;
use crate::store::Store;

/// A run that waits for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The run.
    pub id: EffectId,
    /// Where it is counted.
    pub flow: Flow,
    /// The project's path.
    pub project_path: ProjectPath,
    /// Name that its PipelineRun will have.
    pub name: String,
    /// The delivery that led to it.
    pub delivery: DeliveryKey,
    /// What it waits for.
    pub why: String,
    /// Its place in its line, from 1.
    pub place: u64,
    /// How many wait in the line.
    pub of: u64,
    /// Since when.
    pub since: Timestamp,
}

/// What a start waits for, with its place, if it does.
pub(crate) fn waits(tx: &mut dyn Tx, id: &EffectId) -> Result<Option<String>, StoreError> {
    let row = tx.first(
        "SELECT l.why, (SELECT count(*) FROM flow_waiting a WHERE a.line = w.line AND a.seq <= w.seq), \
         (SELECT count(*) FROM flow_waiting a WHERE a.line = w.line) \
         FROM flow_waiting w JOIN flow_lines l ON l.line = w.line WHERE w.id = ?1",
        params![&id.hex()],
    )?;
    row.map(|mut row| {
        let (why, place, of) = (row.text()?, row.uint()?, row.uint()?);
        Ok(format!(
            "waits for room, {place} of {of} in its line: {why}"
        ))
    })
    .transpose()
}

impl Store {
    /// Runs that wait for room, the longest wait first.
    ///
    /// # Errors
    /// The store's.
    pub async fn queue(&self, limit: u32) -> Result<Vec<Queued>, StoreError> {
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT w.id, w.line, l.why, w.since, \
                 (SELECT count(*) FROM flow_waiting a WHERE a.line = w.line AND a.seq <= w.seq), \
                 (SELECT count(*) FROM flow_waiting a WHERE a.line = w.line), \
                 r.project_path, r.name, r.instance, r.delivery \
                 FROM flow_waiting w JOIN flow_lines l ON l.line = w.line JOIN runs r ON r.id = w.id \
                 ORDER BY w.seq LIMIT ?1",
                params![limit],
            )?;
            rows.into_iter()
                .map(|mut row| {
                    Ok(Queued {
                        id: row.effect_id()?,
                        flow: row.json()?,
                        why: row.text()?,
                        since: row.time()?,
                        place: row.uint()?,
                        of: row.uint()?,
                        project_path: row.text()?.into(),
                        name: row.text()?,
                        delivery: DeliveryKey {
                            instance: row.text()?.into(),
                            id: row.text()?.into(),
                        },
                    })
                })
                .collect()
        })
        .await
    }
}
