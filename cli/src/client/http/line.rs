//! Transfer progress of a connection: bytes that its sockets took, and requests that wait.
//!
//! A body is counted as the sockets take its pieces. So the count runs ahead of the network by no
//! more than the sockets hold unsent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::workers::lock;
use crate::ui::Bar;

/// What went over the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, repeated ones included.
    pub requests: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of the bodies of answers.
    pub received: u64,
}

/// The counts of a client.
#[derive(Debug, Default)]
pub struct Line {
    requests: AtomicU64,
    retries: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Requests whose bodies are on their way.
    sending: AtomicUsize,
    /// Requests that have been sent and not answered.
    waiting: AtomicUsize,
    retrying: Mutex<Option<Retry>>,
}

#[derive(Debug, Clone)]
struct Retry {
    why: String,
    until: Instant,
}

/// What a client does at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// No request is under way.
    Nothing,
    /// Bodies are sent.
    Sending,
    /// All that was asked is with the server.
    Waiting,
    /// A request that failed is sent again after a while.
    Retrying {
        /// Why it failed.
        why: String,
        /// The rest of the wait.
        left: Duration,
    },
}

impl Line {
    /// What went over the line so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// Requests that were sent again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// What happens now.
    pub fn doing(&self, now: Instant) -> Doing {
        if self.sending.load(Ordering::Relaxed) > 0 {
            return Doing::Sending;
        }
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return Doing::Waiting;
        }
        match &*lock(&self.retrying) {
            Some(Retry { why, until }) => Doing::Retrying {
                why: why.clone(),
                left: until.saturating_duration_since(now),
            },
            None => Doing::Nothing,
        }
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Shows that a request is sent again after a wait, until the guard is dropped.
    pub(super) fn retry(&self, why: &str, wait: Duration) -> Retrying<'_> {
        self.retries.fetch_add(1, Ordering::Relaxed);
        *lock(&self.retrying) = Some(Retry {
            why: why.lines().next().unwrap_or_default().to_owned(),
            until: Instant::now() + wait,
        });
        Retrying(self)
    }

    /// A request's body, which counts itself as it is sent.
    pub(super) fn body<'a>(
        &'a self,
        bytes: &'a [u8],
        share: Option<&'a Share<'a>>,
    ) -> CountedBody<'a> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut body = CountedBody {
            line: self,
            bytes,
            share,
            handed: 0,
            counted: 0,
            state: State::Sending,
        };
        self.sending.fetch_add(1, Ordering::Relaxed);
        if bytes.is_empty() {
            body.is_out();
        }
        body
    }
}

/// See [`Line::retry`].
pub(super) struct Retrying<'a>(&'a Line);

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        *lock(&self.0.retrying) = None;
    }
}

/// The progress that a body stands for: so many bytes of content, in proportion to what is sent.
#[derive(Debug)]
pub struct Share<'a> {
    bar: &'a Bar,
    raw: u64,
    shown: AtomicU64,
}

impl<'a> Share<'a> {
    /// A body that carries so many bytes of content.
    pub const fn new(bar: &'a Bar, raw: u64) -> Self {
        Self {
            bar,
            raw,
            shown: AtomicU64::new(0),
        }
    }

    /// Shows that a part of the body is sent; less than before if it is sent again.
    fn set(&self, sent: usize, whole: usize) {
        let part = u128::from(self.raw) * sent as u128 / whole.max(1) as u128;
        let part = part as u64;
        let before = self.shown.swap(part, Ordering::Relaxed);
        if part >= before {
            self.bar.add(part - before);
        } else {
            self.bar.take_back(before - part);
        }
    }

    /// Shows that all of it has arrived, or need not be sent.
    pub fn finish(&self) {
        self.set(1, 1);
    }
}

/// The body of one request on its way.
pub(super) struct CountedBody<'a> {
    line: &'a Line,
    bytes: &'a [u8],
    share: Option<&'a Share<'a>>,
    /// Bytes that were handed out to be sent.
    handed: usize,
    /// Bytes that the socket took.
    counted: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sending,
    Waiting,
}

impl CountedBody<'_> {
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all of it was handed out to be sent.
    pub(super) const fn is_handed_out(&self) -> bool {
        self.handed == self.bytes.len()
    }

    /// The next bytes to be sent; none at the end of the body.
    pub(super) fn next(&mut self, most: usize) -> &[u8] {
        let rest = self.bytes.get(self.handed..).unwrap_or_default();
        let next = &rest[..rest.len().min(most)];
        self.handed += next.len();
        if self.is_handed_out() && self.state == State::Sending {
            self.is_out();
        }
        next
    }

    /// Takes in that the socket has all but so many of the bytes that were handed out.
    pub(super) fn taken(&mut self, held: usize) {
        let taken = self.handed.saturating_sub(held);
        let more = taken.saturating_sub(self.counted);
        self.counted += more;
        self.line.sent.fetch_add(more as u64, Ordering::Relaxed);
        if let Some(share) = self.share {
            share.set(self.counted, self.bytes.len());
        }
    }

    /// Takes in that there is an answer, for which all of the body must have gone out, or that
    /// there is none.
    pub(super) fn answered(&mut self, is_answered: bool) {
        if is_answered && self.is_handed_out() {
            self.taken(0);
        }
    }

    fn is_out(&mut self) {
        self.state = State::Waiting;
        self.line.waiting.fetch_add(1, Ordering::Relaxed);
        self.line.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for CountedBody<'_> {
    fn drop(&mut self) {
        let count = match self.state {
            State::Sending => &self.line.sending,
            State::Waiting => &self.line.waiting,
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_what_was_taken_and_not_what_was_handed_out() {
        let line = Line::default();
        let now = Instant::now();
        let bytes = [7; 100];
        let mut body = line.body(&bytes, None);
        let mut seen = Vec::new();
        for held in [0, 40, 60] {
            body.taken(held);
            seen.push((body.next(40).len(), line.traffic().sent));
        }
        assert_eq!(seen, [(40, 0), (40, 0), (20, 20)]);
        body.taken(20);
        assert_eq!(line.traffic().sent, 80);
        assert_eq!(line.doing(now), Doing::Waiting);
        body.answered(true);
        drop(body);
        assert_eq!(
            (line.traffic().sent, line.doing(now)),
            (100, Doing::Nothing)
        );
    }

    #[test]
    fn a_body_that_breaks_was_sent_as_far_as_it_was_taken() {
        let line = Line::default();
        let bytes = [7; 100];
        let mut body = line.body(&bytes, None);
        assert_eq!(body.next(60), [7; 60]);
        assert_eq!(line.doing(Instant::now()), Doing::Sending);
        body.answered(false);
        drop(body);
        assert_eq!(line.traffic().sent, 0);
        let retrying = line.retry("busy\nmore", Duration::from_secs(9));
        let doing = line.doing(Instant::now());
        assert!(matches!(doing, Doing::Retrying { why, .. } if why == "busy"));
        drop(retrying);
        assert_eq!(line.doing(Instant::now()), Doing::Nothing);
    }
}
