//! Source tree: the scanned folder with its root, and with its manifest once it is needed.
//!
//! If the scan found no change, the root is the cached one, and no manifest is read. If it found
//! few changes, they are applied to the cached nodes. Only without a cache is the whole manifest
//! built.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::id::{NodeId, Root};
use pmx_core::time::Timestamp;
use pmx_sync::manifest::{
    Change, Edit, ManifestError, Node, NodeSource, Totals, build_parallel, diff, edit, lookup,
};
use pmx_sync::path::SitePath;
use pmx_sync::rules::RuleFile;
use pmx_sync::scan::{self, FaultPolicy, Prefetch, Scan, ScanError};

use crate::args::ScanArgs;
use crate::cache::{FolderCache, NodeStore, Nodes};
use crate::config::FolderConfig;
use crate::error::Failure;
use crate::rule_files::RuleFiles;
use crate::ui::{Bar, Counting, Ui};

/// Roots whose nodes are stored beside the newest: those of sites to which the folder was
/// published.
const ROOTS_KEPT: usize = 3;

/// A scanned folder. As a [`NodeSource`] it holds the nodes of its root and of recent ones.
#[derive(Debug)]
pub struct SourceTree {
    scan: Scan,
    root: Root,
    cache: FolderCache,
    store: OnceLock<NodeStore>,
    /// Nodes of another folder, from which the site was published before.
    others: OnceLock<Nodes>,
    /// The project's lines of which `_site.toml` was made.
    settings_lines: Option<String>,
    took: Duration,
}

/// How a watch reads a folder. The default reads everything and refuses unpublishable paths.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatchedRead<'a> {
    /// The folders with changes since the last stored scan.
    pub touched: Option<&'a BTreeSet<String>>,
    /// Policy for paths that can't be published.
    pub faults: FaultPolicy,
}

impl SourceTree {
    /// Reads a folder.
    pub fn read(
        folder: &FolderConfig,
        args: &ScanArgs,
        cache: FolderCache,
        ui: &Ui,
    ) -> Result<Self, Failure> {
        Self::read_watched(folder, args, cache, ui, WatchedRead::default())
    }

    /// Reads a folder in the way of a watch.
    pub fn read_watched(
        folder: &FolderConfig,
        args: &ScanArgs,
        cache: FolderCache,
        ui: &Ui,
        look: WatchedRead<'_>,
    ) -> Result<Self, Failure> {
        let options = scan::Options {
            touched: look.touched.cloned(),
            faults: look.faults,
            ..options(folder, args)
        };
        let tree = Self::with_options(folder, args, cache, ui, &options)?;
        tree.leniently(folder, args, ui, &options)
    }

    fn with_options(
        folder: &FolderConfig,
        args: &ScanArgs,
        cache: FolderCache,
        ui: &Ui,
        options: &scan::Options,
    ) -> Result<Self, Failure> {
        let cached = cache.clone();
        Self::scanned(folder, cache, ui, |bar| {
            let known = if args.no_cache { None } else { cached.scan() };
            scan::scan(&folder.dir, options, known.as_ref(), bar, now())
        })
    }

    /// The folder without the lines of its rule files that have errors, if the user wants that.
    fn leniently(
        self,
        folder: &FolderConfig,
        args: &ScanArgs,
        ui: &Ui,
        options: &scan::Options,
    ) -> Result<Self, Failure> {
        if !args.lenient {
            return Ok(self);
        }
        let exists = |path: &SitePath| self.has(path);
        let replaced = self.rule_files()?.without_errors(&exists);
        if replaced.is_empty() {
            return Ok(self);
        }
        let options = scan::Options {
            replaced,
            ..options.clone()
        };
        Self::with_options(folder, args, self.cache.clone(), ui, &options)
    }

    /// Reads a folder that is mostly prefetched.
    pub fn read_ahead(
        folder: &FolderConfig,
        args: &ScanArgs,
        cache: FolderCache,
        ui: &Ui,
        ahead: &Prefetch,
        faults: FaultPolicy,
    ) -> Result<Self, Failure> {
        let options = scan::Options {
            faults,
            ..options(folder, args)
        };
        let tree = Self::scanned(folder, cache, ui, |bar| {
            scan::scan_prefetched(&folder.dir, &options, ahead, bar, now())
        })?;
        tree.leniently(folder, args, ui, &options)
    }

    fn scanned(
        folder: &FolderConfig,
        cache: FolderCache,
        ui: &Ui,
        scan: impl FnOnce(&Bar) -> Result<Scan, ScanError>,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        let bar = ui.bar(Counting::Files, 0);
        let scan = scan(&bar)?;
        bar.finish();
        crate::warnings::report(&scan, ui);
        let store = OnceLock::new();
        let root = match scan.base() {
            Some(base) if scan.changes().is_empty() => base,
            Some(_) | None => {
                let (root, made) = manifest(&scan, &cache)?;
                let _ = store.set(made);
                root
            }
        };
        let took = started.elapsed();
        Ok(Self {
            scan,
            root,
            cache,
            store,
            others: OnceLock::new(),
            settings_lines: folder.settings.as_ref().and_then(|it| it.lines.clone()),
            took,
        })
    }

