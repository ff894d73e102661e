//! Gives room to runs that wait over a limit.
//!
//! Decides nothing itself: who goes first is the store's. Wakes when a run ended or began to wait in this process, when a second's
//! creations are over, and now and then for what other processes did.

use std::time::Duration;

use penstock_model::id::Timestamp;
use penstock_store::{Granted, Store};
use tokio_util::sync::CancellationToken;

/// How often is looked without a hint while something waits, and while nothing does.
const POLL: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(1);
/// Hints that come closer together than this are one.
const BREATH: Duration = Duration::from_millis(10);

/// Works until `stop`.
pub async fn run(store: Store, stop: CancellationToken) {
    let hint = store.room();
    while !stop.is_cancelled() {
        let now = Timestamp::now();
        let granted = match store.give_room(now).await {
            Ok(granted) => granted,
            Err(error) => {
                tracing::warn!(%error, "no room could be given to runs that wait; trying again");
                Granted {
                    waiting: true,
                    ..Granted::default()
                }
            }
        };
        if granted.granted > 0 {
            tracing::debug!(runs = granted.granted, "gave room to runs that waited");
        }
        if granted.more {
            continue;
        }
        let poll = if granted.waiting { POLL } else { IDLE };
        let pause = granted
            .again_at
            .map_or(poll, |at| at.since(now).clamp(BREATH, poll));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = hint.notified() => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(BREATH) => {}
                }
            }
        }
    }
}
