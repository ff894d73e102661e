//! Durations as Go writes them, which is how Tekton's timeouts are written: `1h30m`, `90s`, `1.5h`, `0`.

use std::time::Duration;

/// Reads one. Negative ones, and what is no duration, give none.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let (unit, after) = split_unit(after)?;
        total += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    if text.is_empty() {
        return None;
    }
    Duration::try_from_secs_f64(total).ok()
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    UNITS
        .iter()
        .find_map(|(word, unit)| text.strip_prefix(word).map(|rest| (*unit, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read_and_others_are_not() {
        for (text, seconds) in [
            ("1h30m", 5400),
            ("90s", 90),
            ("1.5h", 5400),
            ("0", 0),
            ("0s", 0),
            ("+2m", 120),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        for text in [
            "",
            "-1h",
            "1",
            "h",
            "1 h",
            "1d",
            "..s",
            "$(params.t)",
            "9999999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
