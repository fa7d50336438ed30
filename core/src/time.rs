//! Timestamps: the caller passes the time in, and no code here reads a clock.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

/// Reads a time: a number above 0 and `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    (number > 0).then(|| Duration::from_secs(u64::from(number) * seconds))
}

impl Timestamp {
    /// Wraps milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `duration` later.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }
}

/// A time in UTC, with milliseconds, in the format of RFC 3339.
pub fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC);
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Parses a date and time with its offset (RFC 3339); `None` for any other text. A time before 1970
/// becomes the beginning of 1970. A leap second becomes the second before it.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text).ok()?;
    // Chrono counts the milliseconds of a leap second from 1,000.
    let millis = at.timestamp() * 1_000 + i64::from(at.timestamp_subsec_millis() % 1_000);
    Some(Timestamp(u64::try_from(millis).unwrap_or(0)))
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_rfc3339_reads_its_grammar_and_no_other() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00.5Z", Some(500)),
            ("1970-01-01T00:00:01.123456789z", Some(1_123)),
            ("1970-01-01t01:00:00+01:00", Some(0)),
            ("1969-12-31T23:00:00-01:00", Some(0)),
            ("1969-12-31T23:59:59Z", Some(0)),
            ("0000-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2024-10-09T00:00:00Z", Some(1_728_432_000_000)),
            ("2024-12-31T23:59:60Z", Some(1_735_689_599_000)),
            ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-00-01T00:00:00Z", None),
            ("2023-01-32T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00", None),
            ("2023-01-01T00:00:00.Z", None),
            ("2023-01-01T00:00:00+1:00", None),
            ("2023-01-01T00:00:00+24:00", None),
            ("2023-01-01", None),
            ("+023-01-01T00:00:00Z", None),
            ("2023-1-01T00:00:00Z", None),
            ("2023-01-01T00:00Z", None),
            ("2023-01-01T00:00:00\u{e9}Z", None),
            ("not-a-timestamp", None),
            ("T", None),
            ("", None),
        ] {
            let found = parse_rfc3339(text).map(Timestamp::as_millis);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn rfc3339_is_read_back() {
        for day in 0..60_000 {
            let at = Timestamp(day * 86_400_000 + day * 1_009 % 86_400_000);
            assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        }
        let largest = rfc3339(Timestamp(u64::MAX));
        assert_eq!(largest, "+262142-12-31T23:59:59.999Z");
    }
}
