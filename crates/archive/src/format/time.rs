//! Moments as RFC 3339 writes them.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use transload_filesystem::Timestamp;

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

/// Seconds of the years 0000 and 9999, which the notation ends at.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;
const DAY: i64 = 86_400;

impl Time {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(LAST);
        Self(Timestamp { seconds, nanos: since.subsec_nanos() })
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn seconds(&self) -> i64 {
        self.0.seconds
    }

    /// Year, month and day in UTC.
    #[must_use]
    pub fn date(&self) -> (i64, u32, u32) {
        civil(self.0.seconds.clamp(FIRST, LAST).div_euclid(DAY))
    }

    /// Hour, minute and second in UTC.
    #[must_use]
    pub fn clock(&self) -> (i64, i64, i64) {
        let second = self.0.seconds.clamp(FIRST, LAST).rem_euclid(DAY);
        (second / 3600, second / 60 % 60, second % 60)
    }

    /// The number of the day since 1970-01-01.
    pub(crate) const fn day(&self) -> i64 {
        self.0.seconds.div_euclid(DAY)
    }
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar. The year is counted from March on, so that
/// the day that leap years have more is its last.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

/// The day since 1970-01-01 of a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), (hour, minute, second)) = (self.date(), self.clock());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.0.nanos > 0 {
            let digits = format!("{:09}", self.0.nanos.min(999_999_999));
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Time {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Result<i64, ()> {
            let digits = bytes.get(from..to).filter(|digits| digits.iter().all(u8::is_ascii_digit)).ok_or(())?;
            Ok(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
        };
        let is = |at: usize, expected: &[u8]| bytes.get(at).is_some_and(|byte| expected.contains(byte));
        if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
            return Err(());
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 24 || minute > 59 || second > 60 {
            return Err(());
        }
        let mut at = 19;
        let mut nanos = 0;
        if is(at, b".,") {
            let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let text = format!("{:0<9.9}", &text[at + 1..=at + digits]);
            nanos = text.parse().map_err(|_| ())?;
            at += 1 + digits;
        }
        let zone = match bytes.get(at) {
            Some(b'Z' | b'z') if bytes.len() == at + 1 => 0,
            Some(sign @ (b'+' | b'-')) if bytes.len() == at + 6 && is(at + 3, b":") => {
                let east = number(at + 1, at + 3)? * 3600 + number(at + 4, at + 6)? * 60;
                if *sign == b'+' { east } else { -east }
            }
            _ => return Err(()),
        };
        let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - zone;
        Ok(Self(Timestamp { seconds, nanos }))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format_args!("\"{}\" is no time", text.escape_debug())))
    }
}

#[cfg(test)]
mod tests {
    use super::{Time, Timestamp};

    #[test]
    fn times_are_written_and_read() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 1, "1969-12-31T23:59:59.000000001Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_704_067_199, 999_999_999, "2023-12-31T23:59:59.999999999Z"),
            (-2_203_891_200, 0, "1900-03-01T00:00:00Z"),
            (-62_167_219_200, 0, "0000-01-01T00:00:00Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, nanos, text) in cases {
            let time = Time(Timestamp { seconds, nanos });
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
        let zoned: Time = "2015-01-02T18:10:50.895208559+01:00".parse().unwrap();
        assert_eq!(zoned.to_string(), "2015-01-02T17:10:50.895208559Z");
        assert_eq!("0001-01-01T00:00:00Z".parse::<Time>().unwrap().to_string(), "0001-01-01T00:00:00Z");
        for wrong in ["", "2015-01-02", "2015-13-02T18:10:50Z", "2015-01-02T18:10:50", "2015-01-02T18:10:50.1", "ä"] {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
        assert_eq!(Time(Timestamp { seconds: i64::MAX, nanos: 0 }).to_string(), "9999-12-31T23:59:59Z");
    }
}
