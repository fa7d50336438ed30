//! Append and close.
//!
//! The order of the checks is part of the protocol: a producer's retry is recognised before its
//! `Stream-Seq` is compared and before the stream turns out to be closed, so that a client that
//! lost an answer gets it again.

use std::borrow::Cow;

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::call::Append;
use super::engine::Engine;
use super::json;
use super::lifecycle;
use super::producer::{self, Sequence};
use super::record::Stream;
use super::reply::{Appended, Refusal};
use super::segment::Kind;
use crate::limits::STREAM_APPEND_BYTES_MAX;

/// An append, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendOutcome {
    /// The append.
    pub appended: Appended,
    /// When the alarm should come at the latest.
    pub due: Option<Timestamp>,
    /// Whether the hub waits to be told.
    pub is_report_due: bool,
}

impl<S: Sql> Engine<'_, S> {
    /// Appends, closes, or both. Slides the time to live.
    pub fn append(&self, call: &Append, now: Timestamp) -> Result<Appended, Refusal> {
        Ok(self.append_with_outcome(call, now)?.appended)
    }

    /// Appends, and says what else follows from it: what [`Engine::due`] and [`Engine::hub_update`]
    /// would have to look for is in memory here.
    pub fn append_with_outcome(
        &self,
        call: &Append,
        now: Timestamp,
    ) -> Result<AppendOutcome, Refusal> {
        self.check_form(call)?;
        let mut stream = self.live(now)?;
        let appended = self.append_to(&mut stream, call, now)?;
        let is_report_due = stream.is_report_due();
        let tells = is_report_due.then(|| now.after(lifecycle::GRACE));
        let due = [tells, stream.ends(), self.rotates_at(&stream, now)?];
        Ok(AppendOutcome {
            appended,
            due: due.into_iter().flatten().min(),
            is_report_due,
        })
    }

    /// The same in a transaction of its own. Most appends need none, because they are one
    /// statement: a savepoint and a second statement cost a tenth of an append on the Worker.
    pub fn append_alone(&self, call: &Append, now: Timestamp) -> Result<AppendOutcome, Refusal> {
        if !self.is_one_statement(call) {
            return self.atomically(|engine| engine.append_with_outcome(call, now));
        }
        let outcome = self.append_with_outcome(call, now);
        if outcome.is_err() {
            // What the statement would have written is not there.
            self.invalidate_row();
        }
        outcome
    }

    /// Whether an append writes by one statement at most. A run of JSON messages is longer than
    /// its body by a comma at most.
    fn is_one_statement(&self, call: &Append) -> bool {
        call.producer.is_none() && call.body.len() < self.config.chunk_bytes
    }

    fn append_to(
        &self,
        stream: &mut Stream,
        call: &Append,
        now: Timestamp,
    ) -> Result<Appended, Refusal> {
        check_type(call, stream)?;
        if let Some(repeated) = self.find_repeated(call, stream, now)? {
            return Ok(repeated);
        }
        check_seq(call, stream)?;
        let body = if call.body.is_empty() {
            Cow::default()
        } else {
            encode_body(stream, &call.body, EmptyArray::Refused)?
        };
        check_room(stream, &body)?;
        self.commit(call, stream, &body, now)
    }

    fn check_form(&self, call: &Append) -> Result<(), Refusal> {
        self.check_size(call.body.len())?;
        match (call.body.is_empty(), call.close, &call.media_type) {
            (true, false, _) => Err(Refusal::Empty),
            (false, _, None) => Err(Refusal::NoType),
            (true, true, _) | (false, _, Some(_)) => Ok(()),
        }
    }

    pub(super) fn check_size(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.config.append_bytes_max.min(STREAM_APPEND_BYTES_MAX) as u64;
        let bytes = bytes as u64;
        if bytes <= limit {
            Ok(())
        } else {
            Err(Refusal::TooLarge { bytes, limit })
        }
    }

    /// The answer to what was done before, if this is that; a refusal if it cannot be done.
    fn find_repeated(
        &self,
        call: &Append,
        stream: &mut Stream,
        now: Timestamp,
    ) -> Result<Option<Appended>, Refusal> {
        let next = stream.offset(stream.tail);
        let mut repeated = Appended {
            next,
            closed: stream.closed,
            repeated: true,
            producer: None,
        };
        let sequence = match &call.producer {
            None => Ok(Sequence::Next),
            Some(producer) => producer::check_sequence(producer, self.producer(&producer.id)?),
        };
        match (sequence, stream.closed) {
            (Ok(Sequence::Repeated(last)), _) => {
                repeated.producer = call.producer.as_ref().map(|it| (it.epoch, last));
            }
            (Ok(Sequence::Next), true) if call.body.is_empty() && call.producer.is_none() => {}
            (Err(Refusal::Fenced { epoch }), true) => return Err(Refusal::Fenced { epoch }),
            (Ok(Sequence::Next) | Err(_), true) => return Err(Refusal::Closed { next }),
            (Ok(Sequence::Next), false) => return Ok(None),
            (Err(refusal), false) => return Err(refusal),
        }
        self.touch(stream, now)?;
        Ok(Some(repeated))
    }

    fn commit(
        &self,
        call: &Append,
        stream: &mut Stream,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Appended, Refusal> {
        if let (Some(seq), false) = (&call.seq, body.is_empty()) {
            stream.seq = Some(seq.clone());
        }
        stream.closed |= call.close;
        stream.touched = stream.touched.max(now);
        if self.is_one_statement(call) && !body.is_empty() {
            self.insert_rows_and_save(stream, body)?;
        } else {
            self.insert_rows(stream, body)?;
            if let Some(producer) = &call.producer {
                self.keep_producer(producer)?;
            }
            self.save(stream)?;
        }
        Ok(Appended {
            next: stream.offset(stream.tail),
            closed: stream.closed,
            repeated: false,
            producer: call.producer.as_ref().map(|it| (it.epoch, it.seq)),
        })
    }
}

