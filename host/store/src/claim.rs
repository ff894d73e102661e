//! Who may work on a lane.
//!
//! A claim is (owner, epoch, until). Every write under a claim finds it unchanged in its own transaction, or nothing is written.
//! A lane is drawn for the tenant that holds the fewest, round-robin among equals, and no tenant holds more than its cap. A draw costs as much as it draws, however
//! many tenants wait: while a lane is held its `ready_at` is the end of its claim, so that draws don't walk over it until something more comes for it.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_model::id::{TenantName, Timestamp};

use crate::backend::Tx;
use crate::backend::dialect::{Dialect, Sequence, guard, guard_key, next};
use crate::backend::value::{Row, params};
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
pub(crate) struct Draw {
    queue: Queue,
    worker: String,
    until: Timestamp,
    per_tenant: u32,
    most: u32,
    /// The tenant that was served last.
    after: String,
    pub(crate) now: Timestamp,
}

impl Draw {
    pub(crate) fn of(
        store: &Store,
        queue: Queue,
        worker: &str,
        ttl: Duration,
        caps: Caps,
        most: u32,
        now: Timestamp,
    ) -> Self {
        Self {
            queue,
            worker: worker.to_owned(),
            until: now.plus(ttl),
            per_tenant: caps.per_tenant,
            most,
            after: store.served(queue),
            now,
        }
    }
}

/// Tenants with something to do now, in the order of their names. One step in the index for each, however many lanes it has.
macro_rules! tenants_sql {
    ($bound:literal) => {
        concat!(
            "WITH RECURSIVE t (tenant) AS ( \
               SELECT min(l.tenant) FROM lanes l WHERE l.queue = ?1 AND l.ready_at IS NOT NULL AND ",
            $bound,
            " UNION ALL \
               SELECT (SELECT min(l.tenant) FROM lanes l WHERE l.queue = ?1 AND l.ready_at IS NOT NULL AND l.tenant > t.tenant) \
               FROM t WHERE t.tenant IS NOT NULL) \
             SELECT t.tenant FROM t WHERE t.tenant IS NOT NULL AND (SELECT min(l.ready_at) FROM lanes l \
               WHERE l.queue = ?1 AND l.tenant = t.tenant AND l.ready_at IS NOT NULL) <= ?2 LIMIT ?4"
        )
    };
}

/// Tenants with something to do now, beginning after the one that was served last and once around; at most so many.
fn tenants(tx: &mut dyn Tx, draw: &Draw, most: usize) -> Result<Vec<String>, StoreError> {
    let queue = draw.queue.as_str();
    if tx.dialect() == Dialect::Sqlite {
        return step_by_step(tx, draw, most);
    }
    let texts = |rows: Vec<Row>| {
        let texts = rows.into_iter().map(|mut row| row.text());
        let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
        texts.sort_unstable();
        Ok::<_, StoreError>(texts)
    };
    let mut tenants = texts(tx.query(
        tenants_sql!("l.tenant > ?3"),
        params![queue, draw.now, &draw.after, most],
    )?)?;
    if tenants.len() < most {
        let first = texts(tx.query(
            tenants_sql!("l.tenant >= ?3"),
            params![queue, draw.now, "", most - tenants.len()],
        )?)?;
        tenants.extend(first.into_iter().filter(|tenant| *tenant <= draw.after));
    }
    Ok(tenants)
}

