//! Part delta: runs that copy from a blob of the base, and the literal bytes between them.
//!
//! On the wire, the delta follows the raw length of the part:
//!
//! | bytes | field |
//! |---|---|
//! | 32 | the root of the base, a manifest that both sides have |
//! | varint | the rank of its row that is copied from |
//! | 32 | the chaining value of the part |
//! | varint | count of runs: 1 to `COPIES_MAX` |
//! | count times 3 varints | bytes of the body that come before the run; where it begins in the blob of the base; its length, not 0 |
//!
//! The body fills the gaps between the runs, and has exactly those bytes. A run that continues the
//! previous one, on both sides, must be part of it. All runs together touch at most
//! `COPIED_PARTS_MAX` parts of the base's blob.
//!
//! The sender does not have the old bytes. It finds them by hashes of pieces (a *signature*), which
//! may be wrong. So the sender names the expected hash. A receiver that gets another hash refuses
//! with [`PartError::Copied`], and the sender continues without copies.

use std::ops::Range;

use pmx_core::codec::Decoder;
use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::hash::Hash;
use pmx_core::id::Root;
use pmx_core::limits::PART_BYTES;

use super::{ChainingValue, Head, Part, PartError, VerifiedPart, subtree};
use crate::limits::{BLOB_BYTES_MAX, COPIED_PARTS_MAX, COPIES_MAX, FILES_MAX};
use crate::pack::PackKind;

/// Bytes that a part and a blob of the base share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Offset in the part.
    pub at: u64,
    /// Offset in the blob.
    pub from: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Run {
    /// Offset after the last byte in the part. `push` checks runs, so this does not overflow.
    const fn end(self) -> u64 {
        self.at + self.len
    }

    /// The range in the blob.
    const fn source(self) -> Range<u64> {
        self.from..self.from + self.len
    }

    /// The numbers of the blob's parts that the run touches.
    fn touched(self) -> impl Iterator<Item = u64> {
        let Range { start, end } = self.source();
        start / PART_BYTES..end.div_ceil(PART_BYTES)
    }

    const fn goes_on(self, before: Self) -> bool {
        self.at == before.end() && self.from == before.source().end
    }
}

/// Part delta: the runs that a part copies from a blob of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDelta {
    part: Part,
    base: Root,
    rank: u64,
    runs: Vec<Run>,
    /// The numbers of the blob's parts that the runs touch.
    touched: Vec<u64>,
}

