//! Chaining values: the BLAKE3 subtree hash of each part, and how they merge to a blob's id.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use pmx_core::hash::Hash;
use pmx_core::id::BlobId;

use super::{Part, PartError, check_len};

/// Chaining value of a part: the root of its subtree in the blob's hash. It is not itself the hash
/// of any content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainingValue(Hash);

impl ChainingValue {
    /// Hashes the bytes of a part. A scan that hashes part by part gets the blob's id from
    /// [`BlobParts::merge`](super::BlobParts::merge). It can check each part when it reads it again
    /// for the upload.
    pub fn of(part: Part, bytes: &[u8]) -> Result<Self, PartError> {
        check_len(part, bytes.len() as u64)?;
        Ok(subtree(part.offset(), bytes))
    }

    /// Prepares a new hasher for the bytes of a part, which the caller then adds in order.
    pub(crate) fn begin(part: Part, hasher: &mut blake3::Hasher) {
        hasher.set_input_offset(part.offset());
    }

    /// The chaining value of a hasher that [`ChainingValue::begin`] prepared.
    pub(crate) fn end(hasher: &blake3::Hasher) -> Self {
        Self::kept(hasher.finalize_non_root())
    }

    /// Wraps 32 stored bytes of an earlier [`ChainingValue::of`].
    pub const fn kept(bytes: [u8; Hash::LEN]) -> Self {
        Self(Hash::from_bytes(bytes))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; Hash::LEN] {
        self.0.as_bytes()
    }
}

pub(super) fn subtree(offset: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset).update(bytes);
    ChainingValue::end(&hasher)
}

/// The root over at least two subtrees.
pub(super) fn merge_root(values: &[ChainingValue]) -> BlobId {
    let (left, right) = halves(values);
    let root = merge_subtrees_root(&merge(left), &merge(right), Mode::Hash);
    BlobId::from_bytes(*root.as_bytes())
}

fn merge(values: &[ChainingValue]) -> [u8; Hash::LEN] {
    match values {
        [one] => *one.as_bytes(),
        several => {
            let (left, right) = halves(several);
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

/// The left subtree is full (BLAKE3 paper, section 2.1). It has the largest power of two of parts
/// that leaves at least one to the right.
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}
