//! The walk: folders in parallel, the files of each in parallel chunks, compared with the cache.
//!
//! Scanning is system calls, so the shape follows them: names are looked up in an open folder,
//! never by full path; subfolders and files are two sides of one `join`, so that a thread that is
//! done with one takes from the other. A file whose stat is the cached one costs that stat and a
//! binary search.

mod compare;
mod links;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pmx_core::id::BlobId;
use rayon::prelude::*;

use crate::limits::{FILES_MAX, PATH_DEPTH_MAX};
use crate::manifest::{Entry, Totals};
use crate::path::{InvalidPath, SitePath, segment_fault};

use super::cache::{Cache, CachedFile, CachedFolder};
use super::error::{Problem, Problems, TOP, shown};
use super::filesystem::{FileSystem, Listed, Listing};
use super::media::MediaTypes;
use super::own::{self, OwnFolder};
use super::prefetch::Prefetch;
use super::read::{Reader, publishable};
use super::rules::{Rules, Shape};
use super::stat::{Kind, Stat};
use super::suspect::Suspects;
use super::tree::Tree;
use super::{Collisions, Progress, Secrets, Warning};

/// Files that one task looks at: enough to pay for the task, few enough to share.
const CHUNK_FILES: usize = 32;

/// Folders held open before a folder closes its own ahead of its children, and opens them from the
/// top, one by one. Below the usual limits of 256 and 1,024 descriptors, with room for files.
const OPEN_FOLDERS: usize = 128;

/// A path that appeared, changed (`Some`) or went away (`None`).
pub type Change = (SitePath, Option<Entry>);

/// Everything that all threads of a scan share.
pub(super) struct Walk<'a, G> {
    pub(super) filesystem: &'a G,
    pub(super) rules: &'a Rules,
    pub(super) cache: Option<&'a Cache>,
    /// Cached files with a time at or after this are read again, whatever their stat says.
    pub(super) clean_before: i64,
    pub(super) reader: Reader,
    pub(super) unknown: Unknown<'a>,
    pub(super) collisions: Collisions,
    pub(super) secrets: Secrets,
    /// What the whole folder is, if pmx keeps its own files beside the site.
    pub(super) own: Option<OwnFolder>,
    pub(super) touched: Option<&'a BTreeSet<String>>,
    pub(super) progress: &'a dyn Progress,
    pub(super) media: MediaTypes,
    pub(super) problems: Problems,
    pub(super) found: Found,
    pub(super) open: AtomicUsize,
}

/// What becomes of a file that the cache does not know.
#[derive(Clone, Copy)]
pub(super) enum Unknown<'a> {
    /// It is read and hashed, unless it is what was read ahead.
    Read(Option<&'a Prefetch>),
    /// It is listed, with the blob of nothing.
    List,
}

/// What the threads of a scan found, beside the trees.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) changes: Mutex<Vec<Change>>,
    pub(super) warnings: Mutex<Vec<Warning>>,
    pub(super) suspects: Mutex<Suspects>,
    pub(super) secrets: Mutex<Suspects>,
    pub(super) own: Mutex<BTreeMap<String, OwnFolder>>,
    pub(super) files: AtomicU64,
    pub(super) folders: AtomicU64,
    pub(super) read_files: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) reused_files: AtomicU64,
}

impl Found {
    /// Fails if files were found that must not become public.
    pub(super) fn check_secrets(&self) -> Result<(), Problem> {
        let secrets = lock(&self.secrets);
        if secrets.count() == 0 {
            return Ok(());
        }
        Err(Problem::Secrets {
            paths: secrets.paths().map(str::to_owned).collect(),
            count: secrets.count(),
        })
    }
}

/// Position of a walk: a folder of the site, and its place on disk.
#[derive(Clone, Copy)]
pub(super) struct WalkPosition<'a> {
    /// The site path of the folder with a slash at the end, or nothing.
    pub(super) prefix: &'a str,
    /// Where the folder lies below the top, links resolved.
    pub(super) real: &'a str,
    /// Segments of `prefix`.
    pub(super) depth: usize,
    /// The folder above, to see circles.
    pub(super) above: Option<&'a WalkPosition<'a>>,
    /// Names in this folder that are not published.
    pub(super) hidden: &'a [String],
}

