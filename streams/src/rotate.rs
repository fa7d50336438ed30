//! Rotation: the oldest rows of the log become a segment.
//!
//! The object comes first, then one turn that lists it and takes its rows out of the log. A crash
//! before that turn leaves an object that nobody refers to; the line of its intent deletes it. The
//! same rows make the same object under the same key, so that a second try does no harm.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::chore::{Chore, ROTATE};
use super::cold::SegmentKey;
use super::engine::Engine;
use super::hot::Place;
use super::json;
use super::record::Stream;
use super::row::Columns;
use super::segment::{BuildError, Builder, Index, Kind};
use crate::limits::STREAM_APPEND_BYTES_MAX;

/// How long a segment waits that found no room: the bodies of some requests are done by then.
const CROWDED: Duration = Duration::from_secs(1);

impl<S: Sql> Engine<'_, S> {
    /// Makes a segment of the oldest rows, and writes down that it will be written.
    pub(super) fn rotate(&self, mut stream: Stream, now: Timestamp) -> Result<Chore, SqlError> {
        let place = self.cut_place(&stream)?;
        let bytes = place.weight.saturating_sub(stream.hot_weight) as usize;
        let (body, end) = self.hot(&stream, stream.hot..place.start, bytes)?;
        let mut builder = Builder::new(stream.kind(), stream.hot);
        builder.reserve(body.len() + body.len() / 8);
        let built = match stream.kind() {
            Kind::Bytes => {
                let appends = self.appends_within(stream.hot..end)?;
                push_all(&mut builder, split(&body, &appends))
            }
            Kind::Json => push_all(&mut builder, json::Messages(&body)),
        };
        let segment = built.and_then(|()| builder.finish());
        let segment = segment.map_err(|error| SqlError(error.to_string()))?;
        let key = SegmentKey {
            generation: stream.generation,
            start: stream.hot,
            end,
        };
        self.intend_segment(&key, now)?;
        if !stream.cold {
            stream.cold = true;
            self.save(&stream)?;
        }
        Ok(Chore::Write {
            key,
            body: segment.bytes.into(),
            index: segment.index,
        })
    }

    /// Bytes of the rows that the next segment takes out of the log, if it is due.
    pub(super) fn rotating_bytes(&self, now: Timestamp) -> Result<u64, SqlError> {
        let Some(stream) = self.load()? else {
            return Ok(0);
        };
        match self.rotates_at(&stream, now)? {
            Some(at) if at <= now => {
                let place = self.cut_place(&stream)?;
                Ok(place.weight.saturating_sub(stream.hot_weight))
            }
            Some(_) | None => Ok(0),
        }
    }

    /// Leaves the rows in the log for a moment, where there is no room to move them.
    pub(super) fn rotate_later(&self, now: Timestamp) -> Result<(), SqlError> {
        self.note(ROTATE, "", None, now.after(CROWDED))
    }

    /// Lists a segment that was written and takes its rows out of the log, if the stream is as it
    /// was when the segment was made.
    pub(super) fn rotated(&self, key: &SegmentKey, index: &Index) -> Result<bool, SqlError> {
        let Some(mut stream) = self.load()? else {
            return Ok(false);
        };
        let as_it_was = stream.generation == key.generation && stream.hot == key.start;
        if stream.deleted || !as_it_was {
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
        let place = Place {
            start: key.end,
            weight,
        };
        self.drop_before(&mut stream, place)?;
        self.save(&stream)?;
        self.cross_out(ROTATE, "")?;
        Ok(true)
    }

    /// Bytes of the log before a row.
    fn weight_at(&self, stream: &Stream, start: u64) -> Result<u64, SqlError> {
        let select = "SELECT weight FROM stream_log WHERE s = ? AND start = ? AND part = 0";
        let row = self.run(select, [start.into()])?.into_iter().next();
        row.map_or(Ok(stream.weight), |row| Columns::of(row).integer())
    }
}

/// Takes bytes apart into appends of these lengths. Lengths that do not fit leave the rest whole.
pub(super) fn split<'a>(bytes: &'a [u8], appends: &[u64]) -> impl Iterator<Item = &'a [u8]> {
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

fn push_all<'a>(
    builder: &mut Builder,
    mut messages: impl Iterator<Item = &'a [u8]>,
) -> Result<(), BuildError> {
    messages.try_for_each(|message| builder.push(message))
}
