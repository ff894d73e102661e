//! How much is kept: past a size the oldest contents go, whatever their age.
//!
//! Takes away bodies and records alone. What still waits to be decided keeps its body, a plugin stays as long as a decision names it, and deliveries,
//! decisions and digests stay as long as their age allows.

use penstock_model::id::Timestamp;

use crate::backend::Tx;
use crate::backend::dialect::Dialect;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

/// Rows that one transaction takes away: others must not wait long.
const CHUNK: u32 = 500;

/// What came of [`Store::shrink`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrunk {
    /// Bodies and records that were taken away.
    pub blobs: u64,
    /// Bytes that they took, packed.
    pub freed: u64,
    /// Bytes in use before.
    pub used: u64,
    /// Bytes over the limit that could not be freed: they belong to what waits or to decisions themselves.
    pub over: u64,
}

/// Bytes in use. SQLite keeps the pages of what was deleted and fills them again, so they don't count. Postgres frees pages when it
/// vacuums, at a time of its own, so there the contents themselves are summed up, without being read.
fn in_use(tx: &mut dyn Tx) -> Result<u64, StoreError> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => {
            "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
        }
        Dialect::Postgres => {
            "SELECT CAST(COALESCE(SUM(octet_length(content)), 0) AS BIGINT) FROM blobs"
        }
    };
    tx.first(sql, &[])?
        .ok_or_else(|| StoreError::unreadable("the size of what is stored is missing"))?
        .uint()
}

/// Takes the oldest contents away that nothing waits for, until so many bytes are free. Gives how many there were and what they took.
fn oldest(tx: &mut dyn Tx, wanted: u64, now: Timestamp) -> Result<(u64, u64), StoreError> {
    let rows = tx.query(
        "SELECT b.digest, length(b.content) FROM blobs b WHERE b.plugin = 0 AND b.touched_at <= ?1 \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.body = b.digest AND d.outcome = 'waiting') \
         ORDER BY b.touched_at LIMIT ?2 FOR UPDATE",
        params![now, CHUNK],
    )?;
    let (mut gone, mut freed) = (0, 0);
    for mut row in rows {
        if freed >= wanted {
            break;
        }
        let (digest, bytes) = (row.digest()?, row.uint()?);
        gone += tx.execute("DELETE FROM blobs WHERE digest = ?1", params![&digest])?;
        freed += bytes;
    }
    Ok((gone, freed))
}

impl Store {
    /// Takes the oldest contents away, a little at a time, until no more than this is in use.
    ///
    /// # Errors
    /// The store's; what was taken away before stays away.
    pub async fn shrink(&self, limit: u64, now: Timestamp) -> Result<Shrunk, StoreError> {
        let used = self.read(in_use).await?;
        let mut shrunk = Shrunk {
            used,
            over: used.saturating_sub(limit),
            ..Shrunk::default()
        };
        // Measured again after each round: what was freed is not to the byte what the database has less.
        while shrunk.over > 0 {
            let before = shrunk.blobs;
            self.free(shrunk.over, &mut shrunk, now).await?;
            if shrunk.blobs == before {
                break;
            }
            shrunk.over = self.read(in_use).await?.saturating_sub(limit);
        }
        Ok(shrunk)
    }

    async fn free(
        &self,
        wanted: u64,
        shrunk: &mut Shrunk,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut left = wanted;
        while left > 0 {
            let (gone, freed) = self.write(move |tx| oldest(tx, left, now)).await?;
            if gone == 0 {
                break;
            }
            shrunk.blobs += gone;
            shrunk.freed += freed;
            left = left.saturating_sub(freed);
        }
        Ok(())
    }
}
