//! Verified part: the bytes of a part whose hash the receiver has computed.

use pmx_core::codec::{Encoder, Level};
use pmx_core::location::Codec;

use super::{ChainingValue, Part};
use crate::pack::PackKind;
use crate::pack::stored::append_frame;

/// A received part whose bytes were hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPart {
    pub(super) part: Part,
    pub(super) kind: PackKind,
    pub(super) raw: Vec<u8>,
    pub(super) chaining_value: ChainingValue,
}

impl VerifiedPart {
    /// The part's number and place.
    pub const fn part(&self) -> Part {
        self.part
    }

    /// Its bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The chaining value of the bytes.
    pub const fn chaining_value(&self) -> ChainingValue {
        self.chaining_value
    }

    /// Encodes the part for storage: as a frame if that saves enough, else uncompressed in its own
    /// memory. A part that arrived uncompressed is never compressed.
    pub fn rest(self, encoder: &mut Encoder, level: Level) -> StoredPart {
        if self.kind == PackKind::Solid {
            let mut bytes = Vec::new();
            if append_frame(&mut bytes, &self.raw, encoder, level) {
                bytes.shrink_to_fit();
                let codec = Codec::Zstd;
                return StoredPart { bytes, codec };
            }
        }
        StoredPart {
            bytes: self.raw,
            codec: Codec::Stored,
        }
    }
}

/// A part to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// Codec of the bytes: stored or zstd.
    pub codec: Codec,
}
