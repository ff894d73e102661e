//! How long things are kept.
//!
//! Contents (bodies, headers, records, orders) go first; decisions and digests later. Whatever still waits keeps what it needs. A
//! delivery's id and an effect's tombstone are kept for 90 days at least, and a tombstone for longer than its run.

use std::time::Duration;

use penstock_model::id::Timestamp;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::clone;
use crate::error::StoreError;
use crate::excerpt;
use crate::store::Store;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// No id is forgotten sooner.
const LEAST: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Rows that one transaction takes away: others must not wait long.
const CHUNK: u32 = 500;

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// Contents.
    pub contents: Duration,
    /// Decisions and digests; 90 days at least are kept whatever this says.
    pub decisions: Duration,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            contents: DAY * 30,
            decisions: DAY * 365,
        }
    }
}

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Blobs: bodies, records, plugins.
    pub blobs: u64,
    /// Headers of deliveries, orders of effects and ends of logs.
    pub contents: u64,
    /// Deliveries with their routes.
    pub deliveries: u64,
    /// Runs.
    pub runs: u64,
    /// Effects.
    pub effects: u64,
    /// Values of plugin state.
    pub state: u64,
    /// Lanes that nothing waits in.
    pub lanes: u64,
    /// Rows of credentials that are gone.
    pub credentials: u64,
    /// Branches, tags and merge requests that are gone.
    pub heads: u64,
}

/// Takes away at most [`CHUNK`] rows that are older, and says how many.
type Step = fn(&mut dyn Tx, Timestamp) -> Result<u64, StoreError>;

fn blobs(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM blobs WHERE digest IN (SELECT b.digest FROM blobs b WHERE b.plugin = 0 AND b.touched_at < ?1 \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.body = b.digest AND d.outcome = 'waiting') LIMIT ?2) \
         AND touched_at < ?1",
        params![cutoff, CHUNK],
    )
}

fn plugins(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM blobs WHERE digest IN (SELECT b.digest FROM blobs b WHERE b.plugin = 1 AND b.touched_at < ?1 \
         AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.plugin_digest = b.digest) LIMIT ?2) AND touched_at < ?1",
        params![cutoff, CHUNK],
    )
}

fn headers(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "UPDATE deliveries SET headers = NULL WHERE seq IN (SELECT seq FROM deliveries WHERE received_at < ?1 \
         AND headers IS NOT NULL AND outcome <> 'waiting' ORDER BY seq LIMIT ?2)",
        params![cutoff, CHUNK],
    )
}

fn orders(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "UPDATE effects SET content = NULL WHERE seq IN (SELECT seq FROM effects WHERE settled_at < ?1 \
         AND content IS NOT NULL AND state NOT IN ('waiting', 'dead') ORDER BY seq LIMIT ?2)",
        params![cutoff, CHUNK],
    )
}

fn deliveries(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    let rows = tx.query(
        "SELECT seq, instance, id FROM deliveries WHERE received_at < ?1 AND outcome <> 'waiting' ORDER BY seq LIMIT ?2",
        params![cutoff, CHUNK],
    )?;
    let gone = rows.len() as u64;
    for mut row in rows {
        let (seq, instance, id) = (row.uint()?, row.text()?, row.text()?);
        tx.execute(
            "DELETE FROM routes WHERE instance = ?1 AND delivery = ?2",
            params![&instance, &id],
        )?;
        tx.execute("DELETE FROM deliveries WHERE seq = ?1", params![seq])?;
    }
    Ok(gone)
}

fn runs(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM run_ends WHERE run IN (SELECT id FROM runs WHERE finished = 1 AND finished_at < ?1 LIMIT ?2)",
        params![cutoff, CHUNK],
    )?;
    tx.execute(
        "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE finished = 1 AND finished_at < ?1 LIMIT ?2)",
        params![cutoff, CHUNK],
    )
}

fn effects(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM effects WHERE seq IN (SELECT e.seq FROM effects e WHERE e.settled_at < ?1 AND e.state <> 'waiting' \
         AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = e.id) \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.instance = e.instance AND d.id = e.delivery) \
         ORDER BY e.seq LIMIT ?2)",
        params![cutoff, CHUNK],
    )
}

fn credentials(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    clone::purge(tx, cutoff, CHUNK)
}

fn excerpts(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    excerpt::purge(tx, cutoff, CHUNK)
}

fn state(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM plugin_state WHERE expires_at <= ?1",
        params![cutoff],
    )
}

fn lanes(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM lanes WHERE ready_at IS NULL AND owner IS NULL AND touched_at < ?1",
        params![cutoff],
    )
}

fn heads(tx: &mut dyn Tx, cutoff: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "DELETE FROM heads WHERE head IS NULL AND known_at < ?1",
        params![cutoff],
    )
}

impl Store {
    /// Takes away what is older than it has to be kept, a little at a time.
    ///
    /// # Errors
    /// The store's; what was taken away before stays away.
    pub async fn purge(&self, now: Timestamp, ages: Ages) -> Result<Purged, StoreError> {
        let decisions = now.minus(ages.decisions.max(LEAST));
        let contents = now.minus(ages.contents);
        let tombstones = now.minus(ages.decisions.max(LEAST) + DAY);
        let blobs = self.purge_by(blobs, contents).await?;
        let headers = self.purge_by(headers, contents).await?;
        let orders = self.purge_by(orders, contents).await?;
        let excerpts = self.purge_by(excerpts, contents).await?;
        let deliveries = self.purge_by(deliveries, decisions).await?;
        let runs = self.purge_by(runs, decisions).await?;
        let effects = self.purge_by(effects, tombstones).await?;
        let plugins = self.purge_by(plugins, decisions).await?;
        let credentials = self.purge_by(credentials, contents).await?;
        Ok(Purged {
            blobs: blobs + plugins,
            contents: headers + orders + excerpts,
            deliveries,
            runs,
            effects,
            state: self.purge_once(state, now).await?,
            lanes: self.purge_once(lanes, now.minus(DAY)).await?,
            credentials,
            heads: self.purge_once(heads, now.minus(LEAST)).await?,
        })
    }

    async fn purge_by(&self, step: Step, cutoff: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let here = self.purge_once(step, cutoff).await?;
            gone += here;
            if here < u64::from(CHUNK) {
                return Ok(gone);
            }
        }
    }

    async fn purge_once(&self, step: Step, cutoff: Timestamp) -> Result<u64, StoreError> {
        self.write(move |tx| step(tx, cutoff)).await
    }
}
