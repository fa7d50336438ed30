//! Folder scan: the rows of a site, hashed, and their changes since the last scan.
//!
//! [`scan`] walks a folder with all cores and compares each file's stat with a [`Cache`] of the
//! last scan, so that only files that may have changed are read. A site in which nothing changed
//! costs the walk and one stat a file: nothing is built but the finding that nothing changed.
//!
//! Nothing is published from a folder that does not hold still or can't be published whole: links
//! that leave the folder, FIFOs and devices, unreadable files, private keys and names that are no
//! site paths are all [`ScanError`]s that list what to fix. Folders of pmx itself are left out.
//!
//! The stat cache follows git's rule for files that are "racily clean" (git's
//! `Documentation/technical/racy-git`): a file whose times are not safely older than the moment
//! the last scan started could have been written to after it was hashed, within the same tick of
//! the clock, so it is read again. "Safely" is two seconds, the coarsest times of file systems in
//! use (FAT).
//!
//! This is the only module of the crate that knows an operating system.

mod cache;
mod content;
mod error;
mod filesystem;
mod media;
mod names;
mod own;
mod pathmx;
mod prefetch;
mod read;
mod rules;
mod sources;
mod stat;
mod suspect;
mod tree;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use pmx_core::id::Root;
use pmx_core::time::Timestamp;
use rayon::prelude::*;

use crate::manifest::{Row, Totals};
use crate::path::SitePath;

pub use cache::Cache;
pub use error::{Faults, LeftOut, LinkFault, Problem, ScanError};
pub use names::NameFault;
pub use own::{CACHE_MARKER, CACHE_MARKER_TEXT, DATA_MARKER, DATA_MARKER_TEXT, OwnFolder};
pub use prefetch::{Listed, Prefetch};
pub use sources::Sources;
pub use suspect::Suspects;
pub use walk::Change;

use cache::{Head, Writer};
use error::shown;
use filesystem::{FileSystem, Paths};
use pathmx::Mount;
use rules::Rules;
use tree::{Node, Tree};
use walk::{Found, Unknown, WalkPosition};

/// Times of files are trusted if they are this much older than the scan that saw them.
const RACY_NANOSECONDS: i64 = 2_000_000_000;

/// A file written to this shortly before the scan, or later, may be in the middle of a write: ten
/// times the coarsest tick of a kernel clock.
const WRITING_NANOSECONDS: i64 = 100_000_000;

/// Threads even where there are fewer cores: with a cold page cache they wait for the disk.
const THREADS_MIN: usize = 8;

/// Bytes of stack of a thread: a walk is as deep as the folder, and threads that wait take up
/// other folders on top.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// What to do with paths that differ only in case or normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Collisions {
    /// They are published with a warning.
    #[default]
    Warn,
    /// They are an error.
    Refuse,
    /// They are published.
    Allow,
}

/// What to do with files that are private keys, or secrets of pmx itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    /// They are an error.
    #[default]
    Refuse,
    /// They are published.
    Allow,
}

/// How files are reached. Both ways give the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// By descriptors of folders, where the platform has them: faster, and safe from folders that
    /// are replaced by links during the scan.
    Descriptors,
    /// By full paths.
    Portable,
}

/// What a scan depends on beside the files.
#[derive(Debug, Clone)]
pub struct Options {
    /// Patterns of what is left out, in the syntax of gitignore, after those of `.pmxignore`.
    pub exclude: Vec<String>,
    /// Whether colliding paths are refused.
    pub collisions: Collisions,
    /// Whether private keys are refused.
    pub secrets: Secrets,
    /// What happens to paths that can't be published.
    pub faults: Faults,
    /// How files are reached.
    pub walk: Walk,
    /// How many threads scan; by default as many as there are cores, and at least eight.
    pub threads: Option<NonZeroUsize>,
    /// Folders, by their paths below the top, outside of which nothing happened since before the
    /// scan that the cache comes from, as one knows who has watched: they are not looked at. A
    /// folder that was put in the place of another counts as all that is beneath it.
    pub touched: Option<BTreeSet<String>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            collisions: Collisions::default(),
            secrets: Secrets::default(),
            faults: Faults::default(),
            walk: Walk::Descriptors,
            threads: None,
            touched: None,
        }
    }
}

