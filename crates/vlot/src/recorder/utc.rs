//! A moment of the wall's clock as people write it.
//!
//! Owns the calendar. Must not know of time zones: a cluster's nodes may be in several.

use std::fmt;
use std::time::Duration;

/// A moment, since the beginning of 1970 in UTC: `2026-11-30T10:12:13.123456Z`, or with `{:#}` the time of the day alone, to the
/// millisecond.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Utc(pub Duration);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.as_secs(), self.0.subsec_micros());
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        if f.alternate() {
            return write!(f, "{hour:02}:{minute:02}:{second:02}.{:03}", micros / 1000);
        }
        let (year, month, day) = date(seconds / 86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Year, month and day so many days after the first of 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // In years that begin in March the day that is there every fourth year is the last one.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_in_the_calendar() {
        let rows = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_796_033_533, "2026-11-30T10:12:13.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ];
        for (seconds, text) in rows {
            assert_eq!(Utc(Duration::from_secs(seconds)).to_string(), text);
        }
        assert_eq!(format!("{:#}", Utc(Duration::from_micros(1_796_033_533_123_999))), "10:12:13.123");
    }
}
