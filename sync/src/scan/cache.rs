//! Stat cache: the files of the last scan, so that an unchanged file is not read again.
//!
//! It mirrors the walk: folders in breadth-first order, so that the children of one are
//! neighbours; the files of a folder are neighbours too, both sorted by name. Records have a fixed
//! size and are read where they lie. Layout, all integers little-endian:
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
//! A record says what a file held without reading it, so it counts only if this program wrote it.
//! The MAC proves that, since its key lies outside of the folder that holds the cache. Whatever is
//! odd about a cache makes it no cache; it is never an error, because the folder itself can always
//! be read again.

use std::ops::Range;
use std::sync::Arc;

use pmx_core::id::{BlobId, Root};

use crate::limits::{BLOB_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX, SEGMENT_BYTES_MAX};
use crate::manifest::{Entry, Totals};
use crate::media::Media;

use super::stat::{Kind, Stat};

/// The version of the layout and of everything that decides what a record means: raise it when
/// the table of media types or the rules of what is published change.
pub(super) const FORMAT: u8 = 3;

const MAGIC: [u8; 8] = [b'p', b'm', b'x', b's', b'c', b'a', b'n', FORMAT];
const SUMMED: usize = 40;
const HEAD: usize = 168;
const FOLDER: usize = 40;
const FILE: usize = 72;

/// A stat cache, checked and ready to be looked up. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

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

impl Cache {
    /// Reads a cache that [`Scan::cache`](super::Scan::cache) wrote under this key. Anything odd
    /// gives `None`.
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

    /// What the scan depended on beside the files.
    pub(super) fn binding(&self) -> [u8; 32] {
        self.array(40)
    }

    /// The root that the cache was saved with.
    pub(super) fn root(&self) -> Root {
        Root::from_bytes(self.array(72))
    }

    /// What of the build output was checked.
    pub(super) fn checked(&self) -> [u8; 32] {
        self.array(104)
    }

    /// When the scan started, in nanoseconds.
    pub(super) fn started(&self) -> i64 {
        i64::from_le_bytes(self.array(136))
    }

    /// The folders that trees hang from.
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
        // The comparison takes the same time whatever differs.
        mac(key, &self.0.bytes) == self.array::<32>(8)
    }

    /// Checks what reading relies on: the shape is one of trees, names are sorted segments.
    fn is_consistent(&self) -> bool {
        let counts = self.0.counts;
        let names_at = counts.names_at();
        let Ok(names) = std::str::from_utf8(&self.0.bytes[names_at..names_at + counts.names])
        else {
            return false;
        };
        if names
            .bytes()
            .any(|b| b < 0x20 || b == 0x7f || b == b'/' || b == b'\\')
        {
            return false;
        }
        self.has_shape(names) && self.has_sums()
    }

    fn has_shape(&self, names: &str) -> bool {
        let counts = self.0.counts;
        let (mut next_folder, mut next_file) = (counts.trees, 0);
        // Per folder: bytes of its path with a slash, and depth.
        let mut prefix = vec![(0usize, 0usize); counts.folders];
        for index in 0..counts.folders {
            let folder = self.folder(index);
            let (children, files) = (folder.child_range(), folder.file_range());
            if children.start != next_folder || files.start != next_file {
                return false;
            }
            (next_folder, next_file) = (children.end, files.end);
            if next_folder > counts.folders || next_file > counts.files {
                return false;
            }
            if index < counts.trees {
                // A single tree may lie at the top, without a name; several never do.
                let (start, len) = folder.name_range();
                let top = counts.trees == 1 && len == 0;
                if !top && !is_segment(names, start, len) {
                    return false;
                }
                prefix[index] = if top { (0, 0) } else { (len + 1, 1) };
            }
            let (bytes, depth) = prefix[index];
            let room = PATH_BYTES_MAX.saturating_sub(bytes);
            if depth >= PATH_DEPTH_MAX {
                return false;
            }
            for child in children.clone() {
                prefix[child] = (bytes + self.folder(child).name_range().1 + 1, depth + 1);
            }
            let folders = children.map(|child| self.folder(child).name_range());
            let files = files.map(|file| self.file(file).name_range());
            if !are_sorted(names, folders, room) || !are_sorted(names, files, room) {
                return false;
            }
        }
        next_folder == counts.folders && next_file == counts.files
    }

    fn has_sums(&self) -> bool {
        let counts = self.0.counts;
        let mut beneath = vec![Totals::default(); counts.folders];
        for index in (0..counts.folders).rev() {
            let folder = self.folder(index);
            let mut totals = Totals::default();
            for file in folder.files() {
                let size = file.size();
                if size > BLOB_BYTES_MAX || file.media_index() >= self.0.media.len() {
                    return false;
                }
                totals = totals.plus(Totals::of_file(size));
            }
            for child in folder.child_range() {
                totals = totals.plus(beneath[child]);
            }
            if totals != folder.totals() {
                return false;
            }
            beneath[index] = totals;
        }
        true
    }
}

