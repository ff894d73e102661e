//! Signs of life of what takes minutes: on standard error, so that standard output has the answer alone.

use std::time::{Duration, Instant};

/// Between two lines about the same piece of work.
const EVERY: Duration = Duration::from_secs(5);

/// How far a piece of work is.
#[derive(Debug)]
pub struct Progress {
    what: String,
    of: u64,
    begun: Instant,
    told: Instant,
    ended: bool,
}

impl Progress {
    /// Begins with so many steps to do, and says so.
    #[must_use]
    pub fn begin(what: &str, of: u64) -> Self {
        said(&format!("{what}: 0 of {of}"));
        let now = Instant::now();
        Self {
            what: what.to_owned(),
            of,
            begun: now,
            told: now,
            ended: false,
        }
    }

    /// So many steps are done. Said every few seconds, and of the last.
    pub fn done(&mut self, steps: u64) {
        let ends = steps >= self.of && !self.ended;
        if !ends && self.told.elapsed() < EVERY {
            return;
        }
        self.ended |= ends;
        self.told = Instant::now();
        said(&self.line(steps, self.begun.elapsed()));
    }

    fn line(&self, steps: u64, after: Duration) -> String {
        format!(
            "{}: {steps} of {} after {} s",
            self.what,
            self.of,
            after.as_secs()
        )
    }
}

/// Says what is done now.
#[expect(
    clippy::print_stderr,
    reason = "progress is for people, beside the answer"
)]
pub fn said(what: &str) {
    eprintln!("   {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_since_when() {
        let progress = Progress::begin("kills", 300);
        let line = progress.line(120, Duration::from_millis(61_500));
        assert_eq!(line, "kills: 120 of 300 after 61 s");
    }
}
