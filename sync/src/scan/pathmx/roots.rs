//! Older build output: a folder with `roots.json`, and one folder per root of the site.
//!
//! `roots.json` is `{"roots": {"<slug>": {"routes": …, "manifest": …}}}`; each root's folder has a
//! `manifest.json`, `{"files": {"<path>": {"hash": …}}}`. A single root is served at `/`, several
//! at `/<slug>/`. Routes and manifests are named by a path, or by the hash of a file in the root's
//! folder, as in the first releases of PathMX. `roots.json` and the manifests are not published. If
//! a manifest names files that the folder lacks, the build was interrupted, and the scan fails.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use pmx_core::hash::Hash;
use serde::Deserialize;

use crate::path::{SitePath, segment_fault};
use crate::text;

use super::super::error::{ScanFault, shown};
use super::Mount;
use super::json::read;

/// The file that lists the roots.
pub(super) const FILE: &str = "roots.json";

/// Files of a root's folder that the scan hashes to find one by its hash.
const LOOKED_AT_MAX: usize = 1_000;

/// Missing files that an error names.
const NAMED_MAX: usize = 5;

#[derive(Deserialize)]
struct Roots {
    roots: BTreeMap<String, RootEntry>,
}

#[derive(Deserialize)]
struct RootEntry {
    #[serde(default)]
    routes: serde_json::Value,
    #[serde(default)]
    manifest: serde_json::Value,
}

#[derive(Deserialize)]
#[allow(clippy::zero_sized_map_values)] // JSON has objects, and only the keys count here
struct FileManifest {
    files: BTreeMap<String, serde::de::IgnoredAny>,
}

/// The roots of a build. `None` if the folder is no build of this form.
pub(super) fn mounts(folder: &Path, is_named: bool) -> Result<Option<Vec<Mount>>, ScanFault> {
    let incomplete = |fault: String| ScanFault::BuildIncomplete {
        path: FILE.to_owned(),
        fault,
    };
    let bytes = match read(&folder.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if is_named && error.kind() != ErrorKind::NotFound => {
            return Err(incomplete(format!("can't be read: {error}")));
        }
        Err(_) => return Ok(None),
    };
    match serde_json::from_slice::<Roots>(text::without_mark(&bytes)) {
        Ok(roots) => mounts_of(&roots, folder).map(Some),
        Err(error) if is_named => Err(incomplete(format!("can't be understood: {error}"))),
        // A site may have an unrelated file of that name.
        Err(_) => Ok(None),
    }
}

fn mounts_of(roots: &Roots, top: &Path) -> Result<Vec<Mount>, ScanFault> {
    if roots.roots.is_empty() {
        return Err(ScanFault::BuildIncomplete {
            path: FILE.to_owned(),
            fault: "names no roots".to_owned(),
        });
    }
    let single = roots.roots.len() == 1;
    let mounts = roots.roots.iter().map(|(slug, root)| {
        if let Some(reason) = segment_fault(slug) {
            return Err(ScanFault::BuildIncomplete {
                path: FILE.to_owned(),
                fault: format!("names a root \"{}\", but {reason}", shown(slug)),
            });
        }
        let manifest = match &root.manifest {
            serde_json::Value::String(text) => match ContentHash::parse(text) {
                Some(hash) => hash.manifest(&top.join(slug), slug)?,
                None => text.trim_start_matches("./").to_owned(),
            },
            _ => format!("{slug}/manifest.json"),
        };
        if let serde_json::Value::String(text) = &root.routes
            && let Some(hash) = ContentHash::parse(text)
        {
            hash.routes(&top.join(slug), slug, &top.join(&manifest))?;
        }
        let manifest =
            SitePath::parse(&manifest).map_err(|invalid| ScanFault::BuildIncomplete {
                path: FILE.to_owned(),
                fault: format!("names a manifest that is none: {invalid}"),
            })?;
        let mut hidden = vec![manifest.name().to_owned()];
        if manifest.folder().is_empty() {
            hidden.push(FILE.to_owned());
        }
        Ok(Mount {
            slug: if single { String::new() } else { slug.clone() },
            folder: manifest.folder().to_owned(),
            hidden,
            manifest: Some(manifest.as_str().to_owned()),
            is_virtual: false,
        })
    });
    mounts.collect()
}

