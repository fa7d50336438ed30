//! Files of a folder: stats each, and reads those that differ from the cache.

use std::cell::Cell;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

use pmx_core::id::BlobId;
use rayon::prelude::*;

use super::super::cache::{CachedFile, CachedFolder};
use super::super::error::{ScanFault, shown};
use super::super::filesystem::{FileSystem, Listing, ListingEntry};
use super::super::read::{FileHasher, publishable};
use super::super::stat::Stat;
use super::super::{PathChange, Secrets};
use super::findings::lock;
use super::{Unknown, Walk, WalkPosition, lossy};
use crate::limits::FILES_MAX;
use crate::manifest::{Entry, Totals};
use crate::path::SitePath;

/// Files of one task: enough to pay for the task, few enough to share work.
const CHUNK_FILES: usize = 32;

/// A name on the way to a file: its own folder, or the folder that a link leads to.
pub(super) struct DirEntryRef<'a, F> {
    pub(super) folder: &'a F,
    pub(super) name: &'a CStr,
}

/// Outcome for some of a folder's files.
#[derive(Default)]
pub(super) struct FilesOutcome {
    pub(super) clean: usize,
    pub(super) bytes: u64,
    read: Totals,
    /// Bytes of long files, which were already counted during the read.
    streamed: u64,
    pub(super) fresh: Vec<(ListingEntry, Stat, Entry)>,
    pub(super) changes: Vec<PathChange>,
    /// Links into folders of pmx itself, whether or not the cache has them.
    pub(super) left_out: Vec<ListingEntry>,
}

impl FilesOutcome {
    fn of_all(parts: Vec<Self>) -> Self {
        let mut all = Self {
            fresh: Vec::with_capacity(parts.iter().map(|part| part.fresh.len()).sum()),
            changes: Vec::with_capacity(parts.iter().map(|part| part.changes.len()).sum()),
            ..Self::default()
        };
        for part in parts {
            all = all.merge(part);
        }
        all
    }

    pub(super) fn merge(mut self, mut other: Self) -> Self {
        self.clean += other.clean;
        self.bytes += other.bytes;
        self.read = self.read.plus(other.read);
        self.streamed += other.streamed;
        self.fresh.append(&mut other.fresh);
        self.changes.append(&mut other.changes);
        self.left_out.append(&mut other.left_out);
        self
    }
}

/// A file that differs from the cache.
struct ChangedFile {
    stat: Stat,
    entry: Entry,
    change: Option<PathChange>,
    /// Files and bytes that the scan read for it.
    read: Totals,
    /// Its bytes that were already counted during the read.
    streamed: u64,
}

