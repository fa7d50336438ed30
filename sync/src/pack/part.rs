//! Parts of big blobs: each is verified, stored and retried on its own.
//!
//! A blob above `PART_BYTES` travels in aligned parts of that size, so that nothing is buffered
//! whole, an interrupted upload goes on at the part it lost, and a range request touches only the
//! parts it needs. BLAKE3 is a tree (BLAKE3 paper, section 2.1), and `PART_BYTES` is a power of
//! two of its chunks, so each part is a whole subtree: its [`ChainingValue`] can be computed from
//! the part and its offset alone, and [`Parts::merge`] makes the blob's id from all of them. The
//! part's number is in its chaining value, so a part can't be taken for another.
//!
//! A part on the wire:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `PMXP` |
//! | 1 | version: 1 |
//! | 1 | flags. Bit 0: the body is one zstd frame, else the bytes as they are. Bit 1: the part copies from a blob of the base. Others: 0 |
//! | varint | raw length: `PART_BYTES`, or what is left of the blob in its last part |
//! | *if bit 1* | the delta: see [`PartDelta`] |
//! | to the end | the body: the bytes, or those that are not copied |
//!
//! A part at rest is an object of its own: one frame, or the bytes. Where they lie is the table of
//! parts, which the blob's [`Location`] points to:
//!
//! | bytes | field |
//! |---|---|
//! | varint | count of parts: 2 to `BLOB_BYTES_MAX / PART_BYTES`, as the blob's size wants it |
//! | count times | the [`Location`] of a part; codec stored with the part's length, or zstd with less |
//! | count times 32 | the [`ChainingValue`] of each part; tables of the first version end before them |

use std::ops::Range;

use pmx_core::codec::{Bounds, Decoder, Encoder, Level};
use pmx_core::encode::{Reader, write_varint};
use pmx_core::hash::Hash;
use pmx_core::id::BlobId;
use pmx_core::limits::PART_BYTES;
use pmx_core::location::{Codec, Location};

use crate::limits::BLOB_BYTES_MAX;
use crate::pack::stored::append_frame;
use crate::pack::wire::frame_if_smaller;
use crate::pack::{Coding, PackKind};
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

mod delta;
mod error;

pub use delta::{PartDelta, PendingPart, Run};
pub use error::PartError;

const MAGIC: [u8; 4] = *b"PMXP";
const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;
const FLAG_COPIES: u8 = 1 << 1;

/// Parts of the largest blob.
pub const PARTS_MAX: u32 = (BLOB_BYTES_MAX / PART_BYTES) as u32;

/// How a blob of some size divides into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    size: u64,
}

impl Parts {
    /// The parts of a blob of `size` bytes, which must be above `PART_BYTES`: smaller ones travel
    /// in packs.
    pub const fn of(size: u64) -> Result<Self, PartError> {
        if size <= PART_BYTES || size > BLOB_BYTES_MAX {
            return Err(PartError::Size { size });
        }
        Ok(Self { size })
    }

    /// Bytes of the blob.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// How many parts: at least two.
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

    /// The parts that hold bytes of `range`, each with the range of its own bytes that is meant.
    /// What lies beyond the blob is left out.
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

    /// The part with a number that is known to be one.
    fn known(self, number: u32) -> Part {
        let left = self.size - u64::from(number) * PART_BYTES;
        Part {
            number,
            len: left.min(PART_BYTES),
        }
    }
}

/// One part of a blob. Comes from [`Parts`], so its number and length are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    number: u32,
    len: u64,
}

#[expect(clippy::len_without_is_empty, reason = "a part is never empty")]
impl Part {
    /// Its number, from 0.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The blob's byte that it begins with.
    pub const fn offset(self) -> u64 {
        self.number as u64 * PART_BYTES
    }

    /// How many bytes it has: `PART_BYTES`, or fewer if it is the last.
    pub const fn len(self) -> u64 {
        self.len
    }
}

/// What a part contributes to the blob's hash: the root of its subtree, which is not a hash of
/// anything by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainingValue(Hash);

