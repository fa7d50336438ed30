//! Site paths: parsed once, never invalid afterwards, and the only place that splits on `/`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::limits::{PATH_BYTES_MAX, PATH_DEPTH_MAX, SEGMENT_BYTES_MAX};

/// The path of a file in a site: relative, `/` between segments, UTF-8, ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SitePath(Arc<str>);

impl SitePath {
    /// Parses a path, and refuses any that is ambiguous or invalid on some platform.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        match fault(text) {
            None => Ok(Self(text.into())),
            Some(reason) => Err(InvalidPath {
                path: shown(text.as_bytes()),
                reason,
            }),
        }
    }

    /// Parses bytes that should be UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, InvalidPath> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(_) => Err(InvalidPath {
                path: shown(bytes),
                reason: PathFault::NotUtf8,
            }),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as bytes, by which a manifest is ordered.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder that holds the file, without a trailing slash; empty at the top.
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The extension of the last segment, if it has one.
    pub fn extension(&self) -> Option<&str> {
        self.name().rsplit_once('.').map(|(_, extension)| extension)
    }

    /// Each folder above the file, deepest first, without the empty one of the root.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        let text: &str = &self.0;
        text.rmatch_indices('/').map(move |(at, _)| &text[..at])
    }
}

impl Borrow<str> for SitePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for SitePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SitePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The fault of one segment, if it has one. A scan checks each name with this function.
pub fn segment_fault(segment: &str) -> Option<PathFault> {
    match segment {
        "" => Some(PathFault::EmptySegment),
        "." | ".." => Some(PathFault::DotSegment),
        _ if segment.len() > SEGMENT_BYTES_MAX => Some(PathFault::SegmentTooLong),
        _ if segment.bytes().any(|b| b < 0x20 || b == 0x7f) => Some(PathFault::ControlCharacter),
        _ if segment.contains('\\') => Some(PathFault::Backslash),
        _ if segment.contains('/') => Some(PathFault::EmptySegment),
        _ => None,
    }
}

fn fault(text: &str) -> Option<PathFault> {
    if text.is_empty() {
        return Some(PathFault::Empty);
    }
    if text.len() > PATH_BYTES_MAX {
        return Some(PathFault::TooLong);
    }
    if text.bytes().filter(|&b| b == b'/').count() >= PATH_DEPTH_MAX {
        return Some(PathFault::TooDeep);
    }
    text.split('/').find_map(segment_fault)
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    text.chars().flat_map(char::escape_debug).collect()
}

/// The text is not a site path.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("\"{path}\" can't be a path of a site: {reason}")]
pub struct InvalidPath {
    /// The path, escaped for display.
    pub path: String,
    /// The fault.
    pub reason: PathFault,
}

/// Fault of a path.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum PathFault {
    /// The path is empty.
    #[error("it is empty")]
    Empty,
    /// A leading, trailing or doubled slash.
    #[error("it starts or ends with a slash, or has two in a row")]
    EmptySegment,
    /// `.` or `..`.
    #[error("\".\" and \"..\" are not names")]
    DotSegment,
    /// Bytes below 0x20, or 0x7f.
    #[error("it has a control character")]
    ControlCharacter,
    /// A separator on Windows.
    #[error("it has a backslash, which is a separator on some platforms")]
    Backslash,
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Above [`PATH_BYTES_MAX`].
    #[error("it is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Above [`SEGMENT_BYTES_MAX`].
    #[error("a segment is longer than {SEGMENT_BYTES_MAX} bytes")]
    SegmentTooLong,
    /// Above [`PATH_DEPTH_MAX`].
    #[error("it has more than {PATH_DEPTH_MAX} segments")]
    TooDeep,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_paths_are_refused_by_reason() {
        let long = "x".repeat(SEGMENT_BYTES_MAX + 1);
        let longest = vec!["y".repeat(200); 6].join("/");
        let deep = vec!["d"; PATH_DEPTH_MAX + 1].join("/");
        for (text, reason) in [
            ("", PathFault::Empty),
            ("/abs", PathFault::EmptySegment),
            ("a//b", PathFault::EmptySegment),
            ("a/", PathFault::EmptySegment),
            (".", PathFault::DotSegment),
            ("..", PathFault::DotSegment),
            ("a/../b", PathFault::DotSegment),
            ("a\\b", PathFault::Backslash),
            ("a\0b", PathFault::ControlCharacter),
            ("a\x1b[2J", PathFault::ControlCharacter),
            ("a\x7f", PathFault::ControlCharacter),
            (&long, PathFault::SegmentTooLong),
            (&longest, PathFault::TooLong),
            (&deep, PathFault::TooDeep),
        ] {
            assert_eq!(
                SitePath::parse(text).map_err(|e| e.reason),
                Err(reason),
                "{text:?}"
            );
        }
        let invalid = SitePath::parse_bytes(b"a\xff").map_err(|e| e.reason);
        assert_eq!(invalid, Err(PathFault::NotUtf8));
    }

    #[test]
    fn path_parts() {
        let path = SitePath::parse("a/b/c.tar.gz").unwrap();
        assert_eq!(path.name(), "c.tar.gz");
        assert_eq!(path.folder(), "a/b");
        assert_eq!(path.extension(), Some("gz"));
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(SitePath::parse("x").unwrap().folder(), "");
    }
}
