//! Prefetch of an initial upload: reads files before the scan, because the client sends them
//! anyway.
//!
//! A first publish to a space has to send every blob. To scan first would read and
//! hash every file twice: once to know its id, once to send it. Instead the folder is listed, its
//! files are read in the order in which they are sent, and the scan that follows
//! ([`scan_prefetched`](super::scan_prefetched)) looks at every file again but reads only those
//! that are not, to the nanosecond, what was sent. So reading ahead can save time and can't make a
//! scan wrong.

use std::io::Read;
use std::sync::OnceLock;

use pmx_core::id::BlobId;
use pmx_core::limits::PART_BYTES;

use crate::manifest::{Entry, Totals};
use crate::media::Media;
use crate::path::SitePath;

use super::content::is_secret;
use super::read::retried;
use super::stat::{Kind, Stat};
use super::{Scan, Secrets, Sources};

/// A listed folder, and what was read of it so far.
#[derive(Debug)]
pub struct Prefetch {
    /// A scan whose rows have the blob of nothing instead of their own.
    listed: Scan,
    settled_before: i64,
    secrets: Secrets,
    /// The files that were read, by their index in the list.
    seen: Vec<OnceLock<(Stat, BlobId)>>,
}

/// A file that was listed and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its path.
    pub path: &'a SitePath,
    /// Bytes it had when it was listed.
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
    pub fn files(&self) -> impl Iterator<Item = Listed<'_>> {
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

    /// Appends the bytes of the file at a place of the list, and hashes them. Appends nothing and
    /// gives `None` if the file is not exactly what was listed, or too large for a pack: the scan
    /// will see to it.
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

    /// The stat and the blob of a file that was read.
    pub(super) fn find(&self, path: &SitePath) -> Option<(Stat, BlobId)> {
        let files = &self.listed.changes;
        let at = files.binary_search_by(|(known, _)| known.cmp(path)).ok()?;
        self.seen[at].get().copied()
    }

    /// Asks for one byte more than there should be, so that one call detects the end of the file.
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
        let stat = Stat::of(&file).ok()?;
        let is_quiet = stat.kind == Kind::File && stat.is_older_than(self.settled_before);
        out.truncate(filled);
        // The scan will refuse it, so it must not be sent before.
        let is_public = self.secrets == Secrets::Allow || !is_secret(&out[start..]);
        (is_public && is_quiet && stat.size == size && filled == end).then_some(stat)
    }
}

fn listed<'a>(path: &'a SitePath, entry: &'a Entry) -> Listed<'a> {
    Listed {
        path,
        size: entry.size,
        media: &entry.media,
    }
}