/// Receives the progress of a scan: from any thread, once per folder or chunk, with what was added
/// since.
pub trait Progress: Sync {
    /// So many more files, with so many bytes, were found.
    fn found(&self, files: u64, bytes: u64);
    /// So many more files, with so many bytes, were read and hashed.
    fn hashed(&self, files: u64, bytes: u64);
}

impl Progress for () {
    fn found(&self, _files: u64, _bytes: u64) {}
    fn hashed(&self, _files: u64, _bytes: u64) {}
}

/// A name that is published but will make trouble elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path, escaped for terminals.
    pub path: String,
    /// What is odd about its last segment.
    pub fault: NameFault,
}

/// What a scan did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files that were read and hashed.
    pub read: Totals,
    /// Files that the cache knew, or that were read ahead.
    pub reused_files: u64,
    /// Odd names among the new ones, in path order.
    pub warnings: Vec<Warning>,
    /// Suspicious names among the new ones.
    pub suspects: Suspects,
    /// Folders of pmx itself, which are left out, by their paths.
    pub own: BTreeMap<String, OwnFolder>,
}

/// What a folder holds, and how it differs from what the cache knew.
#[derive(Debug)]
pub struct Scan {
    place: PathBuf,
    mounts: Vec<Mount>,
    trees: Vec<Tree>,
    cache: Option<Cache>,
    binding: [u8; 32],
    checked: [u8; 32],
    started: i64,
    changes: Vec<Change>,
    left_out: LeftOut,
    stats: Stats,
}

/// Scans a folder, or PathMX's build output.
///
/// `now` is the moment before the scan starts, by the clock that dates files. A cache that was
/// saved for another folder or with other options is not used.
pub fn scan(
    root: &Path,
    options: &Options,
    cache: Option<&Cache>,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    let known = Known {
        cache,
        unknown: Unknown::Read(None),
    };
    run(root, options, known, progress, now)
}

/// Lists a folder like a scan, with all that a scan refuses, but reads no file.
pub fn list(
    root: &Path,
    options: &Options,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Prefetch, ScanError> {
    let known = Known {
        cache: None,
        unknown: Unknown::List,
    };
    let listed = run(root, options, known, progress, now)?;
    Ok(Prefetch::new(listed, settled_before(now), options.secrets))
}

/// Scans a folder of which much was read ahead.
pub fn scan_prefetched(
    root: &Path,
    options: &Options,
    ahead: &Prefetch,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    let known = Known {
        cache: None,
        unknown: Unknown::Read(Some(ahead)),
    };
    run(root, options, known, progress, now)
}

/// What a scan knows of files before it looks.
struct Known<'a> {
    cache: Option<&'a Cache>,
    unknown: Unknown<'a>,
}

fn run(
    root: &Path,
    options: &Options,
    known: Known<'_>,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    let missing = |source| Problem::SourceMissing {
        folder: root.to_owned(),
        source,
    };
    let place = root.canonicalize().map_err(missing)?;
    let own = OwnFolder::at(&place).filter(|own| *own == OwnFolder::Cache);
    if let Some(own) = own.or_else(|| OwnFolder::above(&place)) {
        let path = shown(&root.to_string_lossy());
        return Err(Problem::Own { path, own }.into());
    }
    let mounts = pathmx::mounts(&place)?;
    let threads = options
        .threads
        .map_or_else(default_threads, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|error| Problem::Threads(error.to_string()))?;
    let job = Job {
        place: &place,
        mounts,
        options,
        known,
        progress,
        now,
    };
    match options.walk {
        #[cfg(unix)]
        Walk::Descriptors => {
            let filesystem = filesystem::descriptors::Descriptors::new(&place).map_err(missing)?;
            pool.install(|| job.run(&filesystem))
        }
        #[cfg(not(unix))]
        Walk::Descriptors => pool.install(|| job.run(&Paths::new(&place))),
        Walk::Portable => {
            if !place.is_dir() {
                return Err(missing(std::io::ErrorKind::NotADirectory.into()).into());
            }
            pool.install(|| job.run(&Paths::new(&place)))
        }
    }
}