/// What an array without elements is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyArray {
    /// A stream without messages, when one is made.
    Allowed,
    /// Most likely a mistake.
    Refused,
}

/// A body as it is kept: JSON messages each followed by a comma, or the bytes as they are.
pub(super) fn encode_body<'a>(
    stream: &Stream,
    body: &'a [u8],
    empty: EmptyArray,
) -> Result<Cow<'a, [u8]>, Refusal> {
    match stream.kind() {
        Kind::Bytes => Ok(Cow::Borrowed(body)),
        Kind::Json => {
            let run = json::flatten(body).map_err(|why| Refusal::Json { why })?;
            if run.count == 0 && empty == EmptyArray::Refused {
                let why = "an empty array is no message".to_owned();
                return Err(Refusal::Json { why });
            }
            Ok(Cow::Owned(run.text))
        }
    }
}

/// Refuses what would pass the last position. No stream of this world does.
pub(super) fn check_room(stream: &Stream, body: &[u8]) -> Result<(), Refusal> {
    let bytes = body.len() as u64;
    let limit = EXACT_INTEGER_MAX.saturating_sub(stream.weight.max(stream.tail));
    if bytes <= limit {
        Ok(())
    } else {
        Err(Refusal::TooLarge { bytes, limit })
    }
}

fn check_type(call: &Append, stream: &Stream) -> Result<(), Refusal> {
    match &call.media_type {
        // Closing carries nothing that could have a type; a closed stream says so first.
        _ if call.body.is_empty() || stream.closed => Ok(()),
        Some(media) if media.essence() == stream.media.essence() => Ok(()),
        Some(_) | None => Err(Refusal::OtherType),
    }
}

fn check_seq(call: &Append, stream: &Stream) -> Result<(), Refusal> {
    match (&call.seq, &stream.seq) {
        _ if call.body.is_empty() => Ok(()),
        (Some(seq), Some(last)) if seq.as_bytes() <= last.as_bytes() => Err(Refusal::Seq),
        (Some(_) | None, _) => Ok(()),
    }
}