    /// The rule files of the folder.
    pub(crate) fn rule_files(&self) -> Result<RuleFiles, Failure> {
        RuleFiles::of(&self.scan, self.settings_lines.clone())
    }

    /// The root of the folder.
    pub const fn root(&self) -> Root {
        self.root
    }

    /// Whether the site has a file.
    pub fn has(&self, path: &SitePath) -> bool {
        lookup(self, self.root, path).is_ok_and(|found| found.is_some())
    }

    /// The counts of files and bytes.
    pub fn totals(&self) -> Totals {
        self.scan.totals()
    }

    /// The scan, which locates the files.
    pub const fn scan(&self) -> &Scan {
        &self.scan
    }

    /// How long reading it took.
    pub const fn took(&self) -> Duration {
        self.took
    }

    /// Whether the nodes of a root are available.
    pub fn contains(&self, root: &Root) -> bool {
        *root == self.root
            || self.store().is_ok_and(|store| store.has(root))
            || self
                .others
                .get()
                .is_some_and(|others| others.roots().contains(root))
    }

    /// Adds the nodes of another folder. They may belong to a root that this one lacks, because the
    /// same site may be built in different folders.
    pub fn insert(&self, nodes: Nodes) {
        let _first = self.others.set(nodes);
    }

    /// The cache of the folder.
    pub const fn cache(&self) -> &FolderCache {
        &self.cache
    }

    /// The changes that turn an available root into this one.
    pub fn changes_since(&self, root: Root) -> Result<Vec<Change>, Failure> {
        Ok(diff(self, root, self, self.root)?)
    }

    /// Whether the manifest was needed, so that its nodes are available.
    pub fn has_manifest(&self) -> bool {
        self.store.get().is_some()
    }

    /// Stores the data for the next scan, and the available nodes of `bases`.
    pub fn keep(&self, bases: &[Root]) {
        // Both files have megabytes for a large site, so two threads write them.
        std::thread::scope(|scope| {
            scope.spawn(|| self.keep_scan());
            self.keep_nodes(bases);
        });
    }

    fn keep_scan(&self) {
        if !self.scan.is_settled() {
            self.cache.keep_scan(&self.scan, self.root);
        }
    }

    /// Stores the available nodes of the root and of `bases`.
    pub fn keep_nodes(&self, bases: &[Root]) {
        // Nodes that the file has already need no writing.
        let Some(store) = self.store.get().filter(|store| !store.new.is_empty()) else {
            return;
        };
        let older = store.old.iter().flat_map(Nodes::roots);
        let roots = [&self.root].into_iter().chain(bases).chain(older);
        self.cache
            .keep_nodes(&store.encode(&first_distinct(roots.copied())));
    }

    fn store(&self) -> Result<&NodeStore, ManifestError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let mut store = NodeStore {
            old: self.cache.nodes(),
            ..NodeStore::default()
        };
        if !store.has(&self.root) {
            store.new.extend(build_parallel(self.scan.rows())?.nodes);
        }
        Ok(self.store.get_or_init(|| store))
    }
}

impl NodeSource for SourceTree {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        match (self.store()?.node(id), self.others.get()) {
            (Err(ManifestError::Missing(_)), Some(others)) => others.node(id),
            (found, _) => found,
        }
    }
}

/// The manifest of a scan with changes: its root, and its nodes with the older ones.
fn manifest(scan: &Scan, cache: &FolderCache) -> Result<(Root, NodeStore), Failure> {
    let mut store = NodeStore {
        old: cache.nodes(),
        ..NodeStore::default()
    };
    let edited = match scan.base() {
        Some(base) if store.has(&base) => {
            let edits = scan.changes().iter().map(|(path, entry)| Edit {
                path: path.clone(),
                entry: entry.clone(),
            });
            edit(&store, base, &edits.collect::<Vec<_>>()).ok()
        }
        Some(_) | None => None,
    };
    let built = match edited {
        Some(built) => built,
        None => build_parallel(scan.rows())?,
    };
    store.new.extend(built.nodes);
    Ok((built.root, store))
}

/// Lists a folder to prefetch its files.
pub fn list(
    folder: &FolderConfig,
    args: &ScanArgs,
    ui: &Ui,
    faults: FaultPolicy,
) -> Result<Prefetch, Failure> {
    let bar = ui.bar(Counting::Files, 0);
    let options = scan::Options {
        faults,
        ..options(folder, args)
    };
    let ahead = scan::list(&folder.dir, &options, &bar, now())?;
    bar.finish();
    Ok(ahead)
}

