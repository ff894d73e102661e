//! Sizes of encodings, and a record that is cut to its limit.

use std::io;

use penstock_model::record::{DecisionRecord, Failure, Outcome};
use serde::Serialize;

/// How many times longer than its text a text can be in JSON: `\u0000`.
const WORST: u64 = 6;

/// Bytes of names and punctuation around what is weighed: generous.
const AROUND: u64 = 64 * 1024;

/// Counts what is written.
#[derive(Default)]
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of the canonical encoding.
pub(crate) fn encoded(value: &impl Serialize) -> u64 {
    let mut count = Count::default();
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        // Plain data can always be written; were it otherwise, no limit would fit.
        Err(_) => u64::MAX,
    }
}

/// Cuts a record that is larger than it may be: then its outcome is that, unless the call had failed anyway, and it keeps as many calls as fit.
///
/// `weight` is what was weighed of its parts; only where it comes near the limit is the encoding counted.
pub(crate) fn limit(record: &mut DecisionRecord, weight: u64, limit: u64) {
    let items = u64::try_from(record.calls.len() + record.log.len()).unwrap_or(u64::MAX);
    let at_most = weight
        .saturating_add(items.saturating_mul(64))
        .saturating_mul(WORST)
        .saturating_add(AROUND);
    if at_most <= limit || encoded(record) <= limit {
        return;
    }
    if !matches!(record.outcome, Outcome::Failure(_)) {
        record.outcome = Outcome::Failure(Failure::RecordExceeded { limit });
    }
    record.cut = true;
    record.state.written.clear();
    record.log.clear();
    let mut size = encoded(record);
    while size > limit {
        let Some(call) = record.calls.pop() else {
            break;
        };
        size = size.saturating_sub(encoded(&call));
    }
}
