//! Who may work on a lane.
//!
//! A claim is (owner, epoch, until). Every write under a claim finds it unchanged in its own transaction, or nothing is written.
//! Lanes are drawn round-robin over tenants, the one least recently served first, and no tenant holds more than its cap.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_model::id::{TenantName, Timestamp};

use crate::backend::Tx;
use crate::backend::dialect::{Sequence, guard, guard_key, next};
use crate::backend::value::params;
use crate::error::{LaneError, StoreError};
use crate::store::Store;
use crate::{dispatch, outbox};

/// Which loop's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Deliveries to decide.
    Dispatch,
    /// Effects to carry out.
    Act,
}

impl Queue {
    /// The word of the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Act => "act",
        }
    }
}

/// How much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Claims that one tenant may have at the same time, over all workers.
    pub per_tenant: u32,
}

/// The right to work on a lane until a time. It is given back with [`Store::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which loop's.
    pub queue: Queue,
    /// The lane's key, in the store's words.
    pub lane: String,
    /// Whose lane it is.
    pub tenant: Option<TenantName>,
    /// Who holds it.
    pub owner: String,
    /// Never the same for two claims.
    pub epoch: u64,
    /// When others may take it.
    pub until: Timestamp,
}

/// Says that a lane has something to do at a time, or sooner if it has.
pub(crate) fn wake_lane(
    tx: &mut dyn Tx,
    queue: Queue,
    lane: &str,
    tenant: &str,
    ready_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO lanes (queue, lane, tenant, ready_at, epoch, until, touched_at) VALUES (?1, ?2, ?3, ?4, 0, 0, ?5) \
         ON CONFLICT (queue, lane) DO UPDATE SET tenant = excluded.tenant, touched_at = excluded.touched_at, \
         ready_at = CASE WHEN lanes.ready_at < excluded.ready_at THEN lanes.ready_at ELSE excluded.ready_at END",
        params![queue.as_str(), lane, tenant, ready_at, now],
    )
    .map(drop)
}

/// Finds the claim as it was given, and holds its row until the transaction ends.
pub(crate) fn fence(tx: &mut dyn Tx, claim: &Claim, now: Timestamp) -> Result<(), LaneError> {
    let held = tx.first(
        "SELECT 1 FROM lanes WHERE queue = ?1 AND lane = ?2 AND owner = ?3 AND epoch = ?4 AND until > ?5 FOR UPDATE",
        params![
            claim.queue.as_str(),
            &claim.lane,
            &claim.owner,
            claim.epoch,
            now
        ],
    )?;
    match held {
        Some(_) => Ok(()),
        None => Err(LaneError::Fenced {
            lane: claim.lane.clone(),
        }),
    }
}

/// One draw.
struct Draw {
    queue: Queue,
    worker: String,
    until: Timestamp,
    per_tenant: u32,
    most: u32,
    now: Timestamp,
}

