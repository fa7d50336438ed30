//! Folder comparison: assembles a folder, and finds its changes against the cached one.

use super::super::cache::{CachedFile, CachedFolder};
use super::super::error::{ScanFault, shown};
use super::super::filesystem::{FileSystem, Listing, ListingEntry};
use super::super::names::{self, NameFault};
use super::super::suspect;
use super::super::tree::{ScannedFolder, Tree, site_path};
use super::super::{Collisions, PathChange, Warning};
use super::classify::Parts;
use super::files::FilesOutcome;
use super::findings::lock;
use super::{Walk, WalkPosition, text};

impl<G: FileSystem> Walk<'_, G> {
    /// Assembles a folder, or returns the cached one if they are equal.
    pub(super) fn tree(
        &self,
        here: &WalkPosition<'_>,
        listing: &Listing,
        parts: Parts,
        mut outcome: FilesOutcome,
        mut children: Vec<(String, Tree)>,
        cached: Option<CachedFolder<'_>>,
    ) -> Tree {
        if let Some(cached) = cached {
            let children_are_cached = children.len() == cached.folders().len()
                && children
                    .iter()
                    .all(|(_, tree)| matches!(tree, Tree::Cached(_)));
            let files_are_cached =
                outcome.fresh.is_empty() && outcome.clean == cached.files().len();
            if children_are_cached && files_are_cached {
                return Tree::Cached(cached.index);
            }
        }
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut changes = std::mem::take(&mut outcome.changes);
        let mut folder = ScannedFolder {
            folders: children,
            ..ScannedFolder::default()
        };
        assemble(&mut folder, listing, parts, outcome, cached);
        if let Some(cached) = cached {
            gone(here.prefix, &folder, cached, &mut changes);
        }
        self.judge_names(here, &folder, cached);
        if !changes.is_empty() {
            lock(&self.found.changes).append(&mut changes);
        }
        Tree::Fresh(Box::new(folder))
    }

    /// Records that no file of a folder is published any more.
    pub(super) fn all_left_out(&self, here: &WalkPosition<'_>, cached: Option<CachedFolder<'_>>) {
        if let Some(cached) = cached {
            all_gone(here.prefix, cached, &mut lock(&self.found.changes));
        }
    }

    /// Checks new names, and compares them with their neighbours.
    fn judge_names(
        &self,
        here: &WalkPosition<'_>,
        folder: &ScannedFolder,
        cached: Option<CachedFolder<'_>>,
    ) {
        let is_new_file =
            |name: &str| cached.is_none_or(|cached| cached.find_file(name.as_bytes()).is_none());
        let is_new_folder =
            |name: &str| cached.is_none_or(|cached| cached.find_folder(name.as_bytes()).is_none());
        let files = folder.file_names().filter(|name| is_new_file(name));
        let folders = folder.folder_names().filter(|name| is_new_folder(name));
        for name in files.chain(folders) {
            if suspect::is_suspect(here.prefix, name) {
                lock(&self.found.suspects).add(shown(&[here.prefix, name].concat()));
            }
            if let Some(fault) = names::odd(name) {
                lock(&self.found.warnings).push(Warning {
                    path: shown(&[here.prefix, name].concat()),
                    fault,
                });
            }
        }
        if self.collisions == Collisions::Allow {
            return;
        }
        for (path, other) in names::collisions(here.prefix, folder, self.cache) {
            let other = shown(&other);
            if self.collisions == Collisions::Refuse {
                let problem = ScanFault::Collision {
                    path: shown(&path),
                    other,
                };
                self.problem(&path, problem);
            } else {
                lock(&self.found.warnings).push(Warning {
                    path: shown(&path),
                    fault: NameFault::Collision { other },
                });
            }
        }
    }
}

/// Adds the files of a folder, sorted: those just read, and the others from the cache.
fn assemble(
    folder: &mut ScannedFolder,
    listing: &Listing,
    parts: Parts,
    mut outcome: FilesOutcome,
    cached: Option<CachedFolder<'_>>,
) {
    let name = |listed: ListingEntry| listing.name(listed);
    outcome
        .fresh
        .sort_unstable_by(|a, b| name(a.0).cmp(name(b.0)));
    let mut fresh = outcome.fresh.into_iter().peekable();
    let cached = cached.filter(|_| outcome.clean > 0);
    let clean = cached.map_or_else(Vec::new, |cached| {
        let files = parts.files.into_iter().chain(parts.links);
        let left_out =
            |listed: ListingEntry| outcome.left_out.iter().any(|&it| name(it) == name(listed));
        let mut clean: Vec<_> = files
            .filter(|&listed| folder.folder_at(name(listed)).is_err() && !left_out(listed))
            .filter_map(|listed| cached.find_file(name(listed)))
            .collect();
        clean.sort_unstable_by_key(CachedFile::name);
        clean
    });
    for known in clean {
        let bytes = known.name().as_bytes();
        while let Some((listed, stat, entry)) = fresh.next_if(|(at, ..)| name(*at) < bytes) {
            folder.push(text(name(listed)), stat, entry);
        }
        if fresh.peek().is_none_or(|(at, ..)| name(*at) != bytes) {
            folder.push(known.name(), known.stat(), known.entry());
        }
    }
    for (listed, stat, entry) in fresh {
        folder.push(text(name(listed)), stat, entry);
    }
}

/// Adds the removal of entries that the cache has and the folder lacks.
fn gone(
    prefix: &str,
    folder: &ScannedFolder,
    cached: CachedFolder<'_>,
    changes: &mut Vec<PathChange>,
) {
    let mut kept = folder.file_names().peekable();
    for file in cached.files() {
        while kept.next_if(|name| *name < file.name()).is_some() {}
        if kept.peek() != Some(&file.name()) {
            changes.extend(site_path(prefix, file.name()).map(|path| (path, None)));
        }
    }
    for child in cached.folders() {
        if folder.folder_at(child.name().as_bytes()).is_err() {
            all_gone(&[prefix, child.name(), "/"].concat(), child, changes);
        }
    }
}

/// Adds the removal of every file beneath a removed folder.
fn all_gone(prefix: &str, cached: CachedFolder<'_>, changes: &mut Vec<PathChange>) {
    for file in cached.files() {
        changes.extend(site_path(prefix, file.name()).map(|path| (path, None)));
    }
    for child in cached.folders() {
        all_gone(&[prefix, child.name(), "/"].concat(), child, changes);
    }
}
