//! Packs that were kept here, opened to take blobs out.

use std::ops::Range;

use crate::pack::VerifiedBlob;

/// The blobs of a pack, decoded and not hashed yet: whoever wants one of them says which blob it
/// has to be.
#[derive(Debug)]
pub struct OpenPack {
    raw: Vec<u8>,
    blobs: Vec<Range<usize>>,
}

impl OpenPack {
    /// Cuts `raw` into blobs of these sizes, whose sum is its length.
    pub(super) fn of(raw: Vec<u8>, sizes: &[usize]) -> Self {
        let mut start = 0;
        let ranges = sizes.iter().map(|size| {
            let range = start..start + size;
            start = range.end;
            range
        });
        let blobs = ranges.collect();
        Self { raw, blobs }
    }

    /// Hashes one of the blobs, by its place.
    pub fn blob(&self, at: usize) -> Option<VerifiedBlob<'_>> {
        let range = self.blobs.get(at)?.clone();
        self.raw.get(range).map(VerifiedBlob::of)
    }

    /// The memory of the blobs, for those of the next pack.
    pub fn into_memory(self) -> Vec<u8> {
        self.raw
    }
}
