//! Counted request body: counts its bytes, and moves a progress bar, as the socket takes them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::transfer::Transfer;
use crate::ui::Bar;

/// The progress that a body represents: bytes of content, in proportion to the bytes sent.
#[derive(Debug)]
pub struct BodyProgress<'a> {
    bar: &'a Bar,
    raw: u64,
    shown: AtomicU64,
}

impl<'a> BodyProgress<'a> {
    /// A body that carries `raw` bytes of content.
    pub const fn new(bar: &'a Bar, raw: u64) -> Self {
        Self {
            bar,
            raw,
            shown: AtomicU64::new(0),
        }
    }

    /// Shows the part of the body that is sent. It decreases if the client sends the body again.
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

    /// Shows that the whole body has arrived, or is not needed.
    pub fn finish(&self) {
        self.set(1, 1);
    }
}

/// The body of one request during its upload.
pub(super) struct CountedBody<'a> {
    transfer: &'a Transfer,
    bytes: &'a [u8],
    share: Option<&'a BodyProgress<'a>>,
    /// Bytes handed out for sending.
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

impl<'a> CountedBody<'a> {
    /// A request's body, which counts itself during the upload.
    pub(super) fn new(
        transfer: &'a Transfer,
        bytes: &'a [u8],
        share: Option<&'a BodyProgress<'a>>,
    ) -> Self {
        transfer.requests.fetch_add(1, Ordering::Relaxed);
        let mut body = Self {
            transfer,
            bytes,
            share,
            handed: 0,
            counted: 0,
            state: State::Sending,
        };
        transfer.sending.fetch_add(1, Ordering::Relaxed);
        if bytes.is_empty() {
            body.is_out();
        }
        body
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all of it was handed out for sending.
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

    /// Records that the socket has taken all but `held` of the bytes handed out.
    pub(super) fn taken(&mut self, held: usize) {
        let taken = self.handed.saturating_sub(held);
        let more = taken.saturating_sub(self.counted);
        self.counted += more;
        self.transfer.sent.fetch_add(more as u64, Ordering::Relaxed);
        if let Some(share) = self.share {
            share.set(self.counted, self.bytes.len());
        }
    }

    /// Records the answer, which implies that the whole body was sent, or the lack of one.
    pub(super) fn answered(&mut self, is_answered: bool) {
        if is_answered && self.is_handed_out() {
            self.taken(0);
        }
    }

    fn is_out(&mut self) {
        self.state = State::Waiting;
        self.transfer.waiting.fetch_add(1, Ordering::Relaxed);
        self.transfer.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for CountedBody<'_> {
    fn drop(&mut self) {
        let count = match self.state {
            State::Sending => &self.transfer.sending,
            State::Waiting => &self.transfer.waiting,
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::client::http::Activity;

    #[test]
    fn body_counts_what_was_taken_and_not_what_was_handed_out() {
        let transfer = Transfer::default();
        let now = Instant::now();
        let bytes = [7; 100];
        let mut body = CountedBody::new(&transfer, &bytes, None);
        let mut seen = Vec::new();
        for held in [0, 40, 60] {
            body.taken(held);
            seen.push((body.next(40).len(), transfer.traffic().sent));
        }
        assert_eq!(seen, [(40, 0), (40, 0), (20, 20)]);
        body.taken(20);
        assert_eq!(transfer.traffic().sent, 80);
        assert_eq!(transfer.activity(now), Activity::Waiting);
        body.answered(true);
        drop(body);
        assert_eq!(
            (transfer.traffic().sent, transfer.activity(now)),
            (100, Activity::Nothing)
        );
    }

    #[test]
    fn body_that_breaks_was_sent_as_far_as_it_was_taken() {
        let transfer = Transfer::default();
        let bytes = [7; 100];
        let mut body = CountedBody::new(&transfer, &bytes, None);
        assert_eq!(body.next(60), [7; 60]);
        assert_eq!(transfer.activity(Instant::now()), Activity::Sending);
        body.answered(false);
        drop(body);
        assert_eq!(transfer.traffic().sent, 0);
        let retrying = transfer.retry("busy\nmore", Duration::from_secs(9));
        let doing = transfer.activity(Instant::now());
        assert!(matches!(doing, Activity::Retrying { why, .. } if why == "busy"));
        drop(retrying);
        assert_eq!(transfer.activity(Instant::now()), Activity::Nothing);
    }
}
