//! The ends of failed steps' logs, each beside its run. Whoever keeps one has masked and cut it; it goes when contents go.

use penstock_model::id::{EffectId, Timestamp};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

/// Takes the oldest excerpts away, at most so many.
pub(crate) fn purge(tx: &mut dyn Tx, cutoff: Timestamp, most: u32) -> Result<u64, StoreError> {
    tx.execute(
        "UPDATE runs SET log_excerpt = NULL WHERE id IN (SELECT id FROM runs WHERE finished = 1 AND finished_at < ?1 \
         AND log_excerpt IS NOT NULL LIMIT ?2)",
        params![cutoff, most],
    )
}

impl Store {
    /// Keeps the end of the failed step's log of a run, if none is kept yet; says whether it was.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_excerpt(&self, run: &EffectId, excerpt: &str) -> Result<bool, StoreError> {
        let (id, excerpt) = (run.hex(), excerpt.to_owned());
        self.write(move |tx| {
            tx.execute(
                "UPDATE runs SET log_excerpt = ?2 WHERE id = ?1 AND log_excerpt IS NULL",
                params![&id, &excerpt],
            )
            .map(|rows| rows > 0)
        })
        .await
    }
}
