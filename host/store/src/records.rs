//! Decision records in numbers: what is needed to make many calls again.
//!
//! Records come as they are stored; whoever asks unpacks them on a thread of its own, by [`KeptRecord::open`], which also shows that nobody
//! changed them.

use penstock_model::id::{Digest, PluginName, RouteName, Timestamp};
use penstock_model::record::DecisionRecord;

use crate::backend::Tx;
use crate::backend::value::{Row, params};
use crate::blob;
use crate::delivery::DeliveryKey;
use crate::error::StoreError;
use crate::store::Store;

/// A plugin call that led to a decision, with its record as it is stored.
#[derive(Clone, Debug)]
pub struct KeptRecord {
    /// The delivery.
    pub delivery: DeliveryKey,
    /// When it was received.
    pub received_at: Timestamp,
    /// The route.
    pub route: RouteName,
    /// The attempt.
    pub attempt: u32,
    /// The plugin that was called.
    pub plugin: PluginName,
    /// Digest of its bytes.
    pub plugin_digest: Digest,
    /// Digest of the record's canonical encoding.
    pub digest: Digest,
    /// The record, packed; none: it has expired.
    packed: Option<Vec<u8>>,
}

impl KeptRecord {
    /// Bytes that the record takes in the store.
    pub fn stored_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, Vec::len)
    }

    /// The record; none: it has expired. Takes as long as unpacking and hashing do.
    ///
    /// # Errors
    /// It can't be read, or it is not what was stored.
    pub fn open(&self) -> Result<Option<DecisionRecord>, StoreError> {
        let Some(packed) = &self.packed else {
            return Ok(None);
        };
        let digest = self.digest;
        let bytes = blob::unpack(packed)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(StoreError::unreadable(format!(
                "record {digest} has the digest {found}: it was changed after it was stored"
            )));
        }
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StoreError::unreadable(format!("record {digest}: {error}")))
    }
}

/// Some records, and where the next are.
#[derive(Clone, Debug, Default)]
pub struct RecordPage {
    /// Of the newest deliveries first; within one by route and attempt.
    pub records: Vec<KeptRecord>,
    /// Give this to go on; none: there are no more.
    pub next: Option<u64>,
}

macro_rules! record_columns {
    () => {
        "d.instance, d.id, d.received_at, r.route, r.attempt, r.plugin, r.plugin_digest, r.record, b.content"
    };
}

/// None: a delivery without a call.
fn read(row: &mut Row) -> Result<Option<KeptRecord>, StoreError> {
    let delivery = DeliveryKey {
        instance: row.text()?.into(),
        id: row.text()?.into(),
    };
    let received_at = row.time()?;
    let (route, attempt) = (row.opt_text()?, row.opt_uint()?);
    let (plugin, plugin_digest, digest) = (row.opt_text()?, row.opt_digest()?, row.opt_digest()?);
    let (Some(route), Some(attempt), Some(plugin), Some(plugin_digest), Some(digest)) =
        (route, attempt, plugin, plugin_digest, digest)
    else {
        return Ok(None);
    };
    Ok(Some(KeptRecord {
        delivery,
        received_at,
        route: RouteName::new(route),
        attempt: u32::try_from(attempt)
            .map_err(|_| StoreError::unreadable("an attempt is no small number"))?,
        plugin: PluginName::new(plugin),
        plugin_digest,
        digest,
        packed: row.opt_bytes()?,
    }))
}

fn page(
    tx: &mut dyn Tx,
    since: Timestamp,
    plugin: Option<&PluginName>,
    before: Option<u64>,
    deliveries: u32,
) -> Result<RecordPage, StoreError> {
    // Pages are of deliveries, by their own key and newest first: no index is needed that every decision would pay for.
    let rows = tx.query(
        concat!(
            "SELECT d.seq, d.received_at, ",
            record_columns!(),
            " FROM (SELECT seq, instance, id, received_at FROM deliveries WHERE seq < ?1 \
             ORDER BY seq DESC LIMIT ?2) d \
             LEFT JOIN routes r ON r.instance = d.instance AND r.delivery = d.id AND r.record IS NOT NULL \
             AND (CAST(?3 AS TEXT) IS NULL OR r.plugin = ?3) \
             LEFT JOIN blobs b ON b.digest = r.record ORDER BY d.seq DESC, r.route, r.attempt"
        ),
        params![
            before.unwrap_or(i64::MAX.unsigned_abs()),
            deliveries,
            plugin.map(PluginName::as_str)
        ],
    )?;
    let mut found = RecordPage::default();
    let (mut last, mut seen, mut old) = (None, 0_u32, true);
    for mut row in rows {
        let (seq, received_at) = (row.uint()?, row.time()?);
        if last != Some(seq) {
            seen += 1;
            last = Some(seq);
        }
        if received_at >= since {
            old = false;
            found.records.extend(read(&mut row)?);
        }
    }
    // Deliveries are numbered nearly in the order in which they came: a whole page of older ones is the end.
    if seen == deliveries && !old {
        found.next = last;
    }
    Ok(found)
}

fn of_delivery(tx: &mut dyn Tx, key: &DeliveryKey) -> Result<Vec<KeptRecord>, StoreError> {
    let rows = tx.query(
        concat!(
            "SELECT ",
            record_columns!(),
            " FROM deliveries d JOIN routes r ON r.instance = d.instance AND r.delivery = d.id AND r.record IS NOT NULL \
             LEFT JOIN blobs b ON b.digest = r.record WHERE d.instance = ?1 AND d.id = ?2 ORDER BY r.position, r.route, r.attempt"
        ),
        params![key.instance.as_str(), key.id.as_str()],
    )?;
    rows.into_iter()
        .filter_map(|mut row| read(&mut row).transpose())
        .collect()
}

impl Store {
    /// Records of calls for deliveries that were received since then, newest first, a page at a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn records(
        &self,
        since: Timestamp,
        plugin: Option<&PluginName>,
        before: Option<u64>,
        deliveries: u32,
    ) -> Result<RecordPage, StoreError> {
        let plugin = plugin.cloned();
        self.read(move |tx| page(tx, since, plugin.as_ref(), before, deliveries))
            .await
    }

    /// Records of the calls for one delivery, by route and attempt.
    ///
    /// # Errors
    /// The store's.
    pub async fn records_of(&self, delivery: &DeliveryKey) -> Result<Vec<KeptRecord>, StoreError> {
        let delivery = delivery.clone();
        self.read(move |tx| of_delivery(tx, &delivery)).await
    }

    /// Says that these plugins are in use, so that their bytes outlive every decision to come; names those whose bytes are not there.
    ///
    /// # Errors
    /// The store's.
    pub async fn plugins_in_use(
        &self,
        plugins: Vec<Digest>,
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        self.write(move |tx| {
            let mut missing = Vec::new();
            for plugin in &plugins {
                let touched = tx.execute(
                    "UPDATE blobs SET touched_at = ?2 WHERE digest = ?1 AND plugin = 1",
                    params![plugin, now],
                )?;
                if touched == 0 {
                    missing.push(*plugin);
                }
            }
            Ok(missing)
        })
        .await
    }
}
