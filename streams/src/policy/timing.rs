//! Server timing (W3C): the header with the durations of a request's parts.

use std::fmt::Write as _;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The request header that asks for server timing.
pub const DEBUG_TIMING: HeaderName = HeaderName::from_static("x-debug-timing");

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A step of handling a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimedStep {
    /// The whole request, at the edge.
    Edge,
    /// Access control and rate limits.
    Auth,
    /// Receiving the body.
    Body,
    /// Transactions, with their wait in the queue and the flush.
    Transaction,
    /// Reading segments.
    Cold,
    /// Waiting for an append.
    Wait,
}

impl TimedStep {
    const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Auth => "auth",
            Self::Body => "body",
            Self::Transaction => "turn",
            Self::Cold => "cold",
            Self::Wait => "wait",
        }
    }
}

/// The durations of the steps of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timing(Vec<(TimedStep, Duration)>);

impl Timing {
    /// Whether a request asks for server timing.
    pub fn is_requested(head: &Parts) -> bool {
        head.headers
            .get(DEBUG_TIMING)
            .is_some_and(|value| value == "1")
    }

    /// Adds a duration to a step.
    pub fn add(&mut self, step: TimedStep, time: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == step) {
            Some((_, sum)) => *sum += time,
            None => self.0.push((step, time)),
        }
    }

    /// Adds the header, if there is a duration.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let mut text = String::new();
        for (step, time) in &self.0 {
            let comma = if text.is_empty() { "" } else { ", " };
            let millis = time.as_secs_f64() * 1e3;
            // Writing to a String does not fail.
            let _ = write!(text, "{comma}{};dur={millis:.3}", step.name());
        }
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(&text)) {
            headers.append(SERVER_TIMING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_headers_sums_steps_in_their_order() {
        let mut timing = Timing::default();
        let mut headers = HeaderMap::new();
        timing.write_headers(&mut headers);
        assert!(headers.is_empty());
        timing.add(TimedStep::Transaction, Duration::from_micros(1_500));
        timing.add(TimedStep::Wait, Duration::from_secs(2));
        timing.add(TimedStep::Transaction, Duration::from_micros(25));
        timing.write_headers(&mut headers);
        assert_eq!(
            headers["server-timing"],
            "turn;dur=1.525, wait;dur=2000.000"
        );
    }

    #[test]
    fn is_requested_by_the_header_with_value_1() {
        for (value, expected) in [(None, false), (Some("1"), true), (Some("0"), false)] {
            let mut request = http::Request::builder();
            if let Some(value) = value {
                request = request.header("x-debug-timing", value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(Timing::is_requested(&head), expected, "{value:?}");
        }
    }
}
