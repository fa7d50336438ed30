//! Scan job: one walk over all mounts of a folder, by either file system implementation.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use pmx_core::time::Timestamp;

use super::cache::StatCache;
use super::error::{self, ScanError, ScanFault, shown};
use super::filesystem::FileSystem;
use super::filesystem::layered::LayeredFileSystem;
use super::media::MediaTypes;
use super::own::OwnFolder;
use super::pathmx::{FolderKind, PathmxBuild, prefix, roots};
use super::read::FileHasher;
use super::rules::{self, IgnoreRules};
use super::tree::Tree;
use super::virtual_files::VirtualFiles;
use super::walk::{self, ScanFindings, Unknown, WalkPosition};
use super::{Collisions, Options, Progress, Scan, Secrets, nanoseconds, settled_before};

/// The scan trusts file times if they are this much older than the scan that saw them.
const RACY_NANOSECONDS: i64 = 2_000_000_000;

/// Files that are known before the scan stats any.
#[derive(Clone, Copy)]
pub(super) struct KnownFiles<'a> {
    pub(super) cache: Option<&'a StatCache>,
    pub(super) unknown: Unknown<'a>,
}

pub(super) struct ScanJob<'a> {
    pub(super) place: &'a Path,
    pub(super) build: PathmxBuild,
    pub(super) options: &'a Options,
    pub(super) known: KnownFiles<'a>,
    pub(super) progress: &'a dyn Progress,
    pub(super) now: Timestamp,
}

impl ScanJob<'_> {
    /// Walks the folder, with the virtual files over it if there are any.
    pub(super) fn run<G: FileSystem>(mut self, filesystem: &G) -> Result<Scan, ScanError> {
        let files = std::mem::take(&mut self.build.files);
        let mut scan = match files.len() {
            0 => self.walk(filesystem)?,
            _ => self.walk(&LayeredFileSystem::new(filesystem, &files))?,
        };
        scan.files = files;
        Ok(scan)
    }

    fn walk<G: FileSystem>(self, filesystem: &G) -> Result<Scan, ScanError> {
        let ignore_file = match self.build.kind {
            FolderKind::SingleFile => String::new(),
            FolderKind::Folder | FolderKind::NamedLikeBuild | FolderKind::Build => {
                rules::ignore_file(filesystem)?
            }
        };
        let rules = IgnoreRules::parse(&ignore_file, &self.options.exclude)?;
        let manifests = roots::manifests(self.place, &self.build.mounts)?;
        let binding = self.binding(&ignore_file);
        let cache = self.known.cache;
        let cache = cache.filter(|cache| cache.binding() == binding);
        let walk = walk::Walk {
            filesystem,
            rules: &rules,
            cache,
            clean_before: cache
                .map_or(0, StatCache::started)
                .saturating_sub(RACY_NANOSECONDS),
            reader: FileHasher::new(settled_before(self.now)),
            unknown: self.known.unknown,
            collisions: self.options.collisions,
            secrets: self.options.secrets,
            own: OwnFolder::at(self.place),
            kind: self.build.kind,
            touched: self.options.touched.as_ref(),
            progress: self.progress,
            media: MediaTypes::default(),
            problems: error::Problems::new(self.options.faults),
            found: ScanFindings::default(),
            open: AtomicUsize::new(0),
        };
        let trees = self.trees(&walk);
        let left_out = walk.problems.check()?;
        walk.found.check_secrets()?;
        let (changes, stats) = walk.found.results();
        let scan = Scan {
            place: self.place.to_owned(),
            mounts: self.build.mounts,
            files: VirtualFiles::default(),
            kind: self.build.kind,
            paths: self.build.paths,
            trees,
            cache: cache.cloned(),
            binding,
            checked: roots::summed(&manifests),
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
        let trees = self.build.mounts.iter().enumerate().map(|(index, mount)| {
            let prefix = prefix(&mount.slug);
            let here = WalkPosition {
                prefix: &prefix,
                real: &mount.folder,
                depth: usize::from(!mount.slug.is_empty()),
                above: None,
                hidden: &mount.hidden,
            };
            // The binding includes the mounts, so the cache's trees are these, in order.
            let cached = cached.as_mut().and_then(|trees| trees.get(index).copied());
            match walk.filesystem.mounted(mount) {
                Ok(folder) => walk.folder(&here, folder, cached),
                Err(error) => {
                    let problem = ScanFault::BuildIncomplete {
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

    /// The hash of all inputs that define a cached record's meaning, beside the file itself.
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
        add(&[u8::from(!self.options.replaced.is_empty())]);
        for pattern in &self.options.exclude {
            add(pattern.as_bytes());
        }
        add(b"");
        for mount in &self.build.mounts {
            add(mount.slug.as_bytes());
            add(mount.folder.as_bytes());
            add(mount.hidden.join("/").as_bytes());
            add(&[u8::from(mount.is_virtual)]);
        }
        *hasher.finalize().as_bytes()
    }
}

/// The scan checks a build output again only if its manifests changed, or files disappeared.
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
        roots::check(&scan.place, mount, manifest, |file| {
            let path = [&prefix, file].concat();
            rows.binary_search_by(|row| row.path.as_str().cmp(&path))
                .is_ok()
        })?;
    }
    Ok(())
}
