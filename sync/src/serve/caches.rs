//! Server caches: verified bodies, verdicts and dictionary-compressed bodies.

use bytes::Bytes;
use pmx_core::backend::ObjectKey;
use pmx_core::hash::Hash;
use pmx_core::id::BlobId;

use crate::bounded_cache::BoundedCache;

/// Differences by the SHA-256 of what they start from, and by what they lead to.
pub(super) type Differences = BoundedCache<([u8; 32], BlobId), Bytes>;

/// Content that was verified since the process began: where it lies and its hash.
pub(super) type Verdicts = BoundedCache<(ObjectKey, u64, [u8; Hash::LEN]), ()>;

/// Whether a cached body is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Decoded.
    Raw,
    /// The frame as it is stored.
    Stored,
}

/// Small verified bodies by where they lie. A key names the content as well, because nothing
/// else protects a place in the serving index.
pub(super) type Bodies = BoundedCache<(ObjectKey, u64, BlobId, Form), Bytes>;
