//! PathMX build output: finds the form of a folder, and where the files of its site are.
//!
//! Today's builds have a `paths.json` ([`paths`]), older ones a `roots.json` ([`roots`]). Every
//! other folder is published as it is, whatever its name.

mod declared;
mod json;
mod paths;
pub(super) mod roots;
mod rules;

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use pmx_core::hash::Hash;

use super::error::{ScanError, ScanFault, shown};
use super::options::Options;
use super::stat::{self, Stat};
use super::virtual_files::{Clash, VirtualFile, VirtualFiles};
use crate::path::SitePath;

/// The name of PathMX's build output.
const FOLDER: &str = ".pathmx";

/// Scans of a build that another program rewrites, before the scan gives up: as many as
/// for a file that changes.
const ATTEMPTS: usize = 3;

/// Files of hosting rules at the top of a build. People write them, so no list declares them.
const RULE_FILES: &[&str] = &["_headers", "_redirects", "_site.toml"];

/// A folder that is published below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mount {
    /// The first segment of its site paths; empty for none.
    pub(super) slug: String,
    /// Its path below the scanned folder; empty for that folder itself.
    pub(super) folder: String,
    /// Top-level names that are not published.
    pub(super) hidden: Vec<String>,
    /// The manifest's path below the scanned folder.
    pub(super) manifest: Option<String>,
    /// Whether it has only virtual files, and no folder on disk.
    pub(super) is_virtual: bool,
}

impl Mount {
    fn of_virtual_files() -> Self {
        Self {
            is_virtual: true,
            ..Self::default()
        }
    }
}

/// The beginning of the site paths of a mount.
pub(super) fn prefix(slug: &str) -> String {
    if slug.is_empty() {
        String::new()
    } else {
        format!("{slug}/")
    }
}

/// Form of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FolderKind {
    /// A plain folder.
    #[default]
    Folder,
    /// A plain folder with the name of PathMX's build output.
    NamedLikeBuild,
    /// PathMX's build output.
    Build,
    /// No folder: one file, wherever it is on disk.
    SingleFile,
}

/// The parts of a folder that are published.
#[derive(Debug)]
pub(super) struct PathmxBuild {
    pub(super) kind: FolderKind,
    pub(super) mounts: Vec<Mount>,
    pub(super) files: VirtualFiles,
    /// Where the Paths of a build are on the site, as paths of requests.
    pub(super) paths: Vec<String>,
}

impl PathmxBuild {
    /// Reads the lists of a folder.
    pub(super) fn read(place: &Path, options: &Options) -> Result<Self, ScanFault> {
        let mut build = Self::of(place, options.path.as_deref())?;
        for (path, bytes) in &options.replaced {
            let file = VirtualFile::Generated(bytes.clone());
            // A build has no second source for its rule files.
            let _ = build.files.insert(path, file);
        }
        let generated = options.generated.iter();
        let kept = generated.filter(|(path, _)| !options.replaced.contains_key(*path));
        for (path, bytes) in kept {
            build.add_generated(place, path, bytes)?;
        }
        build.add_rule_files(place)?;
        let has_top = build.mounts.iter().any(|mount| mount.slug.is_empty());
        if build.files.len() > 0 && !has_top {
            build.mounts.insert(0, Mount::of_virtual_files());
        }
        Ok(build)
    }

    /// A site with one file, which is `on_disk` below the scanned folder.
    pub(super) fn of_file(path: &SitePath, on_disk: SitePath) -> Result<Self, ScanFault> {
        let mounts = vec![Mount::of_virtual_files()];
        let mut build = Self::of_mounts(FolderKind::SingleFile, mounts);
        let inserted = build.files.insert(path, VirtualFile::Declared(on_disk));
        inserted.map_err(|clash| declared::clash(clash, path))?;
        Ok(build)
    }

    fn of(place: &Path, path: Option<&str>) -> Result<Self, ScanFault> {
        let is_named = place.file_name() == Some(OsStr::new(FOLDER));
        if let Some(build) = paths::read(place, is_named, path)? {
            return Ok(build);
        }
        if let Some(path) = path {
            let path = shown(path);
            return Err(ScanFault::NoPaths { path });
        }
        if let Some(mounts) = roots::mounts(place, is_named)? {
            return Ok(Self::of_mounts(FolderKind::Build, mounts));
        }
        let kind = if is_named {
            FolderKind::NamedLikeBuild
        } else {
            FolderKind::Folder
        };
        Ok(Self::of_mounts(kind, vec![Mount::default()]))
    }

    fn of_mounts(kind: FolderKind, mounts: Vec<Mount>) -> Self {
        let slugs = mounts.iter().filter(|_| kind == FolderKind::Build);
        let paths = slugs.map(|mount| rules::raw_path(&prefix(&mount.slug)));
        Self {
            kind,
            paths: paths.collect(),
            mounts,
            files: VirtualFiles::default(),
        }
    }

    /// The folder on disk below which a file at the top of the site is, or would be.
    fn top(&self) -> &str {
        let mut tops = self.mounts.iter().filter(|mount| mount.slug.is_empty());
        tops.next().map_or("", |mount| &mount.folder)
    }

    fn add_generated(
        &mut self,
        place: &Path,
        path: &SitePath,
        bytes: &Bytes,
    ) -> Result<(), ScanFault> {
        let on_disk = place.join(self.top()).join(path.as_str());
        let differs = || ScanFault::GeneratedDiffers {
            path: shown(path.as_str()),
        };
        match json::read(&on_disk) {
            Ok(found) if found != *bytes => return Err(differs()),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(_) => return Err(differs()),
        }
        let file = VirtualFile::Generated(bytes.clone());
        self.files.insert(path, file).map_err(|_| differs())
    }

    /// Adds the files of hosting rules to a site whose top is no folder on disk.
    fn add_rule_files(&mut self, place: &Path) -> Result<(), ScanFault> {
        let has_top = |mount: &Mount| mount.slug.is_empty() && !mount.is_virtual;
        if self.mounts.iter().any(has_top) {
            return Ok(());
        }
        for name in RULE_FILES {
            let path = SitePath::parse(name)?;
            if stat::of_path(&place.join(name)).is_ok_and(|stat| stat.kind == stat::FileKind::File)
            {
                match self
                    .files
                    .insert(&path, VirtualFile::Declared(path.clone()))
                {
                    // It has the bytes of the generated one.
                    Ok(()) | Err(Clash::Taken) => {}
                    Err(Clash::Kind) => return Err(declared::clash(Clash::Kind, &path)),
                }
            }
        }
        Ok(())
    }
}

/// The files that a build writes last. If they are the same before and after a scan, the scan read
/// one build.
#[derive(Debug, PartialEq, Eq)]
struct Marker([Option<(Stat, Hash)>; 2]);

impl Marker {
    fn of(place: &Path) -> Self {
        Self([json::PATHS_FILE, roots::FILE].map(|name| {
            let path = place.join(name);
            let stat = stat::of_path(&path).ok()?;
            Some((stat, Hash::of(&json::read(&path).ok()?)))
        }))
    }
}

/// Scans a folder, and again if it is a build that was rewritten during the scan.
pub(super) fn unchanged<S>(
    place: &Path,
    mut scan: impl FnMut() -> Result<S, ScanError>,
) -> Result<S, ScanError> {
    for _ in 0..ATTEMPTS {
        let before = Marker::of(place);
        let outcome = scan();
        if Marker::of(place) == before {
            return outcome;
        }
    }
    let path = json::PATHS_FILE.to_owned();
    Err(ScanFault::ChangedDuringRead { path }.into())
}
