//! Times and sizes as people write them: `500ms`, `30s`, `64MiB`.

use std::time::Duration;

/// Reads a time.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let millis = number(text, &units).ok_or_else(|| {
        format!(
            "`{}` is no time: write a number and `ms`, `s`, `m`, `h` or `d`, such as `500ms`",
            super::reader::cut(text)
        )
    })?;
    Ok(Duration::from_millis(millis))
}

/// Reads a size in bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    number(text, &units).ok_or_else(|| {
        format!(
            "`{}` is no size: write a number and `B`, `KiB`, `MiB` or `GiB`, such as `64MiB`",
            super::reader::cut(text)
        )
    })
}

/// A whole number greater than 0 and one of the units.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(word, _)| *word == unit.trim_start())?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)
        .filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_their_absence_is_told() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1B"), Ok(1));
        for text in [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "5 sec",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["64", "64MB", "64mib", "0B", "MiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
