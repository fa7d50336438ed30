//! Packs: the wire format for uploads, and the different format of stored objects.
//!
//! On the wire a pack is solid ([`wire`]; [`plan`] assigns blobs to packs). One zstd frame has many
//! blobs in path order, because the pages of a site mostly share their words. A stored object has
//! one frame for each blob, so that a page is one ranged read ([`stored`]). Blobs above
//! [`PART_BYTES`](pmx_core::limits::PART_BYTES) are uploaded and stored in parts ([`part`]).
//! Received bytes are claims until they are hashed: only hashing makes a [`VerifiedBlob`], a
//! [`VerifiedPack`] or a [`part::VerifiedPart`]. An [`OpenPack`] never crossed the network: the
//! client stored it.

use pmx_core::codec::Level;

mod open;
pub mod part;
pub mod plan;
pub mod stored;
mod verified;
pub mod wire;

pub use open::OpenPack;
pub use verified::{VerifiedBlob, VerifiedPack};

/// Body coding of a pack or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackCoding {
    /// One zstd frame at this level, if that is smaller.
    Zstd(Level),
    /// Uncompressed: the format of the bytes is already compressed.
    Stored,
}

/// Whether compressing the bytes of a pack for the wire pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackKind {
    /// One zstd frame over all of it.
    Solid,
    /// The uncompressed bytes.
    Stored,
}

impl PackKind {
    /// The coding of a pack of this kind.
    pub const fn coding(self, level: Level) -> PackCoding {
        match self {
            Self::Solid => PackCoding::Zstd(level),
            Self::Stored => PackCoding::Stored,
        }
    }
}
