//! Stream names: the path after `/v1/stream/`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::STREAM_NAME_BYTES_MAX;

/// A stream's name, as percent-encoded in the address. It may contain slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(String);

/// Why a text is not a stream name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidStreamName {
    /// It is empty.
    #[error("a stream needs a name")]
    Empty,
    /// It is too long.
    #[error("the name of a stream has {0} bytes; the limit is {STREAM_NAME_BYTES_MAX}")]
    Long(usize),
    /// It has a character that a path of an address may not have.
    #[error("the name of a stream has the character {0:?}")]
    Character(char),
}

impl StreamName {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, InvalidStreamName> {
        if text.is_empty() {
            return Err(InvalidStreamName::Empty);
        }
        if text.len() > STREAM_NAME_BYTES_MAX {
            return Err(InvalidStreamName::Long(text.len()));
        }
        match text
            .chars()
            .find(|&c| !c.is_ascii_graphic() || "?#".contains(c))
        {
            Some(other) => Err(InvalidStreamName::Character(other)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for StreamName {
    type Error = InvalidStreamName;

    fn try_from(text: String) -> Result<Self, InvalidStreamName> {
        Self::parse(&text)
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_are_short_paths_without_query() {
        let long = "x".repeat(STREAM_NAME_BYTES_MAX + 1);
        for (text, fits) in [
            ("a", true),
            ("a/b%20c", true),
            ("__registry__", true),
            ("", false),
            ("a b", false),
            ("a?b", false),
            ("a\u{e9}", false),
            (&long, false),
        ] {
            assert_eq!(StreamName::parse(text).is_ok(), fits, "{text}");
        }
    }
}
