//! Folder scan: the rows of a site, hashed, and their changes since the last scan.
//!
//! [`scan`] walks a folder with all cores and compares each file's stat with a [`StatCache`] of the
//! last scan, so it reads only files that may have changed. An unchanged site costs the walk and
//! one stat per file; the scan builds no rows for it.
//!
//! A scan fails if the folder changes during it, or cannot be published whole. Links that leave the
//! folder, FIFOs and devices, unreadable files, private keys and names that are no site paths are
//! all [`ScanError`]s that list the fixes. Folders of pmx itself are left out.
//!
//! The stat cache follows git's rule for files that are "racily clean" (git's
//! `Documentation/technical/racy-git`). If a file's times are not safely older than the start of
//! the last scan, a later write within the same tick of the clock may have gone unnoticed. So the
//! scan reads the file again. "Safely" is two seconds, the coarsest times of file systems in use
//! (FAT).
//!
//! This is the only module of the crate that knows an operating system.

mod cache;
mod content;
mod error;
mod filesystem;
mod job;
mod media;
mod names;
mod options;
mod outcome;
mod own;
mod pathmx;
mod prefetch;
mod read;
mod rules;
mod single;
mod sources;
mod stat;
mod stored;
mod suspect;
mod tree;
mod virtual_files;
mod walk;

use std::num::NonZeroUsize;
use std::path::Path;

use pmx_core::time::Timestamp;

pub use cache::StatCache;
pub use error::{FaultPolicy, LeftOut, LinkFault, ScanError, ScanFault};
pub use names::{NameFault, collide};
pub use options::{Collisions, FileAccess, Options, Secrets};
pub use outcome::{PathChange, Scan, Stats, Warning};
pub use own::{CACHE_MARKER, CACHE_MARKER_TEXT, DATA_MARKER, DATA_MARKER_TEXT, OwnFolder};
pub use prefetch::{ListedFile, Prefetch};
pub use single::scan_file;
pub use sources::{SourceFile, Sources};
pub use suspect::Suspects;

use error::shown;
use filesystem::Paths;
use job::{KnownFiles, ScanJob};
use pathmx::PathmxBuild;
use walk::Unknown;

/// A file with a time this shortly before the scan, or later, may be in the middle of a write: ten
/// times the coarsest tick of a kernel clock.
const WRITING_NANOSECONDS: i64 = 100_000_000;

/// Threads even where there are fewer cores: with a cold page cache they wait for the disk.
const THREADS_MIN: usize = 8;

/// Stack bytes of a thread: a walk is as deep as the folder, and a waiting thread runs the walk of
/// other folders on top.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Receives the progress of a scan, from any thread, once per folder or chunk, as counts since the
/// last call.
pub trait Progress: Sync {
    /// The scan found this many more files and bytes.
    fn found(&self, files: u64, bytes: u64);
    /// The scan read and hashed this many more files and bytes.
    fn hashed(&self, files: u64, bytes: u64);
}

impl Progress for () {
    fn found(&self, _files: u64, _bytes: u64) {}
    fn hashed(&self, _files: u64, _bytes: u64) {}
}

/// Scans a folder, or PathMX's build output.
///
/// `now` is the moment before the scan starts, by the clock that dates files. The scan ignores a
/// cache of another folder or of other options.
pub fn scan(
    root: &Path,
    options: &Options,
    cache: Option<&StatCache>,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    let known = KnownFiles {
        cache,
        unknown: Unknown::Read(None),
    };
    run_folder(root, options, known, progress, now)
}

/// Lists a folder with all checks of a scan, but reads no file.
pub fn list(
    root: &Path,
    options: &Options,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Prefetch, ScanError> {
    let known = KnownFiles {
        cache: None,
        unknown: Unknown::List,
    };
    let listed = run_folder(root, options, known, progress, now)?;
    Ok(Prefetch::new(listed, settled_before(now), options.secrets))
}

/// Scans a folder with many prefetched files.
pub fn scan_prefetched(
    root: &Path,
    options: &Options,
    ahead: &Prefetch,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    let known = KnownFiles {
        cache: None,
        unknown: Unknown::Read(Some(ahead)),
    };
    run_folder(root, options, known, progress, now)
}

fn run_folder(
    root: &Path,
    options: &Options,
    known: KnownFiles<'_>,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    let build = |place: &Path| PathmxBuild::read(place, options);
    pathmx::unchanged(root, || run(root, options, known, progress, now, build))
}

fn run(
    root: &Path,
    options: &Options,
    known: KnownFiles<'_>,
    progress: &dyn Progress,
    now: Timestamp,
    build: impl FnOnce(&Path) -> Result<PathmxBuild, ScanFault>,
) -> Result<Scan, ScanError> {
    let missing = |source| ScanFault::SourceMissing {
        folder: root.to_owned(),
        source,
    };
    let place = root.canonicalize().map_err(missing)?;
    let own = OwnFolder::at(&place).filter(|own| *own == OwnFolder::Cache);
    if let Some(own) = own.or_else(|| OwnFolder::above(&place)) {
        let path = shown(&root.to_string_lossy());
        return Err(ScanFault::Own { path, own }.into());
    }
    let threads = options
        .threads
        .map_or_else(default_threads, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|error| ScanFault::Threads(error.to_string()))?;
    let job = ScanJob {
        place: &place,
        build: build(&place)?,
        options,
        known,
        progress,
        now,
    };
    pool.install(|| walk_folder(job, root))
}

fn walk_folder(job: ScanJob<'_>, root: &Path) -> Result<Scan, ScanError> {
    let place = job.place;
    let missing = |source| ScanFault::SourceMissing {
        folder: root.to_owned(),
        source,
    };
    match job.options.walk {
        #[cfg(unix)]
        FileAccess::Descriptors => {
            let filesystem = filesystem::descriptors::Descriptors::new(place);
            job.run(&filesystem.map_err(missing)?)
        }
        #[cfg(not(unix))]
        FileAccess::Descriptors => job.run(&Paths::new(place)),
        FileAccess::Portable => {
            if !place.is_dir() {
                return Err(missing(std::io::ErrorKind::NotADirectory.into()).into());
            }
            job.run(&Paths::new(place))
        }
    }
}

/// A file with a time at or after this, in nanoseconds, may be in the middle of a write.
fn settled_before(now: Timestamp) -> i64 {
    nanoseconds(now).saturating_sub(WRITING_NANOSECONDS)
}

fn nanoseconds(time: Timestamp) -> i64 {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    millis.saturating_mul(1_000_000)
}

fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.max(THREADS_MIN)
}

#[cfg(test)]
mod tests;
