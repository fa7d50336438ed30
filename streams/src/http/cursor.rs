//! Live cursor: a number that grows with time. Caches collapse requests with the same cursor, and
//! never answer a request from an earlier interval.

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::time::Timestamp;

/// The cursor that a live reader sends with its next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveCursor(u64);

impl LiveCursor {
    /// The cursor of a time.
    pub const fn at(now: Timestamp) -> Self {
        Self(now.as_millis().saturating_sub(BEGINNING) / INTERVAL)
    }

    /// Parses a reader's cursor. `None` if it is not a number that the server issues.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = plain.then(|| text.parse().ok()).flatten()?;
        (number <= EXACT_INTEGER_MAX).then_some(Self(number))
    }

    /// The cursor after the reader's own: the current one, or if that is not greater, one up to an
    /// hour later. It always grows, so that no cache answers the reader's next request with this
    /// response.
    pub fn after(sent: Option<Self>, now: Timestamp, random: u64) -> Self {
        let current = Self::at(now);
        match sent {
            Some(sent) if sent >= current => {
                let seconds = 1 + random % JITTER_SECONDS;
                let steps = (seconds * 1_000).div_ceil(INTERVAL);
                Self(sent.0.saturating_add(steps))
            }
            Some(_) | None => current,
        }
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The protocol's epoch in milliseconds: 2024-10-09.
const BEGINNING: u64 = 1_728_432_000_000;

/// Milliseconds per cursor.
const INTERVAL: u64 = 20_000;

/// Largest jitter of a cursor.
const JITTER_SECONDS: u64 = 3_600;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn after_always_grows(
            sent in 0..=EXACT_INTEGER_MAX, now in 0..=EXACT_INTEGER_MAX, random: u64
        ) {
            let (sent, now) = (LiveCursor(sent), Timestamp::from_millis(now));
            let next = LiveCursor::after(Some(sent), now, random);
            prop_assert!(next > sent || next == LiveCursor::at(now));
            prop_assert!(next >= LiveCursor::at(now));
            prop_assert!(next.0 <= sent.0.max(LiveCursor::at(now).0) + 180);
        }
    }

    #[test]
    fn at_counts_intervals_of_twenty_seconds() {
        for (millis, expected) in [
            (0, 0),
            (BEGINNING - 1, 0),
            (BEGINNING, 0),
            (BEGINNING + 19_999, 0),
            (BEGINNING + 20_000, 1),
        ] {
            assert_eq!(LiveCursor::at(Timestamp::from_millis(millis)).0, expected);
        }
    }

    #[test]
    fn parse_accepts_exact_integers_only() {
        for (text, expected) in [
            ("7", Some(7)),
            ("9007199254740991", Some(EXACT_INTEGER_MAX)),
            ("9007199254740992", None),
            ("99999999999999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("abc", None),
        ] {
            assert_eq!(
                LiveCursor::parse(text).map(LiveCursor::number),
                expected,
                "{text}"
            );
        }
    }
}