/// Files with a time at or after this, in nanoseconds, may be in the middle of a write.
fn settled_before(now: Timestamp) -> i64 {
    nanoseconds(now).saturating_sub(WRITING_NANOSECONDS)
}

fn nanoseconds(time: Timestamp) -> i64 {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    millis.saturating_mul(1_000_000)
}

impl Scan {
    /// Files and bytes of the site.
    pub fn totals(&self) -> Totals {
        let nodes = self.nodes().into_iter();
        nodes.fold(Totals::default(), |sum, (_, node)| sum.plus(node.totals()))
    }

    /// What the scan did.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The paths that can't be published, where the scan leaves them out.
    pub const fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Whether the folder is PathMX's build output.
    pub fn is_pathmx(&self) -> bool {
        self.mounts.iter().any(|mount| mount.manifest.is_some())
    }

    /// The root that the cache was saved with, if it was used.
    pub fn base(&self) -> Option<Root> {
        self.cache.as_ref().map(Cache::root)
    }

    /// What turns the site of [`base`](Self::base) (an empty site, if there is none) into this
    /// one, sorted by path. With a base, no changes mean that the site's root is the base.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether the next scan would gain nothing from [`cache`](Self::cache): every file was clean.
    pub fn is_settled(&self) -> bool {
        let trees = self.trees.iter();
        let cached = trees.filter(|tree| matches!(tree, Tree::Cached(_)));
        let checked = self
            .cache
            .as_ref()
            .is_some_and(|cache| cache.checked() == self.checked);
        checked && cached.count() == self.trees.len()
    }

    /// Every file, sorted by path. Built when asked for.
    pub fn rows(&self) -> Vec<Row> {
        if self.cache.is_none() {
            let all = self.changes.par_iter().cloned();
            let rows = all.filter_map(|(path, entry)| entry.map(|entry| Row { path, entry }));
            return rows.collect();
        }
        let mut rows = Vec::with_capacity(self.totals().files as usize);
        for (slug, node) in self.nodes() {
            node.rows(&prefix(slug), &mut rows);
        }
        rows.par_sort_unstable_by(|a, b| a.path.cmp(&b.path));
        rows
    }

    /// The file whose bytes the site has at this path, for reading them again.
    pub fn source(&self, path: &SitePath) -> PathBuf {
        let (first, rest) = path.as_str().split_once('/').unwrap_or((path.as_str(), ""));
        for mount in &self.mounts {
            if mount.slug.is_empty() {
                return self.place.join(&mount.folder).join(path.as_str());
            }
            if mount.slug == first {
                return self.place.join(&mount.folder).join(rest);
            }
        }
        self.place.join(path.as_str())
    }

    /// The bytes of a cache for the next scan, to be kept with the site's root. The key is the
    /// caller's secret, which MUST NOT lie where the cache does.
    pub fn cache(&self, root: Root, key: &[u8; 32]) -> Vec<u8> {
        let mut writer = Writer::default();
        tree::write(self.nodes(), &mut writer);
        let head = Head {
            binding: self.binding,
            root,
            checked: self.checked,
            started: self.started,
            trees: self.trees.len() as u32,
        };
        writer.finish(&head, key)
    }

    fn nodes(&self) -> Vec<(&str, Node<'_>)> {
        let trees = self.mounts.iter().zip(&self.trees);
        let nodes = trees.filter_map(|(mount, tree)| {
            Some((mount.slug.as_str(), Node::of(tree, self.cache.as_ref())?))
        });
        nodes.collect()
    }
}

struct Job<'a> {
    place: &'a Path,
    mounts: Vec<Mount>,
    options: &'a Options,
    known: Known<'a>,
    progress: &'a dyn Progress,
    now: Timestamp,
}

