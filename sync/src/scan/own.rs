//! Own folders: the data and cache folders of pmx, which are never content.
//!
//! A data folder has the publish secret and the ledgers of every site, so a scan leaves it out at
//! any place and under any name. A marker file identifies it. The host creates the marker before
//! any other file, so a scan of a new data folder finds either the marker or nothing. The scan
//! recognises folders of releases without markers by their shape.

use std::io::Read as _;
use std::path::Path;

/// The marker of a data folder: its first file.
pub const DATA_MARKER: &str = ".pmx-data";

/// The text of a data folder's marker.
pub const DATA_MARKER_TEXT: &str =
    "This is a data folder of pmx. pmx never publishes a folder that holds this file.\n";

/// The marker of a cache folder (Cache Directory Tagging Specification), which backup programs
/// know.
pub const CACHE_MARKER: &str = "CACHEDIR.TAG";

/// The text of a cache folder's marker. Other programs write the same first line.
pub const CACHE_MARKER_TEXT: &str = "\
Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by pmx.
# See https://bford.info/cachedir/
";

/// The line of [`CACHE_MARKER_TEXT`] that names its author.
const CACHE_AUTHOR: &[u8] = b"created by pmx";

/// Names in a data folder, of either host.
const DATA_NAMES: &[&str] = &[
    DATA_MARKER,
    "lock",
    "secret",
    "host.db",
    "streams.db",
    "spaces",
    "objects",
    "streams",
    "r2",
    "kv",
    "d1",
    "cache",
];

/// Names that suggest an own folder.
const TELLING: &[&[u8]] = &[
    DATA_MARKER.as_bytes(),
    CACHE_MARKER.as_bytes(),
    b"host.db",
    b"r2",
    b"folders",
];

/// Kind of a folder of pmx itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum OwnFolder {
    /// The folder of a host: its secret, ledgers and objects.
    #[error("a data folder of pmx")]
    Data,
    /// The folder of a client.
    #[error("a cache folder of pmx")]
    Cache,
}

impl OwnFolder {
    /// The kind of pmx folder at a path, if it is one.
    pub fn at(path: &Path) -> Option<Self> {
        let is_file = |name: &str| kind(&path.join(name)).is_some_and(|kind| kind.is_file());
        let is_folder = |name: &str| kind(&path.join(name)).is_some_and(|kind| kind.is_dir());
        let is_embedded = || is_file("host.db") && is_folder("spaces");
        let is_worker = || is_folder("r2") && is_folder("kv") && is_file("secret");
        let is_cache = || is_folder("folders") && is_folder("sites") && holds_cache(path);
        if is_file(DATA_MARKER) || is_embedded() || is_worker() {
            Some(Self::Data)
        } else if is_file(CACHE_MARKER) && is_our_tag(&path.join(CACHE_MARKER)) || is_cache() {
            Some(Self::Cache)
        } else {
            None
        }
    }

    /// Whether a name in such a folder is pmx's own, and not a site's inside it.
    pub fn holds(self, name: &[u8]) -> bool {
        let is_data = |known: &&str| {
            let rest = name.strip_prefix(known.as_bytes());
            // SQLite stores its log beside each database.
            rest.is_some_and(|rest| matches!(rest, b"" | b"-wal" | b"-shm" | b"-journal"))
        };
        match self {
            Self::Data => DATA_NAMES.iter().any(is_data),
            Self::Cache => true,
        }
    }

    /// The kind of the own folder that contains a path, or is it, below `top`. `top` itself counts
    /// for its own names only.
    pub fn around(top: &Path, path: &Path) -> Option<Self> {
        let below = path.strip_prefix(top).ok()?;
        let first = below.iter().next()?;
        let first = Self::at(top).filter(|own| own.holds(first.as_encoded_bytes()));
        let beneath = || {
            let folders = path.ancestors().take_while(|folder| *folder != top);
            folders.into_iter().find_map(Self::at)
        };
        first.or_else(beneath)
    }

    /// The kind of the own folder that contains `place`.
    pub(super) fn above(place: &Path) -> Option<Self> {
        let mut inner = place.file_name()?;
        for folder in place.ancestors().skip(1) {
            match Self::at(folder) {
                Some(own) if own.holds(inner.as_encoded_bytes()) => return Some(own),
                Some(_) | None => {}
            }
            inner = folder.file_name()?;
        }
        None
    }
}

/// Whether a folder with this name in it may be pmx's own, so that the scan checks it.
pub(super) fn is_telling(name: &[u8]) -> bool {
    TELLING.contains(&name)
}

#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
fn kind(path: &Path) -> Option<std::fs::FileType> {
    std::fs::metadata(path).ok().map(|found| found.file_type())
}

#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
fn is_our_tag(path: &Path) -> bool {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut text));
    let mut places = text.windows(CACHE_AUTHOR.len());
    read.is_ok() && places.any(|place| place == CACHE_AUTHOR)
}

/// Whether the folders `folders` and `sites` here have pmx's own content.
#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
fn holds_cache(path: &Path) -> bool {
    let is_ours = |name: &str| {
        let (stem, extension) = name.split_once('.').unwrap_or_default();
        stem.len() == 32
            && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
            && ["scan", "nodes", "json", "packs", "folder"].contains(&extension)
    };
    ["folders", "sites"].iter().any(|folder| {
        let entries = std::fs::read_dir(path.join(folder)).into_iter().flatten();
        let mut names = entries.flatten().take(64).map(|entry| entry.file_name());
        names.any(|name| name.to_str().is_some_and(is_ours))
    })
}
