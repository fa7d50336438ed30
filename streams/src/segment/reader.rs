//! Segment reader: extracts messages from blocks, after verifying the blocks.

use std::ops::Range;

use pmx_core::encode::Malformed;

use super::index::{Block, SegmentIndex, Span, block_sum};
use super::{FRAME_HEAD_BYTES, SegmentBuilder, SegmentError, StreamKind};

impl SegmentIndex {
    /// Appends the messages of `span` to `body`, and returns their positions. `bytes` is the range
    /// of the object that the span names. If it is damaged, `body` is unchanged.
    ///
    /// It stops at the first message that reaches the budget, or at the end of the requested range.
    /// A message of bytes is cut at both ends of the range, at the start unless the span is
    /// [whole](Span::whole). Messages of a JSON stream are joined by commas, also to the previous
    /// content of `body`.
    pub fn extract(
        &self,
        span: &Span,
        bytes: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<Range<u64>, SegmentError> {
        let expected = span.bytes.end.saturating_sub(span.bytes.start);
        let found = bytes.len() as u64;
        if expected != found {
            return Err(SegmentError::RangeLength { expected, found });
        }
        let before = body.len();
        body.reserve(bytes.len());
        let cut = self.extract_blocks(span, bytes, body);
        if cut.is_err() {
            body.truncate(before);
        }
        cut
    }

    fn extract_blocks(
        &self,
        span: &Span,
        bytes: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<Range<u64>, SegmentError> {
        let blocks = self.blocks().get(span.blocks.clone());
        let mut extractor = Extractor {
            kind: self.kind(),
            wanted: span.wanted.clone(),
            whole: span.whole,
            full: body.len().saturating_add(span.budget),
            body,
        };
        let (mut rest, mut end) = (bytes, span.wanted.start);
        for block in blocks.ok_or(SegmentError::OtherSpan)? {
            let (frames, after) = rest
                .split_at_checked(block.summary.bytes() as usize)
                .ok_or(SegmentError::OtherSpan)?;
            rest = after;
            verify(block, frames)?;
            end = extractor.block(block, frames)?;
            if extractor.is_done(end) {
                break;
            }
        }
        Ok(extractor.wanted.start..end)
    }
}

/// Verifies a whole object, and refuses it unless a [`SegmentBuilder`] would write the same bytes:
/// for tools that scrub or restore.
pub fn open(object: &[u8]) -> Result<SegmentIndex, SegmentError> {
    let index = SegmentIndex::from_object_tail(object, object.len() as u64)?;
    let mut rest = object;
    let mut again = SegmentBuilder::new(index.kind(), index.first());
    for block in index.blocks() {
        let (frames, after) = rest
            .split_at_checked(block.summary.bytes() as usize)
            .ok_or(SegmentError::BlockDamaged { at: block.at })?;
        rest = after;
        verify(block, frames)?;
        for frame in Frames::of(index.kind(), block, frames) {
            let frame = frame?;
            let pushed = again.push(frame.message);
            pushed.map_err(|_| SegmentError::Frame { at: frame.at })?;
        }
    }
    match again.finish() {
        Ok(segment) if segment.bytes == object => Ok(index),
        Ok(_) | Err(_) => Err(Malformed::NotCanonical("its messages make other blocks").into()),
    }
}

fn verify(block: &Block, frames: &[u8]) -> Result<(), SegmentError> {
    if block_sum(frames) == block.summary.sum {
        Ok(())
    } else {
        Err(SegmentError::BlockDamaged { at: block.at })
    }
}

/// Copies the requested range into a body.
struct Extractor<'a> {
    kind: StreamKind,
    wanted: Range<u64>,
    /// Whether the first message is extracted from its beginning.
    whole: bool,
    full: usize,
    body: &'a mut Vec<u8>,
}

impl Extractor<'_> {
    fn is_done(&self, end: u64) -> bool {
        end >= self.wanted.end || self.body.len() >= self.full
    }

    /// Extracts the requested messages of a block, and returns the position after them.
    fn block(&mut self, block: &Block, frames: &[u8]) -> Result<u64, SegmentError> {
        let mut end = block.first;
        for frame in Frames::of(self.kind, block, frames) {
            let frame = frame?;
            end = frame.positions.end;
            if end <= self.wanted.start {
                continue;
            }
            if std::mem::take(&mut self.whole) {
                self.wanted.start = self.wanted.start.min(frame.positions.start);
            }
            self.frame(&frame);
            end = end.min(self.wanted.end);
            if self.is_done(end) {
                break;
            }
        }
        Ok(end)
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        match self.kind {
            StreamKind::Json => {
                if !self.body.is_empty() {
                    self.body.push(b',');
                }
                self.body.extend_from_slice(frame.message);
            }
            StreamKind::Bytes => {
                let from = self.wanted.start.saturating_sub(frame.positions.start);
                let beyond = frame.positions.end.saturating_sub(self.wanted.end);
                let to = frame.message.len().saturating_sub(beyond as usize);
                let piece = frame.message.get(from as usize..to);
                self.body.extend_from_slice(piece.unwrap_or_default());
            }
        }
    }
}

/// A message, its positions and its place in the object.
struct Frame<'a> {
    message: &'a [u8],
    positions: Range<u64>,
    at: u64,
}

/// The frames of a block. They must fill its bytes and its positions.
struct Frames<'a> {
    kind: StreamKind,
    rest: &'a [u8],
    position: u64,
    at: u64,
    end: u64,
}

impl<'a> Frames<'a> {
    fn of(kind: StreamKind, block: &Block, frames: &'a [u8]) -> Self {
        Self {
            kind,
            rest: frames,
            position: block.first,
            at: block.at,
            end: block.end,
        }
    }

    fn take(&mut self) -> Option<Frame<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<FRAME_HEAD_BYTES>()?;
        let len = u32::from_be_bytes(*head) as usize;
        let (message, rest) = rest.split_at_checked(len)?;
        let end = self.position + self.kind.positions(1, len as u64);
        let is_last = rest.is_empty();
        if len == 0 || end > self.end || is_last != (end == self.end) {
            return None;
        }
        let frame = Frame {
            message,
            positions: self.position..end,
            at: self.at,
        };
        (self.rest, self.position) = (rest, end);
        self.at += (FRAME_HEAD_BYTES + len) as u64;
        Some(frame)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        let frame = self.take();
        if frame.is_none() {
            self.rest = &[];
        }
        Some(frame.ok_or(SegmentError::Frame { at }))
    }
}