/// A folder of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct CachedFolder<'a> {
    cache: &'a Cache,
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

    /// The name; empty for a tree at the top.
    pub(super) fn name(&self) -> &'a str {
        let (start, len) = self.name_range();
        text(self.cache.name(start, len))
    }

    /// Files and bytes in it and beneath.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            files: u64::from_le_bytes(self.cache.array(self.at() + 24)),
            bytes: u64::from_le_bytes(self.cache.array(self.at() + 32)),
        }
    }

    /// The folders in it, sorted by name.
    pub(super) fn folders(&self) -> impl ExactSizeIterator<Item = CachedFolder<'a>> + use<'a> {
        let cache = self.cache;
        self.child_range().map(move |index| cache.folder(index))
    }

    /// The files in it, sorted by name.
    pub(super) fn files(&self) -> impl ExactSizeIterator<Item = CachedFile<'a>> + use<'a> {
        let cache = self.cache;
        self.file_range().map(move |index| cache.file(index))
    }

    /// The folder with this name.
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
    cache: &'a Cache,
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
            kind: Kind::File,
            size: self.size(),
            mtime: i64::from_le_bytes(self.cache.array(self.at + 8)),
            ctime: i64::from_le_bytes(self.cache.array(self.at + 16)),
            ino: u64::from_le_bytes(self.cache.array(self.at + 24)),
        }
    }

    /// What the file held.
    pub(super) fn entry(&self) -> Entry {
        let media = self.cache.0.media.get(self.media_index());
        Entry {
            blob: BlobId::from_bytes(self.cache.array(self.at + 32)),
            size: self.size(),
            media: media.cloned().unwrap_or_else(Media::unknown),
        }
    }
}

/// What a cache is made of beside its trees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) binding: [u8; 32],
    pub(super) root: Root,
    pub(super) checked: [u8; 32],
    pub(super) started: i64,
    pub(super) trees: u32,
}

/// Writes a cache: first all folders in breadth-first order, each followed by its files.
#[derive(Debug, Default)]
pub(super) struct Writer {
    folders: Vec<u8>,
    files: Vec<u8>,
    names: Vec<u8>,
    media: Vec<Media>,
    folder_count: u32,
    file_count: u32,
    /// Where the media types of the cache that is copied from are in `media`.
    copied_media: Vec<Option<u16>>,
}

impl Writer {
    /// Adds a folder, whose children start at index `first_child`.
    pub(super) fn folder(&mut self, name: &str, first_child: u32, children: u32, totals: Totals) {
        let start = self.name(name);
        for field in [
            start,
            name.len() as u32,
            first_child,
            children,
            self.file_count,
            0,
        ] {
            self.folders.extend_from_slice(&field.to_le_bytes());
        }
        self.folders.extend_from_slice(&totals.files.to_le_bytes());
        self.folders.extend_from_slice(&totals.bytes.to_le_bytes());
        self.folder_count += 1;
    }

    /// Adds a file to the last folder.
    pub(super) fn file(&mut self, name: &str, stat: &Stat, entry: &Entry) {
        let start = self.name(name);
        let media = self.media_index(&entry.media);
        for field in [
            stat.size,
            stat.mtime.cast_unsigned(),
            stat.ctime.cast_unsigned(),
            stat.ino,
        ] {
            self.files.extend_from_slice(&field.to_le_bytes());
        }
        self.files.extend_from_slice(entry.blob.as_bytes());
        self.files.extend_from_slice(&start.to_le_bytes());
        self.files
            .extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.files.extend_from_slice(&media.to_le_bytes());
        self.count(1);
    }

