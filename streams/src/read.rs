//! Reads of a stream: one page within a budget, from cold segments and the hot log.

use std::ops::Range;

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError, SqlRow};
use pmx_core::time::Timestamp;

use super::call::{From, Read};
use super::cold::{Cold, SegmentKey};
use super::engine::Engine;
use super::generation::Generation;
use super::offset::Offset;
use super::record::StreamRecord;
use super::reply::{Page, Refusal, StreamProperties};
use super::row::{Columns, invalid_column};
use super::segment::{SegmentIndex, StreamKind};

/// Most segments that one page reads. One or two of the usual size fill it.
const SEGMENTS_MAX: usize = 512;

/// Segments per query.
const BATCH: u64 = 16;

/// Result of a read within the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadResult {
    /// The page.
    Page(Page),
    /// The page begins in cold storage: [`ColdRead::fetch`] reads it.
    Cold(ColdRead),
}

/// A page that begins in cold storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdRead {
    view: StreamProperties,
    start: u64,
    /// Whether the page begins at the start of the append that contains `start`.
    whole: bool,
    budget: usize,
    segments: Vec<SegmentRead>,
    /// The hot log after the segments, and where it ends, if the page reaches it.
    hot: Option<(Bytes, u64)>,
}

/// A segment that a page reads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SegmentRead {
    key: SegmentKey,
    index: SegmentIndex,
    /// The end for readers of this stream: a fork may end before its source's segment.
    finish: u64,
    /// Whether each frame is a whole append, in a stream of bytes.
    appends: bool,
}

impl<S: Sql> Engine<'_, S> {
    /// The stream's properties, without renewing the time to live.
    pub fn head(&self, now: Timestamp) -> Result<StreamProperties, Refusal> {
        Ok(self.live(now)?.view())
    }

    /// Reads, and renews the time to live.
    pub fn read(&self, call: &Read, now: Timestamp) -> Result<ReadResult, Refusal> {
        let mut stream = self.live(now)?;
        let result = self.page(&stream, call)?;
        self.touch(&mut stream, now)?;
        Ok(result)
    }

    /// Reads without writing: does not renew the time to live.
    pub fn peek(&self, call: &Read, now: Timestamp) -> Result<ReadResult, Refusal> {
        self.page(&self.live(now)?, call)
    }

    fn page(&self, stream: &StreamRecord, call: &Read) -> Result<ReadResult, Refusal> {
        let (start, whole) = match call.from {
            From::Start => (0, true),
            From::Now => (stream.tail, true),
            From::At(offset) if !stream.has(offset) => return Err(Refusal::Anew),
            // An offset beyond the tail means the tail: some clients add one to an offset.
            From::At(offset) => (offset.position().min(stream.tail), !offset.is_inside()),
        };
        let budget = self.config.read_bytes.max(1);
        if start < stream.hot {
            return Ok(ReadResult::Cold(
                self.cold_read(stream, start, whole, budget)?,
            ));
        }
        let start = if whole && stream.kind() == StreamKind::Bytes && start < stream.tail {
            self.append_at(start)?
        } else {
            start
        };
        let (body, end) = if start == stream.tail {
            (Bytes::new(), start)
        } else {
            self.hot(stream, start..stream.tail, budget)?
        };
        Ok(ReadResult::Page(Page {
            view: stream.view(),
            start: stream.offset(start),
            end: stream.offset(end),
            body,
        }))
    }

    fn cold_read(
        &self,
        stream: &StreamRecord,
        start: u64,
        whole: bool,
        budget: usize,
    ) -> Result<ColdRead, SqlError> {
        let mut segments: Vec<SegmentRead> = Vec::new();
        let (mut at, mut promised) = (start, 0);
        while at < stream.hot && promised < budget as u64 && segments.len() < SEGMENTS_MAX {
            let batch = self.segments(at)?;
            if batch.is_empty() {
                return Err(invalid_column("in any segment"));
            }
            for segment in batch {
                promised += segment.index.payload_within(&(at..segment.finish));
                at = segment.finish;
                segments.push(segment);
            }
        }
        let rest = (budget as u64).saturating_sub(promised) as usize;
        let hot = if at == stream.hot && at < stream.tail && rest > 0 {
            Some(self.hot(stream, at..stream.tail, rest)?)
        } else {
            None
        };
        Ok(ColdRead {
            view: stream.view(),
            start,
            whole,
            budget,
            segments,
            hot,
        })
    }

    /// The segment that contains a position, and some after it.
    fn segments(&self, at: u64) -> Result<Vec<SegmentRead>, SqlError> {
        let select = "SELECT start, finish, generation, object_end, footer, appends \
             FROM stream_segment WHERE s = ? AND start >= (SELECT max(start) FROM stream_segment \
             WHERE s = ? AND start <= ?) ORDER BY start LIMIT ?";
        let key = pmx_core::sql::Value::Integer(self.key);
        let rows = self.run(select, [key, at.into(), BATCH.into()])?;
        rows.into_iter().map(segment).collect()
    }
}