impl<G: FileSystem> Walk<'_, G> {
    pub(super) fn files(
        &self,
        here: &WalkPosition<'_>,
        folder: &G::Folder,
        listing: &Listing,
        files: &[ListingEntry],
        cached: Option<CachedFolder<'_>>,
    ) -> FilesOutcome {
        let before = self
            .found
            .files
            .fetch_add(files.len() as u64, Ordering::Relaxed);
        if before + files.len() as u64 > FILES_MAX {
            self.problem("", self.too_many());
            return FilesOutcome::default();
        }
        let outcome = files
            .par_chunks(CHUNK_FILES)
            .map(|chunk| {
                let mut outcome = FilesOutcome::default();
                for &listed in chunk {
                    let name = listing.c_name(listed);
                    let spot = DirEntryRef { folder, name };
                    self.file(
                        here,
                        &spot,
                        listed,
                        listing.name(listed),
                        cached,
                        &mut outcome,
                    );
                }
                self.count(&outcome);
                outcome
            })
            .collect::<Vec<_>>();
        let outcome = FilesOutcome::of_all(outcome);
        self.progress.found(files.len() as u64, outcome.bytes);
        outcome
    }

    pub(super) fn count(&self, outcome: &FilesOutcome) {
        let Totals { files, bytes } = outcome.read;
        let reused = (outcome.clean + outcome.fresh.len()) as u64 - files;
        self.found.reused_files.fetch_add(reused, Ordering::Relaxed);
        if files > 0 {
            self.found.read_files.fetch_add(files, Ordering::Relaxed);
            self.found.read_bytes.fetch_add(bytes, Ordering::Relaxed);
            let left = bytes.saturating_sub(outcome.streamed);
            self.progress.hashed(files, left);
        }
    }

    /// Stats one file, and reads it if it differs from the cache.
    pub(super) fn file(
        &self,
        here: &WalkPosition<'_>,
        spot: &DirEntryRef<'_, G::Folder>,
        listed: ListingEntry,
        name: &[u8],
        cached: Option<CachedFolder<'_>>,
        outcome: &mut FilesOutcome,
    ) {
        let known = cached.and_then(|cached| cached.find_file(name));
        if let Some(known) = known
            && let Ok(stat) = self.filesystem.stat(spot.folder, spot.name)
            && stat == known.stat()
            && stat.is_older_than(self.clean_before)
        {
            outcome.clean += 1;
            outcome.bytes += stat.size;
            return;
        }
        match self.fresh(here, spot, name, known) {
            Ok(fresh) => {
                outcome.bytes += fresh.stat.size;
                outcome.read = outcome.read.plus(fresh.read);
                outcome.streamed += fresh.streamed;
                outcome.changes.extend(fresh.change);
                outcome.fresh.push((listed, fresh.stat, fresh.entry));
            }
            Err(problem) => {
                outcome.left_out.push(listed);
                self.problem(&lossy(here, name), problem);
            }
        }
    }

    fn fresh(
        &self,
        here: &WalkPosition<'_>,
        spot: &DirEntryRef<'_, G::Folder>,
        name: &[u8],
        known: Option<CachedFile<'_>>,
    ) -> Result<ChangedFile, ScanFault> {
        let path = SitePath::parse_bytes(&[here.prefix.as_bytes(), name].concat())?;
        if let Some(bytes) = self.filesystem.generated(spot.folder, spot.name) {
            return Ok(self.generated(path, bytes, known));
        }
        let open = || -> io::Result<File> { self.filesystem.open(spot.folder, spot.name) };
        let mut read = Totals::default();
        let streamed = Cell::new(0);
        let mut is_secret = false;
        let (stat, blob) = match self.unknown {
            // The scan already fails: it continues only to find all problems.
            _ if self.problems.any() => (FileHasher::probe(path.as_str(), open)?, BlobId::of(b"")),
            Unknown::List => (self.look(spot, &path)?, BlobId::of(b"")),
            Unknown::Read(ahead) => match ahead.and_then(|ahead| ahead.find(&path)) {
                Some(seen) if self.look(spot, &path)? == seen.0 => seen,
                Some(_) | None => {
                    let passed = |bytes| {
                        streamed.set(streamed.get() + bytes);
                        self.progress.hashed(0, bytes);
                    };
                    let content = self.reader.hash(path.as_str(), open, &passed)?;
                    read = Totals::of_file(content.stat.size);
                    is_secret = content.is_secret;
                    (content.stat, content.blob)
                }
            },
        };
        if is_secret && self.secrets == Secrets::Refuse {
            lock(&self.found.secrets).add(shown(path.as_str()));
        }
        let entry = Entry {
            blob,
            size: stat.size,
            media: self.media.of(path.name()),
        };
        let change = change(path, &entry, known);
        Ok(ChangedFile {
            stat,
            entry,
            change,
            read,
            streamed: streamed.get(),
        })
    }

    fn generated(
        &self,
        path: SitePath,
        bytes: &[u8],
        known: Option<CachedFile<'_>>,
    ) -> ChangedFile {
        let entry = Entry {
            blob: BlobId::of(bytes),
            size: bytes.len() as u64,
            media: self.media.of(path.name()),
        };
        ChangedFile {
            stat: Stat::of_generated(bytes),
            change: change(path, &entry, known),
            entry,
            read: Totals::default(),
            streamed: 0,
        }
    }

    fn look(&self, spot: &DirEntryRef<'_, G::Folder>, path: &SitePath) -> Result<Stat, ScanFault> {
        let stat = self.filesystem.stat(spot.folder, spot.name);
        let stat = stat.map_err(|error| ScanFault::from_io(path.as_str(), "look at", error))?;
        publishable(stat, path.as_str())
    }
}

/// The change of a file, if its entry is new.
fn change(path: SitePath, entry: &Entry, known: Option<CachedFile<'_>>) -> Option<PathChange> {
    let is_same = known.is_some_and(|known| known.entry() == *entry);
    (!is_same).then(|| (path, Some(entry.clone())))
}
