//! Who may call GitLab next: one budget for each token, shared fairly.
//!
//! Rules, each a lock that is given out in the order of asking:
//!
//! - the token: so many calls a minute, and so many at once;
//! - the project: only one of its calls waits for the token's next turn, the others wait behind it. So projects take turns, and
//!   one that wants more than its share waits while the others don't. And no project has more than a quarter of the calls under
//!   way: one whose calls hang leaves room for the others';
//! - background work: only while nobody else waits, and never more than a quarter of the calls.
//!
//! When GitLab's own limiter refused the token as a whole, nothing is sent until the time that it named.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use penstock_model::id::ProjectId;
use tokio::sync::{Mutex as Gate, Notify, OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Calls under way at the same time, for one token.
const AT_ONCE: usize = 32;

/// Of them by one project.
const AT_ONCE_OF_ONE: usize = AT_ONCE / 4;

/// Longest wait for a turn; after it the caller is told to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much somebody's call matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Foreground,
    Background,
}

/// The budget of one token.
pub(crate) struct Budget {
    calls: DefaultDirectRateLimiter,
    background_calls: DefaultDirectRateLimiter,
    turn: Gate<()>,
    background_turn: Gate<()>,
    projects: Gates<Option<ProjectId>>,
    shares: Gates<Option<ProjectId>, Semaphore>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    calm: Notify,
    paused_until: Mutex<Option<Instant>>,
}

impl Budget {
    pub(crate) fn new(calls_per_minute: u32) -> Self {
        let quota = |calls: u32| {
            let calls = NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN);
            // A tenth of a minute's calls may come at once: with a budget of 80 % the minute's limit still holds.
            let burst = NonZeroU32::new(calls.get() / 10).unwrap_or(NonZeroU32::MIN);
            Quota::per_minute(calls).allow_burst(burst)
        };
        Self {
            calls: RateLimiter::direct(quota(calls_per_minute)),
            background_calls: RateLimiter::direct(quota(calls_per_minute / 4)),
            turn: Gate::new(()),
            background_turn: Gate::new(()),
            projects: Gates::default(),
            shares: Gates::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
            calm: Notify::new(),
            paused_until: Mutex::new(None),
        }
    }

    /// Calls in the foreground that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Waits for a turn. The permit is held while the call is under way.
    pub(crate) async fn turn(
        &self,
        project: Option<ProjectId>,
        priority: Priority,
    ) -> Result<Permit, ApiError> {
        self.check_pause()?;
        let shares = self.shares.get(project, || Semaphore::new(AT_ONCE_OF_ONE));
        let share = || async {
            let calls = Arc::clone(&shares).acquire_owned().await;
            calls.map_err(|_| ApiError::unavailable("the client is shut"))
        };
        let turn = async {
            match priority {
                Priority::Foreground => {
                    let _counted = Waiting::new(self);
                    let gate = self.projects.gate(project);
                    let _project = gate.lock().await;
                    let share = share().await?;
                    self.next(share).await
                }
                Priority::Background => {
                    let _background = self.background_turn.lock().await;
                    self.background_calls.until_ready().await;
                    self.until_calm().await;
                    let share = share().await?;
                    self.next(share).await
                }
            }
        };
        let permit = tokio::time::timeout(PATIENCE, turn).await;
        let permit = permit
            .map_err(|_| ApiError::unavailable("the token's budget of calls is used up"))??;
        self.check_pause()?;
        Ok(permit)
    }

    async fn next(&self, share: OwnedSemaphorePermit) -> Result<Permit, ApiError> {
        let _turn = self.turn.lock().await;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| ApiError::unavailable("the client is shut"))?;
        self.calls.until_ready().await;
        Ok(Permit {
            _slot: slot,
            _share: share,
        })
    }

    async fn until_calm(&self) {
        loop {
            let calm = self.calm.notified();
            if self.waiting.load(Ordering::SeqCst) == 0 {
                return;
            }
            calm.await;
        }
    }

    /// GitLab refused the token as a whole.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut paused = self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |held| held.max(until)));
    }

    fn check_pause(&self) -> Result<(), ApiError> {
        let paused = *self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = paused.map(|until| until.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(ApiError::Unavailable {
                what: "it refused this token's calls for a while".to_owned(),
                retry_after: Some(left),
            }),
            None => Ok(()),
        }
    }
}

/// The right to one call.
pub(crate) struct Permit {
    _slot: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
}

/// Counts somebody in the foreground who waits, however the wait ends.
struct Waiting<'a>(&'a Budget);

impl<'a> Waiting<'a> {
    fn new(budget: &'a Budget) -> Self {
        budget.waiting.fetch_add(1, Ordering::SeqCst);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.calm.notify_waiters();
        }
    }
}

/// A lock for each key, made when it is asked for and gone when nobody holds it.
pub(crate) struct Gates<K, G = Gate<()>>(Mutex<HashMap<K, Weak<G>>>);

