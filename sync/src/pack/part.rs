//! Parts of big blobs: each is verified, stored and retried on its own.
//!
//! A blob above `PART_BYTES` travels in aligned parts of that size. So no process buffers it whole,
//! an interrupted upload resumes at the part it lost, and a range request reads only the parts it
//! needs. BLAKE3 is a tree (BLAKE3 paper, section 2.1), and `PART_BYTES` is a power of two of its
//! chunks, so each part is a whole subtree. The part and its offset determine its
//! [`ChainingValue`], and [`BlobParts::merge`] makes the blob's id from all of them. The chaining
//! value includes the part's number, so no part passes for another.
//!
//! A part on the wire:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `PMXP` |
//! | 1 | version: 1 |
//! | 1 | flags. Bit 0: the body is one zstd frame, else the bytes as they are. Bit 1: the part copies from a blob of the base. Others: 0 |
//! | varint | raw length: `PART_BYTES`, or the rest of the blob in its last part |
//! | *if bit 1* | the delta: see [`PartDelta`] |
//! | to the end | the body: the bytes, or those that are not copied |
//!
//! A stored part is an object of its own: one frame, or the bytes. The blob's
//! [`Location`](pmx_core::location::Location) points to the table of parts, which locates them:
//!
//! | bytes | field |
//! |---|---|
//! | varint | count of parts: 2 to `BLOB_BYTES_MAX / PART_BYTES`, as the blob's size requires |
//! | count times | the [`Location`](pmx_core::location::Location) of a part; codec stored with the part's length, or zstd with less |
//! | count times 32 | the [`ChainingValue`] of each part; tables of the first version end before them |

mod chaining_value;
mod delta;
mod error;
mod table;
mod verified;

use std::ops::Range;

use pmx_core::codec::{Bounds, Decoder, Encoder};
use pmx_core::encode::{ByteReader, write_varint};
use pmx_core::id::BlobId;
use pmx_core::limits::PART_BYTES;

use crate::limits::BLOB_BYTES_MAX;
use crate::pack::wire::frame_if_smaller;
use crate::pack::{PackCoding, PackKind};

pub use chaining_value::ChainingValue;
pub use delta::{PartDelta, PendingPart, Run};
pub use error::PartError;
pub use table::PartTable;
pub use verified::{StoredPart, VerifiedPart};

use chaining_value::{merge_root, subtree};

const MAGIC: [u8; 4] = *b"PMXP";
const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;
const FLAG_COPIES: u8 = 1 << 1;

/// Parts of the largest blob.
pub const PARTS_MAX: u32 = (BLOB_BYTES_MAX / PART_BYTES) as u32;

/// The division of a blob of some size into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobParts {
    size: u64,
}

impl BlobParts {
    /// The parts of a blob of `size` bytes, which must be above `PART_BYTES`: smaller blobs travel
    /// in packs.
    pub const fn of(size: u64) -> Result<Self, PartError> {
        if size <= PART_BYTES || size > BLOB_BYTES_MAX {
            return Err(PartError::Size { size });
        }
        Ok(Self { size })
    }

    /// Size of the blob in bytes.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// The number of parts: at least two.
    pub const fn count(self) -> u32 {
        self.size.div_ceil(PART_BYTES) as u32
    }

    /// The part with this number, from 0.
    pub fn part(self, number: u32) -> Result<Part, PartError> {
        if number >= self.count() {
            return Err(PartError::Number {
                number,
                count: self.count(),
            });
        }
        Ok(self.known(number))
    }

    /// All parts in order.
    pub fn all(self) -> impl ExactSizeIterator<Item = Part> {
        (0..self.count()).map(move |number| self.known(number))
    }

    /// The parts with bytes of `range`, each with the part's own range of them. Bytes beyond the
    /// blob are left out.
    pub fn touching(self, range: Range<u64>) -> impl Iterator<Item = (Part, Range<u64>)> {
        let range = range.start..range.end.min(self.size);
        let numbers = if range.is_empty() {
            0..0
        } else {
            (range.start / PART_BYTES) as u32..range.end.div_ceil(PART_BYTES) as u32
        };
        numbers.map(move |number| {
            let part = self.known(number);
            let start = range.start.saturating_sub(part.offset());
            let end = (range.end - part.offset()).min(part.len());
            (part, start..end)
        })
    }

    /// The id of the blob whose parts have these chaining values, in order.
    pub fn merge(self, values: &[ChainingValue]) -> Result<BlobId, PartError> {
        if values.len() != self.count() as usize {
            return Err(PartError::Count {
                actual: values.len() as u64,
                expected: self.count(),
            });
        }
        Ok(merge_root(values))
    }

    /// The part with a valid number.
    fn known(self, number: u32) -> Part {
        let left = self.size - u64::from(number) * PART_BYTES;
        Part {
            number,
            len: left.min(PART_BYTES),
        }
    }
}

/// One part of a blob. Only [`BlobParts`] makes it, so its number and length are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    number: u32,
    len: u64,
}

#[expect(clippy::len_without_is_empty, reason = "a part is never empty")]
impl Part {
    /// The part's number, from 0.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Offset of the part in the blob.
    pub const fn offset(self) -> u64 {
        self.number as u64 * PART_BYTES
    }

    /// Length in bytes: `PART_BYTES`, or fewer for the last part.
    pub const fn len(self) -> u64 {
        self.len
    }
}

