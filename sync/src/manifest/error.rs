//! Manifest errors.

use pmx_core::code::Code;
use pmx_core::encode::Malformed;
use pmx_core::id::NodeId;
use thiserror::Error;

use crate::media::InvalidMedia;
use crate::path::{InvalidPath, SitePath};

/// A manifest cannot be read, changed or verified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A node is not available.
    #[error("manifest node {0} is missing")]
    Missing(NodeId),
    /// The bytes of a node or patch are malformed.
    #[error("reading {what}: {source}")]
    Malformed {
        /// The kind of the bytes.
        what: &'static str,
        /// The cause.
        source: Malformed,
    },
    /// A path in a node or patch is no site path.
    #[error("reading a manifest: {0}")]
    Path(#[from] InvalidPath),
    /// A media type in a node or patch is invalid.
    #[error("reading a manifest: {0}")]
    Media(#[from] InvalidMedia),
    /// The bytes of a node do not hash to the claimed id.
    #[error("manifest node {0} has other bytes than its id says")]
    WrongId(NodeId),
    /// A path is not in order after the previous one.
    #[error("{0:?} is out of order or there twice")]
    Disordered(SitePath),
    /// A path is both a file and a folder.
    #[error("{file:?} is a file, and {beneath:?} needs it to be a folder")]
    Clash {
        /// The file.
        file: SitePath,
        /// The path that needs a folder of that name.
        beneath: SitePath,
    },
    /// A node contradicts its parent's row, or ends at the wrong key.
    #[error("manifest node {id} does not fit its place: {why}")]
    Misplaced {
        /// The node.
        id: NodeId,
        /// The contradiction.
        why: &'static str,
    },
    /// A patch does not fit its base.
    #[error("the patch does not fit its base: {0}")]
    PatchMisfit(&'static str),
    /// The result of a patch is not the announced root.
    #[error("the patch arrives at root {arrived}, not at {announced}")]
    WrongRoot {
        /// The root that was announced.
        announced: NodeId,
        /// The actual root.
        arrived: NodeId,
    },
    /// A manifest above a limit.
    #[error("{what} {value} above the limit of {max}")]
    TooLarge {
        /// The unit of the count.
        what: &'static str,
        /// The actual value.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// The node source failed.
    #[error("reading manifest node {id}: {why}")]
    Source {
        /// The node.
        id: NodeId,
        /// The cause.
        why: String,
    },
}

impl ManifestError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::MissingObjects,
            Self::Malformed { .. } | Self::Media(_) | Self::Misplaced { .. } => {
                Code::ManifestMalformed
            }
            Self::PatchMisfit(_) | Self::WrongRoot { .. } => Code::ManifestMismatch,
            Self::Path(_) => Code::PathInvalid,
            Self::WrongId(_) => Code::HashMismatch,
            Self::Disordered(_) | Self::Clash { .. } => Code::PathDuplicate,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Source { .. } => Code::Storage,
        }
    }
}
