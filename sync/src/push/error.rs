//! Push errors: why a publish cannot continue.

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use thiserror::Error;

use crate::manifest::ManifestError;

/// An error that ends a publish.
#[derive(Debug, Error)]
pub enum PushError {
    /// The client's own manifest is invalid.
    #[error("reading the manifest of the folder: {0}")]
    Manifest(#[from] ManifestError),
    /// The server's answer does not match the request.
    #[error("the server's answer makes no sense here: {0}")]
    Protocol(&'static str),
    /// The server names the same data as missing, however often the client sends it.
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
