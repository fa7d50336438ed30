//! Verified reads: stored content is hashed before the server sends or uses any of it.
//!
//! The server compares a blob with its id, and a part of a big blob with its chaining value. It
//! repeats a failed read past every cache. If that fails too, the content is lost: the server marks
//! it in the space's ledger (see [`loss_reports`](super::loss_reports)), and the next publish sends
//! it again. Small bodies are cached decoded and whole, and ranges are cut out of them. Of larger
//! content the server caches the verdict.

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::hash::Hash;
use pmx_core::id::{BlobId, SpaceId};
use pmx_core::location::{Codec, Location};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::body::{Check, Expected};
use super::caches::Form;
use super::server::Server;
use crate::pack::part::ChainingValue;
use crate::pointer::Pointer;
use crate::serve::BodyRange;
use crate::space::{Loss, Lost};

/// The space that a read belongs to, and the time of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) name: &'a SpaceName,
    pub(super) id: SpaceId,
    pub(super) now: Timestamp,
}

impl<'a> Scope<'a> {
    pub(super) const fn of(name: &'a SpaceName, pointer: &Pointer, now: Timestamp) -> Self {
        let id = pointer.space;
        Self { name, id, now }
    }
}

/// Bytes that the cache charges for a verdict: its key twice, and the maps around it.
const VERDICT_BYTES: usize = 160;

/// Bytes of one read when the server hashes uncompressed content.
const CHUNK_BYTES: u64 = 2 * 1024 * 1024;

/// Verified content.
struct Content {
    stored: Bytes,
    raw: Bytes,
}

/// Why content failed.
enum ContentFault {
    /// The object does not exist, or ends too early.
    Absent,
    /// The content does not match its hash.
    Rotten(String),
}

/// Whether a read may use open or nearby copies of the platform.
#[derive(Debug, Clone, Copy)]
enum Attempt {
    First,
    Again,
}

impl<B: Backend> Server<B> {
    /// A small body, verified and whole, through the cache.
    pub(super) async fn kept(
        &self,
        scope: Scope<'_>,
        check: &Check,
        form: Form,
    ) -> Result<Bytes, Problem> {
        let key = check.key(scope.id);
        let cached = (key, check.at.extent.offset, check.blob, form);
        if let Some(bytes) = self.bodies().find(&cached) {
            return Ok(bytes);
        }
        let content = self.content(scope, check).await?;
        let bytes = match form {
            Form::Raw => content.raw,
            Form::Stored => content.stored,
        };
        // The copy owns only its own bytes, however large the platform's buffer.
        let bytes = Bytes::copy_from_slice(&bytes);
        self.bodies()
            .insert(cached, bytes.clone(), bytes.len() + VERDICT_BYTES);
        Ok(bytes)
    }

    /// The decoded content of a blob or part, verified.
    pub(super) async fn raw(&self, scope: Scope<'_>, check: &Check) -> Result<Bytes, Problem> {
        Ok(self.content(scope, check).await?.raw)
    }

    /// Verifies the content that contains a piece, unless the server has verified it before. A
    /// platform calls this before it sends the first byte of a piece.
    pub async fn verify(&self, piece: &BodyRange, now: Timestamp) -> Result<(), Problem> {
        let Some(check) = piece.check.as_deref() else {
            return Ok(());
        };
        let scope = Scope {
            name: &check.space,
            id: piece.key.space,
            now,
        };
        let Some(expected) = check.expected.hash() else {
            return Ok(());
        };
        let verdict = (piece.key, check.at.extent.offset, *expected.as_bytes());
        if self.verdicts().find(&verdict).is_some() {
            return Ok(());
        }
        if check.at.codec == Codec::Stored {
            self.hash_in_chunks(scope, check).await?;
        } else {
            self.content(scope, check).await?;
        }
        self.verdicts().insert(verdict, (), VERDICT_BYTES);
        Ok(())
    }

    async fn content(&self, scope: Scope<'_>, check: &Check) -> Result<Content, Problem> {
        if let Ok(content) = self.attempt(scope, check, Attempt::First).await? {
            return Ok(content);
        }
        match self.attempt(scope, check, Attempt::Again).await? {
            Ok(content) => Ok(content),
            Err(fault) => Err(self.lost(scope, check, &fault).await),
        }
    }

    async fn attempt(
        &self,
        scope: Scope<'_>,
        check: &Check,
        attempt: Attempt,
    ) -> Result<Result<Content, ContentFault>, BackendError> {
        let extent = check.at.extent;
        let range = extent.offset..extent.offset.saturating_add(extent.len);
        let read = self.read(check.key(scope.id), range, attempt).await?;
        let Some(stored) = read else {
            return Ok(Err(ContentFault::Absent));
        };
        let opened = self.codecs().decode(|decoder| check.open(stored, decoder));
        Ok(opened.map_err(ContentFault::Rotten))
    }

