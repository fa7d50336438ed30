//! Retry policy: when the client repeats a request, and after which wait.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use pmx_core::code::Code;

use crate::error::Failure;

/// Attempts for one answer.
pub(super) const ATTEMPTS_MAX: u32 = 6;

/// Attempts for one answer while the server is busy: other requests of this client take its
/// capacity, and each gets a turn.
const BUSY_ATTEMPTS_MAX: u32 = 60;

/// The longest wait that a server may request. For longer ones, the command fails.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_mins(2);

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(8);

/// How long to wait before the attempt after number `attempt` (from 0): exponential with full
/// jitter on its second half (M. Brooker, "Exponential Backoff And Jitter", 2015), or the wait that
/// the server requested. `None` if the server requests more than the maximum.
pub(super) fn wait(attempt: u32, retry_after: Option<Duration>, jitter: u8) -> Option<Duration> {
    if let Some(asked) = retry_after {
        return (asked <= RETRY_AFTER_MAX).then_some(asked);
    }
    let whole = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    let half = whole / 2;
    Some(half + half * u32::from(jitter) / u32::from(u8::MAX))
}

/// The failure of a request that the server wants to receive much later.
pub(super) fn too_long(failure: Failure, asked: Option<Duration>) -> Failure {
    let seconds = asked.unwrap_or_default().as_secs();
    let hint = format!("It asks to wait {seconds} s: run the same command again then.");
    failure.with_hint(hint)
}

/// Reads a Retry-After: seconds, or a date, which is compared with the answer's clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let of = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let value = of("retry-after")?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = of("date").and_then(|date| httpdate::parse_http_date(date).ok());
    let now = now.unwrap_or_else(SystemTime::now);
    Some(at.duration_since(now).unwrap_or_default())
}

/// Whether a retry of the request may get another answer.
pub(super) const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a refused request may be repeated unchanged. A code is more exact than the status.
pub(super) fn may_pass(status: u16, code: Option<Code>) -> bool {
    match code {
        // The client must send the missing objects first.
        Some(Code::MissingObjects) => false,
        Some(code) => code.retriable(),
        None => is_passing(status),
    }
}

/// Attempts for one answer, after a refusal with this code.
pub(super) fn attempts_max(code: Option<Code>) -> u32 {
    match code {
        Some(Code::TooMany) => BUSY_ATTEMPTS_MAX,
        _ => ATTEMPTS_MAX,
    }
}

/// A random byte; a constant if there is no randomness.
pub(super) fn jitter() -> u8 {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_within_bounds() {
        let mut last = Duration::ZERO;
        for attempt in 0..20 {
            let least = wait(attempt, None, 0).unwrap();
            let most = wait(attempt, None, 255).unwrap();
            assert!(least * 2 >= most && least < most && most >= last);
            assert!(most <= LONGEST);
            last = most;
        }
        assert_eq!(wait(0, None, 255), Some(FIRST));
    }

    #[test]
    fn retry_is_decided_by_the_code_before_the_status() {
        for (status, code, expected) in [
            (503, Some(Code::Unavailable), true),
            (500, Some(Code::Storage), true),
            (422, Some(Code::HashMismatch), true),
            (503, Some(Code::NotConfigured), false),
            (500, Some(Code::Corrupt), false),
            (409, Some(Code::MissingObjects), false),
            (502, None, true),
            (404, None, false),
        ] {
            assert_eq!(may_pass(status, code), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn retry_after_is_honoured_or_left_to_the_user() {
        let date = "Fri, 31 Dec 1999 23:59:50 GMT";
        for (value, expected) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(9)),
            ("Fri, 31 Dec 1999 23:59:49 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("date", date.parse().unwrap());
            headers.insert("retry-after", value.parse().unwrap());
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers), expected, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
        let asked = Duration::from_secs;
        assert_eq!(wait(3, Some(asked(2)), 9), Some(asked(2)));
        assert_eq!(wait(3, Some(asked(120)), 9), Some(asked(120)));
        assert_eq!(wait(3, Some(asked(3600)), 9), None);
    }
}
