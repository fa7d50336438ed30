//! Server caches: verified bodies, verdicts and dictionary-compressed bodies.

use std::sync::Arc;

use bytes::Bytes;
use pmx_core::backend::ObjectKey;
use pmx_core::hash::Hash;
use pmx_core::id::{BlobId, Root};

use crate::bounded_cache::BoundedCache;
use crate::rules::SiteRules;

/// Dictionary-compressed bodies, by the SHA-256 of the dictionary and the blob of the result.
pub(super) type DictionaryBodies = BoundedCache<([u8; 32], BlobId), Bytes>;

/// Content that the process has verified: its place and its hash.
pub(super) type Verdicts = BoundedCache<(ObjectKey, u64, [u8; Hash::LEN]), ()>;

/// Compiled rules, by the root that has their files.
pub(super) type CompiledRules = BoundedCache<Root, Arc<SiteRules>>;

/// Form in which a cached body is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Decoded.
    Raw,
    /// The stored frame.
    Stored,
}

/// Small verified bodies by their place in the object store. A key also names the content, because
/// nothing else protects a place in the serving index.
pub(super) type Bodies = BoundedCache<(ObjectKey, u64, BlobId, Form), Bytes>;
