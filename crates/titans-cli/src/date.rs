//! Seconds since 1970 as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// The date and time in UTC, and how long ago that was: `2026-09-21 14:16:20 UTC, 3 days ago`.
pub(crate) fn describe(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    format!("{}, {}", utc(seconds), distance(seconds, now))
}

/// The date and time in UTC, by the calendar that is in use.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    // Years begin in March here, so that the leap day is the last of its year; eras of 400
    // years repeat. The method is Howard Hinnant's `civil_from_days`.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC",
        second % 60
    )
}

/// How far apart two moments are, in the largest unit that fits.
fn distance(then: u64, now: u64) -> String {
    let apart = then.abs_diff(now);
    let units = [
        (365 * DAY, "year"),
        (DAY, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let Some((count, unit)) = units
        .iter()
        .map(|(length, unit)| (apart / length, unit))
        .find(|(count, _)| *count > 0)
    else {
        return "now".to_owned();
    };
    let plural = if count == 1 { "" } else { "s" };
    match then > now {
        true => format!("{count} {unit}{plural} from now, if the clock is right"),
        false => format!("{count} {unit}{plural} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_885_267, "2026-11-28 17:01:07 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
        // A hostile file may say anything.
        assert!(utc(u64::MAX).ends_with(" UTC"));
    }

    #[test]
    fn distances_read_well() {
        assert_eq!(distance(100, 100), "now");
        assert_eq!(distance(99, 100), "1 second ago");
        assert_eq!(distance(0, 3 * DAY + 5), "3 days ago");
        assert_eq!(distance(0, 800 * DAY), "2 years ago");
        assert_eq!(
            distance(7300, 100),
            "2 hours from now, if the clock is right"
        );
    }
}
