//! Faults that a test orders, and the journal of what was called.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// Answers this status; nothing is done.
    Status(u16),
    /// 429 with `Retry later` in plain text, and `Retry-After` in seconds if given.
    RateLimited(Option<u64>),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer; nothing is done.
    Cut,
    /// Does what was asked, then closes the connection without an answer.
    LoseAnswer,
    /// Answers in the normal way, but the body takes this many milliseconds.
    SlowBody(u64),
    /// Answers in the normal way after this many milliseconds.
    Late(u64),
}

/// Which calls fail, how often, and how.
///
/// ```
/// use penstock_doubles::gitlab::{Break, Fault};
/// let two_bad_gateways = Fault::new("POST", "/statuses/", Break::Status(502)).times(2);
/// let one_in_five = Fault::new(".*", "/api/v4/", Break::Cut).percent(20, 7);
/// # let _ = (two_bad_gateways, one_in_five);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    method: Regex,
    path: Regex,
    how: Break,
    left: Option<u32>,
    skip: u32,
    chance: Option<(u8, u64)>,
}

impl Fault {
    /// A fault for each call whose method matches `method` whole and whose path and query match `path` somewhere
    /// (regular expressions; the path is as sent, percent-encoded).
    ///
    /// # Panics
    /// If one of the two is not a regular expression.
    #[must_use]
    pub fn new(method: &str, path: &str, how: Break) -> Self {
        Self {
            method: Regex::new(&format!("^(?:{method})$"))
                .expect("a regular expression for the method"),
            path: Regex::new(path).expect("a regular expression for the path"),
            how,
            left: None,
            skip: 0,
            chance: None,
        }
    }

    /// Only the next `count` calls fail.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.left = Some(count);
        self
    }

    /// The first `count` matching calls go well.
    #[must_use]
    pub fn after(mut self, count: u32) -> Self {
        self.skip = count;
        self
    }

    /// Each matching call fails with this chance in a hundred, drawn from a generator that starts at `seed`.
    #[must_use]
    pub fn percent(mut self, chance: u8, seed: u64) -> Self {
        self.chance = Some((chance, seed));
        self
    }

    /// What goes wrong.
    pub(crate) fn how(&self) -> &Break {
        &self.how
    }

    /// Says whether a call fails, and counts it.
    pub(crate) fn strikes(&mut self, method: &str, path: &str) -> bool {
        if self.left == Some(0) || !self.method.is_match(method) || !self.path.is_match(path) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some((chance, state)) = &mut self.chance
            && draw(state) % 100 >= u64::from(*chance)
        {
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        true
    }
}

/// The next number of a splitmix64 generator: the same seed gives the same faults.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A call that the stand-in received.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When, by the stand-in's clock.
    pub at: Timestamp,
    /// GET, POST, …
    pub method: String,
    /// As sent: percent-encoded, with the query.
    pub path: String,
    /// The body as sent.
    pub body: Bytes,
    /// The name of the user whose token it carried, if it carried one that lives.
    pub user: Option<String>,
    /// The answer's status; `None` while there is none, or for ever if the fault was to give none.
    pub status: Option<u16>,
}

impl Heard {
    /// The body as JSON; `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Faults in order, and calls in order.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) faults: Vec<Fault>,
    pub(crate) journal: Vec<Heard>,
    pub(crate) latency: Duration,
}

impl Desk {
    /// The fault of the first rule that strikes.
    pub(crate) fn fault_for(&mut self, method: &str, path: &str) -> Option<Break> {
        let position = self
            .faults
            .iter_mut()
            .position(|fault| fault.strikes(method, path))?;
        let how = self.faults[position].how.clone();
        self.faults.retain(|fault| fault.left != Some(0));
        Some(how)
    }
}
