//! Cold storage: the port that reads and writes segments.

use std::fmt;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use pmx_core::backend::BackendError;
use serde::{Deserialize, Serialize};

use super::generation::Generation;

/// Key of a segment: the stream's generation and the segment's range. A key never names other
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentKey {
    /// The generation of the stream that wrote it.
    pub generation: Generation,
    /// The segment's first position.
    pub start: u64,
    /// The position after the segment.
    pub end: u64,
}

impl SegmentKey {
    /// The common prefix of the object keys of one generation.
    pub fn prefix(generation: Generation) -> String {
        format!("streams/{generation}/")
    }

    /// Parses the [`Display`](fmt::Display) form.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("streams/")?;
        let (generation, range) = rest.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let key = Self {
            generation: Generation::from_hex(generation)?,
            start: start.parse().ok()?,
            end: end.parse().ok()?,
        };
        (key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Self::prefix(self.generation);
        write!(f, "{prefix}{:016}-{:016}", self.start, self.end)
    }
}

/// Storage for immutable segments: R2, a folder, or memory.
pub trait Cold {
    /// Reads a range of a segment; `None` if it does not exist or ends before the range.
    fn read(
        &self,
        key: &SegmentKey,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, BackendError>>;

    /// Writes a segment. It MUST be durable, and visible to every reader, before this returns.
    /// Writing the same segment again succeeds.
    fn write(
        &self,
        key: &SegmentKey,
        body: Bytes,
    ) -> impl Future<Output = Result<(), BackendError>>;

    /// Deletes segments; missing ones are ignored.
    fn delete(&self, keys: &[SegmentKey]) -> impl Future<Output = Result<(), BackendError>>;

    /// Lists segments of one generation of a stream: all, or a batch of them. After the caller
    /// deletes the batch, the next call returns others.
    fn list(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Vec<SegmentKey>, BackendError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_keys_parse_from_their_display_form_only() {
        let generation = Generation::from_random([0xab; 16]);
        let key = SegmentKey {
            generation,
            start: 7,
            end: 12,
        };
        let text = key.to_string();
        assert!(text.starts_with(&SegmentKey::prefix(generation)));
        assert_eq!(SegmentKey::parse(&text), Some(key));
        for other in ["", "streams/", "streams/ab/1-2", &text.replace("-0", "-")] {
            assert_eq!(SegmentKey::parse(other), None, "{other}");
        }
    }
}