/// A name on the way to a file: its own folder, or the folder that a link leads to.
struct DirEntryRef<'a, F> {
    folder: &'a F,
    name: &'a CStr,
}

/// What became of some of a folder's files.
#[derive(Default)]
struct Outcome {
    clean: usize,
    bytes: u64,
    read: Totals,
    /// Bytes of long files, which were counted while they were read.
    streamed: u64,
    fresh: Vec<(Listed, Stat, Entry)>,
    changes: Vec<Change>,
    /// Links into folders of pmx itself, whatever the cache knows of them.
    left_out: Vec<Listed>,
}

impl Outcome {
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

    fn merge(mut self, mut other: Self) -> Self {
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

/// A file that the cache does not know as it is.
struct Fresh {
    stat: Stat,
    entry: Entry,
    change: Option<Change>,
    /// What had to be read for it.
    read: Totals,
    /// Bytes of it that were counted while they were read.
    streamed: u64,
}

/// A listing, sorted out.
#[derive(Default)]
struct Parts {
    files: Vec<Listed>,
    folders: Vec<Listed>,
    links: Vec<Listed>,
}

impl<G: FileSystem> Walk<'_, G> {
    /// Scans the folder that is open as `folder`, and everything beneath.
    pub(super) fn folder(
        &self,
        here: &WalkPosition<'_>,
        folder: G::Folder,
        cached: Option<CachedFolder<'_>>,
    ) -> Tree {
        let held = self.open.fetch_add(1, Ordering::Relaxed);
        self.found.folders.fetch_add(1, Ordering::Relaxed);
        let listing = match self.filesystem.list(&folder) {
            Ok(listing) => listing,
            Err(error) => {
                self.open.fetch_sub(1, Ordering::Relaxed);
                let path = folder_path(here);
                self.problem(path, Problem::from_io(path, "list", error));
                self.all_left_out(here, cached);
                return Tree::Fresh(Box::default());
            }
        };
        if let Some(own) = self.own_folder(here, &listing) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.leave_out(folder_path(here), own);
            let (parts, outcome) = (Parts::default(), Outcome::default());
            return self.tree(here, &listing, parts, outcome, Vec::new(), cached);
        }
        let parts = self.classify(here, &folder, &listing);
        let (linked, mut children) = self.links(here, &listing, &parts.links, cached);
        let (outcome, mut more) = if held < OPEN_FOLDERS {
            let found = rayon::join(
                || self.folders(here, &folder, &listing, &parts.folders, cached),
                || self.files(here, &folder, &listing, &parts.files, cached),
            );
            self.open.fetch_sub(1, Ordering::Relaxed);
            drop(folder);
            (found.1, found.0)
        } else {
            let outcome = self.files(here, &folder, &listing, &parts.files, cached);
            self.open.fetch_sub(1, Ordering::Relaxed);
            drop(folder);
            let children = self.folders_from_top(here, &listing, &parts.folders, cached);
            (outcome, children)
        };
        children.append(&mut more);
        let outcome = outcome.merge(linked);
        self.tree(here, &listing, parts, outcome, children, cached)
    }

    /// What the folder with this listing is, if pmx keeps it for itself. The top is a folder to
    /// publish all the same.
    fn own_folder(&self, here: &WalkPosition<'_>, listing: &Listing) -> Option<OwnFolder> {
        let mut names = listing.entries.iter().map(|&listed| listing.name(listed));
        let is_worth_looking = !here.real.is_empty() && names.any(own::is_telling);
        let path = || self.filesystem.place().join(here.real);
        is_worth_looking.then(|| OwnFolder::at(&path())).flatten()
    }

    fn leave_out(&self, path: &str, own: OwnFolder) {
        lock(&self.found.own).insert(shown(path), own);
    }

    /// Whether a name at the top is one of pmx's own files.
    fn is_own_name(&self, here: &WalkPosition<'_>, name: &[u8]) -> bool {
        let own = self
            .own
            .filter(|own| here.real.is_empty() && own.holds(name));
        if let Some(own) = own {
            self.leave_out(&lossy(here, name), own);
        }
        own.is_some()
    }

