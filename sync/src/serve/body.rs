//! Response bodies: bytes in memory, or pieces of objects that the platform streams.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pmx_core::backend::ObjectKey;
use pmx_core::codec::{Bounds, CodecError, Decoder};
use pmx_core::id::BlobId;
use pmx_core::location::Location;
use pmx_core::name::SpaceName;

use crate::pack::part::{ChainingValue, Part};

/// The body of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// An empty body.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// Pieces of objects, one after the other.
    Pieces(Vec<BodyRange>),
    /// Bytes in memory, and the pieces that follow them.
    Led(Bytes, Vec<BodyRange>),
}

impl Body {
    /// Splits the body into the bytes in memory and the pieces that follow them.
    pub fn split(self) -> (Bytes, Vec<BodyRange>) {
        match self {
            Self::Empty => (Bytes::new(), Vec::new()),
            Self::Bytes(bytes) => (bytes, Vec::new()),
            Self::Pieces(pieces) => (Bytes::new(), pieces),
            Self::Led(bytes, pieces) => (bytes, pieces),
        }
    }
}

/// A range of an object, and how its bytes become bytes of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyRange {
    /// The object.
    pub key: ObjectKey,
    /// The bytes to read.
    pub range: Range<u64>,
    /// How stored bytes become body bytes.
    pub open: Open,
    /// The check that a platform runs before it sends any bytes:
    /// [`Server::verify`](super::Server::verify).
    pub check: Option<Arc<Check>>,
}

/// The stored content that a piece is a range of, and the hash that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The space that owns the content.
    pub(super) space: SpaceName,
    /// The blob.
    pub(super) blob: BlobId,
    /// The blob's location in the serving index.
    pub(super) blob_at: Location,
    /// The location of the content: the blob, or one of its parts.
    pub(super) at: Location,
    /// Bytes of the decoded content.
    pub(super) raw: u64,
    pub(super) expected: Expected,
}

/// The hash that content must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// A whole blob's id.
    Blob(BlobId),
    /// A part's chaining value.
    Part(Part, ChainingValue),
    /// No hash is stored: part tables of servers before 0.2 lack chaining values.
    Unknown,
}

/// Treatment of the stored bytes of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Open {
    /// The stored bytes are the body: a platform may stream them unchanged.
    AsIs,
    /// The stored bytes are a frame to be decoded whole; a range of the result is the body.
    Decode {
        /// Length of the decoded bytes.
        raw: u64,
        /// Which of the decoded bytes belong to the body.
        keep: Range<u64>,
    },
}

impl BodyRange {
    /// Adds a check to a piece.
    pub(super) fn checked(self, check: Check) -> Self {
        let check = Some(Arc::new(check));
        Self { check, ..self }
    }

    /// Turns the stored bytes into those of the body.
    pub fn open(&self, stored: Bytes, decoder: &mut Decoder) -> Result<Bytes, CodecError> {
        match &self.open {
            Open::AsIs => Ok(stored),
            Open::Decode { raw, keep } => {
                let decoded = Bytes::from(decoder.frame(&stored, *raw, Bounds::STORED)?);
                let end = keep.end.min(decoded.len() as u64) as usize;
                Ok(cut(&decoded, (keep.start as usize).min(end)..end))
            }
        }
    }
}

/// A range of a buffer. A small one is copied, so that a slow client keeps no large buffer alive.
pub(super) fn cut(whole: &Bytes, range: Range<usize>) -> Bytes {
    if range.len() < whole.len() / 2 {
        Bytes::copy_from_slice(&whole[range])
    } else {
        whole.slice(range)
    }
}
