//! Idempotent producers: deduplication by sequence number, and fencing by epoch.

use pmx_core::sql::{Sql, SqlError};

use super::call::Producer;
use super::engine::Engine;
use super::reply::Refusal;
use super::row::Columns;

/// How an append continues its producer's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sequence {
    /// It is the next append.
    Next,
    /// It repeats a stored append. The value is the highest stored number.
    Repeated(u64),
}

/// Stored state of a producer: its epoch, and the highest sequence number of that epoch.
pub(super) type StoredProducer = (u64, u64);

/// Checks an append against the stored state of its producer.
pub(super) fn check_sequence(
    producer: &Producer,
    stored: Option<StoredProducer>,
) -> Result<Sequence, Refusal> {
    let gap = |expected| Refusal::Gap {
        expected,
        received: producer.seq,
    };
    match stored {
        None if producer.seq == 0 => Ok(Sequence::Next),
        None => Err(gap(0)),
        Some((epoch, _)) if producer.epoch < epoch => Err(Refusal::Fenced { epoch }),
        Some((epoch, _)) if producer.epoch > epoch && producer.seq == 0 => Ok(Sequence::Next),
        Some((epoch, _)) if producer.epoch > epoch => Err(Refusal::EpochStart),
        Some((_, last)) if producer.seq <= last => Ok(Sequence::Repeated(last)),
        Some((_, last)) if producer.seq == last.saturating_add(1) => Ok(Sequence::Next),
        Some((_, last)) => Err(gap(last.saturating_add(1))),
    }
}

impl<S: Sql> Engine<'_, S> {
    pub(super) fn producer(&self, id: &str) -> Result<Option<StoredProducer>, SqlError> {
        let select = "SELECT epoch, seq FROM stream_producer WHERE s = ? AND id = ?";
        let row = self.run(select, [id.into()])?.into_iter().next();
        row.map(|row| {
            let mut row = Columns::of(row);
            Ok((row.integer()?, row.integer()?))
        })
        .transpose()
    }

    pub(super) fn save_producer(&self, producer: &Producer) -> Result<(), SqlError> {
        let upsert = "INSERT INTO stream_producer (s, id, epoch, seq) VALUES (?, ?, ?, ?) \
             ON CONFLICT (s, id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq";
        let params = [
            producer.id.as_str().into(),
            producer.epoch.into(),
            producer.seq.into(),
        ];
        self.run(upsert, params).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sequence_accepts_next_and_repeated_numbers_only() {
        let gap = |expected, received| Err(Refusal::Gap { expected, received });
        for (stored, epoch, seq, expected) in [
            (None, 0, 0, Ok(Sequence::Next)),
            (None, 7, 0, Ok(Sequence::Next)),
            (None, 0, 1, gap(0, 1)),
            (Some((1, 5)), 0, 6, Err(Refusal::Fenced { epoch: 1 })),
            (Some((1, 5)), 1, 4, Ok(Sequence::Repeated(5))),
            (Some((1, 5)), 1, 5, Ok(Sequence::Repeated(5))),
            (Some((1, 5)), 1, 6, Ok(Sequence::Next)),
            (Some((1, 5)), 1, 7, gap(6, 7)),
            (Some((1, 5)), 2, 0, Ok(Sequence::Next)),
            (Some((1, 5)), 2, 6, Err(Refusal::EpochStart)),
        ] {
            let id = "p".to_owned();
            let producer = Producer { id, epoch, seq };
            assert_eq!(
                check_sequence(&producer, stored),
                expected,
                "{stored:?} {epoch} {seq}"
            );
        }
    }
}
