//! Local packs, opened to take blobs out.

use std::ops::Range;

/// The blobs of a pack, decoded and not hashed: the caller that kept the pack has to know that it
/// is still the same.
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

    /// The bytes of one of the blobs, by its place.
    pub fn blob(&self, at: usize) -> Option<&[u8]> {
        self.raw.get(self.blobs.get(at)?.clone())
    }

    /// The memory of the blobs, for those of the next pack.
    pub fn into_memory(self) -> Vec<u8> {
        self.raw
    }
}