    /// Whether a link leads to a folder, so that patterns of folders match it.
    fn leads_to_folder(&self, here: &WalkPosition<'_>, name: &[u8]) -> bool {
        let name = std::str::from_utf8(name);
        name.is_ok_and(|name| self.filesystem.place().join(here.real).join(name).is_dir())
    }

    fn classify(&self, here: &WalkPosition<'_>, folder: &G::Folder, listing: &Listing) -> Parts {
        let mut parts = Parts {
            files: Vec::with_capacity(listing.entries.len()),
            ..Parts::default()
        };
        for &listed in &listing.entries {
            let mut listed = listed;
            let name = listing.name(listed);
            if listed.kind == Kind::Unknown {
                let path = lossy(here, name);
                match self.filesystem.stat(folder, listing.c_name(listed)) {
                    Ok(stat) => listed.kind = stat.kind,
                    Err(error) => {
                        self.problem(&path, Problem::from_io(&path, "look at", error));
                        continue;
                    }
                }
            }
            let shape = match listed.kind {
                Kind::Folder => Shape::Folder,
                Kind::Link if self.leads_to_folder(here, name) => Shape::Folder,
                Kind::File | Kind::Link | Kind::Special | Kind::Unknown => Shape::File,
            };
            let hidden = here.hidden.iter().any(|hidden| hidden.as_bytes() == name);
            let hidden = hidden || self.is_own_name(here, name);
            if hidden || !self.rules.admit(here.prefix, name, shape) {
                continue;
            }
            match listed.kind {
                Kind::File => parts.files.push(listed),
                Kind::Folder => parts.folders.push(listed),
                Kind::Link => parts.links.push(listed),
                Kind::Special | Kind::Unknown => {
                    let path = lossy(here, name);
                    self.problem(&path, Problem::NotRegular { path: shown(&path) });
                }
            }
        }
        parts
    }

