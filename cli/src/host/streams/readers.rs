//! Read-only connections, beside the writer: each read sees one snapshot of the database.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pmx_core::sql::Sql as _;
use pmx_core::sql::SqlError;
use pmx_core::time::Timestamp;
use pmx_streams::http::{Listed, Listing};
use pmx_streams::{Engine, EngineConfig, Page, Read, ReadResult, Refusal, StreamName, View};

use super::cold::SegmentFolder;
use super::stream_ids;
use super::transaction::storage;
use crate::host::blocking::block_on;
use crate::host::sql::Database;

/// Connections that only read.
pub(super) struct Readers {
    file: PathBuf,
    engine_config: EngineConfig,
    idle: Mutex<Vec<Database>>,
}

/// How long a test that reads from segments only waits for them.
const COLD_PAUSE: Duration = Duration::from_millis(2);

/// Whether a read has to be noted, for it makes the stream live longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    Yes,
    No,
}

impl Readers {
    /// Reads a database that is there.
    pub(super) fn new(file: &Path, engine_config: EngineConfig) -> Self {
        Self {
            file: file.to_owned(),
            engine_config,
            idle: Mutex::default(),
        }
    }

    /// What is known of a stream; blocks.
    pub(super) fn head(&self, name: &StreamName, now: Timestamp) -> Result<View, Refusal> {
        self.at_one_moment(name, |engine| engine.head(now))
    }

    /// Reads a page; blocks. Also says how long segments took.
    pub(super) fn page(
        &self,
        name: &StreamName,
        read: Read,
        cold: &SegmentFolder,
        now: Timestamp,
    ) -> Result<(Page, Renewal, Duration), Refusal> {
        while !self.at_one_moment(name, |engine| Ok(engine.is_readable()?))? {
            std::thread::sleep(COLD_PAUSE);
        }
        let (reading, needs_renewal) = self.at_one_moment(name, |engine| {
            let reading = engine.peek(&read, now)?;
            let needs_renewal = if engine.needs_renewal(now)? {
                Renewal::Yes
            } else {
                Renewal::No
            };
            Ok((reading, needs_renewal))
        })?;
        let begun = Instant::now();
        match reading {
            ReadResult::Page(page) => Ok((page, needs_renewal, Duration::ZERO)),
            ReadResult::Cold(cold_read) => match block_on(cold_read.fetch(cold)) {
                Ok(page) => Ok((page, needs_renewal, begun.elapsed())),
                // If the stream was deleted in the meantime, its segments are.
                Err(failure) => match self.head(name, now) {
                    Err(refusal) => Err(refusal),
                    Ok(_) => Err(failure),
                },
            },
        }
    }

    /// Lists streams that are there, and says behind which name to go on; blocks.
    pub(super) fn list(
        &self,
        listing: &Listing,
        now: Timestamp,
    ) -> Result<(Vec<Listed>, Option<StreamName>), Refusal> {
        self.in_snapshot(|ledger| {
            let Listing {
                prefix,
                after,
                limit,
            } = listing;
            let names = stream_ids::behind(ledger, prefix, after, *limit).map_err(storage)?;
            let last = names.last().map(|(_, name)| name.clone());
            let next = last.filter(|_| names.len() == *limit);
            let mut streams = Vec::with_capacity(names.len());
            for (key, name) in names {
                match Engine::new(ledger, key, &self.engine_config).head(now) {
                    Ok(view) => streams.push(Listed::new(name, &view)),
                    // It has ended, and its name is not forgotten yet.
                    Err(Refusal::Unknown | Refusal::Gone) => {}
                    Err(failure) => return Err(failure),
                }
            }
            Ok((streams, next))
        })
    }

    fn at_one_moment<T>(
        &self,
        name: &StreamName,
        look: impl FnOnce(&Engine<'_, Database>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.in_snapshot(|ledger| {
            let key = stream_ids::find(ledger, name).map_err(storage)?;
            let key = key.ok_or(Refusal::Unknown)?;
            look(&Engine::new(ledger, key, &self.engine_config))
        })
    }

    fn in_snapshot<T>(
        &self,
        look: impl FnOnce(&Database) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let ledger = self.take().map_err(storage)?;
        ledger.run("BEGIN", &[]).map_err(storage)?;
        let seen = look(&ledger);
        // A connection that can't end its transaction is closed, which does.
        if ledger.run("COMMIT", &[]).is_ok() {
            self.idle().push(ledger);
        }
        seen
    }

    fn take(&self) -> Result<Database, SqlError> {
        let idle = self.idle().pop();
        match idle {
            Some(ledger) => Ok(ledger),
            None => Database::open(&self.file),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Database>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
