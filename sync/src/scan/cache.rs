//! Stat cache: the files of the last scan, so that an unchanged file is not read again.
//!
//! The cache mirrors the walk: folders in breadth-first order, so that the children of a folder are
//! neighbours. The files of a folder are neighbours too. Both are sorted by name. Records have a
//! fixed size and are read in place. Layout, all integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic and version |
//! | 32 | MAC: BLAKE3 under the caller's key, of the magic and everything that follows |
//! | 32 | binding: what the scan depended on beside the files (folder, patterns, versions) |
//! | 32 | the root that the caller computed |
//! | 32 | what of the build output was checked, zero if nothing |
//! | 8 | when the scan started, nanoseconds |
//! | 4 x 5 | counts: trees, folders, files, bytes of names, bytes of media types |
//! | 4 | zero |
//! | 40 each | folders: name (start, length), first child, children, first file, files; then files and bytes beneath |
//! | 72 each | files: size, mtime, ctime, inode, blob id, start of name, length of name (2), media type (2) |
//! | | names, UTF-8 |
//! | | media types, each one byte of length and its text |
//!
//! A record replaces a read of its file, so it counts only if this program wrote it. The MAC proves
//! that, since its key is not in the folder with the cache. An invalid cache is treated as missing.
//! It is never an error, because the scan can always read the folder itself.

mod check;
mod writer;

use std::ops::Range;
use std::sync::Arc;

use pmx_core::id::{BlobId, Root};

use crate::manifest::{Entry, Totals};
use crate::media::Media;

use super::stat::{FileKind, Stat};

pub(super) use writer::{Head, Writer};

/// The version of the layout and of everything that defines a record's meaning: raise it when the
/// table of media types or the publish rules change.
pub(super) const FORMAT: u8 = 3;

const MAGIC: [u8; 8] = [b'p', b'm', b'x', b's', b'c', b'a', b'n', FORMAT];
const SUMMED: usize = 40;
const HEAD: usize = 168;
const FOLDER: usize = 40;
const FILE: usize = 72;

/// A verified stat cache. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct StatCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Vec<u8>,
    counts: Counts,
    media: Vec<Media>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    trees: usize,
    folders: usize,
    files: usize,
    names: usize,
}

impl Counts {
    const fn files_at(self) -> usize {
        HEAD + self.folders * FOLDER
    }

    const fn names_at(self) -> usize {
        self.files_at() + self.files * FILE
    }

    const fn media_at(self) -> usize {
        self.names_at() + self.names
    }
}

impl StatCache {
    /// Reads a cache that [`Scan::cache`](super::Scan::cache) wrote under this key. An invalid
    /// cache gives `None`.
    pub fn parse(bytes: Vec<u8>, key: &[u8; 32]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let counts = counts(&bytes)?;
        let media = media_types(bytes.get(counts.media_at()..)?)?;
        let cache = Self(Arc::new(Inner {
            bytes,
            counts,
            media,
        }));
        let (genuine, consistent) = rayon::join(|| cache.is_genuine(key), || cache.is_consistent());
        (genuine && consistent).then_some(cache)
    }

    /// The hash of the scan's inputs beside the files.
    pub(super) fn binding(&self) -> [u8; 32] {
        self.array(40)
    }

    /// The root that the cache was saved with.
    pub(super) fn root(&self) -> Root {
        Root::from_bytes(self.array(72))
    }

    /// The hash of the build output's manifests that were checked.
    pub(super) fn checked(&self) -> [u8; 32] {
        self.array(104)
    }

    /// When the scan started, in nanoseconds.
    pub(super) fn started(&self) -> i64 {
        i64::from_le_bytes(self.array(136))
    }

    /// The root folders of the trees.
    pub(super) fn trees(&self) -> impl Iterator<Item = CachedFolder<'_>> {
        (0..self.0.counts.trees).map(|index| self.folder(index))
    }

    /// The folder with this index.
    pub(super) fn folder(&self, index: usize) -> CachedFolder<'_> {
        CachedFolder { cache: self, index }
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        read(&self.0.bytes, at)
    }

    fn u32(&self, at: usize) -> usize {
        u32::from_le_bytes(self.array(at)) as usize
    }

    fn name(&self, start: usize, len: usize) -> &[u8] {
        let at = self.0.counts.names_at() + start;
        self.0.bytes.get(at..at + len).unwrap_or_default()
    }

    fn file(&self, index: usize) -> CachedFile<'_> {
        CachedFile {
            cache: self,
            at: self.0.counts.files_at() + index * FILE,
        }
    }

    fn is_genuine(&self, key: &[u8; 32]) -> bool {
        // The comparison takes the same time for every difference.
        mac(key, &self.0.bytes) == self.array::<32>(8)
    }
}

/// A folder of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct CachedFolder<'a> {
    cache: &'a StatCache,
    pub(super) index: usize,
}

impl<'a> CachedFolder<'a> {
    const fn at(&self) -> usize {
        HEAD + self.index * FOLDER
    }

