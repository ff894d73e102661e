//! Work under a claim goes on only while the claim holds.
//!
//! The store refuses commits of whoever lost a claim; this keeps such a one from acting outside the store. A process that stood still (stopped,
//! swapped out, its machine moved) wakes up in the middle of a step: each step asks first whether its time is over, so that a replica that
//! took over in the meantime is not joined by a second. What it can't take back is a request whose bytes were on their way before.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Until when a claim holds, by a clock that no step of the wall clock moves and that goes on while a process stands still.
#[derive(Clone, Debug)]
pub struct Term {
    /// Times are counted from here, in milliseconds.
    begun: Instant,
    ends: Arc<AtomicU64>,
}

impl Term {
    /// The term of a claim that holds for so long from `asked` on: from the asking, since nobody knows how long the answer took.
    pub fn new(asked: Instant, ttl: Duration) -> Self {
        let term = Self {
            begun: asked,
            ends: Arc::default(),
        };
        term.extend(asked, ttl);
        term
    }

    /// The claim was renewed by a request that was sent at `asked`.
    pub fn extend(&self, asked: Instant, ttl: Duration) {
        let ends = asked.duration_since(self.begun) + ttl;
        let ends = u64::try_from(ends.as_millis()).unwrap_or(u64::MAX);
        self.ends.fetch_max(ends, Ordering::Relaxed);
    }

    /// Others may hold the claim now.
    pub fn is_over(&self) -> bool {
        self.begun.elapsed().as_millis() >= u128::from(self.ends.load(Ordering::Relaxed))
    }
}

/// Does work step by step for as long as the term lasts; none: it was left in the middle.
pub async fn within<W: Future>(term: &Term, work: W) -> Option<W::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        if term.is_over() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_after_the_term_is_not_taken() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(31)).unwrap();
        let term = Term::new(long_ago, Duration::from_secs(30));
        let mut acted = false;
        let done = within(&term, async { acted = true }).await;
        assert_eq!((done, acted), (None, false));
        // Renewed in time, it goes on.
        term.extend(Instant::now(), Duration::from_secs(30));
        let done = within(&term, async { acted = true }).await;
        assert_eq!((done, acted), (Some(()), true));
    }

    #[tokio::test]
    async fn work_that_comes_back_after_its_term_is_left() {
        let term = Term::new(Instant::now(), Duration::from_millis(20));
        let (answer, waits) = tokio::sync::oneshot::channel();
        let mut acted = false;
        let work = async {
            waits.await.unwrap();
            acted = true;
        };
        let late = async {
            while !term.is_over() {
                tokio::task::yield_now().await;
            }
            // Refused if the work was left already, by a step that it took before this one.
            let _left = answer.send(());
        };
        let (done, ()) = tokio::join!(within(&term, work), late);
        assert_eq!((done, acted), (None, false));
    }
}