/// The same where a statement costs little, and a recursive one much: SQLite makes a table of its own for each run of one.
fn step_by_step(tx: &mut dyn Tx, draw: &Draw, most: usize) -> Result<Vec<String>, StoreError> {
    const NEXT: &str = "SELECT tenant FROM lanes WHERE queue = ?1 AND ready_at IS NOT NULL AND tenant > ?2 ORDER BY tenant LIMIT 1";
    const FIRST: &str = "SELECT tenant FROM lanes WHERE queue = ?1 AND ready_at IS NOT NULL ORDER BY tenant LIMIT 1";
    const DUE: &str = "SELECT 1 FROM lanes WHERE queue = ?1 AND tenant = ?2 AND ready_at IS NOT NULL AND ready_at <= ?3 LIMIT 1";
    let queue = draw.queue.as_str();
    let mut due = Vec::new();
    let mut around = false;
    let mut row = tx.first(NEXT, params![queue, &draw.after])?;
    while due.len() < most {
        let tenant = match row {
            Some(mut row) => row.text()?,
            None if around => break,
            None => {
                around = true;
                row = tx.first(FIRST, params![queue])?;
                if row.is_none() {
                    break;
                }
                continue;
            }
        };
        if around && tenant > draw.after {
            break;
        }
        if tx.first(DUE, params![queue, &tenant, draw.now])?.is_some() {
            due.push(tenant.clone());
        }
        row = tx.first(NEXT, params![queue, &tenant])?;
    }
    Ok(due)
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

/// What a lane has first.
pub(crate) enum First<T> {
    /// It is due.
    Due(T),
    /// Nothing is due before this; none: nothing waits.
    NotBefore(Option<Timestamp>),
}

/// A lane that was drawn, with the first thing to do in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn<T> {
    /// The right to work on it.
    pub claim: Claim,
    /// What is due first.
    pub first: T,
}

/// Draws lanes, and with each what `look` finds in it; also says which tenant was served last. A lane with nothing due is put
/// right and not drawn.
pub(crate) fn draw<T>(
    tx: &mut dyn Tx,
    draw: &Draw,
    look: impl Fn(&mut dyn Tx, &Claim) -> Result<First<T>, StoreError>,
) -> Result<(Vec<Drawn<T>>, String), StoreError> {
    // The caps are kept over all workers: two draws at a time could each find room for one.
    guard(tx, guard_key(["claim", draw.queue.as_str()]))?;
    let mut live = live(tx, draw)?;
    // Some may be at their cap, or have all their lanes in work.
    let mut tenants = tenants(tx, draw, draw.most as usize + live.len())?;
    let mut drawn = Vec::new();
    let mut after = draw.after.clone();
    while drawn.len() < draw.most as usize {
        // Among equals the first, and who was served goes to the end: round-robin.
        let held = |tenant: &String| live.get(tenant).copied().unwrap_or_default();
        let fewest = tenants
            .iter()
            .enumerate()
            .min_by_key(|(_, tenant)| held(tenant))
            .filter(|(_, tenant)| held(tenant) < draw.per_tenant);
        let Some((at, _)) = fewest else {
            break;
        };
        let tenant = tenants.remove(at);
        let Some(claim) = take(tx, draw, &tenant)? else {
            continue;
        };
        after.clone_from(&tenant);
        match look(tx, &claim) {
            Ok(First::Due(first)) => {
                *live.entry(tenant.clone()).or_default() += 1;
                drawn.push(Drawn { claim, first });
            }
            Ok(First::NotBefore(ready_at)) => give_back(tx, &claim, ready_at, draw.now)?,
            Err(error @ StoreError::Unreadable { .. }) => rest(&claim, &error),
            Err(error) => return Err(error),
        }
        tenants.push(tenant);
    }
    Ok((drawn, after))
}

/// What can't be read holds up its own lane alone: the claim stays and ends by itself, and then it is looked at again.
fn rest(claim: &Claim, error: &StoreError) {
    tracing::error!(%error, lane = claim.lane, "what a lane has first can't be read; the lane rests");
}

/// Takes what was drawn out of its packing.
pub(crate) fn unpacked<P, T>(
    drawn: Vec<Drawn<P>>,
    read: impl Fn(P) -> Result<T, StoreError>,
) -> Vec<Drawn<T>> {
    drawn
        .into_iter()
        .filter_map(|Drawn { claim, first }| match read(first) {
            Ok(first) => Some(Drawn { claim, first }),
            Err(error) => {
                rest(&claim, &error);
                None
            }
        })
        .collect()
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
        "UPDATE lanes SET owner = ?3, epoch = ?4, until = ?5, ready_at = ?5, touched_at = ?6 WHERE queue = ?1 AND lane = ?2",
        params![
            draw.queue.as_str(),
            &lane,
            &draw.worker,
            epoch,
            draw.until,
            draw.now
        ],
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

/// Gives a lane back whose claim was found unchanged in this transaction.
pub(crate) fn give_back(
    tx: &mut dyn Tx,
    claim: &Claim,
    ready_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE lanes SET owner = NULL, until = 0, ready_at = ?3, touched_at = ?4 WHERE queue = ?1 AND lane = ?2",
        params![claim.queue.as_str(), &claim.lane, ready_at, now],
    )
    .map(drop)
}

