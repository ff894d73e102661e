//! Makes up for what GitLab did not tell: on start, after a gap, on a timer.
//!
//! GitLab sends nothing again by itself, and a hook that it disabled leaves nothing to list. So what failed is read back from the hook's log, and what
//! left no trace is found by comparing what is there with what was decided. One process does it at a time; all its calls give way to everything else.
//! What it can't make up for it says, in the log, in the metrics and in the store.

mod calls;
mod comments;
mod hooks;
mod known;
mod late;
mod lost;
mod round;
mod sweep;
mod unsettled;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_model::id::{InstanceName, ProjectId, Timestamp};
use tokio_util::sync::CancellationToken;

pub use self::known::decided_head;
pub use self::late::{FoundLately, stands_for, told_elsewhere};
pub use self::lost::{Unrecovered, unrecovered};

use self::round::Round;
use self::unsettled::{Due, Rounds, Unsettled};
use crate::host::Host;

/// The part that one process plays.
const LEASE: &str = "reconcile";
/// How long the part is somebody's who does not renew it.
const LEASE_TIME: Duration = Duration::from_secs(60);
/// How often it is renewed, and how often another process looks whether it is free.
const RENEW: Duration = Duration::from_secs(15);

/// What is remembered between two rounds. What is lost with the process is only seen again.
#[derive(Default)]
struct Memory {
    /// Differences that wait for a second look.
    unsettled: Unsettled,
    /// When rounds were made.
    rounds: Rounds,
    /// When each hook was tested.
    tested: HashMap<String, Instant>,
    /// When a call of each hook was sent again.
    resent: HashMap<String, Instant>,
    /// The project at which the last whole round of an instance was cut short.
    cut_at: HashMap<InstanceName, ProjectId>,
}

/// Reconciles until `stop`.
pub async fn run(host: Arc<Host>, stop: CancellationToken) {
    let mut memory = Memory::default();
    while !stop.is_cancelled() {
        let changed = host.changed();
        let pause = if is_ours(&host).await {
            tokio::select! {
                () = stop.cancelled() => break,
                // A round that is cut anywhere does no harm: each of its steps may be done again.
                () = lease_is_lost(&host) => {
                    tracing::warn!("another process reconciles now");
                    None
                }
                pause = work(&host, &mut memory) => Some(pause.min(RENEW)),
            }
        } else {
            None
        };
        if pause.is_none() {
            // Whoever has the part may be gone before its next round, and what was seen here may be settled by then.
            memory.rounds = Rounds::default();
            memory.unsettled = Unsettled::default();
            host.metrics.reconciles_no_more();
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = changed => {}
            () = tokio::time::sleep(pause.unwrap_or(RENEW)) => {}
        }
    }
    if let Err(error) = host.store.end_lease(LEASE, &host.worker).await {
        tracing::debug!(%error, "the part of reconciling runs out by itself");
    }
}

/// Takes the part or keeps it.
async fn is_ours(host: &Host) -> bool {
    let lease = host
        .store
        .lease(LEASE, &host.worker, LEASE_TIME, Timestamp::now());
    match lease.await {
        Ok(ours) => ours,
        Err(error) => {
            tracing::warn!(%error, "the store does not answer; nothing is reconciled");
            false
        }
    }
}

/// Renews the part while it can be renewed.
async fn lease_is_lost(host: &Host) {
    loop {
        tokio::time::sleep(RENEW).await;
        if !is_ours(host).await {
            return;
        }
    }
}

/// Makes the round that is due, if one is; how long until the next.
async fn work(host: &Arc<Host>, memory: &mut Memory) -> Duration {
    let live = host.live();
    let times = live.config.reconcile;
    memory
        .unsettled
        .only_instances(|name| live.instance(name).is_some());
    host.metrics.only_configured(
        |name| live.config.gitlab.iter().any(|it| it.name.as_str() == name),
        |name, hook| {
            let mut all = live.config.gitlab.iter();
            let of = all.find(|it| it.name.as_str() == name);
            of.is_some_and(|it| it.hooks.iter().any(|it| it.name.as_str() == hook))
        },
    );
    let due = |memory: &Memory| {
        let something = !memory.unsettled.is_empty();
        let now = Instant::now();
        memory.rounds.due(now, times.every, times.settle, something)
    };
    let now = due(memory);
    if let Due::In(pause) = now {
        return pause;
    }
    let begun = Instant::now();
    for config in &live.config.gitlab {
        let Some(instance) = live.instance(&config.name) else {
            continue;
        };
        let round = Round::new(host, &live, config, instance);
        match now {
            Due::Whole => round.whole(memory).await,
            Due::Heads | Due::In(_) => round.heads(memory).await,
        }
    }
    if now == Due::Whole {
        memory.rounds.whole = Some(begun);
    }
    memory.rounds.over = Some(Instant::now());
    match due(memory) {
        Due::In(pause) => pause,
        Due::Whole | Due::Heads => Duration::ZERO,
    }
}
