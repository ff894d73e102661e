//! Works through the lanes of a queue: claims, renews, hands over, releases.
//!
//! The dispatch and act loops are this loop with different work. It knows nothing of what is in a lane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use penstock_model::id::Timestamp;
use penstock_store::{Claim, Drawn, Queue, Store, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fence::{self, Term};

/// How a queue is worked through.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// Which.
    pub queue: Queue,
    /// Who claims.
    pub worker: String,
    /// Lanes held at a time.
    pub at_once: u32,
    /// Of them by one tenant.
    pub per_tenant: u32,
    /// How long a claim holds without being renewed.
    pub ttl: Duration,
    /// How often is looked without a hint.
    pub poll: Duration,
    /// The least time between two draws: one draw for several lanes costs little more than one for one.
    pub gather: Duration,
    /// How long work may go on after the signal to stop.
    pub patience: Duration,
    /// What becomes of the claims of work that was cut off then.
    pub cut: After,
}

/// What becomes of a claim when its work returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing is left to do: others may have the lane at once.
    GiveBack,
    /// It could not go on (the store did not answer): others may have the lane in a second.
    GiveBackLater,
    /// It was given back in the transaction of the last answer.
    GivenBack,
    /// Something was begun whose end nobody knows: the claim ends by itself, and whoever has the lane then finds out.
    Lapse,
}

/// How long a lane rests that could not go on.
const REST: Duration = Duration::from_secs(1);

type Held = Arc<Mutex<HashMap<String, Claim>>>;

/// Works until `stop`, then finishes what is in hand or gives it back.
///
/// `draw` draws lanes of this queue, at most so many. `work` is given a claim with what is first in its lane, and returns when nothing is left to do in the lane, or when it was told to stop. Work that does not return in time is cut off; what
/// becomes of its claims then is what `cut` says.
pub async fn run<T, D, R, F, W>(
    store: Store,
    lanes: Lanes,
    stop: CancellationToken,
    draw: D,
    work: F,
) where
    D: Fn(u32) -> R,
    R: Future<Output = Result<Vec<Drawn<T>>, StoreError>>,
    F: Fn(Claim, T) -> W,
    W: Future<Output = After> + Send + 'static,
{
    let wake = store.wake(lanes.queue);
    let freed = Arc::new(Notify::new());
    let held: Held = Arc::default();
    let mut tasks = JoinSet::new();
    while !stop.is_cancelled() {
        while tasks.try_join_next().is_some() {}
        let begun = tokio::time::Instant::now();
        let free = lanes
            .at_once
            .saturating_sub(u32::try_from(tasks.len()).unwrap_or(u32::MAX));
        let drawn = match free {
            0 => Vec::new(),
            free => draw(free).await.unwrap_or_else(|error| {
                tracing::warn!(%error, queue = ?lanes.queue, "no lane could be claimed; looking again");
                Vec::new()
            }),
        };
        let full = u32::try_from(drawn.len()).unwrap_or(u32::MAX) >= free;
        let none = drawn.is_empty();
        for Drawn { claim, first } in drawn {
            let task = one(
                store.clone(),
                claim.clone(),
                lanes.ttl,
                Arc::clone(&held),
                work(claim, first),
            );
            let freed = Arc::clone(&freed);
            tasks.spawn(async move {
                task.await;
                freed.notify_one();
            });
        }
        if full && !none {
            // No hand is free: look again when one is.
            tokio::select! {
                () = stop.cancelled() => {}
                () = freed.notified() => {}
            }
        } else {
            tokio::select! {
                () = stop.cancelled() => {}
                () = wake.notified() => {}
                () = freed.notified() => {}
                () = tokio::time::sleep(lanes.poll) => {}
            }
        }
        tokio::time::sleep_until(begun + lanes.gather).await;
    }
    let finish = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(lanes.patience, finish).await.is_err() {
        tasks.shutdown().await;
        let left: Vec<Claim> = held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|(_, claim)| claim)
            .collect();
        tracing::warn!(lanes = left.len(), queue = ?lanes.queue, "left lanes that were not finished in time");
        for claim in left {
            leave(&store, claim, lanes.cut).await;
        }
    }
}

/// Works on one claim while renewing it, and gives it back.
async fn one(
    store: Store,
    claim: Claim,
    ttl: Duration,
    held: Held,
    work: impl Future<Output = After>,
) {
    let lane = claim.lane.clone();
    held.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(lane.clone(), claim.clone());
    // Since it was asked for: some of its time may be over.
    let left = claim.until.since(Timestamp::now()).min(ttl);
    let term = Term::new(Instant::now(), left);
    let lost = renew(&store, claim.clone(), ttl, &term);
    let ended = tokio::select! {
        after = fence::within(&term, work) => after.ok_or_else(|| "its time was over".to_owned()),
        why = lost => Err(why),
    };
    let after = ended.unwrap_or_else(|why| {
        // Another process may hold the lane now. Whatever was under way can't commit: every commit names the epoch.
        tracing::warn!(lane, why, "lost the claim on a lane");
        After::Lapse
    });
    held.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&lane);
    leave(&store, claim, after).await;
}

/// Renews at a third of the claim's time; resolves only when it is lost.
async fn renew(store: &Store, mut claim: Claim, ttl: Duration, term: &Term) -> String {
    loop {
        tokio::time::sleep(ttl / 3).await;
        let asked = Instant::now();
        match store.renew(&mut claim, ttl, Timestamp::now()).await {
            Ok(()) => term.extend(asked, ttl),
            Err(penstock_store::LaneError::Store(error)) if Timestamp::now() < claim.until => {
                tracing::warn!(%error, lane = claim.lane, "could not renew a claim; trying again");
            }
            Err(error) => return error.to_string(),
        }
    }
}

async fn leave(store: &Store, claim: Claim, after: After) {
    let now = Timestamp::now();
    let not_before = match after {
        After::GiveBack => None,
        After::GiveBackLater => Some(now.plus(REST)),
        After::GivenBack | After::Lapse => return,
    };
    let lane = claim.lane.clone();
    if let Err(error) = store.release(claim, not_before, now).await {
        tracing::debug!(%error, lane, "a claim was not given back; it ends by itself");
    }
}
