//! Scan outcome: the files of a folder, and their changes against the cache.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use pmx_core::id::Root;
use rayon::prelude::*;

use super::cache::{Head, StatCache, Writer};
use super::error::LeftOut;
use super::names::NameFault;
use super::own::OwnFolder;
use super::pathmx::{FolderKind, Mount, prefix};
use super::suspect::Suspects;
use super::tree::{self, Tree, TreeFolder};
use super::virtual_files::{VirtualFile, VirtualFiles};
use crate::manifest::{Entry, Row, Totals};
use crate::path::SitePath;

/// A path that appeared, changed (`Some`) or went away (`None`).
pub type PathChange = (SitePath, Option<Entry>);

/// A published name that causes trouble on other systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path, escaped for terminals.
    pub path: String,
    /// The fault of its last segment.
    pub fault: NameFault,
}

/// Statistics of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files that were read and hashed.
    pub read: Totals,
    /// Files that the cache has, or that were prefetched.
    pub reused_files: u64,
    /// Warnings about new names, in path order.
    pub warnings: Vec<Warning>,
    /// Suspicious new names.
    pub suspects: Suspects,
    /// Folders of pmx itself, which the scan leaves out, by their paths.
    pub own: BTreeMap<String, OwnFolder>,
}

/// Scanned folder: its files, and their changes against the cache. The default one has no files.
#[derive(Debug, Default)]
pub struct Scan {
    pub(super) place: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) files: VirtualFiles,
    pub(super) kind: FolderKind,
    pub(super) paths: Vec<String>,
    pub(super) trees: Vec<Tree>,
    pub(super) cache: Option<StatCache>,
    pub(super) binding: [u8; 32],
    pub(super) checked: [u8; 32],
    pub(super) started: i64,
    pub(super) changes: Vec<PathChange>,
    pub(super) left_out: LeftOut,
    pub(super) stats: Stats,
}

impl Scan {
    /// Files and bytes of the site.
    pub fn totals(&self) -> Totals {
        let nodes = self.nodes().into_iter();
        nodes.fold(Totals::default(), |sum, (_, node)| sum.plus(node.totals()))
    }

    /// The statistics of the scan.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The paths that cannot be published, if the scan leaves them out.
    pub const fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Whether the folder is PathMX's build output.
    pub fn is_pathmx(&self) -> bool {
        self.kind == FolderKind::Build
    }

    /// Whether the folder has the name of PathMX's build output, and is none.
    pub fn is_mere_folder(&self) -> bool {
        self.kind == FolderKind::NamedLikeBuild
    }

    /// Where the Paths of a PathMX build are on the site, as paths of requests: `/` for the one at
    /// the top. A plain folder has none.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The root of the cache, if the scan used one.
    pub fn base(&self) -> Option<Root> {
        self.cache.as_ref().map(StatCache::root)
    }

    /// The changes from the site of [`base`](Self::base) (an empty site without one) to this one,
    /// sorted by path. With a base and no changes, the site's root is the base.
    pub fn changes(&self) -> &[PathChange] {
        &self.changes
    }

    /// Whether a new [`cache`](Self::cache) would not help the next scan: every file was clean.
    pub fn is_settled(&self) -> bool {
        let trees = self.trees.iter();
        let cached = trees.filter(|tree| matches!(tree, Tree::Cached(_)));
        let checked = self
            .cache
            .as_ref()
            .is_some_and(|cache| cache.checked() == self.checked);
        checked && cached.count() == self.trees.len()
    }

    /// Every file, sorted by path. Each call builds the list.
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

    /// The bytes of a generated file, which is not on disk.
    pub fn generated(&self, path: &SitePath) -> Option<&Bytes> {
        match self.files.find(path)? {
            VirtualFile::Generated(bytes) => Some(bytes),
            VirtualFile::Declared(_) => None,
        }
    }

    /// Whether a build's own lists say where the file of a path is on disk.
    pub(super) fn is_declared(&self, path: &SitePath) -> bool {
        matches!(self.files.find(path), Some(VirtualFile::Declared(_)))
    }

    /// The file on disk of the site's path, for another read. A generated file has none.
    pub fn source(&self, path: &SitePath) -> PathBuf {
        if let Some(VirtualFile::Declared(on_disk)) = self.files.find(path) {
            return self.place.join(on_disk.as_str());
        }
        let (first, rest) = path.as_str().split_once('/').unwrap_or((path.as_str(), ""));
        for mount in self.mounts.iter().filter(|mount| !mount.is_virtual) {
            if mount.slug.is_empty() {
                return self.place.join(&mount.folder).join(path.as_str());
            }
            if mount.slug == first {
                return self.place.join(&mount.folder).join(rest);
            }
        }
        self.place.join(path.as_str())
    }

    /// The bytes of a cache for the next scan, to be stored with the site's root. The key is the
    /// caller's secret, which MUST NOT be stored beside the cache.
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

    fn nodes(&self) -> Vec<(&str, TreeFolder<'_>)> {
        let trees = self.mounts.iter().zip(&self.trees);
        let nodes = trees.filter_map(|(mount, tree)| {
            Some((
                mount.slug.as_str(),
                TreeFolder::of(tree, self.cache.as_ref())?,
            ))
        });
        nodes.collect()
    }
}
