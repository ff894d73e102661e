//! Counts and ages, for metrics.

use std::collections::BTreeMap;

use penstock_model::id::Timestamp;

use crate::backend::Tx;
use crate::backend::dialect::size;
use crate::backend::value::params;
use crate::claim::Queue;
use crate::error::StoreError;
use crate::store::Store;

/// What the store holds right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Deliveries by the word of their outcome.
    pub deliveries: BTreeMap<String, u64>,
    /// When the oldest delivery was received that is not decided.
    pub oldest_undecided: Option<Timestamp>,
    /// Effects by the word of their state.
    pub effects: BTreeMap<String, u64>,
    /// When the oldest effect was committed that waits.
    pub oldest_effect: Option<Timestamp>,
    /// Runs by the word of their state.
    pub runs: BTreeMap<String, u64>,
    /// Routes that were tried for too long, newest attempts alone.
    pub dead_routes: u64,
    /// Effects that were tried for too long.
    pub dead_effects: u64,
    /// For each queue's word, since when the lane is ready that nobody has taken for longest; none: no lane is.
    pub ready_since: BTreeMap<&'static str, Option<Timestamp>>,
    /// Bytes on disk.
    pub bytes: u64,
}

fn counts(tx: &mut dyn Tx, sql: &'static str) -> Result<BTreeMap<String, u64>, StoreError> {
    tx.query(sql, &[])?
        .into_iter()
        .map(|mut row| Ok((row.text()?, row.uint()?)))
        .collect()
}

fn oldest(tx: &mut dyn Tx, sql: &'static str) -> Result<Option<Timestamp>, StoreError> {
    tx.first(sql, &[])?
        .map_or(Ok(None), |mut row| row.opt_time())
}

fn ready_since(tx: &mut dyn Tx) -> Result<BTreeMap<&'static str, Option<Timestamp>>, StoreError> {
    [Queue::Dispatch, Queue::Act]
        .into_iter()
        .map(|queue| {
            let row = tx.first(
                "SELECT min(ready_at) FROM lanes WHERE queue = ?1 AND ready_at IS NOT NULL AND owner IS NULL",
                params![queue.as_str()],
            )?;
            let since = row.map(|mut row| row.opt_time()).transpose()?.flatten();
            Ok((queue.as_str(), since))
        })
        .collect()
}

fn figures(tx: &mut dyn Tx) -> Result<Figures, StoreError> {
    let effects = counts(tx, "SELECT state, count(*) FROM effects GROUP BY state")?;
    // What died before its routes were found has none: it counts as one.
    let dead_routes = tx.first(
        "SELECT (SELECT count(*) FROM routes r WHERE r.outcome = 'dead' AND NOT EXISTS (SELECT 1 FROM routes n \
         WHERE n.instance = r.instance AND n.delivery = r.delivery AND n.route = r.route AND n.attempt > r.attempt)) \
         + (SELECT count(*) FROM deliveries d WHERE d.outcome = 'dead' AND NOT EXISTS (SELECT 1 FROM routes n \
         WHERE n.instance = d.instance AND n.delivery = d.id))",
        &[],
    )?;
    Ok(Figures {
        deliveries: counts(
            tx,
            "SELECT outcome, count(*) FROM deliveries GROUP BY outcome",
        )?,
        oldest_undecided: oldest(
            tx,
            "SELECT received_at FROM deliveries WHERE outcome = 'waiting' ORDER BY seq LIMIT 1",
        )?,
        oldest_effect: oldest(
            tx,
            "SELECT created_at FROM effects WHERE state = 'waiting' ORDER BY seq LIMIT 1",
        )?,
        runs: counts(tx, "SELECT state, count(*) FROM runs GROUP BY state")?,
        dead_routes: dead_routes.map_or(Ok(0), |mut row| row.uint())?,
        dead_effects: effects.get("dead").copied().unwrap_or_default(),
        effects,
        ready_since: ready_since(tx)?,
        bytes: size(tx)?,
    })
}

impl Store {
    /// What the store holds right now.
    ///
    /// # Errors
    /// The store's.
    pub async fn figures(&self) -> Result<Figures, StoreError> {
        self.read(figures).await
    }
}
