//! Append to a stream, and close.
//!
//! The order of the checks is part of the protocol. The engine recognises a producer's retry before
//! it compares `Stream-Seq`, and before it refuses because the stream is closed. So a client that
//! lost a response gets it again.

use std::borrow::Cow;

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::call::Append;
use super::engine::Engine;
use super::json;
use super::lifecycle;
use super::producer::{self, Sequence};
use super::record::StreamRecord;
use super::reply::{Appended, Refusal};
use super::segment::StreamKind;
use crate::limits::STREAM_APPEND_BYTES_MAX;

/// An append, with the work that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendOutcome {
    /// The result of the append.
    pub appended: Appended,
    /// When the alarm has to run at the latest.
    pub due: Option<Timestamp>,
    /// Whether the stream has to report its tail to the hub.
    pub is_report_due: bool,
}

impl<S: Sql> Engine<'_, S> {
    /// Appends, closes, or both. Renews the time to live.
    pub fn append(&self, call: &Append, now: Timestamp) -> Result<Appended, Refusal> {
        Ok(self.append_with_outcome(call, now)?.appended)
    }

    /// Appends, and returns what [`Engine::due`] and [`Engine::hub_update`] would read from the
    /// database again.
    pub fn append_with_outcome(
        &self,
        call: &Append,
        now: Timestamp,
    ) -> Result<AppendOutcome, Refusal> {
        self.check_form(call)?;
        let mut stream = self.live(now)?;
        let appended = self.append_to(&mut stream, call, now)?;
        let is_report_due = stream.is_report_due();
        let reports = is_report_due.then(|| now.after(lifecycle::GRACE));
        let due = [reports, stream.ends(), self.rotates_at(&stream, now)?];
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
            // The database does not contain what the cache does.
            self.invalidate_row();
        }
        outcome
    }

    /// Whether an append executes at most one statement. A run of JSON messages is at most one
    /// comma longer than its body.
    fn is_one_statement(&self, call: &Append) -> bool {
        call.producer.is_none() && call.body.len() < self.config.chunk_bytes
    }

    fn append_to(
        &self,
        stream: &mut StreamRecord,
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
        check_position(stream, &body)?;
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

    /// The result of an earlier append, if this one repeats it.
    fn find_repeated(
        &self,
        call: &Append,
        stream: &mut StreamRecord,
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
        stream: &mut StreamRecord,
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
                self.save_producer(producer)?;
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

/// How an empty JSON array is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyArray {
    /// As no messages, when a stream is created.
    Allowed,
    /// As an error: it is most likely a mistake.
    Refused,
}

/// The stored form of a body: JSON messages each followed by a comma, or the bytes unchanged.
pub(super) fn encode_body<'a>(
    stream: &StreamRecord,
    body: &'a [u8],
    empty: EmptyArray,
) -> Result<Cow<'a, [u8]>, Refusal> {
    match stream.kind() {
        StreamKind::Bytes => Ok(Cow::Borrowed(body)),
        StreamKind::Json => {
            let run = json::flatten(body).map_err(|why| Refusal::Json { why })?;
            if run.count == 0 && empty == EmptyArray::Refused {
                let why = "an empty array is no message".to_owned();
                return Err(Refusal::Json { why });
            }
            Ok(Cow::Owned(run.text))
        }
    }
}

/// Refuses an append beyond the last position, which no real stream reaches.
pub(super) fn check_position(stream: &StreamRecord, body: &[u8]) -> Result<(), Refusal> {
    let bytes = body.len() as u64;
    let limit = EXACT_INTEGER_MAX.saturating_sub(stream.weight.max(stream.tail));
    if bytes <= limit {
        Ok(())
    } else {
        Err(Refusal::TooLarge { bytes, limit })
    }
}

fn check_type(call: &Append, stream: &StreamRecord) -> Result<(), Refusal> {
    match &call.media_type {
        // An empty body has no type, and the closed state is reported before a wrong type.
        _ if call.body.is_empty() || stream.closed => Ok(()),
        Some(media) if media.essence() == stream.media.essence() => Ok(()),
        Some(_) | None => Err(Refusal::OtherType),
    }
}

fn check_seq(call: &Append, stream: &StreamRecord) -> Result<(), Refusal> {
    match (&call.seq, &stream.seq) {
        _ if call.body.is_empty() => Ok(()),
        (Some(seq), Some(last)) if seq.as_bytes() <= last.as_bytes() => Err(Refusal::Seq),
        (Some(_) | None, _) => Ok(()),
    }
}
