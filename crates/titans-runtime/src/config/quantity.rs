//! Sizes and durations as people write them.

use std::time::Duration;

/// Units of bytes, largest first.
const SIZES: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Units of time in nanoseconds, largest first.
const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A number of bytes from a whole number, alone or with a unit: `4GiB`.
pub(super) fn read_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let unit = match unit {
        "" | "B" => 1,
        unit => SIZES.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The largest unit that holds a number of bytes without a remainder; `None` where that is a
/// byte.
pub(super) fn write_bytes(bytes: u64) -> Option<String> {
    let fits = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (name, unit) = SIZES.iter().find(fits)?;
    Some(format!("{}{name}", bytes / unit))
}

/// A duration from a whole number with a unit: `5s`.
pub(super) fn read_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let unit = TIMES.iter().find(|(name, _)| *name == unit)?.1;
    let nanoseconds = number.parse::<u128>().ok()?.checked_mul(unit)?;
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (nanoseconds % 1_000_000_000) as u32))
}

/// A duration in the largest unit that holds it without a remainder.
pub(super) fn write_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let fits = |(_, unit): &&(&str, u128)| nanoseconds.is_multiple_of(*unit);
    let (name, unit) = TIMES.iter().find(fits).unwrap_or(&TIMES[6]);
    format!("{}{name}", nanoseconds / unit)
}

/// A number and what follows it, with or without a space between them.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_in_the_largest_unit_that_fits() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("1536KiB", 1536 << 10),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(read_bytes(text), Some(bytes));
            assert_eq!(write_bytes(bytes).as_deref(), Some(text));
        }
        assert_eq!(read_bytes("1000"), Some(1000));
        assert_eq!(read_bytes("2 MiB"), Some(2 << 20));
        assert_eq!((write_bytes(1000), write_bytes(0)), (None, None));
        for wrong in [
            "",
            "GiB",
            "4GB",
            "4gib",
            "-1",
            "1.5GiB",
            "99999999999TiB",
            "4GiB4",
        ] {
            assert_eq!(read_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_and_written_in_the_largest_unit_that_fits() {
        for (text, duration) in [
            ("5s", Duration::from_secs(5)),
            ("1500ms", Duration::from_millis(1500)),
            ("24h", Duration::from_secs(86_400)),
            ("7ns", Duration::from_nanos(7)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(read_duration(text), Some(duration));
        }
        assert_eq!(write_duration(Duration::from_secs(86_400)), "1d");
        assert_eq!(write_duration(Duration::from_millis(90_000)), "90s");
        assert_eq!(write_duration(Duration::ZERO), "0s");
        let longest = Duration::MAX;
        assert_eq!(read_duration(&write_duration(longest)), Some(longest));
        for wrong in ["", "5", "s", "5 seconds", "-5s", "1.5s", "1h30m"] {
            assert_eq!(read_duration(wrong), None, "{wrong}");
        }
        assert_eq!(read_duration(&format!("{}d", u128::MAX)), None);
    }
}