    fn name_range(&self) -> (usize, usize) {
        (self.cache.u32(self.at()), self.cache.u32(self.at() + 4))
    }

    fn child_range(&self) -> Range<usize> {
        let start = self.cache.u32(self.at() + 8);
        start..start.saturating_add(self.cache.u32(self.at() + 12))
    }

    fn file_range(&self) -> Range<usize> {
        let start = self.cache.u32(self.at() + 16);
        start..start.saturating_add(self.cache.u32(self.at() + 20))
    }

    /// The name; empty for the root of a tree without a prefix.
    pub(super) fn name(&self) -> &'a str {
        let (start, len) = self.name_range();
        text(self.cache.name(start, len))
    }

    /// Files and bytes in the folder and beneath.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            files: u64::from_le_bytes(self.cache.array(self.at() + 24)),
            bytes: u64::from_le_bytes(self.cache.array(self.at() + 32)),
        }
    }

    /// The subfolders, sorted by name.
    pub(super) fn folders(&self) -> impl ExactSizeIterator<Item = CachedFolder<'a>> + use<'a> {
        let cache = self.cache;
        self.child_range().map(move |index| cache.folder(index))
    }

    /// The files, sorted by name.
    pub(super) fn files(&self) -> impl ExactSizeIterator<Item = CachedFile<'a>> + use<'a> {
        let cache = self.cache;
        self.file_range().map(move |index| cache.file(index))
    }

    /// The subfolder with this name.
    pub(super) fn find_folder(&self, name: &[u8]) -> Option<CachedFolder<'a>> {
        let found = search(self.child_range(), name, |index| {
            let (start, len) = self.cache.folder(index).name_range();
            self.cache.name(start, len)
        })?;
        Some(self.cache.folder(found))
    }

    /// The file with this name.
    pub(super) fn find_file(&self, name: &[u8]) -> Option<CachedFile<'a>> {
        let found = search(self.file_range(), name, |index| {
            self.cache.file(index).name_bytes()
        })?;
        Some(self.cache.file(found))
    }
}

/// A file of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct CachedFile<'a> {
    cache: &'a StatCache,
    at: usize,
}

impl<'a> CachedFile<'a> {
    fn size(&self) -> u64 {
        u64::from_le_bytes(self.cache.array(self.at))
    }

    fn name_range(&self) -> (usize, usize) {
        let len = u16::from_le_bytes(self.cache.array(self.at + 68));
        (self.cache.u32(self.at + 64), usize::from(len))
    }

    fn name_bytes(&self) -> &'a [u8] {
        let (start, len) = self.name_range();
        self.cache.name(start, len)
    }

    fn media_index(&self) -> usize {
        usize::from(u16::from_le_bytes(self.cache.array(self.at + 70)))
    }

    /// The name.
    pub(super) fn name(&self) -> &'a str {
        text(self.name_bytes())
    }

    /// The stat of the file when it was hashed.
    pub(super) fn stat(&self) -> Stat {
        Stat {
            kind: FileKind::File,
            size: self.size(),
            mtime: i64::from_le_bytes(self.cache.array(self.at + 8)),
            ctime: i64::from_le_bytes(self.cache.array(self.at + 16)),
            ino: u64::from_le_bytes(self.cache.array(self.at + 24)),
        }
    }

    /// The entry of the file when it was hashed.
    pub(super) fn entry(&self) -> Entry {
        let media = self.cache.0.media.get(self.media_index());
        Entry {
            blob: BlobId::from_bytes(self.cache.array(self.at + 32)),
            size: self.size(),
            media: media.cloned().unwrap_or_else(Media::unknown),
        }
    }
}

/// The MAC of a cache: of all bytes but its own.
fn mac(key: &[u8; 32], cache: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(cache.get(..8).unwrap_or_default());
    hasher.update(cache.get(SUMMED..).unwrap_or_default());
    hasher.finalize()
}

fn counts(bytes: &[u8]) -> Option<Counts> {
    let count = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let counts = Counts {
        trees: count(144)?,
        folders: count(148)?,
        files: count(152)?,
        names: count(156)?,
    };
    let whole = counts.media_at().checked_add(count(160)?)?;
    let fits = counts.trees <= counts.folders && count(164)? == 0 && whole == bytes.len();
    fits.then_some(counts)
}

fn media_types(mut bytes: &[u8]) -> Option<Vec<Media>> {
    let mut media = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        let (text, rest) = rest.split_at_checked(usize::from(len))?;
        media.push(Media::parse(std::str::from_utf8(text).ok()?).ok()?);
        bytes = rest;
    }
    u16::try_from(media.len()).ok().map(|_| media)
}

fn search<'a>(
    range: Range<usize>,
    name: &[u8],
    name_at: impl Fn(usize) -> &'a [u8],
) -> Option<usize> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = usize::midpoint(low, high);
        match name_at(middle).cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// Returns zeros if the bytes end too early, which a consistent cache never causes.
fn read<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().unwrap_or([0; N])
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
