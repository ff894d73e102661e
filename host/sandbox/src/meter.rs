//! The guest's own time: what its thread computed for it, without what the host needed to answer and without waiting.
//!
//! Reading the thread's clock costs a system call, so a call that ends before the first tick is charged wall time, at most two ticks; from its first tick
//! on a call is charged what its thread really computed, and a busy machine can't make it look slow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use penstock_model::record::Failure;

use crate::stop::Stop;

/// `since` of a meter whose guest does not have the thread.
const PAUSED: u64 = u64::MAX;

/// Counts one call's time. Used by one thread at a time; shared, because the call and the future around it both need it.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    limit: Duration,
    tick: Duration,
    spent: AtomicU64,
    since: AtomicU64,
    since_on_thread: AtomicU64,
    ticked: AtomicBool,
    exact: AtomicBool,
}

impl Meter {
    pub(crate) fn new(limit: Duration, tick: Duration) -> Self {
        Self {
            began: Instant::now(),
            limit,
            tick,
            spent: AtomicU64::new(0),
            since: AtomicU64::new(PAUSED),
            since_on_thread: AtomicU64::new(0),
            ticked: AtomicBool::new(false),
            exact: AtomicBool::new(false),
        }
    }

    /// The guest gets the thread.
    pub(crate) fn resume(&self) {
        let exact = self.ticked.load(Relaxed);
        self.exact.store(exact, Relaxed);
        if exact {
            self.since_on_thread.store(thread_time(), Relaxed);
        }
        self.since.store(nanos(self.began.elapsed()), Relaxed);
    }

    /// The guest gives the thread back: to the host or to its neighbours.
    pub(crate) fn pause(&self) {
        self.spent.store(nanos(self.spent()), Relaxed);
        self.since.store(PAUSED, Relaxed);
    }

    /// What the guest has computed until now.
    pub(crate) fn spent(&self) -> Duration {
        let since = self.since.load(Relaxed);
        let running = if since == PAUSED {
            0
        } else if self.exact.load(Relaxed) {
            thread_time().saturating_sub(self.since_on_thread.load(Relaxed))
        } else {
            nanos(self.began.elapsed())
                .saturating_sub(since)
                .min(2 * nanos(self.tick))
        };
        Duration::from_nanos(self.spent.load(Relaxed).saturating_add(running))
    }

    /// Wall time since the call began.
    pub(crate) fn wall(&self) -> Duration {
        self.began.elapsed()
    }

    /// The guest has computed for so long that a tick came.
    pub(crate) fn has_ticked(&self) -> bool {
        self.ticked.load(Relaxed)
    }

    /// A tick came while the guest computed.
    pub(crate) fn tick(&self) -> Result<(), Stop> {
        self.ticked.store(true, Relaxed);
        if self.spent() <= self.limit {
            return Ok(());
        }
        Err(Stop::Failure(Failure::CpuExceeded {
            limit_ms: millis(self.limit),
        }))
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What this thread has computed since it began, in nanoseconds.
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_pause_and_resume_is_nobodys() {
        let meter = Meter::new(Duration::from_secs(1), Duration::from_millis(5));
        meter.resume();
        meter.pause();
        let before = meter.spent();
        std::hint::black_box((0..100_000).fold(0_u64, |a, b| a.wrapping_add(b)));
        assert_eq!(meter.spent(), before);
    }

    #[test]
    fn a_tick_after_the_limit_stops_the_call() {
        let meter = Meter::new(Duration::ZERO, Duration::from_millis(5));
        meter.resume();
        assert!(matches!(
            meter.tick(),
            Err(Stop::Failure(Failure::CpuExceeded { limit_ms: 0 }))
        ));
    }
}