    fn files(
        &self,
        here: &WalkPosition<'_>,
        folder: &G::Folder,
        listing: &Listing,
        files: &[Listed],
        cached: Option<CachedFolder<'_>>,
    ) -> Outcome {
        let before = self
            .found
            .files
            .fetch_add(files.len() as u64, Ordering::Relaxed);
        if before + files.len() as u64 > FILES_MAX {
            self.problem("", self.too_many());
            return Outcome::default();
        }
        let outcome = files
            .par_chunks(CHUNK_FILES)
            .map(|chunk| {
                let mut outcome = Outcome::default();
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
        let outcome = Outcome::of_all(outcome);
        self.progress.found(files.len() as u64, outcome.bytes);
        outcome
    }

    fn count(&self, outcome: &Outcome) {
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

    /// Looks at one file, and reads it if the cache does not know it as it is.
    fn file(
        &self,
        here: &WalkPosition<'_>,
        spot: &DirEntryRef<'_, G::Folder>,
        listed: Listed,
        name: &[u8],
        cached: Option<CachedFolder<'_>>,
        outcome: &mut Outcome,
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
    ) -> Result<Fresh, Problem> {
        let path = SitePath::parse_bytes(&[here.prefix.as_bytes(), name].concat())?;
        let open = || -> io::Result<File> { self.filesystem.open(spot.folder, spot.name) };
        let mut read = Totals::default();
        let streamed = Cell::new(0);
        let mut is_secret = false;
        let (stat, blob) = match self.unknown {
            // Nothing will be published: what remains is to find all that is wrong.
            _ if self.problems.any() => (Reader::probe(path.as_str(), open)?, BlobId::of(b"")),
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
        let same = known.is_some_and(|known| known.entry() == entry);
        let change = (!same).then(|| (path, Some(entry.clone())));
        Ok(Fresh {
            stat,
            entry,
            change,
            read,
            streamed: streamed.get(),
        })
    }

    fn look(&self, spot: &DirEntryRef<'_, G::Folder>, path: &SitePath) -> Result<Stat, Problem> {
        let stat = self.filesystem.stat(spot.folder, spot.name);
        let stat = stat.map_err(|error| Problem::from_io(path.as_str(), "look at", error))?;
        publishable(stat, path.as_str())
    }

    fn folders(
        &self,
        here: &WalkPosition<'_>,
        folder: &G::Folder,
        listing: &Listing,
        folders: &[Listed],
        cached: Option<CachedFolder<'_>>,
    ) -> Vec<(String, Tree)> {
        let scan = |&listed: &Listed| {
            let open = || self.filesystem.folder(folder, listing.c_name(listed));
            self.child(here, listing.name(listed), None, open, cached)
        };
        folders.par_iter().filter_map(scan).collect()
    }

    /// The same without holding a folder open, for trees that are too deep and wide to hold.
    fn folders_from_top(
        &self,
        here: &WalkPosition<'_>,
        listing: &Listing,
        folders: &[Listed],
        cached: Option<CachedFolder<'_>>,
    ) -> Vec<(String, Tree)> {
        let scan = |&listed: &Listed| {
            let open = || {
                let parent = self.filesystem.descend(here.real)?;
                self.filesystem.folder(&parent, listing.c_name(listed))
            };
            self.child(here, listing.name(listed), None, open, cached)
        };
        folders.iter().filter_map(scan).collect()
    }

    fn child(
        &self,
        here: &WalkPosition<'_>,
        name: &[u8],
        real: Option<&str>,
        open: impl FnOnce() -> io::Result<G::Folder>,
        cached: Option<CachedFolder<'_>>,
    ) -> Option<(String, Tree)> {
        let cached = cached.and_then(|cached| cached.find_folder(name));
        let own = own_path(here, name);
        if let Some(known) = cached.filter(|_| real.is_none() && !self.may_differ(&own)) {
            return Some((text(name).to_owned(), Tree::Cached(known.index)));
        }
        let opened = self.child_name(here, name).and_then(|name| {
            let path = [here.prefix, name].concat();
            let folder = open().map_err(|error| Problem::from_io(&path, "open", error))?;
            Ok((name, folder))
        });
        let (name, folder) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                self.problem(&lossy(here, name), problem);
                return None;
            }
        };
        let below = WalkPosition {
            prefix: &[here.prefix, name, "/"].concat(),
            real: real.unwrap_or(&own),
            depth: here.depth + 1,
            above: Some(here),
            hidden: &[],
        };
        Some((name.to_owned(), self.folder(&below, folder, cached)))
    }

    /// Whether something may have happened in a folder or beneath it, as far as is known.
    fn may_differ(&self, folder: &str) -> bool {
        self.touched.is_none_or(|touched| {
            let beneath = format!("{folder}/");
            let mut from = touched.range(beneath.clone()..);
            touched.contains(folder) || from.next().is_some_and(|path| path.starts_with(&beneath))
        })
    }

    fn child_name<'n>(&self, here: &WalkPosition<'_>, name: &'n [u8]) -> Result<&'n str, Problem> {
        if self.found.folders.load(Ordering::Relaxed) > FILES_MAX {
            return Err(self.too_many());
        }
        let invalid = |reason| InvalidPath {
            path: shown(&lossy(here, name)),
            reason,
        };
        let text =
            std::str::from_utf8(name).map_err(|_| invalid(crate::path::PathFault::NotUtf8))?;
        match segment_fault(text) {
            Some(reason) => Err(invalid(reason).into()),
            // A file in it would be one segment more.
            None if here.depth + 1 >= PATH_DEPTH_MAX => {
                Err(invalid(crate::path::PathFault::TooDeep).into())
            }
            None => Ok(text),
        }
    }

    fn problem(&self, path: &str, problem: Problem) {
        self.problems.add(path, problem);
    }

    fn too_many(&self) -> Problem {
        Problem::TooLarge {
            path: shown(&self.filesystem.place().to_string_lossy()),
            unit: "files or folders",
            // Counting on would take for ever where links multiply folders.
            actual: FILES_MAX + 1,
            limit: FILES_MAX,
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn folder_path<'a>(here: &WalkPosition<'a>) -> &'a str {
    match here.prefix.strip_suffix('/') {
        Some(path) => path,
        None => TOP,
    }
}

/// Where a folder lies below the top.
fn own_path(here: &WalkPosition<'_>, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if here.real.is_empty() {
        name.into_owned()
    } else {
        [here.real, "/", &name].concat()
    }
}

fn lossy(here: &WalkPosition<'_>, name: &[u8]) -> String {
    [here.prefix, &String::from_utf8_lossy(name)].concat()
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}
