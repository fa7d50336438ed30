//! Prefetch of an initial upload: reads files before the scan, because the client uploads them
//! anyway.
//!
//! A client must send every blob in its first publish to a space. If it scanned first, it would
//! read and hash every file twice: once for its id, once to send it. Instead it lists the folder,
//! and reads the files in upload order. The scan that follows
//! ([`scan_prefetched`](super::scan_prefetched)) stats every file again. It reads only files whose
//! stat differs, to the nanosecond, from the prefetched one. So prefetching can save time and
//! cannot make a scan wrong.

use std::io::Read;
use std::sync::OnceLock;

use pmx_core::id::BlobId;
use pmx_core::limits::PART_BYTES;

use crate::manifest::{Entry, Totals};
use crate::media::Media;
use crate::path::SitePath;

use super::content::is_secret;
use super::read::retried;
use super::stat::{FileKind, Stat};
use super::{Scan, Secrets, Sources};

/// A listed folder, and its prefetched files so far.
#[derive(Debug)]
pub struct Prefetch {
    /// A scan whose rows have the id of an empty blob instead of their own.
    listed: Scan,
    settled_before: i64,
    secrets: Secrets,
    /// The prefetched files, by their index in the list.
    seen: Vec<OnceLock<(Stat, BlobId)>>,
}

/// A listed file that was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedFile<'a> {
    /// Its path.
    pub path: &'a SitePath,
    /// Its size in bytes when it was listed.
    pub size: u64,
    /// The media type it is served with.
    pub media: &'a Media,
}

impl Prefetch {
    pub(super) fn new(listed: Scan, settled_before: i64, secrets: Secrets) -> Self {
        let seen = listed.changes.iter().map(|_| OnceLock::new()).collect();
        Self {
            listed,
            settled_before,
            secrets,
            seen,
        }
    }

    /// Every file, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = ListedFile<'_>> {
        let files = self.listed.changes.iter();
        files.filter_map(|(path, entry)| Some(listed(path, entry.as_ref()?)))
    }

    /// Files and bytes of the list.
    pub fn totals(&self) -> Totals {
        self.listed.totals()
    }

    /// Opens the files for [`read`](Self::read).
    pub const fn sources(&self) -> Sources<'_> {
        Sources::of(&self.listed)
    }

    /// Appends the bytes of the file at this index of the list, and hashes them. If the file
    /// differs from the list, or is too large for a pack, it appends nothing and returns `None`:
    /// the scan handles the file.
    pub fn read(&self, at: usize, sources: &mut Sources<'_>, out: &mut Vec<u8>) -> Option<BlobId> {
        let start = out.len();
        let read = self.read_quiet(at, sources, out);
        let Some(stat) = read else {
            out.truncate(start);
            return None;
        };
        let blob = BlobId::of(&out[start..]);
        let _ = self.seen[at].set((stat, blob));
        Some(blob)
    }

    /// The stat and the blob of a prefetched file.
    pub(super) fn find(&self, path: &SitePath) -> Option<(Stat, BlobId)> {
        let files = &self.listed.changes;
        let at = files.binary_search_by(|(known, _)| known.cmp(path)).ok()?;
        self.seen[at].get().copied()
    }

    /// Reads one byte beyond the expected size, so that one call detects the end of the file.
    fn read_quiet(&self, at: usize, sources: &mut Sources<'_>, out: &mut Vec<u8>) -> Option<Stat> {
        let (path, entry) = self.listed.changes.get(at)?;
        let size = entry.as_ref()?.size;
        if size > PART_BYTES {
            return None;
        }
        let mut file = sources.open(path).ok()?;
        let start = out.len();
        let end = start + size as usize;
        out.resize(end + 1, 0);
        let mut filled = start;
        while filled < end {
            match retried(|| file.read(&mut out[filled..])).ok()? {
                0 => break,
                read => filled += read,
            }
        }
        let stat = file.stat().ok()?;
        let is_quiet = stat.kind == FileKind::File && stat.is_older_than(self.settled_before);
        out.truncate(filled);
        // The scan will refuse the file, so the client must not send it before.
        let is_public = self.secrets == Secrets::Allow || !is_secret(&out[start..]);
        (is_public && is_quiet && stat.size == size && filled == end).then_some(stat)
    }
}

fn listed<'a>(path: &'a SitePath, entry: &'a Entry) -> ListedFile<'a> {
    ListedFile {
        path,
        size: entry.size,
        media: &entry.media,
    }
}
