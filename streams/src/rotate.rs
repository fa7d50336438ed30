//! Rotation: moves the oldest rows of the hot log into a segment.
//!
//! The driver writes the object first. Then one transaction lists the segment and deletes its rows
//! from the log. A crash in between leaves an object without references, which the job of its
//! intent deletes. The same rows yield the same object under the same key, so that a retry is
//! harmless.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::cold::SegmentKey;
use super::engine::Engine;
use super::hot::RowBoundary;
use super::job::{ROTATE, StreamJob};
use super::json;
use super::record::StreamRecord;
use super::row::{Columns, invalid_column};
use super::segment::{
    BuildError, FRAME_HEAD_BYTES, Segment, SegmentBuilder, SegmentIndex, StreamKind,
};
use crate::limits::STREAM_APPEND_BYTES_MAX;

/// A footer has at most one byte for this many bytes of frames. An entry has about 30 bytes, and
/// each block but the last has 64 KiB.
const FOOTER_SHARE: usize = 1024;

/// How long a rotation without memory waits: some request bodies are finished by then.
const MEMORY_RETRY_TIME: Duration = Duration::from_secs(1);

impl<S: Sql> Engine<'_, S> {
    /// Builds a segment of the oldest rows, and queues its deletion in case the write fails.
    pub(super) fn rotate(
        &self,
        mut stream: StreamRecord,
        now: Timestamp,
    ) -> Result<StreamJob, SqlError> {
        let boundary = self.split_point(&stream)?;
        let segment = self.segment_before(&stream, boundary)?;
        let end = boundary.start;
        let key = SegmentKey {
            generation: stream.generation,
            start: stream.hot,
            end,
        };
        self.enqueue_segment_cleanup(&key, now)?;
        if !stream.cold {
            stream.cold = true;
            self.save(&stream)?;
        }
        Ok(StreamJob::WriteSegment {
            key,
            body: segment.bytes.into(),
            index: segment.index,
        })
    }

    /// Builds the segment of the rows before a boundary. It reads them in groups, so that the
    /// segment and all of its rows are never in memory together.
    fn segment_before(
        &self,
        stream: &StreamRecord,
        boundary: RowBoundary,
    ) -> Result<Segment, SqlError> {
        let weight = boundary.weight.saturating_sub(stream.hot_weight) as usize;
        let mut builder = SegmentBuilder::new(stream.kind(), stream.hot);
        match stream.kind() {
            StreamKind::Bytes => {
                let appends = self.appends_within(stream.hot..boundary.start)?;
                let heads = appends.len() * FRAME_HEAD_BYTES;
                builder.reserve(weight + heads + weight / FOOTER_SHARE);
                let mut appends = Appends::new(&mut builder, &appends);
                self.rows_before(stream, boundary, |rows| {
                    appends.take(rows).map_err(build_failed)
                })?;
                appends.end()?;
            }
            StreamKind::Json => {
                builder.reserve(weight + weight / 8);
                self.rows_before(stream, boundary, |rows| {
                    let mut messages = json::Messages(rows);
                    let pushed = messages.try_for_each(|message| builder.push(message));
                    pushed.map_err(build_failed)
                })?;
            }
        }
        builder.finish().map_err(build_failed)
    }

    /// Bytes of the rows that the next rotation moves, if it is due.
    pub(super) fn rotating_bytes(&self, now: Timestamp) -> Result<u64, SqlError> {
        let Some(stream) = self.load()? else {
            return Ok(0);
        };
        match self.rotates_at(&stream, now)? {
            Some(at) if at <= now => {
                let boundary = self.split_point(&stream)?;
                Ok(boundary.weight.saturating_sub(stream.hot_weight))
            }
            Some(_) | None => Ok(0),
        }
    }

    /// Postpones the rotation when there is no memory for it.
    pub(super) fn rotate_later(&self, now: Timestamp) -> Result<(), SqlError> {
        self.enqueue(ROTATE, "", None, now.after(MEMORY_RETRY_TIME))
    }

    /// Lists a written segment and deletes its rows from the log. Returns false if the stream has
    /// ended or rotated otherwise since the segment was built.
    pub(super) fn rotated(&self, key: &SegmentKey, index: &SegmentIndex) -> Result<bool, SqlError> {
        let Some(mut stream) = self.load()? else {
            return Ok(false);
        };
        let is_unchanged = stream.generation == key.generation && stream.hot == key.start;
        if stream.deleted || !is_unchanged {
            return Ok(false);
        }
        let insert = "INSERT INTO stream_segment \
             (s, start, finish, generation, object_end, footer, appends) \
             VALUES (?, ?, ?, ?, ?, ?, 1)";
        let params = [
            key.start.into(),
            key.end.into(),
            key.generation.to_string().into(),
            key.end.into(),
            index.encode().into(),
        ];
        self.run(insert, params)?;
        let weight = self.weight_at(&stream, key.end)?;
        let boundary = RowBoundary {
            start: key.end,
            weight,
        };
        self.drop_before(&mut stream, boundary)?;
        self.save(&stream)?;
        self.dequeue(ROTATE, "")?;
        Ok(true)
    }

    /// Bytes of the log before a row.
    fn weight_at(&self, stream: &StreamRecord, start: u64) -> Result<u64, SqlError> {
        let select = "SELECT weight FROM stream_log WHERE s = ? AND start = ? AND part = 0";
        let row = self.run(select, [start.into()])?.into_iter().next();
        row.map_or(Ok(stream.weight), |row| Columns::of(row).integer())
    }
}

/// Splits a sequence of byte slices into the frames of appends.
struct Appends<'a, L> {
    builder: &'a mut SegmentBuilder,
    lengths: L,
    /// Missing bytes of the current append.
    left: usize,
}

impl<'a> Appends<'a, ()> {
    fn new(
        builder: &'a mut SegmentBuilder,
        lengths: &'a [u64],
    ) -> Appends<'a, impl Iterator<Item = usize>> {
        let lengths = lengths
            .iter()
            .flat_map(|length| frames_of(*length as usize));
        Appends {
            builder,
            lengths,
            left: 0,
        }
    }
}

impl<L: Iterator<Item = usize>> Appends<'_, L> {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), BuildError> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.left = self.lengths.next().unwrap_or(bytes.len());
                self.builder.begin(self.left)?;
            }
            let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.builder.extend(piece);
            self.left -= piece.len();
            bytes = rest;
        }
        Ok(())
    }

    /// Checks that the last append is complete.
    fn end(self) -> Result<(), SqlError> {
        match self.left {
            0 => Ok(()),
            _ => Err(invalid_column("as long as its appends")),
        }
    }
}

/// The lengths of the frames of an append: one frame, unless an older version accepted a longer
/// append.
fn frames_of(length: usize) -> impl Iterator<Item = usize> {
    let starts = (0..length).step_by(STREAM_APPEND_BYTES_MAX);
    starts.map(move |start| STREAM_APPEND_BYTES_MAX.min(length - start))
}

fn build_failed(error: BuildError) -> SqlError {
    SqlError(error.to_string())
}
