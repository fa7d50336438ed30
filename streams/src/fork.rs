//! Forks: the snapshot that a source retains for a stream that branches off it.
//!
//! A new fork copies the hot log of its source, and lists the source's segments as its own. So
//! reading the fork needs no other stream, only these segments. The source counts a reference for
//! each fork, with the fork's generation as its id, and keeps its segments while there is one. A
//! fork of a fork references the fork, which references its source.

use bytes::Bytes;
use pmx_core::crossing::Crosses;
use pmx_core::sql::{Sql, SqlError, SqlRow};
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::call::{Expiry, Fork, MediaType};
use super::engine::Engine;
use super::generation::Generation;
use super::offset::Offset;
use super::record::StreamRecord;
use super::reply::Refusal;
use super::row::{Columns, invalid_column};
use super::segment::StreamKind;
use crate::limits::STREAM_APPEND_BYTES_MAX;

/// Everything that a fork copies from its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkSnapshot {
    /// The media type of the source.
    pub media_type: MediaType,
    /// When the source ends.
    pub expiry: Expiry,
    /// The header's text that set `expiry`.
    pub expiry_text: Option<String>,
    /// The position at which the fork branches off.
    pub at: u64,
    /// The segments before that, in order.
    segments: Vec<SharedSegment>,
    /// The hot log after them, up to `at`; JSON messages are joined by commas.
    #[serde(skip)]
    hot: Bytes,
    /// The position at which `hot` begins.
    hot_start: u64,
    /// The length of each append in `hot`, for a stream of bytes.
    #[serde(default)]
    appends: Vec<u64>,
    /// The source's incarnation: its offsets are valid in the fork.
    #[serde(default)]
    pub(super) incarnation: u64,
}

impl Crosses for ForkSnapshot {
    fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
        for shared in &mut self.segments {
            each(&mut shared.footer);
        }
        each(&mut self.hot);
    }
}

/// A segment of the source that the fork lists as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SharedSegment {
    start: u64,
    finish: u64,
    generation: Generation,
    object_end: u64,
    #[serde(skip)]
    footer: Bytes,
    #[serde(default)]
    appends: bool,
}

impl<S: Sql> Engine<'_, S> {
    /// Retains a snapshot for a fork. A repeated request counts once.
    pub fn retain(
        &self,
        fork: &Fork,
        reference: Generation,
        now: Timestamp,
    ) -> Result<ForkSnapshot, Refusal> {
        let mut stream = match self.live(now) {
            Err(Refusal::Unknown) => Err(Refusal::NoSource),
            Err(Refusal::Gone) => Err(Refusal::SourceGone),
            other => other,
        }?;
        if fork.at.is_some_and(|at| !stream.has(at)) {
            return Err(Refusal::NoSuchPlace);
        }
        let base = fork.at.map_or(stream.tail, Offset::position);
        let at = base.checked_add(fork.beyond).ok_or(Refusal::NoSuchPlace)?;
        if at > stream.tail {
            return Err(Refusal::NoSuchPlace);
        }
        let snapshot = self.snapshot_at(&stream, at)?;
        if !self.has_reference(reference)? {
            let insert = "INSERT INTO stream_edge (s, edge) VALUES (?, ?)";
            self.run(insert, [reference.to_string().into()])?;
            stream.references += 1;
            self.save(&stream)?;
        }
        Ok(snapshot)
    }

    /// Releases a fork's reference; a repeated release has no effect. Releasing the last reference
    /// of a deleted stream destroys it.
    pub fn release(&self, reference: Generation, now: Timestamp) -> Result<(), Refusal> {
        let (Some(mut stream), true) = (self.load()?, self.has_reference(reference)?) else {
            return Ok(());
        };
        let delete = "DELETE FROM stream_edge WHERE s = ? AND edge = ?";
        self.run(delete, [reference.to_string().into()])?;
        stream.references = stream.references.saturating_sub(1);
        if stream.is_over(now) && stream.references == 0 {
            self.destroy(&stream, now)?;
        } else {
            self.save(&stream)?;
        }
        Ok(())
    }

    fn has_reference(&self, reference: Generation) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM stream_edge WHERE s = ? AND edge = ?";
        Ok(!self.run(select, [reference.to_string().into()])?.is_empty())
    }

    fn snapshot_at(&self, stream: &StreamRecord, at: u64) -> Result<ForkSnapshot, SqlError> {
        let select = "SELECT start, finish, generation, object_end, footer, appends \
             FROM stream_segment WHERE s = ? AND start < ? ORDER BY start";
        let rows = self.run(select, [at.into()])?;
        let segments = rows.into_iter().map(|row| shared(row, at));
        let hot_start = stream.hot.min(at);
        let (hot, appends) = match stream.kind() {
            _ if hot_start == at => (Bytes::new(), Vec::new()),
            StreamKind::Json => (self.hot(stream, hot_start..at, usize::MAX)?.0, Vec::new()),
            StreamKind::Bytes => (
                self.hot(stream, hot_start..at, usize::MAX)?.0,
                self.appends_within(hot_start..at)?,
            ),
        };
        Ok(ForkSnapshot {
            media_type: stream.media.clone(),
            expiry: stream.expiry,
            expiry_text: stream.expiry_text.clone(),
            at,
            segments: segments.collect::<Result<_, _>>()?,
            hot,
            hot_start,
            appends,
            incarnation: stream.incarnation,
        })
    }

    /// Copies a snapshot into the fork. The caller writes the stream's row.
    pub(super) fn copy_snapshot(
        &self,
        stream: &mut StreamRecord,
        snapshot: &ForkSnapshot,
    ) -> Result<(), SqlError> {
        let insert = "INSERT INTO stream_segment \
             (s, start, finish, generation, object_end, footer, appends) \
             VALUES (?, ?, ?, ?, ?, ?, ?)";
        for shared in &snapshot.segments {
            let params = [
                shared.start.into(),
                shared.finish.into(),
                shared.generation.to_string().into(),
                shared.object_end.into(),
                shared.footer[..].into(),
                u64::from(shared.appends).into(),
            ];
            self.run(insert, params)?;
        }
        stream.hot = snapshot.hot_start;
        stream.tail = snapshot.hot_start;
        if !snapshot.hot.is_empty() {
            match stream.kind() {
                StreamKind::Bytes => split(&snapshot.hot, &snapshot.appends)
                    .try_for_each(|append| self.insert_rows(stream, append))?,
                StreamKind::Json => {
                    self.insert_rows(stream, &[&snapshot.hot[..], b","].concat())?;
                }
            }
        }
        if stream.tail == snapshot.at {
            Ok(())
        } else {
            Err(invalid_column("as long as its snapshot"))
        }
    }
}

fn shared(row: SqlRow, at: u64) -> Result<SharedSegment, SqlError> {
    let mut row = Columns::of(row);
    Ok(SharedSegment {
        start: row.integer()?,
        finish: row.integer()?.min(at),
        generation: Generation::from_hex(&row.text()?)
            .ok_or_else(|| invalid_column("a generation"))?,
        object_end: row.integer()?,
        footer: row.blob()?.into(),
        appends: row.flag()?,
    })
}

/// Splits bytes into appends of these lengths. If the lengths do not fit, the rest is one append.
fn split<'a>(bytes: &'a [u8], appends: &[u64]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut pieces: Vec<&[u8]> = Vec::with_capacity(appends.len());
    for append in appends {
        let Some((piece, after)) = rest.split_at_checked(*append as usize) else {
            break;
        };
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
        .into_iter()
        .flat_map(|piece| piece.chunks(STREAM_APPEND_BYTES_MAX))
}
