//! Invalid requests: those that the protocol does not allow.

use http::{HeaderName, Method};
use thiserror::Error;

use crate::InvalidStreamName;

/// Why a request is invalid. The status is 400 unless noted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    /// The address has no valid stream name.
    #[error(transparent)]
    Name(#[from] InvalidStreamName),
    /// 405: streams do not have this method.
    #[error("a stream takes PUT, POST, GET, HEAD, DELETE and OPTIONS, not {0}")]
    Method(Method),
    /// A header has an invalid value.
    #[error("the header {name}: {why}")]
    Header {
        /// The header's name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// A query parameter has an invalid value.
    #[error("{name:?} in the query: {why}")]
    Query {
        /// The parameter's name.
        name: &'static str,
        /// The reason.
        why: &'static str,
    },
}

impl InvalidRequest {
    pub(super) fn header(name: &HeaderName, why: &'static str) -> Self {
        Self::Header {
            name: name.to_string(),
            why,
        }
    }
}