fn options(folder: &FolderConfig, args: &ScanArgs) -> scan::Options {
    scan::Options {
        exclude: folder.exclude.clone(),
        collisions: folder.collisions,
        secrets: folder.secrets,
        path: folder.path.clone(),
        generated: generated(folder),
        threads: args.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into())),
        ..scan::Options::default()
    }
}

/// The files of the site that only the project's settings have.
fn generated(folder: &FolderConfig) -> BTreeMap<SitePath, Bytes> {
    let settings = folder.settings.as_ref();
    let settings = settings.map(|settings| {
        let bytes = Bytes::from(settings.file.clone());
        (RuleFile::Settings.site_path(), bytes)
    });
    settings.into_iter().collect()
}

fn first_distinct(roots: impl Iterator<Item = Root>) -> Vec<Root> {
    let mut distinct = Vec::new();
    for root in roots {
        if distinct.len() <= ROOTS_KEPT && !distinct.contains(&root) {
            distinct.push(root);
        }
    }
    distinct
}

/// Refuses a site without files, unless the user allows it.
pub fn check_empty(totals: Totals, allow_empty: AllowEmpty) -> Result<(), Failure> {
    match allow_empty {
        AllowEmpty::No if totals.files == 0 => Err(Failure::new(
            Code::EmptySite,
            "the folder has no files to publish",
        )),
        AllowEmpty::No | AllowEmpty::Yes => Ok(()),
    }
}

/// Whether a site may have no files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowEmpty {
    /// An empty site is a mistake.
    No,
    /// An empty site is intended.
    Yes,
}

/// The moment, by the clock that dates files.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::args::OutputArgs;
    use crate::cache::CacheFolder;
    use crate::env::Environment;

    fn read(dir: &Path, cache: &Path) -> SourceTree {
        let folder = FolderConfig {
            dir: dir.to_owned(),
            exclude: Vec::new(),
            collisions: scan::Collisions::default(),
            secrets: scan::Secrets::default(),
            path: None,
            settings: None,
        };
        let output = OutputArgs {
            quiet: true,
            ..OutputArgs::default()
        };
        let ui = Ui::new(&output, &Environment::default());
        let cache = CacheFolder::at(cache).folder(&folder);
        SourceTree::read(&folder, &ScanArgs::default(), cache, &ui).unwrap()
    }

    fn site(dir: &Path, files: u32) {
        for number in 0..files {
            std::fs::write(dir.join(format!("{number}.txt")), number.to_string()).unwrap();
        }
    }

    /// A site of so many files, its cache, and its stored tree.
    fn kept_site(files: u32) -> (TempDir, TempDir, SourceTree) {
        let (dir, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        site(dir.path(), files);
        let first = read(dir.path(), cache.path());
        first.keep(&[]);
        (dir, cache, first)
    }

    #[test]
    fn cached_root_is_the_root() {
        let (dir, cache, first) = kept_site(300);
        let second = read(dir.path(), cache.path());
        assert_eq!(second.root(), first.root());
        assert!(
            second.store.get().is_none(),
            "nothing changed, so no manifest was touched"
        );
        assert!(second.contains(&first.root()));
        assert_eq!(second.changes_since(first.root()).unwrap(), []);
    }

    #[test]
    fn edited_manifest_is_the_one_that_building_gives() {
        let (dir, cache, first) = kept_site(300);
        std::fs::write(dir.path().join("7.txt"), "changed").unwrap();
        std::fs::remove_file(dir.path().join("8.txt")).unwrap();
        std::fs::write(dir.path().join("new.txt"), "new").unwrap();
        let edited = read(dir.path(), cache.path());
        let fresh = TempDir::new().unwrap();
        assert_eq!(edited.root(), read(dir.path(), fresh.path()).root());
        assert!(edited.contains(&first.root()));
        let changes = edited.changes_since(first.root()).unwrap();
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["7.txt", "8.txt", "new.txt"]);
        // Stored nodes remain available until others replace them.
        edited.keep(&[first.root()]);
        assert!(read(dir.path(), cache.path()).contains(&first.root()));
    }

    #[test]
    fn spoilt_caches_cost_time_and_nothing_else() {
        let (dir, cache, first) = kept_site(100);
        for kept in std::fs::read_dir(cache.path().join("folders")).unwrap() {
            let path = kept.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
        }
        let again = read(dir.path(), cache.path());
        assert_eq!(again.root(), first.root());
        assert_eq!(again.scan().base(), None);
        assert_eq!(again.changes_since(first.root()).unwrap(), []);
    }

    #[test]
    fn lost_manifest_is_built_again() {
        let (dir, cache, first) = kept_site(100);
        for kept in std::fs::read_dir(cache.path().join("folders")).unwrap() {
            let path = kept.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "nodes")
            {
                std::fs::remove_file(path).unwrap();
            }
        }
        let again = read(dir.path(), cache.path());
        assert!(again.node(&first.root()).is_ok());
        std::fs::write(dir.path().join("7.txt"), "changed").unwrap();
        assert_ne!(read(dir.path(), cache.path()).root(), first.root());
    }
}