impl Job<'_> {
    fn run<G: FileSystem>(self, filesystem: &G) -> Result<Scan, ScanError> {
        let ignore_file = rules::ignore_file(filesystem)?;
        let rules = Rules::parse(&ignore_file, &self.options.exclude)?;
        let manifests = pathmx::manifests(self.place, &self.mounts)?;
        let binding = self.binding(&ignore_file);
        let cache = self.known.cache;
        let cache = cache.filter(|cache| cache.binding() == binding);
        let walk = walk::Walk {
            filesystem,
            rules: &rules,
            cache,
            clean_before: cache
                .map_or(0, Cache::started)
                .saturating_sub(RACY_NANOSECONDS),
            reader: read::Reader::new(settled_before(self.now)),
            unknown: self.known.unknown,
            collisions: self.options.collisions,
            secrets: self.options.secrets,
            own: OwnFolder::at(self.place),
            touched: self.options.touched.as_ref(),
            progress: self.progress,
            media: media::MediaTypes::default(),
            problems: error::Problems::new(self.options.faults),
            found: Found::default(),
            open: AtomicUsize::new(0),
        };
        let trees = self.trees(&walk);
        let left_out = walk.problems.check()?;
        walk.found.check_secrets()?;
        let (changes, stats) = walk.found.results();
        let scan = Scan {
            place: self.place.to_owned(),
            mounts: self.mounts,
            trees,
            cache: cache.cloned(),
            binding,
            checked: pathmx::summed(&manifests),
            started: nanoseconds(self.now),
            changes,
            left_out,
            stats,
        };
        check_build(&scan, &manifests)?;
        Ok(scan)
    }

    fn trees<G: FileSystem>(&self, walk: &walk::Walk<'_, G>) -> Vec<Tree> {
        let mut cached = walk.cache.map(|cache| cache.trees().collect::<Vec<_>>());
        let trees = self.mounts.iter().enumerate().map(|(index, mount)| {
            let prefix = prefix(&mount.slug);
            let here = WalkPosition {
                prefix: &prefix,
                real: &mount.folder,
                depth: usize::from(!mount.slug.is_empty()),
                above: None,
                hidden: &mount.hidden,
            };
            // The binding names the mounts, so the cache's trees are these, in order.
            let cached = cached.as_mut().and_then(|trees| trees.get(index).copied());
            match walk.filesystem.descend(&mount.folder) {
                Ok(folder) => walk.folder(&here, folder, cached),
                Err(error) => {
                    let problem = Problem::BuildIncomplete {
                        path: shown(&mount.folder),
                        fault: format!("can't be opened: {error}"),
                    };
                    walk.problems.add(&mount.folder, problem);
                    Tree::Fresh(Box::default())
                }
            }
        });
        trees.collect()
    }

    /// Everything that decides what a cached record means, beside the file itself.
    fn binding(&self, ignore_file: &str) -> [u8; 32] {
        let place = self.place.as_os_str().as_encoded_bytes();
        let policy = match self.options.collisions {
            Collisions::Warn => "warn",
            Collisions::Refuse => "refuse",
            Collisions::Allow => "allow",
        };
        let secrets = match self.options.secrets {
            Secrets::Refuse => "refuse",
            Secrets::Allow => "allow",
        };
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(place);
        add(policy.as_bytes());
        add(secrets.as_bytes());
        add(ignore_file.as_bytes());
        for pattern in &self.options.exclude {
            add(pattern.as_bytes());
        }
        add(b"");
        for mount in &self.mounts {
            add(mount.slug.as_bytes());
            add(mount.folder.as_bytes());
            add(mount.hidden.join("/").as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// A build output is checked again only if its manifests changed, or files went away.
fn check_build(scan: &Scan, manifests: &[Vec<u8>]) -> Result<(), ScanError> {
    let same = scan
        .cache
        .as_ref()
        .is_some_and(|cache| cache.checked() == scan.checked);
    let gone = scan.changes.iter().any(|(_, entry)| entry.is_none());
    if manifests.is_empty() || (same && !gone) {
        return Ok(());
    }
    let rows = scan.rows();
    let mounts = scan.mounts.iter().filter(|mount| mount.manifest.is_some());
    for (mount, manifest) in mounts.zip(manifests) {
        let prefix = prefix(&mount.slug);
        pathmx::check(&scan.place, mount, manifest, |file| {
            let path = [&prefix, file].concat();
            rows.binary_search_by(|row| row.path.as_str().cmp(&path))
                .is_ok()
        })?;
    }
    Ok(())
}

fn prefix(slug: &str) -> String {
    if slug.is_empty() {
        String::new()
    } else {
        format!("{slug}/")
    }
}

fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.max(THREADS_MIN)
}

#[cfg(test)]
mod tests;
