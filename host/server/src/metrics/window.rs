//! How many calls were made in the last minute.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const SECONDS: usize = 60;

/// Calls of the last minute, by the second.
#[derive(Debug)]
pub(super) struct Window {
    began: Instant,
    counts: Mutex<[(u64, u32); SECONDS]>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            counts: Mutex::new([(0, 0); SECONDS]),
        }
    }
}

impl Window {
    /// Counts a call.
    pub(super) fn add(&self) {
        self.add_at(self.began.elapsed().as_secs());
    }

    /// Calls of the last minute.
    pub(super) fn sum(&self) -> u32 {
        self.sum_at(self.began.elapsed().as_secs())
    }

    fn add_at(&self, second: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(second % SECONDS as u64).unwrap_or_default();
        let Some((of, count)) = counts.get_mut(place) else {
            return;
        };
        if *of != second {
            (*of, *count) = (second, 0);
        }
        *count = count.saturating_add(1);
    }

    fn sum_at(&self, second: u64) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .filter(|(of, _)| of + (SECONDS as u64) > second)
            .map(|(_, count)| count)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_for_a_minute() {
        let window = Window::default();
        for second in [1, 1, 30, 60] {
            window.add_at(second);
        }
        assert_eq!(window.sum_at(60), 4);
        assert_eq!(window.sum_at(61), 2);
        assert_eq!(window.sum_at(90), 1);
        window.add_at(121);
        assert_eq!(window.sum_at(121), 1);
    }
}
