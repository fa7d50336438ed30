//! Transfer rate over a sliding window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time span of a rate.
const SPAN: Duration = Duration::from_secs(5);

/// Over a shorter span, a rate measures buffers more than the network.
const SPAN_MIN: Duration = Duration::from_millis(500);

/// The counts of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Window {
    samples: VecDeque<Sample>,
    moved: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    sent: u64,
    done: u64,
}

impl Window {
    /// Records the counts at a moment.
    pub(super) fn note(&mut self, at: Instant, sent: u64, done: u64) {
        let last = self.samples.back();
        if last.is_none_or(|last| last.sent != sent || last.done != done) {
            self.moved = Some(at);
        }
        // A new phase starts at zero.
        if last.is_some_and(|last| done < last.done) {
            self.samples.clear();
        }
        self.samples.push_back(Sample { at, sent, done });
        let is_old = |sample: &Sample| at.duration_since(sample.at) > SPAN;
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
    }

    /// The time without progress.
    pub(super) fn still(&self, now: Instant) -> Duration {
        self.moved
            .map_or(Duration::ZERO, |moved| now.duration_since(moved))
    }

    /// Bytes sent per second.
    pub(super) fn sent_per_second(&self, now: Instant) -> Option<u64> {
        self.rate(now, |sample| sample.sent)
    }

    /// Work per second.
    pub(super) fn done_per_second(&self, now: Instant) -> Option<u64> {
        self.rate(now, |sample| sample.done)
    }

    fn rate(&self, now: Instant, count: impl Fn(&Sample) -> u64) -> Option<u64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let span = now.duration_since(first.at);
        if span < SPAN_MIN {
            return None;
        }
        let more = u128::from(count(last).saturating_sub(count(first)));
        u64::try_from(more * 1000 / span.as_millis().max(1)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut window = Window::default();
        window.note(at(0), 0, 0);
        // A buffer takes many bytes at once, and then the network is slow.
        window.note(at(100), 4_000_000, 100);
        assert_eq!(window.sent_per_second(at(100)), None);
        for second in 1..=20 {
            window.note(at(second * 1000), 4_000_000 + second * 1000, 100);
        }
        assert_eq!(window.sent_per_second(at(20_000)), Some(1000));
        assert_eq!(window.done_per_second(at(20_000)), Some(0));
        assert_eq!(window.still(at(20_000)), Duration::ZERO);
        assert_eq!(window.still(at(23_000)), Duration::from_secs(3));
        for second in 21..=30 {
            window.note(at(second * 1000), 4_020_000, 100);
        }
        assert_eq!(window.sent_per_second(at(30_000)), Some(0));
        window.note(at(31_000), 4_020_000, 5);
        assert_eq!(window.done_per_second(at(32_000)), Some(0));
    }
}