/// Tenants with something to do now, the one least recently served first.
fn tenants(tx: &mut dyn Tx, draw: &Draw) -> Result<Vec<String>, StoreError> {
    // One step in the index for each tenant, however many lanes it has.
    let rows = tx.query(
        "WITH RECURSIVE t (tenant) AS ( \
           SELECT min(l.tenant) FROM lanes l WHERE l.queue = ?1 AND l.ready_at IS NOT NULL \
           UNION ALL \
           SELECT (SELECT min(l.tenant) FROM lanes l WHERE l.queue = ?1 AND l.ready_at IS NOT NULL AND l.tenant > t.tenant) \
           FROM t WHERE t.tenant IS NOT NULL) \
         SELECT t.tenant FROM t LEFT JOIN turns s ON s.queue = ?1 AND s.tenant = t.tenant \
         WHERE t.tenant IS NOT NULL AND (SELECT min(l.ready_at) FROM lanes l \
           WHERE l.queue = ?1 AND l.tenant = t.tenant AND l.ready_at IS NOT NULL) <= ?2 \
         ORDER BY coalesce(s.served, 0), t.tenant",
        params![draw.queue.as_str(), draw.now],
    )?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

/// Live claims of each tenant.
fn live(tx: &mut dyn Tx, draw: &Draw) -> Result<BTreeMap<String, u32>, StoreError> {
    let rows = tx.query(
        "SELECT tenant, count(*) FROM lanes WHERE queue = ?1 AND owner IS NOT NULL AND until > ?2 GROUP BY tenant",
        params![draw.queue.as_str(), draw.now],
    )?;
    rows.into_iter()
        .map(|mut row| Ok((row.text()?, row.small()?)))
        .collect()
}

fn draw(tx: &mut dyn Tx, draw: &Draw) -> Result<Vec<Claim>, StoreError> {
    // The caps are kept over all workers: two draws at a time could each find room for one.
    guard(tx, guard_key(["claim", draw.queue.as_str()]))?;
    let mut tenants = tenants(tx, draw)?;
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let mut live = live(tx, draw)?;
    let mut claims = Vec::new();
    while !tenants.is_empty() && claims.len() < draw.most as usize {
        // One lane for each tenant in a round.
        let mut left = Vec::new();
        for tenant in tenants {
            let held = live.entry(tenant.clone()).or_default();
            if *held >= draw.per_tenant || claims.len() >= draw.most as usize {
                continue;
            }
            if let Some(claim) = take(tx, draw, &tenant)? {
                *held += 1;
                claims.push(claim);
                left.push(tenant);
            }
        }
        tenants = left;
    }
    Ok(claims)
}

/// Takes the lane of a tenant that has been ready for longest.
fn take(tx: &mut dyn Tx, draw: &Draw, tenant: &str) -> Result<Option<Claim>, StoreError> {
    let free = tx.first(
        "SELECT lane FROM lanes WHERE queue = ?1 AND tenant = ?2 AND ready_at IS NOT NULL AND ready_at <= ?3 \
         AND (owner IS NULL OR until <= ?3) ORDER BY ready_at, lane LIMIT 1 FOR UPDATE SKIP LOCKED",
        params![draw.queue.as_str(), tenant, draw.now],
    )?;
    let Some(mut row) = free else {
        return Ok(None);
    };
    let lane = row.text()?;
    let epoch = next(tx, Sequence::Epochs)?;
    tx.execute(
        "UPDATE lanes SET owner = ?3, epoch = ?4, until = ?5, touched_at = ?6 WHERE queue = ?1 AND lane = ?2",
        params![
            draw.queue.as_str(),
            &lane,
            &draw.worker,
            epoch,
            draw.until,
            draw.now
        ],
    )?;
    tx.execute(
        "INSERT INTO turns (queue, tenant, served) VALUES (?1, ?2, ?3) \
         ON CONFLICT (queue, tenant) DO UPDATE SET served = excluded.served",
        params![draw.queue.as_str(), tenant, epoch],
    )?;
    Ok(Some(Claim {
        queue: draw.queue,
        lane,
        tenant: (!tenant.is_empty()).then(|| TenantName::from(tenant)),
        owner: draw.worker.clone(),
        epoch,
        until: draw.until,
    }))
}

fn renew(
    tx: &mut dyn Tx,
    claim: &Claim,
    until: Timestamp,
    now: Timestamp,
) -> Result<(), LaneError> {
    fence(tx, claim, now)?;
    tx.execute(
        "UPDATE lanes SET until = ?3 WHERE queue = ?1 AND lane = ?2",
        params![claim.queue.as_str(), &claim.lane, until],
    )?;
    Ok(())
}

fn release(
    tx: &mut dyn Tx,
    claim: &Claim,
    not_before: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), LaneError> {
    fence(tx, claim, now)?;
    let ready_at = match claim.queue {
        Queue::Dispatch => dispatch::ready_at(tx, &claim.lane)?,
        Queue::Act => outbox::ready_at(tx, &claim.lane)?,
    };
    let ready_at = ready_at.map(|ready_at| ready_at.max(not_before.unwrap_or_default()));
    tx.execute(
        "UPDATE lanes SET owner = NULL, until = 0, ready_at = ?3, touched_at = ?4 WHERE queue = ?1 AND lane = ?2",
        params![claim.queue.as_str(), &claim.lane, ready_at, now],
    )?;
    Ok(())
}

impl Store {
    /// Draws lanes with something to do now, at most `most`, for `ttl`.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim(
        &self,
        queue: Queue,
        worker: &str,
        ttl: Duration,
        caps: Caps,
        most: u32,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        let drawing = Draw {
            queue,
            worker: worker.to_owned(),
            until: now.plus(ttl),
            per_tenant: caps.per_tenant,
            most,
            now,
        };
        self.write(move |tx| draw(tx, &drawing)).await
    }

    /// Keeps a claim for `ttl` from now on.
    ///
    /// # Errors
    /// It is no longer held, or the store's.
    pub async fn renew(
        &self,
        claim: &mut Claim,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        let (held, until) = (claim.clone(), now.plus(ttl));
        self.write(move |tx| renew(tx, &held, until, now)).await?;
        claim.until = until;
        Ok(())
    }

    /// Gives a lane back. When it is ready again follows from what waits in it; `not_before` can only put that off.
    ///
    /// # Errors
    /// It is no longer held, or the store's.
    pub async fn release(
        &self,
        claim: Claim,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), LaneError> {
        self.write(move |tx| release(tx, &claim, not_before, now))
            .await
    }
}
