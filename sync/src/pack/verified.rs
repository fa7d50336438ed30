//! Verified blobs: locally hashed content, the only kind that other code trusts.

use std::ops::Range;

use pmx_core::id::BlobId;

use crate::pack::PackKind;

/// Bytes with their computed id. Only hashing makes this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedBlob<'a> {
    id: BlobId,
    bytes: &'a [u8],
}

impl<'a> VerifiedBlob<'a> {
    /// Hashes the bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            id: BlobId::of(bytes),
            bytes,
        }
    }

    /// The id of the bytes.
    pub const fn id(&self) -> BlobId {
        self.id
    }

    /// The bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The hashed blobs of a received pack, in wire order, without duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPack {
    kind: PackKind,
    raw: Vec<u8>,
    blobs: Vec<(BlobId, Range<usize>)>,
}

impl VerifiedPack {
    /// Cuts `raw` into blobs of these sizes, which add up to its length, and hashes each.
    pub(super) fn hash(kind: PackKind, raw: Vec<u8>, sizes: &[usize]) -> Result<Self, Repeated> {
        let mut start = 0;
        let mut blobs = Vec::with_capacity(sizes.len());
        for size in sizes {
            let range = start..start + size;
            start = range.end;
            blobs.push((VerifiedBlob::of(&raw[range.clone()]).id(), range));
        }
        match repeated(blobs.iter().map(|(id, _)| *id).collect()) {
            Some(id) => Err(Repeated(id)),
            None => Ok(Self { kind, raw, blobs }),
        }
    }

    /// The pack's kind on the wire.
    pub const fn kind(&self) -> PackKind {
        self.kind
    }

    /// The number of blobs: at least one.
    pub fn count(&self) -> usize {
        self.blobs.len()
    }

    /// Bytes of all blobs together.
    pub fn raw_bytes(&self) -> u64 {
        self.raw.len() as u64
    }

    /// The memory of all blobs, in order.
    pub(super) fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    /// The blob at this index.
    pub fn blob(&self, at: usize) -> Option<VerifiedBlob<'_>> {
        let (id, range) = self.blobs.get(at)?;
        let bytes = &self.raw[range.clone()];
        Some(VerifiedBlob { id: *id, bytes })
    }

    /// The blobs, in wire order.
    pub fn blobs(&self) -> impl ExactSizeIterator<Item = VerifiedBlob<'_>> {
        self.blobs.iter().map(|(id, range)| VerifiedBlob {
            id: *id,
            bytes: &self.raw[range.clone()],
        })
    }
}

/// A pack has the same blob twice.
#[derive(Debug)]
pub(super) struct Repeated(pub(super) BlobId);

/// An id that occurs more than once.
pub(super) fn repeated(mut ids: Vec<BlobId>) -> Option<BlobId> {
    ids.sort_unstable();
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map(|pair| pair[0])
}