fn segment(row: SqlRow) -> Result<SegmentRead, SqlError> {
    let mut row = Columns::of(row);
    let (start, finish) = (row.integer()?, row.integer()?);
    let generation =
        Generation::from_hex(&row.text()?).ok_or_else(|| invalid_column("a generation"))?;
    let end = row.integer()?;
    let index = SegmentIndex::decode(&row.blob()?).map_err(|error| SqlError(error.to_string()))?;
    let key = SegmentKey {
        generation,
        start,
        end,
    };
    let appends = row.flag()?;
    Ok(SegmentRead {
        key,
        index,
        finish,
        appends,
    })
}

impl StreamRecord {
    /// Whether an offset belongs to this stream and not to an earlier one of the name. Offset zero
    /// belongs to each of them.
    pub(super) const fn has(&self, offset: Offset) -> bool {
        offset.position() == 0 || offset.incarnation() == self.incarnation
    }
}

impl ColdRead {
    /// The stream's properties at the time of the read.
    pub fn view(&self) -> &StreamProperties {
        &self.view
    }

    /// Reads the segments and appends the hot log.
    pub async fn fetch<C: Cold>(self, cold: &C) -> Result<Page, Refusal> {
        let (mut body, mut at, mut start) = (Vec::new(), self.start, self.start);
        for segment in &self.segments {
            let rest = self.budget.saturating_sub(body.len());
            if rest == 0 {
                break;
            }
            let whole = self.whole && at == self.start;
            let cut = segment.fetch(cold, at, whole, rest, &mut body).await?;
            if at == self.start {
                start = cut.start;
            }
            at = cut.end;
        }
        let reached = self.segments.last().is_none_or(|last| last.finish == at);
        let body = match self.hot {
            Some((hot, end)) if reached && body.len() < self.budget => {
                if !body.is_empty() && self.view.media_type.is_json() {
                    body.push(b',');
                }
                body.extend_from_slice(&hot);
                at = end;
                body
            }
            Some(_) | None => body,
        };
        Ok(Page {
            start: self.view.next.moved_to(start),
            end: self.view.next.moved_to(at),
            view: self.view,
            body: body.into(),
        })
    }
}

impl SegmentRead {
    /// Appends the messages from `at` on to `body`, and returns their range. With `whole`, it
    /// begins at the start of the append that contains `at`.
    async fn fetch<C: Cold>(
        &self,
        cold: &C,
        at: u64,
        whole: bool,
        budget: usize,
        body: &mut Vec<u8>,
    ) -> Result<Range<u64>, Refusal> {
        // Messages stay whole, except in segments of the first release, whose frames are parts of
        // appends: there a page may end between any two bytes.
        let to = match self.index.kind() {
            StreamKind::Bytes if !self.appends => self.finish.min(at.saturating_add(budget as u64)),
            StreamKind::Bytes | StreamKind::Json => self.finish,
        };
        let span = self
            .index
            .locate(at, to, budget)
            .ok_or_else(|| self.failed("it does not hold what was asked of it"))?;
        let bytes = cold.read(&self.key, span.bytes.clone()).await;
        let bytes = bytes?.ok_or_else(|| self.failed("it is not there"))?;
        let span = if whole && self.appends {
            span.whole()
        } else {
            span
        };
        let cut = self.index.extract(&span, &bytes, body);
        cut.map_err(|error| self.failed(error))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Refusal {
        Refusal::Storage {
            why: format!("the segment {}: {why}", self.key),
        }
    }
}