impl PartDelta {
    /// An empty delta against the row with this rank of a manifest.
    pub const fn of(part: Part, base: Root, rank: u64) -> Self {
        Self {
            part,
            base,
            rank,
            runs: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Appends a run. A run that continues the last one extends it. Returns false, and leaves the
    /// run out, if it is out of bounds.
    pub fn push(&mut self, run: Run) -> bool {
        let free = self.runs.last().map_or(0, |last| last.end());
        let fits = |start: u64, max: u64| start <= max && run.len <= max - start;
        if run.len == 0
            || run.at < free
            || !fits(run.at, self.part.len())
            || !fits(run.from, BLOB_BYTES_MAX)
        {
            return false;
        }
        let new = run.touched().filter(|part| !self.touched.contains(part));
        let new: Vec<u64> = new.collect();
        if self.touched.len() + new.len() > COPIED_PARTS_MAX {
            return false;
        }
        let has_room = self.runs.len() < COPIES_MAX;
        match self.runs.last_mut() {
            Some(last) if run.goes_on(*last) => last.len += run.len,
            Some(_) | None if has_room => self.runs.push(run),
            Some(_) | None => return false,
        }
        self.touched.extend(new);
        true
    }

    /// The part.
    pub const fn part(&self) -> Part {
        self.part
    }

    /// The manifest.
    pub const fn base(&self) -> Root {
        self.base
    }

    /// The rank of the manifest's row whose blob is the source.
    pub const fn rank(&self) -> u64 {
        self.rank
    }

    /// The numbers of the blob's parts that the runs touch, in no order.
    pub fn touched(&self) -> &[u64] {
        &self.touched
    }

    /// Whether the part copies no bytes.
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes that the part copies.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// The bytes of the part that it does not copy.
    pub(super) fn literals_of(&self, bytes: &[u8]) -> Vec<u8> {
        let mut literals = Vec::with_capacity((self.part.len() - self.bytes()) as usize);
        for gap in self.gaps() {
            literals.extend_from_slice(&bytes[gap]);
        }
        literals
    }

    /// The ranges between the runs.
    fn gaps(&self) -> impl Iterator<Item = Range<usize>> {
        let ends = self.runs.iter().map(|run| run.end());
        let starts = self.runs.iter().map(|run| run.at);
        let gaps = std::iter::once(0).chain(ends);
        let gaps = gaps.zip(starts.chain([self.part.len()]));
        gaps.map(|(start, end)| start as usize..end as usize)
    }

    pub(super) fn write(&self, value: ChainingValue, out: &mut Vec<u8>) {
        out.extend_from_slice(self.base.as_bytes());
        write_varint(out, self.rank);
        out.extend_from_slice(value.as_bytes());
        write_varint(out, self.runs.len() as u64);
        let mut free = 0;
        for run in &self.runs {
            write_varint(out, run.at - free);
            write_varint(out, run.from);
            write_varint(out, run.len);
            free = run.end();
        }
    }

    pub(super) fn read(
        reader: &mut ByteReader<'_>,
        part: Part,
    ) -> Result<(Self, ChainingValue), PartError> {
        let base = Root::from_bytes(reader.array()?);
        let rank = reader.varint_up_to(FILES_MAX, "the rank of a row of the base")?;
        let value = ChainingValue::kept(reader.array::<{ Hash::LEN }>()?);
        let count = reader.varint()?;
        if count == 0 || count > COPIES_MAX as u64 {
            return Err(PartError::Runs);
        }
        let count = count as usize;
        if count > reader.remaining() / 3 {
            return Err(Malformed::Truncated.into());
        }
        let mut copies = Self::of(part, base, rank);
        copies.runs.reserve_exact(count);
        let mut free = 0_u64;
        for number in 1..=count {
            let run = Run {
                at: free.saturating_add(reader.varint()?),
                from: reader.varint()?,
                len: reader.varint()?,
            };
            if !copies.push(run) || copies.runs.len() != number {
                return Err(PartError::Runs);
            }
            free = run.end();
        }
        Ok((copies, value))
    }
}

/// A received part without its copied bytes.
#[derive(Debug)]
pub struct PendingPart {
    copies: PartDelta,
    expected: ChainingValue,
    kind: PackKind,
    raw: Vec<u8>,
}

impl PendingPart {
    /// Decodes the literal bytes into their places.
    pub(super) fn of(
        head: &Head<'_>,
        copies: PartDelta,
        expected: ChainingValue,
        decoder: &mut Decoder,
    ) -> Result<Self, PartError> {
        let part = copies.part;
        let literals = head.open(part.len() - copies.bytes(), decoder)?;
        let mut raw = vec![0; part.len() as usize];
        let mut rest = &literals[..];
        for gap in copies.gaps() {
            let (literal, behind) = rest.split_at(gap.len());
            raw[gap].copy_from_slice(literal);
            rest = behind;
        }
        Ok(Self {
            copies,
            expected,
            kind: head.kind,
            raw,
        })
    }

    /// The delta.
    pub const fn copies(&self) -> &PartDelta {
        &self.copies
    }

    /// The span of `source` that the part copies from: from its first byte to its last.
    pub fn needs(&self, source: Range<u64>) -> Range<u64> {
        let sources = self.copies.runs.iter().map(|run| run.source());
        let shared = sources.map(|run| run.start.max(source.start)..run.end.min(source.end));
        let shared = shared.filter(|shared| !shared.is_empty());
        let all = shared.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end));
        all.unwrap_or(source.start..source.start)
    }

    /// Copies bytes of the base's blob, which start at offset `start`, to their places in the part.
    /// If compressing the source pays, compressing the part does too.
    pub fn fill(&mut self, start: u64, bytes: &[u8], kind: PackKind) {
        self.kind = self.kind.min(kind);
        let end = start.saturating_add(bytes.len() as u64);
        for run in &self.copies.runs {
            let shared = run.from.max(start)..run.source().end.min(end);
            if !shared.is_empty() {
                let source = (shared.start - start) as usize..(shared.end - start) as usize;
                let at = (run.at + (shared.start - run.from)) as usize;
                self.raw[at..at + source.len()].copy_from_slice(&bytes[source]);
            }
        }
    }

    /// The complete part. Fails if copied bytes are missing, or if the hash is not the sender's.
    pub fn finish(self) -> Result<VerifiedPart, PartError> {
        let part = self.copies.part;
        let chaining_value = subtree(part.offset(), &self.raw);
        if chaining_value != self.expected {
            let number = part.number();
            return Err(PartError::Copied { number });
        }
        Ok(VerifiedPart {
            part,
            kind: self.kind,
            raw: self.raw,
            chaining_value,
        })
    }
}

#[cfg(test)]
mod tests;