/// A hash in place of a path: BLAKE3 or SHA-256 of a file of the root's folder.
struct ContentHash<'a>(&'a str);

impl<'a> ContentHash<'a> {
    /// Parses 64 hexadecimal digits, optionally after the name of the function; no path of a build
    /// has this form.
    fn parse(text: &'a str) -> Option<Self> {
        let digits = text
            .rsplit_once([':', '-'])
            .map_or(text, |(_, digits)| digits);
        let is_hash = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then_some(Self(digits))
    }

    /// The path of the manifest with this hash, below the top.
    fn manifest(&self, folder: &Path, slug: &str) -> Result<String, ScanFault> {
        match self.file_in(folder, "manifest.json") {
            Some(name) => Ok(format!("{slug}/{name}")),
            None => Err(self.missing(slug, "manifest")),
        }
    }

    /// Checks that a file has this hash, or that the manifest names it.
    fn routes(&self, folder: &Path, slug: &str, manifest: &Path) -> Result<(), ScanFault> {
        let is_named = || {
            let bytes = read(manifest).unwrap_or_default();
            let mut places = bytes.windows(self.0.len());
            places.any(|place| place.eq_ignore_ascii_case(self.0.as_bytes()))
        };
        if self.file_in(folder, "routes.json").is_some() || is_named() {
            return Ok(());
        }
        Err(self.missing(slug, "routes"))
    }

    fn missing(&self, slug: &str, what: &str) -> ScanFault {
        ScanFault::BuildIncomplete {
            path: FILE.to_owned(),
            fault: format!(
                "names the {what} of \"{}\" by the hash {}, which no file in its folder has",
                shown(slug),
                self.0
            ),
        }
    }

    /// The file of a folder with this hash; the search starts with the likely one.
    #[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
    fn file_in(&self, folder: &Path, likely: &str) -> Option<String> {
        let others = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let others = others.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names = [likely.to_owned()]
            .into_iter()
            .chain(others.take(LOOKED_AT_MAX));
        names.find(|name| read(&folder.join(name)).is_ok_and(|bytes| self.is_of(&bytes)))
    }

    fn is_of(&self, bytes: &[u8]) -> bool {
        use sha2::{Digest, Sha256};
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
        let blake3 = Hash::of(bytes).to_hex();
        [blake3, sha256]
            .iter()
            .any(|hash| hash.eq_ignore_ascii_case(self.0))
    }
}

/// The bytes of the manifests of all mounts, in order.
pub(in crate::scan) fn manifests(top: &Path, mounts: &[Mount]) -> Result<Vec<Vec<u8>>, ScanFault> {
    let paths = mounts.iter().filter_map(|mount| mount.manifest.as_ref());
    let bytes = paths.map(|path| {
        read(&top.join(path)).map_err(|error| ScanFault::BuildIncomplete {
            path: shown(path),
            fault: format!("can't be read: {error}"),
        })
    });
    bytes.collect()
}

/// One hash of all manifests; zeros without manifests.
pub(in crate::scan) fn summed(manifests: &[Vec<u8>]) -> [u8; 32] {
    if manifests.is_empty() {
        return [0; 32];
    }
    let mut hasher = blake3::Hasher::new();
    for manifest in manifests {
        hasher.update(blake3::hash(manifest).as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Checks that all files of a mount's manifest exist. `published` says which of its files the scan
/// found; patterns may have excluded others, which this function looks for on disk.
pub(in crate::scan) fn check(
    top: &Path,
    mount: &Mount,
    manifest: &[u8],
    published: impl Fn(&str) -> bool,
) -> Result<(), ScanFault> {
    let path = mount.manifest.as_deref().unwrap_or_default();
    let incomplete = |fault| ScanFault::BuildIncomplete {
        path: shown(path),
        fault,
    };
    let manifest: FileManifest = serde_json::from_slice(text::without_mark(manifest))
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
