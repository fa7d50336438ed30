//! Local packs, decoded to take blobs out.

use std::ops::Range;

/// The blobs of a pack, decoded but not hashed. The caller that stored the pack must know that it
/// has not changed.
#[derive(Debug)]
pub struct OpenPack {
    raw: Vec<u8>,
    blobs: Vec<Range<usize>>,
}

impl OpenPack {
    /// Cuts `raw` into blobs of these sizes, which add up to its length.
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

    /// The bytes of the blob at this index.
    pub fn blob(&self, at: usize) -> Option<&[u8]> {
        self.raw.get(self.blobs.get(at)?.clone())
    }

    /// Returns the memory of the blobs for the next pack.
    pub fn into_memory(self) -> Vec<u8> {
        self.raw
    }
}
