//! Reading a stream: one page under one budget, from cold segments and the hot log.

use bytes::Bytes;

use super::call::{From, Read};
use super::cold::{Cold, SegmentKey};
use super::engine::Engine;
use super::generation::Generation;
use super::ledger::Stream;
use super::offset::Offset;
use super::reply::{Page, Refusal, View};
use super::row::{Columns, odd};
use super::segment::{Index, Kind};
use crate::sql::{Sql, SqlError, SqlRow};
use crate::time::Timestamp;

/// Segments that one page reads at most. Of the usual size, one or two fill it.
const PIECES_MAX: usize = 512;

/// Segments whose rows are fetched at once.
const BATCH: u64 = 16;

/// What a read comes to without leaving the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Page(Page),
    /// Part of it lies in cold storage: [`Stitch::fetch`] makes the page.
    Stitch(Stitch),
}

/// A page that begins in cold storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stitch {
    view: View,
    start: u64,
    budget: usize,
    pieces: Vec<Piece>,
    /// What follows in the log, and where that ends, if the pieces reach it.
    hot: Option<(Bytes, u64)>,
}

/// A segment and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    key: SegmentKey,
    index: Index,
    /// Where readers of this stream have to stop.
    finish: u64,
}

impl<S: Sql> Engine<'_, S> {
    /// What is known of the stream. Never slides its time to live.
    pub fn head(&self, now: Timestamp) -> Result<View, Refusal> {
        Ok(self.live(now)?.view())
    }

    /// Reads, and slides the time to live.
    pub fn read(&self, call: &Read, now: Timestamp) -> Result<Reading, Refusal> {
        let mut stream = self.live(now)?;
        let reading = self.page(&stream, call)?;
        self.touch(&mut stream, now)?;
        Ok(reading)
    }

    /// Reads without writing anything: not even that it was read.
    pub fn look(&self, call: &Read, now: Timestamp) -> Result<Reading, Refusal> {
        self.page(&self.live(now)?, call)
    }

    fn page(&self, stream: &Stream, call: &Read) -> Result<Reading, Refusal> {
        let start = match call.from {
            From::Start => 0,
            From::Now => stream.tail,
            From::At(offset) => offset.position(),
        };
        if start > stream.tail {
            return Err(Refusal::Beyond);
        }
        let budget = self.shape.read_bytes.max(1);
        if start < stream.hot {
            return Ok(Reading::Stitch(self.stitch(stream, start, budget)?));
        }
        let (body, end) = if start == stream.tail {
            (Bytes::new(), start)
        } else {
            self.hot(stream, start..stream.tail, budget)?
        };
        Ok(Reading::Page(Page {
            view: stream.view(),
            start: Offset::at(start),
            end: Offset::at(end),
            body,
        }))
    }

    fn stitch(&self, stream: &Stream, start: u64, budget: usize) -> Result<Stitch, SqlError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut at, mut promised) = (start, 0);
        while at < stream.hot && promised < budget as u64 && pieces.len() < PIECES_MAX {
            let batch = self.pieces(at)?;
            if batch.is_empty() {
                return Err(odd("in any segment"));
            }
            for piece in batch {
                promised += piece.index.payload_within(&(at..piece.finish));
                at = piece.finish;
                pieces.push(piece);
            }
        }
        let rest = (budget as u64).saturating_sub(promised) as usize;
        let hot = if at == stream.hot && at < stream.tail && rest > 0 {
            Some(self.hot(stream, at..stream.tail, rest)?)
        } else {
            None
        };
        Ok(Stitch {
            view: stream.view(),
            start,
            budget,
            pieces,
            hot,
        })
    }

    /// The segment that holds a position, and some behind it.
    fn pieces(&self, at: u64) -> Result<Vec<Piece>, SqlError> {
        let select = "SELECT start, finish, generation, object_end, footer FROM stream_segment \
             WHERE s = ? AND start >= (SELECT max(start) FROM stream_segment \
             WHERE s = ? AND start <= ?) ORDER BY start LIMIT ?";
        let key = crate::sql::Value::Integer(self.key);
        let rows = self.run(select, [key, at.into(), BATCH.into()])?;
        rows.into_iter().map(piece).collect()
    }
}

fn piece(row: SqlRow) -> Result<Piece, SqlError> {
    let mut row = Columns::of(row);
    let (start, finish) = (row.integer()?, row.integer()?);
    let generation = Generation::from_hex(&row.text()?).ok_or_else(|| odd("a generation"))?;
    let end = row.integer()?;
    let index = Index::decode(&row.blob()?).map_err(|error| SqlError(error.to_string()))?;
    let key = SegmentKey {
        generation,
        start,
        end,
    };
    Ok(Piece { key, index, finish })
}

impl Stitch {
    /// What was known of the stream when it was read.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Reads what is cold and joins it with what is hot.
    pub async fn fetch<C: Cold>(self, cold: &C) -> Result<Page, Refusal> {
        let (mut body, mut at) = (Vec::new(), self.start);
        for piece in &self.pieces {
            let rest = self.budget.saturating_sub(body.len());
            if rest == 0 {
                break;
            }
            at = piece.fetch(cold, at, rest, &mut body).await?;
        }
        let reached = self.pieces.last().is_none_or(|last| last.finish == at);
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
            view: self.view,
            start: Offset::at(self.start),
            end: Offset::at(at),
            body: body.into(),
        })
    }
}

impl Piece {
    /// Appends the messages from `at` on, and returns the position behind them.
    async fn fetch<C: Cold>(
        &self,
        cold: &C,
        at: u64,
        budget: usize,
        body: &mut Vec<u8>,
    ) -> Result<u64, Refusal> {
        // Between two bytes a page may end anywhere; JSON messages stay whole.
        let to = match self.index.kind() {
            Kind::Bytes => self.finish.min(at.saturating_add(budget as u64)),
            Kind::Json => self.finish,
        };
        let span = self
            .index
            .locate(at, to, budget)
            .ok_or_else(|| self.failed("it does not hold what was asked of it"))?;
        let bytes = cold.read(&self.key, span.bytes.clone()).await;
        let bytes = bytes
            .map_err(|error| self.failed(error))?
            .ok_or_else(|| self.failed("it is not there"))?;
        let cut = self.index.cut(&span, &bytes, body);
        cut.map_err(|error| self.failed(error))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Refusal {
        Refusal::Storage {
            why: format!("the segment {}: {why}", self.key),
        }
    }
}
