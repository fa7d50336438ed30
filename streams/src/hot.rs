//! Hot log: the last messages of a stream, as rows.
//!
//! A row of a stream of bytes holds a piece of an append, and the number of that append's bytes
//! before it. A row of a JSON stream holds whole messages, each followed by a comma. A single
//! message that is longer than a row has several rows.
//!
//! Rows never change, so a range is the concatenation of its rows. SQLite concatenates them, so
//! that a read returns a few long values instead of thousands of short ones.

use std::ops::Range;

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError, Value};

use super::engine::Engine;
use super::json;
use super::record::StreamRecord;
use super::row::{Columns, invalid_column};
use super::segment::StreamKind;

/// Bytes that SQLite concatenates into one value, without the last row. A Durable Object has at
/// most 2 MB in a value.
const GROUP_BYTES: usize = 512 * 1024;

/// A boundary between two rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBoundary {
    pub(super) start: u64,
    pub(super) weight: u64,
}

/// The boundaries that a search accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BoundaryKind {
    /// Between any two rows.
    Rows,
    /// Between two appends of a stream of bytes; between any two rows of a JSON stream.
    Appends,
}

impl<S: Sql> Engine<'_, S> {
    /// Inserts a body after the last message: the bytes of an append, or JSON messages each
    /// followed by a comma. The caller saves the stream.
    pub(super) fn insert_rows(
        &self,
        stream: &mut StreamRecord,
        body: &[u8],
    ) -> Result<(), SqlError> {
        let row_bytes = self.config.chunk_bytes.max(1);
        match stream.kind() {
            StreamKind::Bytes => {
                let begin = stream.tail;
                body.chunks(row_bytes).try_for_each(|row| {
                    let head = stream.tail - begin;
                    self.insert_row(stream, &[row], row.len() as u64, head)
                })
            }
            StreamKind::Json => self.insert_messages(stream, body, row_bytes),
        }
    }

    /// Inserts a body that fits in one row, and saves the stream's own row, by one statement.
    pub(super) fn insert_rows_and_save(
        &self,
        stream: &mut StreamRecord,
        body: &[u8],
    ) -> Result<(), SqlError> {
        let (start, weight) = (stream.tail, stream.weight);
        stream.tail += match stream.kind() {
            StreamKind::Bytes => body.len() as u64,
            StreamKind::Json => json::Messages(body).count() as u64,
        };
        stream.weight += body.len() as u64;
        stream.hot_rows += 1;
        let insert = "INSERT INTO stream_append \
             (s, start, weight, body, tail, closed, seq, touched) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let params = [
            start.into(),
            weight.into(),
            body.into(),
            stream.tail.into(),
            u64::from(stream.closed).into(),
            stream.seq.clone().into(),
            stream.touched.as_millis().into(),
        ];
        self.run(insert, params)?;
        self.cache_row(stream);
        Ok(())
    }

    fn insert_messages(
        &self,
        stream: &mut StreamRecord,
        mut run: &[u8],
        row_bytes: usize,
    ) -> Result<(), SqlError> {
        while !run.is_empty() {
            let (mut end, mut count) = (0, 0);
            let mut messages = json::Messages(run);
            while let Some(message) = messages.next()
                && (count == 0 || end + message.len() < row_bytes)
            {
                end += message.len() + 1;
                count += 1;
            }
            let (row, rest) = run
                .split_at_checked(end)
                .ok_or_else(|| invalid_column("a run of messages"))?;
            let parts: Vec<&[u8]> = row.chunks(row_bytes).collect();
            self.insert_row(stream, &parts, count, 0)?;
            run = rest;
        }
        Ok(())
    }

    fn insert_row(
        &self,
        stream: &mut StreamRecord,
        parts: &[&[u8]],
        positions: u64,
        head: u64,
    ) -> Result<(), SqlError> {
        let insert = "INSERT INTO stream_log (s, start, part, weight, body, head) \
             VALUES (?, ?, ?, ?, ?, ?)";
        let (start, weight) = (stream.tail, stream.weight);
        for (part, body) in parts.iter().enumerate() {
            let part = part as u64;
            let body = Value::from(*body);
            let head = head.into();
            self.run(
                insert,
                [start.into(), part.into(), weight.into(), body, head],
            )?;
            stream.weight += parts.get(part as usize).map_or(0, |part| part.len() as u64);
        }
        stream.tail += positions;
        stream.hot_rows += 1;
        Ok(())
    }

    /// Reads the messages of `range`, a non-empty part of the log, up to the first append that
    /// reaches `budget`. Returns them, JSON messages joined by commas, and where they end.
    pub(super) fn hot(
        &self,
        stream: &StreamRecord,
        range: Range<u64>,
        budget: usize,
    ) -> Result<(Bytes, u64), SqlError> {
        let first = self.row_at(stream, range.start)?;
        let group = self.group_bytes();
        let full = first.weight.saturating_add(budget.max(1) as u64);
        let last = self.row_after(stream, first, full, BoundaryKind::Appends)?;
        let (mut body, mut at) = (Vec::new(), first);
        let bytes = last.weight.saturating_sub(first.weight);
        if bytes > group {
            // Reserved in one piece: a growing buffer needs twice the memory while it moves.
            body.reserve_exact(bytes as usize);
        }
        while at.start < range.end.min(last.start) {
            let weight = last.weight.min(at.weight + group);
            let next = self.row_after(stream, at, weight, BoundaryKind::Rows)?;
            self.concat_rows(at, next, &mut body)?;
            at = next;
        }
        let end = at.start.min(range.end);
        let body = match stream.kind() {
            StreamKind::Bytes => slice_bytes(body, first.start, range.start..end),
            StreamKind::Json => slice_messages(body, first.start, range.start..end, at.start),
        };
        Ok((
            body.ok_or_else(|| invalid_column("as long as its messages"))?,
            end,
        ))
    }

    /// Reads the rows of the log before a boundary, in groups that bound the memory.
    pub(super) fn rows_before(
        &self,
        stream: &StreamRecord,
        end: RowBoundary,
        mut each: impl FnMut(&[u8]) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut at = self.row_at(stream, stream.hot)?;
        while at.start < end.start {
            let weight = end.weight.min(at.weight + self.group_bytes());
            let next = self.row_after(stream, at, weight, BoundaryKind::Rows)?;
            let mut rows = Vec::new();
            self.concat_rows(at, next, &mut rows)?;
            each(&rows)?;
            at = next;
        }
        Ok(())
    }

    fn group_bytes(&self) -> u64 {
        self.config.chunk_bytes.clamp(1, GROUP_BYTES) as u64
    }

    /// The start of the append that contains a position of the log, in a stream of bytes.
    pub(super) fn append_at(&self, position: u64) -> Result<u64, SqlError> {
        let select = "SELECT start - head FROM stream_log WHERE s = ? AND start <= ? \
             ORDER BY start DESC, part DESC LIMIT 1";
        let row = self.run(select, [position.into()])?.into_iter().next();
        Columns::of(row.ok_or_else(|| invalid_column("in the log"))?).integer()
    }

    /// The length of each append within a range of the log.
    pub(super) fn appends_within(&self, range: Range<u64>) -> Result<Vec<u64>, SqlError> {
        let select = "SELECT start FROM stream_log WHERE s = ? AND start > ? AND start < ? \
             AND part = 0 AND head = 0 ORDER BY start";
        let rows = self.run(select, [range.start.into(), range.end.into()])?;
        let mut appends = Vec::with_capacity(rows.len() + 1);
        let mut at = range.start;
        for row in rows {
            let next = Columns::of(row).integer()?;
            appends.push(next - at);
            at = next;
        }
        appends.push(range.end - at);
        Ok(appends)
    }

    /// The row that contains a position.
    fn row_at(&self, stream: &StreamRecord, position: u64) -> Result<RowBoundary, SqlError> {
        if position == stream.hot {
            return Ok(RowBoundary {
                start: stream.hot,
                weight: stream.hot_weight,
            });
        }
        let select = "SELECT start, weight FROM stream_log WHERE s = ? AND start <= ? \
             ORDER BY start DESC, part DESC LIMIT 1";
        let row = self.run(select, [position.into()])?.into_iter().next();
        boundary(row.ok_or_else(|| invalid_column("in the log"))?)
    }

    /// The first row after `at` that reaches a weight, or the end.
    fn row_after(
        &self,
        stream: &StreamRecord,
        at: RowBoundary,
        weight: u64,
        between: BoundaryKind,
    ) -> Result<RowBoundary, SqlError> {
        let end = RowBoundary {
            start: stream.tail,
            weight: stream.weight,
        };
        if stream.weight <= weight {
            return Ok(end);
        }
        let select = match between {
            BoundaryKind::Rows => {
                "SELECT start, weight FROM stream_log WHERE s = ? AND start > ? \
                 AND weight >= ? ORDER BY start, part LIMIT 1"
            }
            BoundaryKind::Appends => {
                "SELECT start, weight FROM stream_log WHERE s = ? AND start > ? \
                 AND weight >= ? AND head = 0 ORDER BY start, part LIMIT 1"
            }
        };
        let rows = self.run(select, [at.start.into(), weight.into()])?;
        rows.into_iter().next().map_or(Ok(end), boundary)
    }

    /// Appends the rows between two boundaries to `body`.
    fn concat_rows(
        &self,
        from: RowBoundary,
        to: RowBoundary,
        body: &mut Vec<u8>,
    ) -> Result<(), SqlError> {
        let begin = body.len() as u64;
        let expected = to.weight.saturating_sub(from.weight);
        let select = "SELECT CAST(group_concat(body, '') AS BLOB) FROM stream_log \
             WHERE s = ? AND start >= ? AND start < ? AND part = 0";
        for row in self.run(select, [from.start.into(), to.start.into()])? {
            append(body, Columns::of(row).blob()?);
        }
        if body.len() as u64 - begin < expected {
            // Only the last row can be a long message: the next row begins another group.
            let select = "SELECT body FROM stream_log \
                 WHERE s = ? AND start >= ? AND start < ? AND part > 0 ORDER BY start, part";
            for row in self.run(select, [from.start.into(), to.start.into()])? {
                append(body, Columns::of(row).blob()?);
            }
        }
        if body.len() as u64 - begin == expected {
            Ok(())
        } else {
            Err(invalid_column("as long as its rows"))
        }
    }

    /// The boundary at which the next segment ends.
    pub(super) fn split_point(&self, stream: &StreamRecord) -> Result<RowBoundary, SqlError> {
        let first = self.row_at(stream, stream.hot)?;
        let heavy = first
            .weight
            .saturating_add(self.config.segment_bytes.max(1));
        let by_bytes = self.row_after(stream, first, heavy, BoundaryKind::Appends)?;
        let select = "SELECT start, weight FROM stream_log WHERE s = ? AND start >= ? \
             AND part = 0 AND head = 0 ORDER BY start LIMIT 1 OFFSET ?";
        let messages = self.config.segment_messages.max(1);
        let by_rows = self.run(select, [stream.hot.into(), messages.into()])?;
        match by_rows.into_iter().next().map(boundary).transpose()? {
            Some(by_rows) if by_rows.start < by_bytes.start => Ok(by_rows),
            Some(_) | None => Ok(by_bytes),
        }
    }

    /// Deletes the rows before a boundary. The caller saves the stream.
    pub(super) fn drop_before(
        &self,
        stream: &mut StreamRecord,
        boundary: RowBoundary,
    ) -> Result<(), SqlError> {
        let count = "SELECT count(*) FROM stream_log WHERE s = ? AND start < ? AND part = 0";
        let row = self.run(count, [boundary.start.into()])?.into_iter().next();
        let rows = Columns::of(row.unwrap_or_default()).integer()?;
        let delete = "DELETE FROM stream_log WHERE s = ? AND start < ?";
        self.run(delete, [boundary.start.into()])?;
        stream.hot = boundary.start;
        stream.hot_weight = boundary.weight;
        stream.hot_rows = stream.hot_rows.saturating_sub(rows);
        Ok(())
    }
}

