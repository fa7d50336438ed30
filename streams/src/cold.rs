//! Cold storage: the port that reads and writes segments.

use std::fmt;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use pmx_core::backend::BackendError;
use serde::{Deserialize, Serialize};

use super::generation::Generation;

/// Names a segment: by the stream's generation and by what it holds of it. The same key never names
/// other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentKey {
    /// The generation of the stream that wrote it.
    pub generation: Generation,
    /// Its first position.
    pub start: u64,
    /// The position behind it.
    pub end: u64,
}

impl SegmentKey {
    /// What the keys of one generation begin with, as object stores spell them.
    pub fn prefix(generation: Generation) -> String {
        format!("streams/{generation}/")
    }

    /// Reads what [`fmt::Display`] writes.
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

/// Immutable segments: R2, a folder, memory.
pub trait Cold {
    /// Reads a range of a segment; `None` if there is none or it ends before the range.
    fn read(
        &self,
        key: &SegmentKey,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Bytes>, BackendError>>;

    /// Writes a segment. MUST be durable, and visible to every reader, before it returns. Writing
    /// the same once more is no error.
    fn write(
        &self,
        key: &SegmentKey,
        body: Bytes,
    ) -> impl Future<Output = Result<(), BackendError>>;

    /// Deletes segments; missing ones are no error.
    fn delete(&self, keys: &[SegmentKey]) -> impl Future<Output = Result<(), BackendError>>;

    /// Names segments of one generation of a stream: all, or so many that asking again after they
    /// were deleted comes to an end.
    fn list(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Vec<SegmentKey>, BackendError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_return() {
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