impl ChainingValue {
    /// Hashes the bytes of a part. A scan that does this part by part has the blob's id by
    /// [`Parts::merge`], and can check each part when it reads it again to send it.
    pub fn of(part: Part, bytes: &[u8]) -> Result<Self, PartError> {
        check_len(part, bytes.len() as u64)?;
        Ok(subtree(part.offset(), bytes))
    }

    /// Prepares a new hasher for the bytes of a part, which the caller adds in order.
    pub(crate) fn begin(part: Part, hasher: &mut blake3::Hasher) {
        hasher.set_input_offset(part.offset());
    }

    /// What a hasher found that [`ChainingValue::begin`] prepared.
    pub(crate) fn end(hasher: &blake3::Hasher) -> Self {
        Self::kept(hasher.finalize_non_root())
    }

    /// Wraps 32 bytes that were kept from an earlier [`ChainingValue::of`].
    pub const fn kept(bytes: [u8; Hash::LEN]) -> Self {
        Self(Hash::from_bytes(bytes))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; Hash::LEN] {
        self.0.as_bytes()
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

fn subtree(offset: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset).update(bytes);
    ChainingValue::end(&hasher)
}

/// The root over at least two subtrees.
fn merge_root(values: &[ChainingValue]) -> BlobId {
    let (left, right) = halves(values);
    let root = merge_subtrees_root(&merge(left), &merge(right), Mode::Hash);
    BlobId::from_bytes(*root.as_bytes())
}

fn merge(values: &[ChainingValue]) -> [u8; Hash::LEN] {
    match values {
        [one] => *one.as_bytes(),
        several => {
            let (left, right) = halves(several);
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

/// The left subtree is full: it has the largest power of two of parts that leaves some to the
/// right (BLAKE3 paper, section 2.1).
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}

/// A part ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WirePart {
    /// The body of its request.
    pub bytes: Vec<u8>,
    /// What its bytes hash to: compare with what the scan found, or merge with the other parts
    /// and compare with the blob's id, before committing to anything.
    pub chaining_value: ChainingValue,
}

impl WirePart {
    /// Hashes and codes the bytes of a part.
    pub fn of(
        part: Part,
        bytes: &[u8],
        encoder: &mut Encoder,
        coding: Coding,
    ) -> Result<Self, PartError> {
        let chaining_value = ChainingValue::of(part, bytes)?;
        Ok(Self::sealed(chaining_value, None, bytes, encoder, coding))
    }

    /// Hashes the bytes of a part, and codes those that the receiver can't copy.
    pub fn build_with_delta(
        copies: &PartDelta,
        bytes: &[u8],
        encoder: &mut Encoder,
        coding: Coding,
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
        coding: Coding,
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

/// A part that arrived and was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPart {
    part: Part,
    kind: PackKind,
    raw: Vec<u8>,
    chaining_value: ChainingValue,
}

impl VerifiedPart {
    /// Which part it is.
    pub const fn part(&self) -> Part {
        self.part
    }

    /// Its bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What they hash to.
    pub const fn chaining_value(&self) -> ChainingValue {
        self.chaining_value
    }

    /// Lays the part down for rest: as a frame if that saves enough, else as it is, in the memory
    /// that it has. What travelled uncompressed is stored without trying.
    pub fn rest(self, encoder: &mut Encoder, level: Level) -> StoredPart {
        if self.kind == PackKind::Solid {
            let mut bytes = Vec::new();
            if append_frame(&mut bytes, &self.raw, encoder, level) {
                bytes.shrink_to_fit();
                let codec = Codec::Zstd;
                return StoredPart { bytes, codec };
            }
        }
        StoredPart {
            bytes: self.raw,
            codec: Codec::Stored,
        }
    }
}

/// A part ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// How they are coded: stored or zstd.
    pub codec: Codec,
}

/// A part that arrived.
#[derive(Debug)]
pub enum Arrived {
    /// It is all there, and was hashed.
    Whole(VerifiedPart),
    /// What it copies is to be filled in.
    Pending(PendingPart),
}

/// Decodes a part that arrived, and hashes it unless it copies something.
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

/// Decodes a part that copies nothing, and hashes it.
pub fn verify(wire: &[u8], part: Part, decoder: &mut Decoder) -> Result<VerifiedPart, PartError> {
    match open(wire, part, decoder)? {
        Arrived::Whole(verified) => Ok(verified),
        Arrived::Pending(_) => Err(PartError::Copies),
    }
}

/// A part, as it arrived.
struct Head<'a> {
    part: Part,
    kind: PackKind,
    /// What is copied, and what the part has to hash to then.
    copies: Option<(PartDelta, ChainingValue)>,
    body: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(wire: &'a [u8], part: Part) -> Result<Self, PartError> {
        let mut reader = Reader::new(wire);
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

    /// The body, of which `len` bytes are expected.
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

/// Where the parts of a blob lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTable {
    locations: Vec<Location>,
    /// None, or one for each location.
    values: Vec<ChainingValue>,
}

impl PartTable {
    /// A table of the locations of all `parts`, in order.
    pub fn new(parts: Parts, locations: Vec<Location>) -> Result<Self, PartError> {
        if locations.len() != parts.count() as usize {
            return Err(PartError::Count {
                actual: locations.len() as u64,
                expected: parts.count(),
            });
        }
        for (part, location) in parts.all().zip(&locations) {
            check_location(part, location)?;
        }
        let values = Vec::new();
        Ok(Self { locations, values })
    }

    /// The same table with the chaining values of all parts, so that each can be verified alone.
    pub fn with_values(self, values: Vec<ChainingValue>) -> Result<Self, PartError> {
        if values.len() != self.locations.len() {
            return Err(PartError::Count {
                actual: values.len() as u64,
                expected: self.locations.len() as u32,
            });
        }
        Ok(Self { values, ..self })
    }

    /// What a part has to hash to, if the table says so.
    pub fn value(&self, part: Part) -> Option<&ChainingValue> {
        self.values.get(part.number() as usize)
    }

    /// Whether the chaining values, if there are any, merge to a blob's id.
    pub fn is_of(&self, parts: Parts, blob: &BlobId) -> bool {
        self.values.is_empty() || parts.merge(&self.values).is_ok_and(|found| found == *blob)
    }

    /// The locations, in order.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Where a part lies.
    pub fn location(&self, part: Part) -> Option<&Location> {
        self.locations.get(part.number() as usize)
    }

    /// How the blob as a whole is coded.
    pub fn codec(&self) -> Codec {
        if self.locations.iter().all(|part| part.codec == Codec::Zstd) {
            Codec::ZstdParts
        } else {
            Codec::Parts
        }
    }

    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.locations.len() as u64);
        for location in &self.locations {
            location.encode(out);
        }
        for value in &self.values {
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// Reads the canonical encoding of the table of `parts`, which is all of `bytes`.
    pub fn decode(bytes: &[u8], parts: Parts) -> Result<Self, PartError> {
        let mut reader = Reader::new(bytes);
        let count = reader.varint_up_to(u64::from(PARTS_MAX), "the count of parts")?;
        if count != u64::from(parts.count()) {
            return Err(PartError::Count {
                actual: count,
                expected: parts.count(),
            });
        }
        let locations: Result<Vec<_>, _> =
            (0..count).map(|_| Location::decode(&mut reader)).collect();
        let table = Self::new(parts, locations?)?;
        if reader.remaining() as u64 != count * Hash::LEN as u64 {
            reader.end()?;
            return Ok(table);
        }
        let values: Result<Vec<_>, _> = (0..count)
            .map(|_| reader.array().map(ChainingValue::kept))
            .collect();
        let values = values?;
        reader.end()?;
        table.with_values(values)
    }
}

fn check_location(part: Part, location: &Location) -> Result<(), PartError> {
    let stored = location.extent.len;
    let possible = match location.codec {
        Codec::Stored => stored == part.len(),
        Codec::Zstd => 0 < stored && stored < part.len(),
        Codec::Parts | Codec::ZstdParts => false,
    };
    if !possible {
        return Err(PartError::Location {
            number: part.number(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
