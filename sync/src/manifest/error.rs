//! Manifest errors.

use pmx_core::code::Code;
use pmx_core::encode::Malformed;
use pmx_core::id::NodeId;
use thiserror::Error;

use crate::media::InvalidMedia;
use crate::path::{InvalidPath, SitePath};

/// A manifest can't be read, changed or believed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A node is not available.
    #[error("manifest node {0} is missing")]
    Missing(NodeId),
    /// The bytes of a node or patch are no encoding.
    #[error("reading {what}: {source}")]
    Malformed {
        /// The kind of bytes that were read.
        what: &'static str,
        /// Why it failed.
        source: Malformed,
    },
    /// A path in a node or patch is no site path.
    #[error("reading a manifest: {0}")]
    Path(#[from] InvalidPath),
    /// A media type in a node or patch is not one.
    #[error("reading a manifest: {0}")]
    Media(#[from] InvalidMedia),
    /// The bytes of a node do not hash to the id they were sent under.
    #[error("manifest node {0} has other bytes than its id says")]
    WrongId(NodeId),
    /// A path does not follow the one before it.
    #[error("{0:?} is out of order or there twice")]
    Disordered(SitePath),
    /// A path is both a file and a folder.
    #[error("{file:?} is a file, and {beneath:?} needs it to be a folder")]
    Clash {
        /// The file.
        file: SitePath,
        /// The path that needs a folder there.
        beneath: SitePath,
    },
    /// A node is not what the row above it says, or ends where it should not.
    #[error("manifest node {id} does not fit its place: {why}")]
    Misplaced {
        /// The node.
        id: NodeId,
        /// The reason why it does not fit.
        why: &'static str,
    },
    /// A patch does not fit its base.
    #[error("the patch does not fit its base: {0}")]
    PatchMisfit(&'static str),
    /// A patch applied to its base arrives elsewhere than announced.
    #[error("the patch arrives at root {arrived}, not at {announced}")]
    WrongRoot {
        /// The root that was announced.
        announced: NodeId,
        /// The root that came out.
        arrived: NodeId,
    },
    /// A manifest above a limit.
    #[error("{what} {value} above the limit of {max}")]
    TooLarge {
        /// The unit of the count.
        what: &'static str,
        /// How much there is.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// The place that holds the nodes failed.
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
