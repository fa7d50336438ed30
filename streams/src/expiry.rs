//! Expiry: time to live and renewal of streams.
//!
//! Every transaction compares the time with the expiry. So an expired stream does not exist for
//! clients, even before the alarm deletes its rows.

use std::time::Duration;

use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::call::Expiry;
use super::engine::Engine;
use super::record::StreamRecord;
use super::reply::Refusal;

/// A read renews the time to live once this fraction of it has passed. This bounds the writes of
/// reads; a stream may expire early by the same fraction.
const RENEWAL_FRACTION: u64 = 10;

impl StreamRecord {
    /// When the stream expires, unless a client reads or writes it before.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        match self.expiry {
            Expiry::Never => None,
            Expiry::Idle(seconds) => Some(self.touched.after(Duration::from_secs(seconds))),
            Expiry::At(at) => Some(at),
        }
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|end| end <= now)
    }

    /// Whether clients may no longer see the stream.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.deleted || self.is_expired(now)
    }

    /// The refusal for a stream that is over.
    pub(super) fn gone_error(&self) -> Refusal {
        if self.deleted || self.references > 0 {
            Refusal::Gone
        } else {
            Refusal::Unknown
        }
    }

    /// Whether a read now has to write the renewal.
    pub(super) fn needs_renewal(&self, now: Timestamp) -> bool {
        match self.expiry {
            Expiry::Never | Expiry::At(_) => false,
            Expiry::Idle(seconds) => {
                let slack = Duration::from_millis(seconds.saturating_mul(1_000) / RENEWAL_FRACTION);
                self.touched < now && self.touched.after(slack) <= now
            }
        }
    }
}

impl<S: Sql> Engine<'_, S> {
    /// Whether [`Engine::renew`] would write: at most ten times in a time to live.
    pub fn needs_renewal(&self, now: Timestamp) -> Result<bool, Refusal> {
        Ok(self.live(now)?.needs_renewal(now))
    }

    /// Renews the time to live, as every read and write does.
    pub fn renew(&self, now: Timestamp) -> Result<(), Refusal> {
        let mut stream = self.live(now)?;
        self.touch(&mut stream, now)
    }

    pub(super) fn touch(&self, stream: &mut StreamRecord, now: Timestamp) -> Result<(), Refusal> {
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

    fn stream(expiry: Expiry, touched: u64) -> StreamRecord {
        let generation = Generation::from_random([7; 16]);
        let media = MediaType::new("text/plain");
        StreamRecord::new(generation, media, expiry, at(touched))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn is_expired_at_the_end_of_the_time_to_live() {
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
    fn needs_renewal_at_most_ten_times_in_a_time_to_live() {
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
