//! Stream engine: one synchronous transaction per call, over SQL.
//!
//! The caller runs a transaction inside [`Sql::atomically`], alone or with those of other streams,
//! so that one flush commits many. A transaction that refuses has written nothing, except where the
//! storage itself failed ([`Refusal::Storage`](crate::Refusal::Storage)): the caller then rolls all
//! back. [`driver`](crate::driver) performs the effects on other streams and on cold storage.

use pmx_core::sql::{Sql, SqlError};

use super::record::StreamRecord;
use super::row_cache::RowCache;
use crate::limits::{
    STREAM_APPEND_BYTES_MAX, STREAM_CHUNK_BYTES, STREAM_READ_BYTES, STREAM_SEGMENT_BYTES,
    STREAM_SEGMENT_MESSAGES,
};

/// Sizes in which a stream is stored and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Bytes of a row of the hot log; a longer append has several rows.
    pub chunk_bytes: usize,
    /// Bytes of the hot log that trigger a rotation.
    pub segment_bytes: u64,
    /// Rows of the hot log that trigger a rotation.
    pub segment_messages: u64,
    /// Bytes of a page, unless its only message is longer.
    pub read_bytes: usize,
    /// Largest append in bytes.
    pub append_bytes_max: usize,
    /// For tests: reads wait until the hot log is empty, so that they read segments only.
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

/// A stream in its database: each method is one transaction.
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
    /// It does not report.
    Off,
    /// To a registry in the same database.
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
    /// The stream with `key` in the tables of `sql`. It need not exist yet.
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

    /// The same stream, with a cache of its row between transactions.
    #[must_use]
    pub const fn with_row_cache(self, row_cache: &'a RowCache) -> Self {
        let row_cache = Some(row_cache);
        Self { row_cache, ..self }
    }

    /// The same stream, which records its lifecycle events for
    /// [`take_lifecycle_events`](Self::take_lifecycle_events).
    #[must_use]
    pub const fn with_local_registry(self) -> Self {
        let reporting = Reporting::Local;
        Self { reporting, ..self }
    }

    /// The same stream, which records its lifecycle events for [`hub_update`](Self::hub_update).
    #[must_use]
    pub const fn with_hub_registry(self) -> Self {
        let reporting = Reporting::Hub;
        Self { reporting, ..self }
    }

    /// Whether reads may begin: always, without [`EngineConfig::cold_reads`].
    pub fn is_readable(&self) -> Result<bool, SqlError> {
        if !self.config.cold_reads {
            return Ok(true);
        }
        let stream = self.load()?;
        Ok(stream.is_none_or(|stream| stream.deleted || stream.hot_rows == 0))
    }

    /// Runs a transaction: it commits as a whole or rolls back.
    pub fn atomically<T, E: From<SqlError>>(
        &self,
        transaction: impl FnOnce(&Engine<'_, S>) -> Result<T, E>,
    ) -> Result<T, E> {
        let run = |sql: &S| transaction(&Engine { sql, ..*self });
        let outcome = self.sql.atomically(run);
        if outcome.is_err() {
            // The cached row was rolled back.
            self.invalidate_row();
        }
        outcome
    }
}

impl<S: Sql> Engine<'_, S> {
    /// Caches the row that the database now contains.
    pub(super) fn cache_row(&self, stream: &StreamRecord) {
        if let Some(row_cache) = self.row_cache {
            row_cache.set(Some(stream.clone()));
        }
    }

    /// Makes the next transaction read the row.
    pub(super) fn invalidate_row(&self) {
        if let Some(row_cache) = self.row_cache {
            row_cache.set(None);
        }
    }
}
