//! Expiry: time to live and renewal of streams.
//!
//! A stream that is over is not there any more, whether or not its rows still are: every turn looks
//! at the clock it is given, and the alarm only tidies up.

use std::time::Duration;

use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::call::Expiry;
use super::engine::Engine;
use super::record::Stream;
use super::reply::Refusal;

/// Of a time to live, the part that may pass before a read or write is written down. It is what a
/// stream may end too early, and bounds what reads write.
const SLACK: u64 = 10;

impl Stream {
    /// When it ends, if no one reads or writes it until then.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        match self.expiry {
            Expiry::Never => None,
            Expiry::Idle(seconds) => Some(self.touched.after(Duration::from_secs(seconds))),
            Expiry::At(at) => Some(at),
        }
    }

    /// Whether its time has come.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|end| end <= now)
    }

    /// Whether no one may see it any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.deleted || self.is_expired(now)
    }

    /// What is said of a stream that is over.
    pub(super) fn gone_error(&self) -> Refusal {
        if self.deleted || self.references > 0 {
            Refusal::Gone
        } else {
            Refusal::Unknown
        }
    }

    /// Whether a read or write now should be written down.
    pub(super) fn needs_renewal(&self, now: Timestamp) -> bool {
        match self.expiry {
            Expiry::Never | Expiry::At(_) => false,
            Expiry::Idle(seconds) => {
                let slack = Duration::from_millis(seconds.saturating_mul(1_000) / SLACK);
                self.touched < now && self.touched.after(slack) <= now
            }
        }
    }
}

impl<S: Sql> Engine<'_, S> {
    /// Whether [`Engine::renew`] would write anything: at most ten times in a time to live.
    pub fn needs_renewal(&self, now: Timestamp) -> Result<bool, Refusal> {
        Ok(self.live(now)?.needs_renewal(now))
    }

    /// Slides the time to live, as every read and write does, and the beginning of a live read.
    pub fn renew(&self, now: Timestamp) -> Result<(), Refusal> {
        let mut stream = self.live(now)?;
        self.touch(&mut stream, now)
    }

    pub(super) fn touch(&self, stream: &mut Stream, now: Timestamp) -> Result<(), Refusal> {
        if stream.needs_renewal(now) {
            stream.touched = now;
            self.save(stream)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, MediaType};

    fn stream(expiry: Expiry, touched: u64) -> Stream {
        let generation = Generation::from_random([7; 16]);
        let media = MediaType::new("text/plain");
        Stream::new(generation, media, expiry, at(touched))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn lapsing() {
        for (expiry, now, expired) in [
            (Expiry::Never, u64::MAX, false),
            (Expiry::Idle(2), 2_999, false),
            (Expiry::Idle(2), 3_000, true),
            (Expiry::Idle(0), 1_000, true),
            (Expiry::Idle(u64::MAX), 1 << 53, false),
            (Expiry::At(at(5)), 4, false),
            (Expiry::At(at(5)), 5, true),
        ] {
            let stream = stream(expiry, 1_000);
            assert_eq!(stream.is_expired(at(now)), expired, "{expiry:?} {now}");
        }
    }

    #[test]
    fn sliding_is_written_down_at_most_ten_times() {
        let mut stream = stream(Expiry::Idle(5), 0);
        let mut written = 0;
        for now in 0..5_000 {
            if stream.needs_renewal(at(now)) {
                stream.touched = at(now);
                written += 1;
            }
            assert!(stream.ends() > Some(at(now + 4_499)), "{now}");
        }
        assert_eq!(written, 9);
        for expiry in [Expiry::Never, Expiry::At(at(9))] {
            stream.expiry = expiry;
            assert!(!stream.needs_renewal(at(1_000_000)));
        }
    }
}
