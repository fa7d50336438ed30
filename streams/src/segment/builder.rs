//! Segment builder: groups messages into blocks and writes the footer.

use pmx_core::limits::EXACT_INTEGER_MAX;
use thiserror::Error;

use super::index::{BlockEntry, SegmentIndex, block_sum};
use super::{FRAME_HEAD_BYTES, StreamKind};
use crate::limits::{STREAM_APPEND_BYTES_MAX, STREAM_BLOCK_BYTES, STREAM_OBJECT_BYTES_MAX};

/// A segment that is being built.
#[derive(Debug)]
pub struct SegmentBuilder {
    frames: Vec<u8>,
    index: SegmentIndex,
    open: OpenBlock,
}

/// The last block, which can take more frames.
#[derive(Debug, Default, Clone, Copy)]
struct OpenBlock {
    begins: usize,
    messages: u64,
    payload: u64,
}

/// A complete segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// The index, which the footer encodes.
    pub index: SegmentIndex,
}

/// Why the builder rejects a message, or an empty segment. The builder is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The message is empty: in a stream of bytes it would have no position.
    #[error("a message of a segment is empty")]
    Empty,
    /// The message is longer than any append.
    #[error("a message of a segment has {0} bytes; the limit is {STREAM_APPEND_BYTES_MAX}")]
    MessageTooLong(usize),
    /// The message does not fit in this segment.
    #[error("a segment has no room beyond {STREAM_OBJECT_BYTES_MAX} bytes of frames")]
    Full,
    /// The stream would pass the last position.
    #[error("a stream has no positions beyond {EXACT_INTEGER_MAX}")]
    Beyond,
    /// The segment has no message.
    #[error("a segment has at least one message")]
    NoMessage,
}

impl SegmentBuilder {
    /// Begins a segment whose first message has the position `first`.
    pub fn new(kind: StreamKind, first: u64) -> Self {
        Self {
            frames: Vec::new(),
            index: SegmentIndex::new(kind, first),
            open: OpenBlock::default(),
        }
    }

    /// Reserves memory for this many bytes of frames, so that they are not moved.
    pub fn reserve(&mut self, bytes: usize) {
        self.frames.reserve_exact(bytes);
    }

    /// Adds the next message.
    pub fn push(&mut self, message: &[u8]) -> Result<(), BuildError> {
        self.begin(message.len())?;
        self.extend(message);
        Ok(())
    }

    /// Begins the next message of `len` bytes, which the caller adds by [`Self::extend`].
    pub(crate) fn begin(&mut self, len: usize) -> Result<(), BuildError> {
        let frame = FRAME_HEAD_BYTES + len;
        self.check(len, frame)?;
        let block = self.frames.len() - self.open.begins;
        if block > 0 && block + frame > STREAM_BLOCK_BYTES as usize {
            self.close_block();
        }
        self.frames.extend_from_slice(&(len as u32).to_be_bytes());
        self.open.messages += 1;
        self.open.payload += len as u64;
        Ok(())
    }

    /// Adds the next bytes of the current message.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.frames.extend_from_slice(bytes);
    }

    /// Bytes of all frames so far.
    pub fn frames_bytes(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The position after the last message so far.
    pub fn end(&self) -> u64 {
        let kind = self.index.kind();
        self.index
            .end()
            .saturating_add(kind.positions(self.open.messages, self.open.payload))
    }

    /// Completes the segment.
    pub fn finish(mut self) -> Result<Segment, BuildError> {
        if self.frames.is_empty() {
            return Err(BuildError::NoMessage);
        }
        self.close_block();
        let mut bytes = self.frames;
        bytes.extend_from_slice(&self.index.encode());
        Ok(Segment {
            bytes,
            index: self.index,
        })
    }

    fn check(&self, len: usize, frame: usize) -> Result<(), BuildError> {
        if len == 0 {
            return Err(BuildError::Empty);
        }
        if len > STREAM_APPEND_BYTES_MAX {
            return Err(BuildError::MessageTooLong(len));
        }
        if self.frames_bytes() + frame as u64 > STREAM_OBJECT_BYTES_MAX {
            return Err(BuildError::Full);
        }
        let step = self.index.kind().positions(1, len as u64);
        match self.end().checked_add(step) {
            Some(end) if end <= EXACT_INTEGER_MAX => Ok(()),
            Some(_) | None => Err(BuildError::Beyond),
        }
    }

    fn close_block(&mut self) {
        let frames = self.frames.get(self.open.begins..).unwrap_or_default();
        self.index.push(BlockEntry {
            messages: self.open.messages,
            payload: self.open.payload,
            sum: block_sum(frames),
        });
        self.open = OpenBlock {
            begins: self.frames.len(),
            ..OpenBlock::default()
        };
    }
}
