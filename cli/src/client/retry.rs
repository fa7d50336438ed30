//! When to ask again, and after how long.

use std::time::Duration;

/// Requests that are sent for one answer.
pub(super) const ATTEMPTS_MAX: u32 = 6;

/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(8);

/// How long to wait before the attempt after number `attempt` (from 0): exponential with full
/// jitter on its second half (M. Brooker, "Exponential Backoff And Jitter", 2015), or what the
/// server asked for.
pub(super) fn wait(attempt: u32, retry_after: Option<Duration>, jitter: u8) -> Duration {
    if let Some(asked) = retry_after {
        return asked.min(RETRY_AFTER_MAX);
    }
    let whole = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    let half = whole / 2;
    half + half * u32::from(jitter) / u32::from(u8::MAX)
}

/// Reads a Retry-After in seconds. Its other form, a date, would need the server's clock.
pub(super) fn retry_after(header: Option<&str>) -> Option<Duration> {
    header?.trim().parse().ok().map(Duration::from_secs)
}

/// Whether the same request may get another answer.
pub(super) const fn is_passing(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// A byte of randomness; the same for all clients where there is none.
pub(super) fn jitter() -> u8 {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds() {
        let mut last = Duration::ZERO;
        for attempt in 0..20 {
            let (least, most) = (wait(attempt, None, 0), wait(attempt, None, 255));
            assert!(least * 2 >= most && least < most && most >= last);
            assert!(most <= LONGEST);
            last = most;
        }
        assert_eq!(wait(0, None, 255), FIRST);
    }

    #[test]
    fn the_servers_wish_is_honoured_within_reason() {
        for (header, expected) in [
            (Some("3"), Some(3)),
            (Some(" 0 "), Some(0)),
            (Some("Fri, 31 Dec 1999 23:59:59 GMT"), None),
            (Some("-1"), None),
            (None, None),
        ] {
            assert_eq!(retry_after(header), expected.map(Duration::from_secs));
        }
        assert_eq!(wait(3, retry_after(Some("2")), 9), Duration::from_secs(2));
        assert_eq!(wait(3, retry_after(Some("99999999")), 9), RETRY_AFTER_MAX);
    }
}
