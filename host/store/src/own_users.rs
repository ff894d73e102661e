//! The GitLab users that Penstock acts as, or once acted as: what an earlier one wrote is Penstock's own still.

use std::collections::BTreeSet;

use penstock_model::id::{InstanceName, Timestamp, UserId};

use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Keeps whom the token of an instance belongs to now, and gives all that it ever belonged to.
    ///
    /// # Errors
    /// The store's.
    pub async fn own_user(
        &self,
        instance: &InstanceName,
        user: UserId,
        now: Timestamp,
    ) -> Result<BTreeSet<UserId>, StoreError> {
        let instance = instance.clone();
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO own_users (instance, id, since) VALUES (?1, ?2, ?3) ON CONFLICT (instance, id) DO NOTHING",
                params![instance.as_str(), user.0, now],
            )?;
            let rows = tx.query(
                "SELECT id FROM own_users WHERE instance = ?1",
                params![instance.as_str()],
            )?;
            rows.into_iter()
                .map(|mut row| row.uint().map(UserId))
                .collect()
        })
        .await
    }
}
