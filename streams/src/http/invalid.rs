//! Invalid requests: what the protocol refuses, and why.

use http::{HeaderName, Method};
use thiserror::Error;

use crate::InvalidName;

/// A request that is none of the protocol's. The answer is 400 unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    /// The address names no stream.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// 405: another method.
    #[error("a stream takes PUT, POST, GET, HEAD, DELETE and OPTIONS, not {0}")]
    Method(Method),
    /// A header that is not what it has to be.
    #[error("the header {name}: {why}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A query that is not what it has to be.
    #[error("{name:?} in the query: {why}")]
    Query {
        /// The name of the value.
        name: &'static str,
        /// What is wrong with it.
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
