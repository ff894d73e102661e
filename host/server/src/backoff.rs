//! When something that failed is tried again.
//!
//! Pure: the caller brings the random number, so that a test can say what comes out.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest wait, but for what it asks for, where the other side says when to come again: it will answer then, and doubling would only put that off.
const LONGEST_WHEN_TOLD: Duration = Duration::from_secs(30);
/// The longest wait that the other side may ask for: past it, nothing would ever be tried again or given up.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);
/// After this long without success it is given up: dead, shown, and tried again only when somebody asks.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait after `tries` failures: doubling from half a second to five minutes, or to 30 s where the other side says when to come again, drawn
/// between half of that and all of it (`jitter` is between 0 and 1), and never less than what was asked for.
pub fn wait(tries: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let longest = if asked.is_some() {
        LONGEST_WHEN_TOLD
    } else {
        LONGEST
    };
    let doubled = FIRST
        .saturating_mul(2_u32.saturating_pow(tries.min(16)))
        .min(longest);
    let drawn = doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    drawn.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        assert_eq!(wait(0, None, 1.0), Duration::from_millis(500));
        assert_eq!(wait(1, None, 1.0), Duration::from_secs(1));
        assert_eq!(wait(60, None, 1.0), LONGEST);
    }

    #[test]
    fn jitter_takes_away_half_at_most() {
        assert_eq!(wait(1, None, 0.0), Duration::from_millis(500));
        assert_eq!(wait(1, None, 7.0), Duration::from_secs(1));
    }

    #[test]
    fn who_is_told_when_to_come_again_waits_little_longer() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait(60, asked(1), 1.0), LONGEST_WHEN_TOLD);
        assert_eq!(wait(60, asked(90), 1.0), Duration::from_secs(90));
        assert_eq!(wait(1, asked(0), 1.0), Duration::from_secs(1));
    }

    #[test]
    fn what_the_other_side_asked_for_is_kept() {
        assert_eq!(wait(0, Some(Duration::MAX), 0.5), LONGEST_ASKED);
        assert_eq!(
            wait(0, Some(Duration::from_secs(60)), 0.5),
            Duration::from_secs(60)
        );
    }
}
