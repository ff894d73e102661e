//! Small facts that outlive a process: how far something was looked through, and which process does what only one may do.

use std::time::Duration;

use penstock_model::id::Timestamp;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

/// Notes something under a name.
pub(crate) fn set(
    tx: &mut dyn Tx,
    name: &str,
    value: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO marks (name, value, noted_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, noted_at = excluded.noted_at",
        params![name, value, now],
    )
    .map(drop)
}

impl Store {
    /// What was last noted under a name, and when.
    ///
    /// # Errors
    /// The store's.
    pub async fn mark(&self, name: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
        let name = name.to_owned();
        self.read(move |tx| {
            tx.first(
                "SELECT value, noted_at FROM marks WHERE name = ?1",
                params![name.as_str()],
            )?
            .map(|mut row| Ok((row.text()?, row.time()?)))
            .transpose()
        })
        .await
    }

    /// Notes something under a name.
    ///
    /// # Errors
    /// The store's.
    pub async fn set_mark(
        &self,
        name: &str,
        value: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write(move |tx| set(tx, &name, &value, now)).await
    }

    /// Whether this worker is the one that does what only one may do: it takes the part if nobody has it, and keeps it for `ttl` from now on.
    ///
    /// # Errors
    /// The store's.
    pub async fn lease(
        &self,
        name: &str,
        worker: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (name, worker, until) = (name.to_owned(), worker.to_owned(), now.plus(ttl));
        self.write(move |tx| {
            let taken = tx.execute(
                "INSERT INTO leases (name, owner, until) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until \
                 WHERE leases.owner = excluded.owner OR leases.until <= ?4",
                params![name.as_str(), worker.as_str(), until, now],
            )?;
            Ok::<_, StoreError>(taken > 0)
        })
        .await
    }

    /// Gives a part back, so that another need not wait.
    ///
    /// # Errors
    /// The store's.
    pub async fn end_lease(&self, name: &str, worker: &str) -> Result<(), StoreError> {
        let (name, worker) = (name.to_owned(), worker.to_owned());
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM leases WHERE name = ?1 AND owner = ?2",
                params![name.as_str(), worker.as_str()],
            )
            .map(drop)
        })
        .await
    }
}
