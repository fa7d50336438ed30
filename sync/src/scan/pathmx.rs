//! PathMX's own build output: a folder `.pathmx` with one folder per root of the site.
//!
//! `roots.json` is `{"roots": {"<slug>": {"routes": …, "manifest": …}}}`; each root's folder has a
//! `manifest.json`, `{"files": {"<path>": {"hash": …}}}`. A single root is served at `/`, several
//! at `/<slug>/`. The two files themselves are not published. A manifest that names files which
//! the folder lacks is the mark of a build that was interrupted, and nothing of it is published.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use crate::path::{SitePath, segment_fault};

use super::error::{Problem, shown};

/// The name of PathMX's build output.
const FOLDER: &str = ".pathmx";

/// The file that lists the roots.
const ROOTS: &str = "roots.json";

/// Bytes of a JSON file of the build output: two million paths of a hundred bytes.
const JSON_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Missing files that an error names.
const NAMED_MAX: usize = 5;

/// A folder that is published below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The first segment of its site paths; empty at the top.
    pub(super) slug: String,
    /// Where it lies below the folder that is scanned; empty for that folder itself.
    pub(super) folder: String,
    /// Names at its top that are not published.
    pub(super) hidden: Vec<String>,
    /// The manifest, by its path below the folder that is scanned.
    pub(super) manifest: Option<String>,
}

#[derive(Deserialize)]
struct Roots {
    roots: BTreeMap<String, RootEntry>,
}

#[derive(Deserialize)]
struct RootEntry {
    #[serde(default)]
    manifest: serde_json::Value,
}

#[derive(Deserialize)]
#[allow(clippy::zero_sized_map_values)] // JSON has objects, and only the keys count here
struct FileManifest {
    files: BTreeMap<String, serde::de::IgnoredAny>,
}

/// What of a folder is published: all of it, or the roots of a build output.
pub(super) fn mounts(folder: &Path) -> Result<Vec<Mount>, Problem> {
    let named = folder.file_name() == Some(OsStr::new(FOLDER));
    let path = folder.join(ROOTS);
    let incomplete = |fault: String| Problem::BuildIncomplete {
        path: ROOTS.to_owned(),
        fault,
    };
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(error) if named => return Err(incomplete(format!("can't be read: {error}"))),
        Err(_) => return Ok(vec![whole()]),
    };
    match serde_json::from_slice::<Roots>(&bytes) {
        Ok(roots) => mounts_of(&roots),
        Err(error) if named => Err(incomplete(format!("can't be understood: {error}"))),
        // A site may have a file of that name.
        Err(_) => Ok(vec![whole()]),
    }
}

fn whole() -> Mount {
    Mount {
        slug: String::new(),
        folder: String::new(),
        hidden: Vec::new(),
        manifest: None,
    }
}

fn mounts_of(roots: &Roots) -> Result<Vec<Mount>, Problem> {
    if roots.roots.is_empty() {
        return Err(Problem::BuildIncomplete {
            path: ROOTS.to_owned(),
            fault: "names no roots".to_owned(),
        });
    }
    let single = roots.roots.len() == 1;
    let mounts = roots.roots.iter().map(|(slug, root)| {
        if let Some(reason) = segment_fault(slug) {
            return Err(Problem::BuildIncomplete {
                path: ROOTS.to_owned(),
                fault: format!("names a root \"{}\", but {reason}", shown(slug)),
            });
        }
        let manifest = match &root.manifest {
            serde_json::Value::String(path) => path.trim_start_matches("./").to_owned(),
            _ => format!("{slug}/manifest.json"),
        };
        let manifest = SitePath::parse(&manifest).map_err(|invalid| Problem::BuildIncomplete {
            path: ROOTS.to_owned(),
            fault: format!("names a manifest that is none: {invalid}"),
        })?;
        let mut hidden = vec![manifest.name().to_owned()];
        if manifest.folder().is_empty() {
            hidden.push(ROOTS.to_owned());
        }
        Ok(Mount {
            slug: if single { String::new() } else { slug.clone() },
            folder: manifest.folder().to_owned(),
            hidden,
            manifest: Some(manifest.as_str().to_owned()),
        })
    });
    mounts.collect()
}

/// The bytes of the manifests of all mounts, in order.
pub(super) fn manifests(top: &Path, mounts: &[Mount]) -> Result<Vec<Vec<u8>>, Problem> {
    let paths = mounts.iter().filter_map(|mount| mount.manifest.as_ref());
    let bytes = paths.map(|path| {
        read(&top.join(path)).map_err(|error| Problem::BuildIncomplete {
            path: shown(path),
            fault: format!("can't be read: {error}"),
        })
    });
    bytes.collect()
}

/// Checks that all files that a mount's manifest names are there. `published` tells which of its
/// files the scan found; others may have been left out by a pattern, and are looked for.
pub(super) fn check(
    top: &Path,
    mount: &Mount,
    manifest: &[u8],
    published: impl Fn(&str) -> bool,
) -> Result<(), Problem> {
    let path = mount.manifest.as_deref().unwrap_or_default();
    let incomplete = |fault| Problem::BuildIncomplete {
        path: shown(path),
        fault,
    };
    let manifest: FileManifest = serde_json::from_slice(manifest)
        .map_err(|error| incomplete(format!("can't be understood: {error}")))?;
    let folder = top.join(&mount.folder);
    let is_there = |file: &str| {
        let relative = file.trim_start_matches('/').trim_start_matches("./");
        let valid = SitePath::parse(relative).is_ok();
        valid && (published(relative) || folder.join(relative).is_file())
    };
    let missing = manifest.files.keys().filter(|file| !is_there(file));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<_> = missing
        .iter()
        .take(NAMED_MAX)
        .map(|path| shown(path))
        .collect();
    let more = match missing.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(incomplete(format!(
        "names files that are not there: {}{more}",
        listed.join(", ")
    )))
}

#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO must not block, so only a regular file is opened.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > JSON_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