    /// Hashes uncompressed content, one chunk at a time.
    async fn hash_in_chunks(&self, scope: Scope<'_>, check: &Check) -> Result<(), Problem> {
        if self.chunks(scope, check, Attempt::First).await?.is_ok() {
            return Ok(());
        }
        match self.chunks(scope, check, Attempt::Again).await? {
            Ok(()) => Ok(()),
            Err(fault) => Err(self.lost(scope, check, &fault).await),
        }
    }

    async fn chunks(
        &self,
        scope: Scope<'_>,
        check: &Check,
        attempt: Attempt,
    ) -> Result<Result<(), ContentFault>, BackendError> {
        let extent = check.at.extent;
        let (mut at, end) = (extent.offset, extent.offset.saturating_add(extent.len));
        let mut hasher = check.expected.hasher();
        while at < end {
            let range = at..end.min(at + CHUNK_BYTES);
            at = range.end;
            let Some(bytes) = self.read(check.key(scope.id), range, attempt).await? else {
                return Ok(Err(ContentFault::Absent));
            };
            hasher.update(&bytes);
        }
        let is_right = extent.len == check.raw && check.expected.is_hash_of(&hasher);
        Ok(is_right
            .then_some(())
            .ok_or_else(|| ContentFault::Rotten(MISMATCH.into())))
    }

    async fn read(
        &self,
        key: ObjectKey,
        range: std::ops::Range<u64>,
        attempt: Attempt,
    ) -> Result<Option<Bytes>, BackendError> {
        match attempt {
            Attempt::First => self.backend().blobs().read(key, range).await,
            Attempt::Again => self.backend().blobs().read_again(key, range).await,
        }
    }

    /// Marks content as lost; returns the client's answer.
    async fn lost(&self, scope: Scope<'_>, check: &Check, fault: &ContentFault) -> Problem {
        let (key, extent) = (check.key(scope.id), check.at.extent);
        let is_absent = matches!(fault, ContentFault::Absent);
        let lost = Lost::Blob {
            blob: check.blob,
            at: check.blob_at,
        };
        let loss = Loss {
            lost,
            object: extent.object,
            is_absent,
        };
        self.mark(scope, loss).await;
        let blob = check.blob;
        let detail = match fault {
            ContentFault::Absent => {
                format!("reading blob {blob}: object {key} is missing or too short")
            }
            ContentFault::Rotten(why) => format!("reading blob {blob} in {key}: {why}"),
        };
        Problem::new(Code::Corrupt, detail)
    }
}

const MISMATCH: &str = "the stored bytes do not have the hash that names them";

impl Check {
    /// The check of a blob that is stored whole.
    pub(super) fn of_blob(scope: Scope<'_>, blob: BlobId, raw: u64, at: Location) -> Self {
        Self {
            space: scope.name.clone(),
            blob,
            blob_at: at,
            at,
            raw,
            expected: Expected::Blob(blob),
        }
    }

    fn key(&self, space: SpaceId) -> ObjectKey {
        ObjectKey {
            space,
            object: self.at.extent.object,
        }
    }

    /// Decodes and hashes the stored bytes.
    fn open(&self, stored: Bytes, decoder: &mut Decoder) -> Result<Content, String> {
        let raw = match self.at.codec {
            Codec::Zstd => {
                let decoded = decoder.frame(&stored, self.raw, Bounds::STORED);
                Bytes::from(decoded.map_err(|error| error.to_string())?)
            }
            Codec::Stored | Codec::Parts | Codec::ZstdParts => stored.clone(),
        };
        let mut hasher = self.expected.hasher();
        hasher.update(&raw);
        if raw.len() as u64 == self.raw && self.expected.is_hash_of(&hasher) {
            Ok(Content { stored, raw })
        } else {
            Err(MISMATCH.into())
        }
    }
}

impl Expected {
    fn hash(&self) -> Option<Hash> {
        match self {
            Self::Blob(blob) => Some(Hash::from_bytes(*blob.as_bytes())),
            Self::Part(_, value) => Some(Hash::from_bytes(*value.as_bytes())),
            Self::Unknown => None,
        }
    }

    fn hasher(&self) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        if let Self::Part(part, _) = self {
            ChainingValue::begin(*part, &mut hasher);
        }
        hasher
    }

    fn is_hash_of(&self, hasher: &blake3::Hasher) -> bool {
        match self {
            Self::Blob(blob) => hasher.finalize().as_bytes() == blob.as_bytes(),
            Self::Part(_, value) => ChainingValue::end(hasher) == *value,
            Self::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests;
