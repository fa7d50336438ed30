//! Cold segments: what left a stream's hot log, as immutable objects that explain themselves.
//!
//! A segment holds whole messages in order: the messages of a JSON stream, the appends of any
//! other. Runs of them make blocks of about 64 KiB, and a footer says where each block lies, where
//! it stands in the stream and what its hash is. The footer is kept in the stream's SQL as well,
//! so a reader needs one ranged read of whole blocks, and believes no byte before it is verified.
//!
//! All fixed integers are big-endian.
//!
//! | bytes | field |
//! |---|---|
//! | | *frames, a message each:* |
//! | 4 | length of the message: 1 to `STREAM_APPEND_BYTES_MAX` |
//! | length | the message |
//! | | *footer (also the encoding of an [`Index`]):* |
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
//! last block if that stays within `STREAM_BLOCK_BYTES`, else it begins the next one: equal
//! messages make equal segments, and a reader refuses what no [`Builder`] writes.

use pmx_core::encode::Malformed;
use thiserror::Error;

use crate::limits::{STREAM_BLOCK_BYTES, STREAM_OBJECT_BYTES_MAX};

mod builder;
mod footer;
mod index;
mod reader;

pub use builder::{BuildError, Builder, Segment};
pub use index::{Index, Span};
pub use reader::open;

/// What the positions of a stream count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes. A message is one append; readers see no boundary between two of them.
    Bytes,
    /// JSON messages. Readers get them joined by commas.
    Json,
}

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Json => 1,
        }
    }

    /// How far `messages` messages of `payload` bytes together advance the position.
    const fn positions(self, messages: u64, payload: u64) -> u64 {
        match self {
            Self::Bytes => payload,
            Self::Json => messages,
        }
    }
}

/// Bytes of a frame before its message.
pub(super) const FRAME_HEAD_BYTES: usize = 4;

/// Blocks of a segment. Two neighbours never fit in one block, so there are at most two for each
/// `STREAM_BLOCK_BYTES` of the largest segment, and one that is left over.
const BLOCKS_MAX: usize = 2 * (STREAM_OBJECT_BYTES_MAX / STREAM_BLOCK_BYTES) as usize + 1;

/// Why bytes are no segment, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The object does not end in a footer, or not in one that a [`Builder`] writes.
    #[error("the footer of a segment is malformed")]
    Footer(#[from] Malformed),
    /// The footer is readable, but not what was written.
    #[error("the footer of a segment is damaged")]
    FooterDamaged,
    /// The footer is longer than the tail that was read.
    #[error("the footer of a segment is longer than its last {have} bytes: {needed} are needed")]
    TailTooShort {
        /// Bytes that were there.
        have: usize,
        /// Bytes of the tail that are needed.
        needed: usize,
    },
    /// The object has not as many bytes as its footer says.
    #[error("the segment has {found} bytes; its footer says {expected}")]
    ObjectLength {
        /// Bytes by the footer.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A range has not as many bytes as were asked for.
    #[error("{found} bytes of the segment came; {expected} were asked for")]
    RangeLength {
        /// Bytes that were asked for.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The span was located by the index of another segment.
    #[error("the span is not one of this segment")]
    OtherSpan,
    /// A block is not what was written.
    #[error("the block at byte {at} of the segment is damaged")]
    BlockDamaged {
        /// Where the block begins in the object.
        at: u64,
    },
    /// The footer says otherwise about a block than its frames, which are as they were written.
    #[error("the frame at byte {at} of the segment is not one of its block")]
    Frame {
        /// Where the frame begins in the object.
        at: u64,
    },
}

#[cfg(test)]
mod tests;