/// What becomes of a lane after an answer, in the answer's own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays with its worker, who goes on by itself.
    Stay,
    /// What is due next is taken up; where nothing is, the lane is given back.
    GoOn,
    /// It is given back, whatever waits in it.
    GiveBack,
}

/// What became of a lane after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Onward<T> {
    /// Its worker has it.
    Stays,
    /// Its worker has it, and this to do.
    Next(T),
    /// It was given back.
    GivenBack,
}

/// Does with a lane what was asked for, under a claim that was found unchanged in this transaction.
pub(crate) fn go_on<T>(
    tx: &mut dyn Tx,
    claim: &Claim,
    then: Then,
    now: Timestamp,
    look: impl Fn(&mut dyn Tx, &Claim) -> Result<First<T>, StoreError>,
) -> Result<Onward<T>, StoreError> {
    let ready_at = match then {
        Then::Stay => return Ok(Onward::Stays),
        Then::GoOn => match look(tx, claim)? {
            First::Due(next) => return Ok(Onward::Next(next)),
            First::NotBefore(ready_at) => ready_at,
        },
        Then::GiveBack => ready_at(tx, claim)?,
    };
    give_back(tx, claim, ready_at, now)?;
    Ok(Onward::GivenBack)
}

/// Takes what is next out of its packing. The answer before it is committed: that what follows can't be read is no failure of it.
pub(crate) fn opened<P, T>(
    claim: &Claim,
    onward: Onward<P>,
    open: impl Fn(P) -> Result<T, StoreError>,
) -> Onward<T> {
    match onward {
        Onward::Stays => Onward::Stays,
        Onward::GivenBack => Onward::GivenBack,
        Onward::Next(packed) => match open(packed) {
            Ok(next) => Onward::Next(next),
            Err(error) => {
                rest(claim, &error);
                Onward::GivenBack
            }
        },
    }
}

fn ready_at(tx: &mut dyn Tx, claim: &Claim) -> Result<Option<Timestamp>, StoreError> {
    match claim.queue {
        Queue::Dispatch => dispatch::ready_at(tx, &claim.lane),
        Queue::Act => outbox::ready_at(tx, &claim.lane),
    }
}

fn renew(
    tx: &mut dyn Tx,
    claim: &Claim,
    until: Timestamp,
    now: Timestamp,
) -> Result<(), LaneError> {
    fence(tx, claim, now)?;
    tx.execute(
        "UPDATE lanes SET until = ?3, ready_at = ?3 WHERE queue = ?1 AND lane = ?2",
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
    let ready_at = ready_at(tx, claim)?;
    let ready_at = ready_at.map(|ready_at| ready_at.max(not_before.unwrap_or_default()));
    give_back(tx, claim, ready_at, now)?;
    Ok(())
}

/// Frees the lanes that another process held. Only for whoever knows that no other process is at work.
pub(crate) fn take_over(tx: &mut dyn Tx, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute("DELETE FROM leases", params![])?;
    tx.execute(
        "UPDATE lanes SET owner = NULL, until = 0, ready_at = ?1 WHERE owner IS NOT NULL",
        params![now],
    )
}

impl Store {
    /// Draws lanes and looks at nothing in them.
    #[cfg(test)]
    pub(crate) async fn claim(
        &self,
        queue: Queue,
        worker: &str,
        ttl: Duration,
        caps: Caps,
        most: u32,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        let drawing = Draw::of(self, queue, worker, ttl, caps, most, now);
        let (drawn, after) = self
            .write(move |tx| draw(tx, &drawing, |_, _| Ok(First::Due(()))))
            .await?;
        self.serve(queue, after);
        Ok(drawn.into_iter().map(|it| it.claim).collect())
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
        self.write_for(claim, move |tx| renew(tx, &held, until, now))
            .await?;
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
        let held = claim.clone();
        self.write_for(&claim, move |tx| release(tx, &held, not_before, now))
            .await
    }
}
