//! Reads, beside the writer: each sees the state of one moment, however long it takes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pmx_sync::sql::Sql as _;
use pmx_sync::sql::SqlError;
use pmx_sync::stream::{Engine, Page, Read, Reading, Refusal, Shape, StreamName, View};
use pmx_sync::time::Timestamp;

use super::cold::SegmentFolder;
use super::names;
use super::turn::storage;
use crate::host::ready::block_on;
use crate::host::sql::Ledger;

/// Connections that only read.
pub(super) struct Readers {
    file: PathBuf,
    shape: Shape,
    idle: Mutex<Vec<Ledger>>,
}

/// How long a test that reads from segments only waits for them.
const COLD_PAUSE: Duration = Duration::from_millis(2);

/// Whether a read has to be noted, for it makes the stream live longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slides {
    Yes,
    No,
}

impl Readers {
    /// Reads a database that is there.
    pub(super) fn new(file: &Path, shape: Shape) -> Self {
        Self {
            file: file.to_owned(),
            shape,
            idle: Mutex::default(),
        }
    }

    /// What is known of a stream; blocks.
    pub(super) fn head(&self, name: &StreamName, now: Timestamp) -> Result<View, Refusal> {
        self.at_one_moment(name, |engine| engine.head(now))
    }

    /// Reads a page; blocks.
    pub(super) fn page(
        &self,
        name: &StreamName,
        read: Read,
        cold: &SegmentFolder,
        now: Timestamp,
    ) -> Result<(Page, Slides), Refusal> {
        while !self.at_one_moment(name, |engine| Ok(engine.is_readable()?))? {
            std::thread::sleep(COLD_PAUSE);
        }
        let (reading, slides) = self.at_one_moment(name, |engine| {
            let reading = engine.look(&read, now)?;
            let slides = if engine.slides(now)? {
                Slides::Yes
            } else {
                Slides::No
            };
            Ok((reading, slides))
        })?;
        match reading {
            Reading::Page(page) => Ok((page, slides)),
            Reading::Stitch(stitch) => match block_on(stitch.fetch(cold)) {
                Ok(page) => Ok((page, slides)),
                // If the stream was deleted meanwhile, its segments are.
                Err(failure) => match self.head(name, now) {
                    Err(refusal) => Err(refusal),
                    Ok(_) => Err(failure),
                },
            },
        }
    }

    fn at_one_moment<T>(
        &self,
        name: &StreamName,
        look: impl FnOnce(&Engine<'_, Ledger>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let ledger = self.take().map_err(storage)?;
        ledger.run("BEGIN", &[]).map_err(storage)?;
        let key = names::find(&ledger, name).map_err(storage);
        let seen = key.and_then(|key| {
            let key = key.ok_or(Refusal::Unknown)?;
            look(&Engine::new(&ledger, key, &self.shape))
        });
        // A connection that can't end its transaction is closed, which does.
        if ledger.run("COMMIT", &[]).is_ok() {
            self.idle().push(ledger);
        }
        seen
    }

    fn take(&self) -> Result<Ledger, SqlError> {
        let idle = self.idle().pop();
        match idle {
            Some(ledger) => Ok(ledger),
            None => Ledger::open(&self.file),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Ledger>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
