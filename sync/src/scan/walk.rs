//! Folder walk: folders in parallel, the files of each in parallel chunks.
//!
//! A scan is mostly system calls, which decide its structure. The walk looks names up in an open
//! folder, never by full path. Subfolders and files are two sides of one `join`, so that a thread
//! that finishes one takes work from the other. A file whose stat equals the cached one costs that
//! stat and a binary search.

mod classify;
mod compare;
mod files;
mod findings;
mod links;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::limits::{FILES_MAX, PATH_DEPTH_MAX};
use crate::path::{InvalidPath, segment_fault};

use super::cache::{CachedFolder, StatCache};
use super::error::{Problems, ScanFault, TOP, shown};
use super::filesystem::{FileSystem, Listing, ListingEntry};
use super::media::MediaTypes;
use super::own::OwnFolder;
use super::pathmx::FolderKind;
use super::prefetch::Prefetch;
use super::read::FileHasher;
use super::rules::IgnoreRules;
use super::tree::Tree;
use super::{Collisions, Progress, Secrets};

pub(super) use findings::ScanFindings;

use classify::Parts;
use files::FilesOutcome;

/// Most folders held open. Beyond this, a folder closes its descriptor before its children, and
/// opens them from the top, segment by segment. Below the usual limits of 256 and 1,024
/// descriptors, with room for files.
const OPEN_FOLDERS: usize = 128;

/// Everything that all threads of a scan share.
pub(super) struct Walk<'a, G> {
    pub(super) filesystem: &'a G,
    pub(super) rules: &'a IgnoreRules,
    pub(super) cache: Option<&'a StatCache>,
    /// The walk reads cached files with a time at or after this again, whatever their stat.
    pub(super) clean_before: i64,
    pub(super) reader: FileHasher,
    pub(super) unknown: Unknown<'a>,
    pub(super) collisions: Collisions,
    pub(super) secrets: Secrets,
    /// The kind of the whole folder, if pmx stores its own files beside the site.
    pub(super) own: Option<OwnFolder>,
    pub(super) kind: FolderKind,
    pub(super) touched: Option<&'a BTreeSet<String>>,
    pub(super) progress: &'a dyn Progress,
    pub(super) media: MediaTypes,
    pub(super) problems: Problems,
    pub(super) found: ScanFindings,
    pub(super) open: AtomicUsize,
}

/// Treatment of a file that the cache does not know.
#[derive(Clone, Copy)]
pub(super) enum Unknown<'a> {
    /// The walk reads and hashes it, unless it was prefetched.
    Read(Option<&'a Prefetch>),
    /// The walk lists it, with the id of an empty blob.
    List,
}

/// Position of a walk: a folder of the site, and its place on disk.
#[derive(Clone, Copy)]
pub(super) struct WalkPosition<'a> {
    /// The site path of the folder with a slash at the end; empty at the top.
    pub(super) prefix: &'a str,
    /// The folder's path below the top, with links resolved.
    pub(super) real: &'a str,
    /// Segments of `prefix`.
    pub(super) depth: usize,
    /// The parent folder, to detect cycles of links.
    pub(super) above: Option<&'a WalkPosition<'a>>,
    /// Names in this folder that are not published.
    pub(super) hidden: &'a [String],
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
                self.problem(path, ScanFault::from_io(path, "list", error));
                self.all_left_out(here, cached);
                return Tree::Fresh(Box::default());
            }
        };
        if let Some(own) = self.own_folder(here, &listing) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.leave_out(folder_path(here), own);
            let (parts, outcome) = (Parts::default(), FilesOutcome::default());
            return self.tree(here, &listing, parts, outcome, Vec::new(), cached);
        }
        let parts = self.classify(here, &folder, &listing);
        let (linked, mut children) = self.links(here, &listing, &parts.links, cached);
        let is_held = held < OPEN_FOLDERS || self.filesystem.is_virtual(&folder);
        let (outcome, mut more) = if is_held {
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

    fn folders(
        &self,
        here: &WalkPosition<'_>,
        folder: &G::Folder,
        listing: &Listing,
        folders: &[ListingEntry],
        cached: Option<CachedFolder<'_>>,
    ) -> Vec<(String, Tree)> {
        let scan = |&listed: &ListingEntry| {
            let open = || self.filesystem.folder(folder, listing.c_name(listed));
            self.child(here, listing.name(listed), None, open, cached)
        };
        folders.par_iter().filter_map(scan).collect()
    }

    /// Walks without holding a folder open, for trees that are too deep and wide.
    fn folders_from_top(
        &self,
        here: &WalkPosition<'_>,
        listing: &Listing,
        folders: &[ListingEntry],
        cached: Option<CachedFolder<'_>>,
    ) -> Vec<(String, Tree)> {
        let scan = |&listed: &ListingEntry| {
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
        let is_same = real.is_none() && !self.may_differ(&own) && !self.has_virtual(here, name);
        if let Some(known) = cached.filter(|_| is_same) {
            return Some((text(name).to_owned(), Tree::Cached(known.index)));
        }
        let opened = self.child_name(here, name).and_then(|name| {
            let path = [here.prefix, name].concat();
            let folder = open().map_err(|error| ScanFault::from_io(&path, "open", error))?;
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

    /// Whether a folder or its content may have changed, by `touched`.
    fn may_differ(&self, folder: &str) -> bool {
        self.touched.is_none_or(|touched| {
            let beneath = format!("{folder}/");
            let mut from = touched.range(beneath.clone()..);
            touched.contains(folder) || from.next().is_some_and(|path| path.starts_with(&beneath))
        })
    }

    /// Whether a folder has virtual files, for which no folder counts as touched.
    fn has_virtual(&self, here: &WalkPosition<'_>, name: &[u8]) -> bool {
        self.filesystem.has_virtual(&lossy(here, name))
    }

    fn child_name<'n>(
        &self,
        here: &WalkPosition<'_>,
        name: &'n [u8],
    ) -> Result<&'n str, ScanFault> {
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
            // A file in it would have one more segment.
            None if here.depth + 1 >= PATH_DEPTH_MAX => {
                Err(invalid(crate::path::PathFault::TooDeep).into())
            }
            None => Ok(text),
        }
    }

    fn problem(&self, path: &str, problem: ScanFault) {
        self.problems.add(path, problem);
    }

    fn too_many(&self) -> ScanFault {
        ScanFault::TooLarge {
            path: shown(&self.filesystem.place().to_string_lossy()),
            unit: "files or folders",
            // Counting further would not end where links multiply folders.
            actual: FILES_MAX + 1,
            limit: FILES_MAX,
        }
    }
}

fn folder_path<'a>(here: &WalkPosition<'a>) -> &'a str {
    match here.prefix.strip_suffix('/') {
        Some(path) => path,
        None => TOP,
    }
}

/// The path of a folder below the top.
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
