//! Packs: the wire format for uploads, and the different format of stored objects.
//!
//! On the wire a pack is solid: many blobs in path order in one zstd frame, because the pages of a
//! site are mostly the same words ([`wire`]; [`plan`] says which blob goes where). At rest each
//! blob is a frame of its own, so that a page is one ranged read ([`stored`]). Blobs above
//! [`PART_BYTES`](pmx_core::limits::PART_BYTES) travel and lie in parts ([`part`]). What arrives is
//! a claim until it is hashed: [`VerifiedBlob`], [`VerifiedPack`] and [`part::VerifiedPart`] can
//! only be had by hashing. An [`OpenPack`] never arrived: it was kept.

use pmx_core::codec::Level;

mod open;
pub mod part;
pub mod plan;
pub mod stored;
mod verified;
pub mod wire;

pub use open::OpenPack;
pub use verified::{VerifiedBlob, VerifiedPack};

/// How a sender codes a pack or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// One zstd frame at this level, unless that is no smaller.
    Zstd(Level),
    /// As it is: the bytes are of a format that is compressed already.
    Stored,
}

/// Whether the bytes of a pack were worth compressing on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackKind {
    /// One zstd frame over all of it.
    Solid,
    /// Bytes as they are.
    Stored,
}

impl PackKind {
    /// How a sender codes a pack of this kind.
    pub const fn coding(self, level: Level) -> Coding {
        match self {
            Self::Solid => Coding::Zstd(level),
            Self::Stored => Coding::Stored,
        }
    }
}