impl<K, G> Default for Gates<K, G> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> Gates<K> {
    pub(crate) fn gate(&self, key: K) -> Arc<Gate<()>> {
        self.get(key, || Gate::new(()))
    }
}

impl<K: Eq + Hash, G> Gates<K, G> {
    fn get(&self, key: K, make: impl FnOnce() -> G) -> Arc<G> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(&key).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= 256 {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(make());
        gates.insert(key, Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    #[tokio::test]
    async fn a_project_that_wants_much_does_not_hold_up_the_others() {
        let budget = Arc::new(Budget::new(3000));
        let order = Arc::new(Mutex::new(Vec::new()));
        let call = |project: u64| {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            async move {
                let _permit = budget
                    .turn(Some(ProjectId(project)), Priority::Foreground)
                    .await
                    .unwrap();
                order.lock().unwrap().push(project);
            }
        };
        // All ask at one time. More of the first project than are let go at once, so that the others have to wait for their turn.
        let mut calls: Vec<_> = (0..400).map(|_| call(0)).collect();
        calls.extend((0..40).map(|_| call(1)));
        calls.push(call(2));
        join_all(calls).await;
        let order = order.lock().unwrap();
        let before = order.iter().take_while(|project| **project != 2);
        let late = before.filter(|project| **project == 1).count();
        assert!(late <= 3, "the quiet project's call came {late} calls late");
    }

    #[tokio::test]
    async fn a_project_whose_calls_hang_leaves_room_for_the_others() {
        let budget = Arc::new(Budget::new(60_000));
        let call = |project| budget.turn(Some(ProjectId(project)), Priority::Foreground);
        let hanging = join_all((0..AT_ONCE_OF_ONE).map(|_| call(1))).await;
        // Many more wait, and hold up nobody but themselves.
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let budget = Arc::clone(&budget);
                tokio::spawn(async move {
                    let project = Some(ProjectId(1));
                    budget.turn(project, Priority::Foreground).await.map(drop)
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let others = join_all((2..10).map(call)).await;
        assert!(others.iter().all(Result::is_ok));
        assert!(waiting.iter().all(|call| !call.is_finished()));
        drop(hanging);
        for call in waiting {
            call.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn background_calls_that_hang_leave_the_foreground_its_turns() {
        let budget = Budget::new(60_000);
        let call = |project, priority| budget.turn(Some(ProjectId(project)), priority);
        let hanging = join_all((0..AT_ONCE_OF_ONE).map(|_| call(1, Priority::Background))).await;
        assert!(hanging.iter().all(Result::is_ok));
        // One more in the background waits for its share, and nobody waits for it.
        let more = call(1, Priority::Background);
        let more = tokio::time::timeout(Duration::from_millis(50), more).await;
        assert!(more.is_err());
        assert!(call(2, Priority::Foreground).await.is_ok());
    }

    #[tokio::test]
    async fn background_work_waits_until_nobody_else_does() {
        let budget = Arc::new(Budget::new(3000));
        let order = Arc::new(Mutex::new(Vec::new()));
        let call = |priority: Priority| {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            async move {
                let _permit = budget.turn(Some(ProjectId(1)), priority).await.unwrap();
                order.lock().unwrap().push(priority);
            }
        };
        // All ask at one time, and more than are let go at once: when the background asks, others wait.
        let mut calls: Vec<_> = (0..400).map(|_| call(Priority::Foreground)).collect();
        calls.push(call(Priority::Background));
        calls.extend((0..20).map(|_| call(Priority::Foreground)));
        join_all(calls).await;
        assert_eq!(order.lock().unwrap().last(), Some(&Priority::Background));
    }

    #[tokio::test]
    async fn a_pause_is_told_and_ends() {
        let budget = Budget::new(6000);
        budget.pause(Duration::from_secs(300));
        budget.pause(Duration::from_secs(1));
        let refused = budget.turn(None, Priority::Foreground).await;
        let wait = refused.err().and_then(|error| error.retry_after()).unwrap();
        assert!(wait > Duration::from_secs(200), "{wait:?}");
        *budget.paused_until.lock().unwrap() = Some(Instant::now());
        assert!(budget.turn(None, Priority::Foreground).await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_holds_nobody_up() {
        let budget = Budget::new(3000);
        for _ in 0..100 {
            let turn = budget.turn(Some(ProjectId(1)), Priority::Foreground);
            let _ = tokio::time::timeout(Duration::ZERO, turn).await;
        }
        assert_eq!(budget.waiting.load(Ordering::SeqCst), 0);
        assert!(
            budget
                .turn(Some(ProjectId(2)), Priority::Background)
                .await
                .is_ok()
        );
    }

    #[test]
    fn gates_of_the_same_key_are_one_and_unused_ones_go() {
        let gates = Gates::default();
        let one = gates.gate(1);
        assert!(Arc::ptr_eq(&one, &gates.gate(1)));
        for key in 2..2000 {
            gates.gate(key);
        }
        assert!(gates.0.lock().unwrap().len() <= 257);
        assert!(Arc::ptr_eq(&one, &gates.gate(1)));
    }
}