    /// Adds all files of a cached folder to the last folder. All calls MUST be for the same cache.
    pub(super) fn copy_files(&mut self, folder: &CachedFolder<'_>) {
        let known = &folder.cache.0;
        self.copied_media.resize(known.media.len(), None);
        let files = folder.files();
        let count = files.len() as u32;
        self.files.reserve(files.len() * FILE);
        for file in files {
            let start = self.names.len() as u32;
            self.names.extend_from_slice(file.name_bytes());
            let media = self.copied_media_index(file.media_index(), &known.media);
            let mut record: [u8; FILE] = file.cache.array(file.at);
            record[64..68].copy_from_slice(&start.to_le_bytes());
            record[70..].copy_from_slice(&media.to_le_bytes());
            self.files.extend_from_slice(&record);
        }
        self.count(count);
    }

    fn copied_media_index(&mut self, index: usize, known: &[Media]) -> u16 {
        if let Some(Some(copied)) = self.copied_media.get(index) {
            return *copied;
        }
        let media = known.get(index).cloned();
        let copied = self.media_index(&media.unwrap_or_else(Media::unknown));
        if let Some(place) = self.copied_media.get_mut(index) {
            *place = Some(copied);
        }
        copied
    }

    /// Counts files of the last folder.
    fn count(&mut self, more: u32) {
        self.file_count += more;
        let count = self.folders.len() - FOLDER + 20;
        let files: u32 = u32::from_le_bytes(read(&self.folders, count)) + more;
        self.folders[count..count + 4].copy_from_slice(&files.to_le_bytes());
    }

    /// The bytes of the cache.
    pub(super) fn finish(self, head: &Head, key: &[u8; 32]) -> Vec<u8> {
        let mut media = Vec::new();
        for one in &self.media {
            media.push(one.as_str().len() as u8);
            media.extend_from_slice(one.as_str().as_bytes());
        }
        let len = HEAD + self.folders.len() + self.files.len() + self.names.len() + media.len();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 32]);
        out.extend_from_slice(&head.binding);
        out.extend_from_slice(head.root.as_bytes());
        out.extend_from_slice(&head.checked);
        out.extend_from_slice(&head.started.to_le_bytes());
        let (names, types) = (self.names.len() as u32, media.len() as u32);
        for count in [
            head.trees,
            self.folder_count,
            self.file_count,
            names,
            types,
            0,
        ] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for part in [&self.folders, &self.files, &self.names, &media] {
            out.extend_from_slice(part);
        }
        let mac = mac(key, &out);
        out[8..SUMMED].copy_from_slice(mac.as_bytes());
        out
    }

    fn name(&mut self, name: &str) -> u32 {
        let start = self.names.len() as u32;
        self.names.extend_from_slice(name.as_bytes());
        start
    }

    fn media_index(&mut self, media: &Media) -> u16 {
        let found = self.media.iter().position(|known| known == media);
        found.unwrap_or_else(|| {
            self.media.push(media.clone());
            self.media.len() - 1
        }) as u16
    }
}

/// The MAC of a cache: of all but itself.
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

fn are_sorted(names: &str, ranges: impl Iterator<Item = (usize, usize)>, room: usize) -> bool {
    let mut last = "";
    for (start, len) in ranges {
        if !is_segment(names, start, len) || len > room {
            return false;
        }
        let name = &names[start..start + len];
        if name <= last {
            return false;
        }
        last = name;
    }
    true
}

fn is_segment(names: &str, start: usize, len: usize) -> bool {
    let name = names.get(start..start.saturating_add(len));
    name.is_some_and(|name| (1..=SEGMENT_BYTES_MAX).contains(&len) && name != "." && name != "..")
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

/// Zeros if the bytes end too early, which a consistent cache never asks for.
fn read<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().unwrap_or([0; N])
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
