//! How times and durations are written for people.

use std::time::Duration;

use penstock_model::id::Timestamp;

/// RFC 3339 in UTC, to the second.
pub fn time(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(
        |_| format!("{} ms", at.0),
        |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// Such as `850 ms`, `12 s`, `4 min` or `3 h`.
pub fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc() {
        assert_eq!(time(Timestamp(1_790_000_000_500)), "2026-09-21T14:13:20Z");
        assert_eq!(time(Timestamp(u64::MAX)), format!("{} ms", u64::MAX));
    }

    #[test]
    fn a_duration_is_written_in_the_unit_that_serves() {
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_secs(240)), "4 min");
    }
}
