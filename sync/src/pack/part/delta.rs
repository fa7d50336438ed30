//! Part delta: runs that copy from a blob of the base, and the literal bytes between them.
//!
//! On the wire, behind the raw length of the part:
//!
//! | bytes | field |
//! |---|---|
//! | 32 | the root of the base, a manifest that both sides have |
//! | varint | the rank of its row that is copied from |
//! | 32 | the chaining value of the part |
//! | varint | count of runs: 1 to `COPIES_MAX` |
//! | count times 3 varints | bytes of the body that come before the run; where it begins in the blob of the base; its length, not 0 |
//!
//! What the runs leave free is filled from the body, which has exactly those bytes. A run that goes
//! on where the one before ends, on both sides, is the same run. All runs together touch at most
//! `COPIED_PARTS_MAX` parts of the base's blob.
//!
//! The sender does not have the old bytes: it knows them by hashes of pieces (a *signature*), which
//! may be wrong. So it names the expected hash, and a receiver that gets another one
//! says so by name ([`PartError::Copied`]); the sender goes on without.

use std::ops::Range;

use pmx_core::codec::Decoder;
use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::hash::Hash;
use pmx_core::id::Root;
use pmx_core::limits::PART_BYTES;

use super::{ChainingValue, Head, Part, PartError, VerifiedPart, subtree};
use crate::limits::{BLOB_BYTES_MAX, COPIED_PARTS_MAX, COPIES_MAX, FILES_MAX};
use crate::pack::PackKind;

/// Bytes that a part and a blob of the base have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where they begin in the part.
    pub at: u64,
    /// Where they begin in the blob.
    pub from: u64,
    /// How many they are.
    pub len: u64,
}

impl Run {
    /// The part's byte behind the last one. Runs are checked when they are added.
    const fn end(self) -> u64 {
        self.at + self.len
    }

    /// The bytes of the blob.
    const fn source(self) -> Range<u64> {
        self.from..self.from + self.len
    }

    /// The numbers of the blob's parts that it touches.
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
    /// The numbers of the blob's parts that are touched.
    touched: Vec<u64>,
}

impl PartDelta {
    /// Nothing yet, from the row of a rank of a manifest.
    pub const fn of(part: Part, base: Root, rank: u64) -> Self {
        Self {
            part,
            base,
            rank,
            runs: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Adds a run behind those that were added; one that goes on where the last one ends becomes
    /// part of it. One that is not within bounds is left out.
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

    /// The rank of its row whose blob is copied from.
    pub const fn rank(&self) -> u64 {
        self.rank
    }

    /// The numbers of the blob's parts that are copied from, in no order.
    pub fn touched(&self) -> &[u64] {
        &self.touched
    }

    /// Whether nothing is copied.
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes that are copied.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// The bytes of the part that are not copied.
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

/// A part that arrived, without what it copies.
#[derive(Debug)]
pub struct PendingPart {
    copies: PartDelta,
    expected: ChainingValue,
    kind: PackKind,
    raw: Vec<u8>,
}

impl PendingPart {
    /// Decodes the literal bytes, and puts them in their places.
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

    /// Which of these bytes of the base's blob it needs: from the first to the last of them.
    pub fn needs(&self, source: Range<u64>) -> Range<u64> {
        let sources = self.copies.runs.iter().map(|run| run.source());
        let shared = sources.map(|run| run.start.max(source.start)..run.end.min(source.end));
        let shared = shared.filter(|shared| !shared.is_empty());
        let all = shared.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end));
        all.unwrap_or(source.start..source.start)
    }

    /// Puts bytes of the base's blob, which begin at `start` of it, wherever they are copied to. If
    /// they were worth compressing, so is the part.
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

    /// The part, if all that it copies was filled in, and is what the sender took it for.
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