/// Appends without a copy to an empty body: live readers read a single row.
fn append(body: &mut Vec<u8>, more: Vec<u8>) {
    if body.capacity() == 0 {
        *body = more;
    } else {
        body.extend_from_slice(&more);
    }
}

fn boundary(row: Vec<Value>) -> Result<RowBoundary, SqlError> {
    let mut row = Columns::of(row);
    Ok(RowBoundary {
        start: row.integer()?,
        weight: row.integer()?,
    })
}

fn slice_bytes(body: Vec<u8>, start: u64, wanted: Range<u64>) -> Option<Bytes> {
    let begin = wanted.start.checked_sub(start)? as usize;
    let end = wanted.end.checked_sub(start)? as usize;
    (begin <= end && end <= body.len()).then(|| Bytes::from(body).slice(begin..end))
}

fn slice_messages(body: Vec<u8>, start: u64, wanted: Range<u64>, behind: u64) -> Option<Bytes> {
    let begin = json::bytes_of(&body, wanted.start.checked_sub(start)?);
    let end = if wanted.end == behind {
        body.len()
    } else {
        json::bytes_of(&body, wanted.end.checked_sub(start)?)
    };
    // The last comma does not belong to the result.
    let end = end.checked_sub(1)?;
    (begin <= end).then(|| Bytes::from(body).slice(begin..end))
}
