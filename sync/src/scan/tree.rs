//! Scanned tree: the part of a scan that differs from the cache.
//!
//! An unchanged subtree refers to its cached folder, and the scan builds nothing for it. So the
//! scan of an unchanged site allocates next to nothing, and after a change of one file it rebuilds
//! only the folders above the file.

use crate::manifest::{Entry, Row, Totals};
use crate::path::SitePath;

use super::cache::{CachedFolder, StatCache, Writer};
use super::stat::Stat;

/// A folder of the site.
#[derive(Debug)]
pub(super) enum Tree {
    /// Unchanged, with all beneath: the index of its folder in the cache.
    Cached(usize),
    /// Scanned anew, at least in part.
    Fresh(Box<ScannedFolder>),
}

/// A folder that differs from the cache.
#[derive(Debug, Default)]
pub(super) struct ScannedFolder {
    /// The names of its files, one after the other.
    pub(super) names: String,
    /// Its files, sorted by name.
    pub(super) files: Vec<FileRecord>,
    /// Its folders, sorted by name.
    pub(super) folders: Vec<(String, Tree)>,
}

/// A file of a folder.
#[derive(Debug)]
pub(super) struct FileRecord {
    start: u32,
    len: u32,
    pub(super) stat: Stat,
    pub(super) entry: Entry,
}

impl ScannedFolder {
    pub(super) fn push(&mut self, name: &str, stat: Stat, entry: Entry) {
        self.files.push(FileRecord {
            start: self.names.len() as u32,
            len: name.len() as u32,
            stat,
            entry,
        });
        self.names.push_str(name);
    }

    /// The names of its files, sorted.
    pub(super) fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| self.name(file))
    }

    /// The names of its folders, sorted.
    pub(super) fn folder_names(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(|(name, _)| name.as_str())
    }

    /// The index of the folder with this name, or its insertion point.
    pub(super) fn folder_at(&self, name: &[u8]) -> Result<usize, usize> {
        self.folders
            .binary_search_by(|(known, _)| known.as_bytes().cmp(name))
    }

    fn name(&self, file: &FileRecord) -> &str {
        let start = file.start as usize;
        &self.names[start..start + file.len as usize]
    }
}

/// A folder of the site, scanned or cached.
#[derive(Clone, Copy)]
pub(super) enum TreeFolder<'a> {
    Cached(CachedFolder<'a>),
    Fresh(&'a ScannedFolder, Option<&'a StatCache>),
}

impl<'a> TreeFolder<'a> {
    /// The node of a tree. Only trees of a scan with a cache refer to one.
    pub(super) fn of(tree: &'a Tree, cache: Option<&'a StatCache>) -> Option<Self> {
        match tree {
            Tree::Cached(index) => cache.map(|cache| Self::Cached(cache.folder(*index))),
            Tree::Fresh(folder) => Some(Self::Fresh(folder, cache)),
        }
    }

    /// Calls `visit` with each file of the folder, sorted by name.
    pub(super) fn each_file(&self, mut visit: impl FnMut(&'a str, Stat, Entry)) {
        match self {
            Self::Cached(folder) => {
                for file in folder.files() {
                    visit(file.name(), file.stat(), file.entry());
                }
            }
            Self::Fresh(folder, _) => {
                for file in &folder.files {
                    visit(folder.name(file), file.stat, file.entry.clone());
                }
            }
        }
    }

    /// The subfolders, sorted by name.
    pub(super) fn folders(&self) -> Vec<(&'a str, Self)> {
        match *self {
            Self::Cached(folder) => {
                let folders = folder.folders();
                folders
                    .map(|child| (child.name(), Self::Cached(child)))
                    .collect()
            }
            Self::Fresh(folder, cache) => {
                let folders = folder.folders.iter();
                let found = folders
                    .filter_map(|(name, tree)| Some((name.as_str(), Self::of(tree, cache)?)));
                found.collect()
            }
        }
    }

    /// Files and bytes in the folder and beneath.
    pub(super) fn totals(&self) -> Totals {
        match self {
            Self::Cached(folder) => folder.totals(),
            Self::Fresh(folder, _) => {
                let files = folder.files.iter();
                let here = files.map(|file| Totals::of_file(file.entry.size));
                let beneath = self.folders().into_iter().map(|(_, node)| node.totals());
                here.chain(beneath).fold(Totals::default(), Totals::plus)
            }
        }
    }

    /// Adds every file in the folder and beneath to `rows`, each folder in name order.
    pub(super) fn rows(&self, prefix: &str, rows: &mut Vec<Row>) {
        self.each_file(|name, _, entry| {
            if let Some(path) = site_path(prefix, name) {
                rows.push(Row { path, entry });
            }
        });
        for (name, node) in self.folders() {
            node.rows(&format!("{prefix}{name}/"), rows);
        }
    }
}

/// Writes trees in breadth-first order, as the cache has them.
pub(super) fn write(trees: Vec<(&str, TreeFolder<'_>)>, writer: &mut Writer) {
    let mut next = trees.len() as u32;
    let mut level = trees;
    while !level.is_empty() {
        let mut below = Vec::new();
        for (name, node) in level {
            let children = node.folders();
            writer.folder(name, next, children.len() as u32, node.totals());
            match &node {
                TreeFolder::Cached(folder) => writer.copy_files(folder),
                TreeFolder::Fresh(folder, _) => {
                    for file in &folder.files {
                        writer.file(folder.name(file), &file.stat, &file.entry);
                    }
                }
            }
            next += children.len() as u32;
            below.extend(children);
        }
        level = below;
    }
}

/// The path of a name below a prefix. Names of trees were parsed, so the path is always valid.
pub(super) fn site_path(prefix: &str, name: &str) -> Option<SitePath> {
    SitePath::parse(&[prefix, name].concat()).ok()
}
