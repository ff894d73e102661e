//! What was ordered for a delivery that was given up before it had routes is taken back when it is routed after all.
//!
//! What takes an order back is the caller's to say; it follows in the lane of what it takes back, so it comes after it.

use penstock_model::admit::Order;
use penstock_model::id::Timestamp;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::claim::Queue;
use crate::delivery::DeliveryKey;
use crate::error::StoreError;
use crate::outbox::{Origin, enqueue, read_order};
use crate::store::Store;

fn take_back(
    tx: &mut dyn Tx,
    key: &DeliveryKey,
    by: fn(&Order) -> Option<Order>,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let rows = tx.query(
        "SELECT id, content FROM effects WHERE instance = ?1 AND delivery = ?2 AND route = '' AND content IS NOT NULL \
         ORDER BY seq",
        params![key.instance.as_str(), key.id.as_str()],
    )?;
    let mut back = Vec::new();
    for mut row in rows {
        let id = row.text()?;
        back.extend(by(&read_order(&row.bytes()?, &id)?));
    }
    if !back.is_empty() {
        let origin = Origin::of_delivery(tx, key)?;
        enqueue(tx, &back, &origin, now)?;
    }
    Ok(back.len())
}

impl Store {
    /// Puts in what takes back the orders that a delivery has of its own and of no route: `by` says what, of each. To do it
    /// again changes nothing. How many there are.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_back(
        &self,
        key: &DeliveryKey,
        by: fn(&Order) -> Option<Order>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let key = key.clone();
        let count = self.write(move |tx| take_back(tx, &key, by, now)).await?;
        if count > 0 {
            self.hint(Queue::Act);
        }
        Ok(count)
    }
}
