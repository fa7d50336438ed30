//! Stream engine: one synchronous transaction per call, over SQL.
//!
//! The caller runs a transaction inside [`Sql::atomically`], alone or with those of other streams,
//! so that one flush commits many. A transaction that refuses has written nothing, except where the
//! storage itself failed ([`Refusal::Storage`](crate::Refusal::Storage)): the caller then rolls all
//! back. [`driver`](crate::driver) performs the effects on other streams and on cold storage.

use pmx_core::sql::{Sql, SqlError};

use super::record::Stream;
use super::row_cache::RowCache;
use crate::limits::{
    STREAM_APPEND_BYTES_MAX, STREAM_CHUNK_BYTES, STREAM_READ_BYTES, STREAM_SEGMENT_BYTES,
    STREAM_SEGMENT_MESSAGES,
};

/// How large the pieces are in which a stream is kept and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Bytes of a row of the hot log; a longer append has several.
    pub chunk_bytes: usize,
    /// Bytes of the hot log from which on the oldest move to a segment.
    pub segment_bytes: u64,
    /// Rows of the hot log from which on the oldest move to a segment.
    pub segment_messages: u64,
    /// Bytes of a page, unless its only message is longer.
    pub read_bytes: usize,
    /// Bytes of an append.
    pub append_bytes_max: usize,
    /// For tests, beside segments of one message: a client that reads waits until all is in
    /// segments.
    pub cold_reads: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            chunk_bytes: STREAM_CHUNK_BYTES,
            segment_bytes: STREAM_SEGMENT_BYTES,
            segment_messages: STREAM_SEGMENT_MESSAGES,
            read_bytes: STREAM_READ_BYTES,
            append_bytes_max: STREAM_APPEND_BYTES_MAX,
            cold_reads: false,
        }
    }
}

/// A stream and what keeps it: turns are taken on this.
#[derive(Debug)]
pub struct Engine<'a, S> {
    pub(super) sql: &'a S,
    pub(super) key: i64,
    pub(super) config: &'a EngineConfig,
    pub(super) reporting: Reporting,
    pub(super) row_cache: Option<&'a RowCache>,
}

/// Where a stream reports its lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reporting {
    /// Nowhere.
    Off,
    /// To the host's registry, in the same transaction.
    Local,
    /// To the hub, which is another object.
    Hub,
}

impl<S> Clone for Engine<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Engine<'_, S> {}

impl<'a, S: Sql> Engine<'a, S> {
    /// The stream that has `key` in all tables of `sql`. There need not be one yet.
    pub const fn new(sql: &'a S, key: i64, config: &'a EngineConfig) -> Self {
        let reporting = Reporting::Off;
        Self {
            sql,
            key,
            config,
            reporting,
            row_cache: None,
        }
    }

    /// The same stream, whose own row is kept between turns.
    #[must_use]
    pub const fn with_row_cache(self, row_cache: &'a RowCache) -> Self {
        let row_cache = Some(row_cache);
        Self { row_cache, ..self }
    }

    /// The same stream, which writes down its beginning and end for
    /// [`take_lifecycle_events`](Self::take_lifecycle_events).
    #[must_use]
    pub const fn with_local_registry(self) -> Self {
        let reporting = Reporting::Local;
        Self { reporting, ..self }
    }

    /// The same stream, which writes down what a hub elsewhere has to be told.
    #[must_use]
    pub const fn with_hub_registry(self) -> Self {
        let reporting = Reporting::Hub;
        Self { reporting, ..self }
    }

    /// Whether reads need not wait: without [`EngineConfig::cold_reads`] they never need to.
    pub fn is_readable(&self) -> Result<bool, SqlError> {
        if !self.config.cold_reads {
            return Ok(true);
        }
        let stream = self.load()?;
        Ok(stream.is_none_or(|stream| stream.deleted || stream.hot_rows == 0))
    }

    /// Takes one turn that holds as a whole or not at all.
    pub fn atomically<T, E: From<SqlError>>(
        &self,
        turn: impl FnOnce(&Engine<'_, S>) -> Result<T, E>,
    ) -> Result<T, E> {
        let outcome = self.sql.atomically(|sql| turn(&Engine { sql, ..*self }));
        if outcome.is_err() {
            // What the turn wrote is undone.
            self.invalidate_row();
        }
        outcome
    }
}

impl<S: Sql> Engine<'_, S> {
    /// Takes note of the row as it lies in the database from now on.
    pub(super) fn cache_row(&self, stream: &Stream) {
        if let Some(row_cache) = self.row_cache {
            row_cache.set(Some(stream.clone()));
        }
    }

    /// Has the next turn read the row.
    pub(super) fn invalidate_row(&self) {
        if let Some(row_cache) = self.row_cache {
            row_cache.set(None);
        }
    }
}
