//! Read connections: each read sees one snapshot of the database, without blocking the writer.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pmx_core::sql::Sql as _;
use pmx_core::sql::SqlError;
use pmx_core::time::Timestamp;
use pmx_streams::http::{ListRequest, ListedStream};
use pmx_streams::{
    Engine, EngineConfig, Page, Read, ReadResult, Refusal, StreamName, StreamProperties,
};

use super::cold::SegmentFolder;
use super::stream_ids;
use super::transaction::storage;
use crate::host::blocking::block_on;
use crate::host::sql::Database;

/// A pool of connections that only read.
pub(super) struct Readers {
    file: PathBuf,
    engine_config: EngineConfig,
    idle: Mutex<Vec<Database>>,
}

/// Interval at which a test polls until all rows are in segments.
const COLD_PAUSE: Duration = Duration::from_millis(2);

/// Whether a read has to renew the stream's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    Yes,
    No,
}

impl Readers {
    /// Reads an existing database.
    pub(super) fn new(file: &Path, engine_config: EngineConfig) -> Self {
        Self {
            file: file.to_owned(),
            engine_config,
            idle: Mutex::default(),
        }
    }

    /// The properties of a stream; blocks.
    pub(super) fn head(
        &self,
        name: &StreamName,
        now: Timestamp,
    ) -> Result<StreamProperties, Refusal> {
        self.with_stream(name, |engine| engine.head(now))
    }

    /// Reads a page; blocks. Also returns the time that segments took.
    pub(super) fn page(
        &self,
        name: &StreamName,
        read: Read,
        cold: &SegmentFolder,
        now: Timestamp,
    ) -> Result<(Page, Renewal, Duration), Refusal> {
        while !self.with_stream(name, |engine| Ok(engine.is_readable()?))? {
            std::thread::sleep(COLD_PAUSE);
        }
        let (result, needs_renewal) = self.with_stream(name, |engine| {
            let result = engine.peek(&read, now)?;
            let needs_renewal = if engine.needs_renewal(now)? {
                Renewal::Yes
            } else {
                Renewal::No
            };
            Ok((result, needs_renewal))
        })?;
        let begun = Instant::now();
        match result {
            ReadResult::Page(page) => Ok((page, needs_renewal, Duration::ZERO)),
            ReadResult::Cold(cold_read) => match block_on(cold_read.fetch(cold)) {
                Ok(page) => Ok((page, needs_renewal, begun.elapsed())),
                // The segments of a deleted stream are deleted: the refusal explains the failure.
                Err(failure) => match self.head(name, now) {
                    Err(refusal) => Err(refusal),
                    Ok(_) => Err(failure),
                },
            },
        }
    }

    /// Lists existing streams, and returns the name after which the next page begins; blocks.
    pub(super) fn list(
        &self,
        listing: &ListRequest,
        now: Timestamp,
    ) -> Result<(Vec<ListedStream>, Option<StreamName>), Refusal> {
        self.in_snapshot(|database| {
            let ListRequest {
                prefix,
                after,
                limit,
            } = listing;
            let names = stream_ids::page(database, prefix, after, *limit).map_err(storage)?;
            let last = names.last().map(|(_, name)| name.clone());
            let next = last.filter(|_| names.len() == *limit);
            let mut streams = Vec::with_capacity(names.len());
            for (key, name) in names {
                match Engine::new(database, key, &self.engine_config).head(now) {
                    Ok(view) => streams.push(ListedStream::new(name, &view)),
                    // It has ended, and its key is not deleted yet.
                    Err(Refusal::Unknown | Refusal::Gone) => {}
                    Err(failure) => return Err(failure),
                }
            }
            Ok((streams, next))
        })
    }

    fn with_stream<T>(
        &self,
        name: &StreamName,
        look: impl FnOnce(&Engine<'_, Database>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.in_snapshot(|database| {
            let key = stream_ids::find(database, name).map_err(storage)?;
            let key = key.ok_or(Refusal::Unknown)?;
            look(&Engine::new(database, key, &self.engine_config))
        })
    }

    fn in_snapshot<T>(
        &self,
        look: impl FnOnce(&Database) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let database = self.take().map_err(storage)?;
        database.run("BEGIN", &[]).map_err(storage)?;
        let seen = look(&database);
        // Closing a connection ends the transaction that it can't commit.
        if database.run("COMMIT", &[]).is_ok() {
            self.idle().push(database);
        }
        seen
    }

    fn take(&self) -> Result<Database, SqlError> {
        let idle = self.idle().pop();
        match idle {
            Some(database) => Ok(database),
            None => Database::open(&self.file),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Database>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