fn check_len(part: Part, actual: u64) -> Result<(), PartError> {
    if actual != part.len() {
        return Err(PartError::Length {
            number: part.number(),
            actual,
            expected: part.len(),
        });
    }
    Ok(())
}

/// A part ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WirePart {
    /// The body of the request that sends the part.
    pub bytes: Vec<u8>,
    /// The chaining value of the bytes. Before a commit, the client compares it with the scan's, or
    /// merges all parts and compares the result with the blob's id.
    pub chaining_value: ChainingValue,
}

impl WirePart {
    /// Hashes and encodes the bytes of a part.
    pub fn of(
        part: Part,
        bytes: &[u8],
        encoder: &mut Encoder,
        coding: PackCoding,
    ) -> Result<Self, PartError> {
        let chaining_value = ChainingValue::of(part, bytes)?;
        Ok(Self::sealed(chaining_value, None, bytes, encoder, coding))
    }

    /// Hashes the bytes of a part, and encodes those that the receiver cannot copy.
    pub fn build_with_delta(
        copies: &PartDelta,
        bytes: &[u8],
        encoder: &mut Encoder,
        coding: PackCoding,
    ) -> Result<Self, PartError> {
        let chaining_value = ChainingValue::of(copies.part(), bytes)?;
        if copies.is_empty() {
            return Ok(Self::sealed(chaining_value, None, bytes, encoder, coding));
        }
        let literals = copies.literals_of(bytes);
        let copies = Some(copies);
        Ok(Self::sealed(
            chaining_value,
            copies,
            &literals,
            encoder,
            coding,
        ))
    }

    fn sealed(
        chaining_value: ChainingValue,
        copies: Option<&PartDelta>,
        body: &[u8],
        encoder: &mut Encoder,
        coding: PackCoding,
    ) -> Self {
        let frame = frame_if_smaller(body, encoder, coding);
        let coded = if frame.is_some() { FLAG_ZSTD } else { 0 };
        let copied = if copies.is_some() { FLAG_COPIES } else { 0 };
        let len = copies.map_or(body.len() as u64, |copies| copies.part().len());
        let body = frame.as_deref().unwrap_or(body);
        let mut bytes = Vec::with_capacity(12 + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(coded | copied);
        write_varint(&mut bytes, len);
        if let Some(copies) = copies {
            copies.write(chaining_value, &mut bytes);
        }
        bytes.extend_from_slice(body);
        Self {
            bytes,
            chaining_value,
        }
    }
}

/// A received part.
#[derive(Debug)]
pub enum Arrived {
    /// The part is complete and hashed.
    Whole(VerifiedPart),
    /// The receiver must fill in the copied bytes.
    Pending(PendingPart),
}

/// Decodes a received part, and hashes it unless it copies bytes.
pub fn open(wire: &[u8], part: Part, decoder: &mut Decoder) -> Result<Arrived, PartError> {
    let mut head = Head::read(wire, part)?;
    if let Some((copies, expected)) = head.copies.take() {
        return PendingPart::of(&head, copies, expected, decoder).map(Arrived::Pending);
    }
    let raw = head.open(part.len(), decoder)?;
    let chaining_value = subtree(part.offset(), &raw);
    Ok(Arrived::Whole(VerifiedPart {
        part,
        kind: head.kind,
        raw,
        chaining_value,
    }))
}

/// Decodes a part without copies, and hashes it.
pub fn verify(wire: &[u8], part: Part, decoder: &mut Decoder) -> Result<VerifiedPart, PartError> {
    match open(wire, part, decoder)? {
        Arrived::Whole(verified) => Ok(verified),
        Arrived::Pending(_) => Err(PartError::Copies),
    }
}

/// The head and the body of a received part.
struct Head<'a> {
    part: Part,
    kind: PackKind,
    /// The delta, and the chaining value of the complete part.
    copies: Option<(PartDelta, ChainingValue)>,
    body: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(wire: &'a [u8], part: Part) -> Result<Self, PartError> {
        let mut reader = ByteReader::new(wire);
        if reader.array()? != MAGIC {
            return Err(PartError::Magic);
        }
        let version = reader.byte()?;
        if version != VERSION {
            return Err(PartError::Version(version));
        }
        let flags = reader.byte()?;
        let kind = match flags & !FLAG_COPIES {
            0 => PackKind::Stored,
            FLAG_ZSTD => PackKind::Solid,
            _ => return Err(PartError::Flags(flags)),
        };
        check_len(part, reader.varint()?)?;
        let copies = match flags & FLAG_COPIES {
            0 => None,
            _ => Some(PartDelta::read(&mut reader, part)?),
        };
        let body = reader.take(reader.remaining())?;
        Ok(Self {
            part,
            kind,
            copies,
            body,
        })
    }

    /// Decodes the body, whose expected length is `len` bytes.
    fn open(&self, len: u64, decoder: &mut Decoder) -> Result<Vec<u8>, PartError> {
        match self.kind {
            PackKind::Solid => Ok(decoder.frame(self.body, len, Bounds::WIRE)?),
            PackKind::Stored if self.body.len() as u64 == len => Ok(self.body.to_vec()),
            PackKind::Stored => Err(PartError::Length {
                number: self.part.number(),
                actual: self.body.len() as u64,
                expected: len,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
