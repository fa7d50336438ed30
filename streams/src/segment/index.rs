//! Segment index: locates the blocks that contain messages.

use std::ops::Range;

use pmx_core::hash::Hash;

use super::{FRAME_HEAD_BYTES, StreamKind};

/// The index of a segment: its blocks, with their place in the object and their positions.
///
/// Its encoding ([`SegmentIndex::encode`], [`SegmentIndex::decode`]) is the footer of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    kind: StreamKind,
    first: u64,
    blocks: Vec<Block>,
}

/// The entry of a block in the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockEntry {
    pub(super) messages: u64,
    pub(super) payload: u64,
    pub(super) sum: Sum,
}

/// Checksum of a block: the first bytes of its hash.
pub(super) type Sum = [u8; 8];

const CONTEXT: &str = "pmx-sync 2026-11 stream segment block v1";

/// The checksum of a block's frames.
pub(super) fn block_sum(frames: &[u8]) -> Sum {
    let hash = Hash::derived(CONTEXT, frames);
    let (start, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash is longer than a sum");
    *start
}

impl BlockEntry {
    /// Bytes of the block's frames.
    pub(super) const fn bytes(&self) -> u64 {
        self.messages * FRAME_HEAD_BYTES as u64 + self.payload
    }
}

/// A block, its positions and its place in the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) summary: BlockEntry,
    /// The position of the first message.
    pub(super) first: u64,
    /// The position after the last message.
    pub(super) end: u64,
    /// The offset of the block in the object.
    pub(super) at: u64,
}

/// The blocks that contain a requested range. [`SegmentIndex::extract`] extracts the range from
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The bytes of the object to read.
    pub bytes: Range<u64>,
    pub(super) blocks: Range<usize>,
    pub(super) wanted: Range<u64>,
    pub(super) budget: usize,
    /// Whether the first message is extracted from its beginning.
    pub(super) whole: bool,
}

impl Span {
    /// The same span, extended to the beginning of its first message.
    #[must_use]
    pub fn whole(self) -> Self {
        Self {
            whole: true,
            ..self
        }
    }
}

impl SegmentIndex {
    pub(super) const fn new(kind: StreamKind, first: u64) -> Self {
        Self {
            kind,
            first,
            blocks: Vec::new(),
        }
    }

    /// Adds a block. The sums stay below 2^64: the caller checked the position and the bytes.
    pub(super) fn push(&mut self, summary: BlockEntry) {
        let first = self.end();
        let end = first + self.kind.positions(summary.messages, summary.payload);
        let at = self.frames_bytes();
        self.blocks.push(Block {
            summary,
            first,
            end,
            at,
        });
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// What positions count.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// The position of the first message.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The position after the last message.
    pub fn end(&self) -> u64 {
        self.blocks.last().map_or(self.first, |last| last.end)
    }

    /// The number of messages.
    pub fn messages(&self) -> u64 {
        self.blocks.iter().map(|block| block.summary.messages).sum()
    }

    /// Bytes of all frames, which is the offset of the footer in the object.
    pub fn frames_bytes(&self) -> u64 {
        self.blocks
            .last()
            .map_or(0, |last| last.at + last.summary.bytes())
    }

    /// The least number of body bytes that a read of `range` returns: those of the blocks within
    /// it.
    pub fn payload_within(&self, range: &Range<u64>) -> u64 {
        self.blocks
            .iter()
            .filter(|block| range.start <= block.first && block.end <= range.end)
            .map(|block| block.summary.payload)
            .sum()
    }

    /// Locates the blocks of the messages `from..to`: as many as `budget` bytes of body may need,
    /// and at least that of the first message. A `to` beyond the segment means its end. `None` if
    /// the segment does not contain `from`, or if the range is empty.
    pub fn locate(&self, from: u64, to: u64, budget: usize) -> Option<Span> {
        let to = to.min(self.end());
        if from < self.first || from >= to {
            return None;
        }
        let begin = self.blocks.partition_point(|block| block.end <= from);
        let mut wanted = self.blocks.get(begin..)?.iter();
        let first = wanted.next()?;
        // A block that the range enters in the middle promises no bytes.
        let mut promised = match first.first {
            start if start == from => first.summary.payload,
            _ => 0,
        };
        let (mut last, mut count) = (first, 1);
        for block in wanted.take_while(|block| block.first < to) {
            if promised >= budget as u64 {
                break;
            }
            promised += block.summary.payload;
            (last, count) = (block, count + 1);
        }
        Some(Span {
            bytes: first.at..last.at + last.summary.bytes(),
            blocks: begin..begin + count,
            wanted: from..to,
            budget,
            whole: false,
        })
    }
}
