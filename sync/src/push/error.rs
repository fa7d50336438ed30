//! Push errors: why a publish can't go on.

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use thiserror::Error;

use crate::manifest::ManifestError;

/// A publish can't go on.
#[derive(Debug, Error)]
pub enum PushError {
    /// The client's own manifest is at fault.
    #[error("reading the manifest of the folder: {0}")]
    Manifest(#[from] ManifestError),
    /// The server's answer does not follow from what it was asked.
    #[error("the server's answer makes no sense here: {0}")]
    Protocol(&'static str),
    /// The server names the same as missing, however often it is sent.
    #[error(
        "the server still lacks {lacking} after {rounds} rounds in which it got all that it named"
    )]
    Stalled {
        /// The missing objects.
        lacking: String,
        /// The rounds.
        rounds: u32,
    },
    /// The server refused.
    #[error("{0}")]
    Refused(Box<Problem>),
}

impl PushError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Manifest(error) => error.code(),
            Self::Protocol(_) => Code::Protocol,
            Self::Stalled { .. } => Code::MissingObjects,
            Self::Refused(problem) => problem.code,
        }
    }
}
