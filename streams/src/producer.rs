//! Idempotent producers: each append counts once, and a producer that was replaced counts no more.

use pmx_core::sql::{Sql, SqlError};

use super::call::Producer;
use super::engine::Engine;
use super::reply::Refusal;
use super::row::Columns;

/// What a producer's append is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sequence {
    /// The next one.
    Next,
    /// One that was kept before; the highest number kept is given.
    Repeated(u64),
}

/// What is kept of a producer: its epoch and the highest number of that.
pub(super) type Kept = (u64, u64);

/// Judges an append by what is kept of its producer.
pub(super) fn check_sequence(producer: &Producer, kept: Option<Kept>) -> Result<Sequence, Refusal> {
    let gap = |expected| Refusal::Gap {
        expected,
        received: producer.seq,
    };
    match kept {
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
    pub(super) fn producer(&self, id: &str) -> Result<Option<Kept>, SqlError> {
        let select = "SELECT epoch, seq FROM stream_producer WHERE s = ? AND id = ?";
        let row = self.run(select, [id.into()])?.into_iter().next();
        row.map(|row| {
            let mut row = Columns::of(row);
            Ok((row.integer()?, row.integer()?))
        })
        .transpose()
    }

    pub(super) fn keep_producer(&self, producer: &Producer) -> Result<(), SqlError> {
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
    fn judgements() {
        let gap = |expected, received| Err(Refusal::Gap { expected, received });
        for (kept, epoch, seq, expected) in [
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
                check_sequence(&producer, kept),
                expected,
                "{kept:?} {epoch} {seq}"
            );
        }
    }
}
