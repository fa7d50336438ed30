//! Cold segments: older messages of a stream in immutable, self-describing objects.
//!
//! A segment holds whole messages in order: the messages of a JSON stream, or the appends of a
//! stream of bytes. Consecutive messages form blocks of about 64 KiB. A footer has the place of
//! each block in the object, its position in the stream and its checksum. The stream's SQL has a
//! copy of the footer, so that a reader needs one ranged read of whole blocks. It verifies each
//! block before it uses any byte of it.
//!
//! All fixed integers are big-endian.
//!
//! | bytes | field |
//! |---|---|
//! | | *frames, a message each:* |
//! | 4 | length of the message: 1 to `STREAM_APPEND_BYTES_MAX` |
//! | length | the message |
//! | | *footer (also the encoding of a [`SegmentIndex`]):* |
//! | varint | count of blocks: 1 to `BLOCKS_MAX` |
//! | count times | *a block:* |
//! | varint | its messages: at least 1 |
//! | varint | bytes of its messages without their lengths |
//! | 8 | its sum: the first bytes of the BLAKE3 of its frames, under a context of its own |
//! | | *trailer, 50 bytes:* |
//! | 4 | bytes of the footer before the trailer |
//! | 1 | kind: 0 bytes, 1 JSON |
//! | 8 | position of the first message |
//! | 8 | position after the last |
//! | 8 | count of messages |
//! | 16 | the first bytes of the BLAKE3 of the footer before this field, under its own context |
//! | 4 | magic `PMXS` |
//! | 1 | version: 1 |
//!
//! A position counts messages in a JSON stream and bytes of messages otherwise. A frame joins the
//! last block if that stays within `STREAM_BLOCK_BYTES`, else it begins the next one. So equal
//! messages yield equal segments, and a reader refuses a segment that no [`SegmentBuilder`] writes.

use pmx_core::encode::Malformed;
use thiserror::Error;

use crate::limits::{STREAM_BLOCK_BYTES, STREAM_OBJECT_BYTES_MAX};

mod builder;
mod footer;
mod index;
mod reader;

pub use builder::{BuildError, Segment, SegmentBuilder};
pub use index::{SegmentIndex, Span};
pub use reader::open;

/// What the positions of a stream count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Bytes. A message is one append; readers see no boundary between appends.
    Bytes,
    /// JSON messages. Readers get them joined by commas.
    Json,
}

impl StreamKind {
    const fn tag(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Json => 1,
        }
    }

    /// The number of positions that `messages` messages of `payload` bytes in total take.
    const fn positions(self, messages: u64, payload: u64) -> u64 {
        match self {
            Self::Bytes => payload,
            Self::Json => messages,
        }
    }
}

/// Bytes of a frame's length field.
pub(super) const FRAME_HEAD_BYTES: usize = 4;

/// Most blocks of a segment. Two neighbours never fit in one block, so there are at most two for
/// each `STREAM_BLOCK_BYTES` of the largest segment, and one more.
const BLOCKS_MAX: usize = 2 * (STREAM_OBJECT_BYTES_MAX / STREAM_BLOCK_BYTES) as usize + 1;

/// Why bytes are not a valid segment, or not the requested one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The object does not end in a footer, or not in one that a [`SegmentBuilder`] writes.
    #[error("the footer of a segment is malformed")]
    Footer(#[from] Malformed),
    /// The footer does not match its checksum.
    #[error("the footer of a segment is damaged")]
    FooterDamaged,
    /// The footer is longer than the tail that was read.
    #[error("the footer of a segment is longer than its last {have} bytes: {needed} are needed")]
    TailTooShort {
        /// Length of the tail.
        have: usize,
        /// Required length of the tail.
        needed: usize,
    },
    /// The object's length differs from its footer's.
    #[error("the segment has {found} bytes; its footer says {expected}")]
    ObjectLength {
        /// Length by the footer.
        expected: u64,
        /// Length of the object.
        found: u64,
    },
    /// A ranged read returned another length than requested.
    #[error("{found} bytes of the segment came; {expected} were asked for")]
    RangeLength {
        /// Requested length.
        expected: u64,
        /// Returned length.
        found: u64,
    },
    /// The index of another segment located the span.
    #[error("the span is not one of this segment")]
    OtherSpan,
    /// A block does not match its checksum.
    #[error("the block at byte {at} of the segment is damaged")]
    BlockDamaged {
        /// Where the block begins in the object.
        at: u64,
    },
    /// The frames of a block match its checksum but contradict the footer.
    #[error("the frame at byte {at} of the segment is not one of its block")]
    Frame {
        /// Where the frame begins in the object.
        at: u64,
    },
}

#[cfg(test)]
mod tests;
