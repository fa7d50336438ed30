//! Big blobs, in parts that are verified, kept and repeated one by one.
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
//! | 1 | flags. Bit 0: the body is one zstd frame, else the bytes as they are. Others: 0 |
//! | varint | raw length: `PART_BYTES`, or what is left of the blob in its last part |
//! | to the end | the body |
//!
//! A part at rest is an object of its own: one frame, or the bytes. Where they lie is the table of
//! parts, which the blob's [`Location`] points to:
//!
//! | bytes | field |
//! |---|---|
//! | varint | count of parts: 2 to `BLOB_BYTES_MAX / PART_BYTES`, as the blob's size wants it |
//! | count times | the [`Location`] of a part; codec stored with the part's length, or zstd with less |

use std::ops::Range;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use thiserror::Error;

use crate::code::Code;
use crate::codec::{Bounds, CodecError, Decoder, Encoder, Level};
use crate::encode::{Malformed, Reader, write_varint};
use crate::hash::Hash;
use crate::id::BlobId;
use crate::limits::{BLOB_BYTES_MAX, PART_BYTES};
use crate::location::{Codec, Location};
use crate::pack::rest::{append_coded, append_stored};
use crate::pack::wire::frame_if_smaller;
use crate::pack::{Coding, PackKind};

const MAGIC: [u8; 4] = *b"PMXP";
const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;

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
    ChainingValue::kept(hasher.finalize_non_root())
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
        let frame = frame_if_smaller(bytes, encoder, coding);
        let body = frame.as_deref().unwrap_or(bytes);
        let mut wire = Vec::with_capacity(12 + body.len());
        wire.extend_from_slice(&MAGIC);
        wire.push(VERSION);
        wire.push(if frame.is_some() { FLAG_ZSTD } else { 0 });
        write_varint(&mut wire, bytes.len() as u64);
        wire.extend_from_slice(body);
        Ok(Self {
            bytes: wire,
            chaining_value,
        })
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

    /// Lays the part down for rest: as a frame if that saves enough, else as it is. What travelled
    /// uncompressed is stored without trying.
    pub fn rest(&self, encoder: &mut Encoder, level: Level) -> RestPart {
        let mut bytes = Vec::new();
        let codec = match self.kind {
            PackKind::Solid => append_coded(&mut bytes, &self.raw, encoder, level),
            PackKind::Stored => append_stored(&mut bytes, &self.raw),
        };
        bytes.shrink_to_fit();
        RestPart { bytes, codec }
    }
}

/// A part ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestPart {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// How they are coded: stored or zstd.
    pub codec: Codec,
}

/// Decodes a part that arrived and hashes it.
pub fn verify(wire: &[u8], part: Part, decoder: &mut Decoder) -> Result<VerifiedPart, PartError> {
    let mut reader = Reader::new(wire);
    if reader.array()? != MAGIC {
        return Err(PartError::Magic);
    }
    let version = reader.byte()?;
    if version != VERSION {
        return Err(PartError::Version(version));
    }
    let kind = match reader.byte()? {
        0 => PackKind::Stored,
        FLAG_ZSTD => PackKind::Solid,
        flags => return Err(PartError::Flags(flags)),
    };
    check_len(part, reader.varint()?)?;
    let body = reader.take(reader.remaining())?;
    let raw = match kind {
        PackKind::Solid => decoder.frame(body, part.len(), Bounds::WIRE)?,
        PackKind::Stored => {
            check_len(part, body.len() as u64)?;
            body.to_vec()
        }
    };
    let chaining_value = subtree(part.offset(), &raw);
    Ok(VerifiedPart {
        part,
        kind,
        raw,
        chaining_value,
    })
}

/// Where the parts of a blob lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTable {
    locations: Vec<Location>,
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
        Ok(Self { locations })
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
        let locations = locations?;
        reader.end()?;
        Self::new(parts, locations)
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

/// The bytes are not the part they should be.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError {
    /// A blob of this size does not travel in parts.
    #[error(
        "a blob of {size} bytes has no parts: it must be above {PART_BYTES} and at most {BLOB_BYTES_MAX}"
    )]
    Size {
        /// Bytes of the blob.
        size: u64,
    },
    /// The blob has no such part.
    #[error("there is no part {number}: the blob has {count}")]
    Number {
        /// The number, from 0.
        number: u32,
        /// Parts of the blob.
        count: u32,
    },
    /// Not as many parts as the blob has.
    #[error("{actual} parts where the blob has {expected}")]
    Count {
        /// How many.
        actual: u64,
        /// How many there should be.
        expected: u32,
    },
    /// Not as many bytes as the part has.
    #[error("part {number} has {actual} bytes where {expected} are expected")]
    Length {
        /// The number of the part, from 0.
        number: u32,
        /// How many bytes.
        actual: u64,
        /// How many there should be.
        expected: u64,
    },
    /// Another kind of body.
    #[error("not a part: it does not begin with PMXP")]
    Magic,
    /// A version that this program does not know.
    #[error("the part has version {0}; this program reads version 1")]
    Version(u8),
    /// A flag that this program does not know.
    #[error("the part has unknown flags: {0:#010b}")]
    Flags(u8),
    /// A part can't lie like this.
    #[error("the table of parts gives part {number} a codec or a length that it can't have")]
    Location {
        /// The number of the part, from 0.
        number: u32,
    },
    /// The head or the table can't be read.
    #[error("reading a part or a table of parts")]
    Head(#[from] Malformed),
    /// The body can't be decoded.
    #[error("decoding the body of a part")]
    Body(#[from] CodecError),
}

impl PartError {
    /// The stable code, if this came off the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::Size { size } if *size > BLOB_BYTES_MAX => Code::TooLarge,
            Self::Size { .. }
            | Self::Number { .. }
            | Self::Count { .. }
            | Self::Length { .. }
            | Self::Magic
            | Self::Version(_)
            | Self::Flags(_)
            | Self::Location { .. }
            | Self::Head(_) => Code::PackMalformed,
            Self::Body(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ObjectId;
    use crate::location::Extent;
    use crate::pack::rest::open_frame;

    const SOLID: Coding = Coding::Zstd(Level::REST);

    fn text(len: usize) -> Vec<u8> {
        let words = (0..).flat_map(|line: u32| format!("line {line} of it\n").into_bytes());
        words.take(len).collect()
    }

    #[test]
    fn big_blobs_come_back_part_by_part() {
        let blob = text(2 * PART_BYTES as usize + 1);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for len in [
            PART_BYTES + 1,
            2 * PART_BYTES - 1,
            2 * PART_BYTES,
            2 * PART_BYTES + 1,
        ] {
            let blob = &blob[..len as usize];
            let parts = Parts::of(len).unwrap();
            let mut values = Vec::new();
            for part in parts.all() {
                let bytes = &blob[part.offset() as usize..][..part.len() as usize];
                let coding = if part.number() == 1 {
                    Coding::Stored
                } else {
                    SOLID
                };
                let wire = WirePart::of(part, bytes, &mut encoder, coding).unwrap();
                let verified = verify(&wire.bytes, part, &mut decoder).unwrap();
                assert_eq!(verified.part(), part);
                assert_eq!(verified.chaining_value(), wire.chaining_value);
                assert!(verified.raw() == bytes);
                let rest = verified.rest(&mut encoder, Level::REST);
                let opened = open_frame(&rest.bytes, rest.codec, part.len(), &mut decoder);
                assert!(opened.unwrap() == bytes);
                assert_eq!(rest.codec == Codec::Stored, wire.bytes[5] == 0);
                values.push(verified.chaining_value());
            }
            assert_eq!(parts.merge(&values), Ok(BlobId::of(blob)), "{len}");
            let last = values.len() - 1;
            values.swap(0, last);
            assert_ne!(parts.merge(&values), Ok(BlobId::of(blob)), "{len}");
        }
    }

    #[test]
    fn a_blob_divides_into_aligned_parts() {
        for (size, count, last) in [
            (PART_BYTES + 1, 2, 1),
            (2 * PART_BYTES, 2, PART_BYTES),
            (2 * PART_BYTES + 1, 3, 1),
            (BLOB_BYTES_MAX, PARTS_MAX, PART_BYTES),
        ] {
            let parts = Parts::of(size).unwrap();
            assert_eq!((parts.size(), parts.count()), (size, count));
            assert_eq!(parts.part(count - 1).unwrap().len(), last);
            assert_eq!(parts.part(0).unwrap().len(), PART_BYTES);
            let number = count;
            assert_eq!(parts.part(count), Err(PartError::Number { number, count }));
        }
        for (size, code) in [
            (0, Code::PackMalformed),
            (PART_BYTES, Code::PackMalformed),
            (BLOB_BYTES_MAX + 1, Code::TooLarge),
            (u64::MAX, Code::TooLarge),
        ] {
            assert_eq!(Parts::of(size), Err(PartError::Size { size }));
            assert_eq!(PartError::Size { size }.code(), code);
        }
    }

    #[test]
    fn a_range_touches_only_its_parts() {
        let p = PART_BYTES;
        let parts = Parts::of(3 * p + 10).unwrap();
        for (range, expected) in [
            (0..0, vec![]),
            (5..5, vec![]),
            (0..1, vec![(0, 0..1)]),
            (p - 1..p, vec![(0, p - 1..p)]),
            (p..p + 1, vec![(1, 0..1)]),
            (p - 1..p + 1, vec![(0, p - 1..p), (1, 0..1)]),
            (p..3 * p, vec![(1, 0..p), (2, 0..p)]),
            (3 * p + 9..u64::MAX, vec![(3, 9..10)]),
            (3 * p + 10..u64::MAX, vec![]),
        ] {
            let touched: Vec<_> = parts
                .touching(range.clone())
                .map(|(part, range)| (part.number(), range))
                .collect();
            assert_eq!(touched, expected, "{range:?}");
        }
    }

    /// A short last part, whose wire bytes are few.
    fn short() -> (Part, Vec<u8>) {
        let part = Parts::of(PART_BYTES + 200).unwrap().part(1).unwrap();
        (part, text(200))
    }

    #[test]
    fn every_flip_and_every_truncation_is_noticed() {
        let (part, bytes) = short();
        for coding in [SOLID, Coding::Stored] {
            let wire = WirePart::of(part, &bytes, &mut Encoder::new(), coding).unwrap();
            for end in 0..wire.bytes.len() {
                let cut = verify(&wire.bytes[..end], part, &mut Decoder::new());
                assert!(cut.is_err(), "cut at {end}");
            }
            for at in 0..wire.bytes.len() {
                for flip in 1..=255u8 {
                    let mut flipped = wire.bytes.clone();
                    flipped[at] ^= flip;
                    if let Ok(found) = verify(&flipped, part, &mut Decoder::new()) {
                        let same = found.chaining_value() == wire.chaining_value;
                        assert_eq!(same, found.raw() == bytes, "{at} {flip:#x}");
                        assert!(at >= 8, "{at} {flip:#x}");
                        assert!(!same || coding == SOLID, "{at} {flip:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let (part, bytes) = short();
        let wire = WirePart::of(part, &bytes, &mut Encoder::new(), Coding::Stored).unwrap();
        assert_eq!(&wire.bytes[..8], b"PMXP\x01\x00\xc8\x01");
        let change = |at: usize, to: u8| {
            let mut wire = wire.bytes.clone();
            wire[at] = to;
            wire
        };
        let length = |actual| PartError::Length {
            number: 1,
            actual,
            expected: 200,
        };
        for (wire, error, code) in [
            (change(3, b'W'), PartError::Magic, Code::PackMalformed),
            (change(4, 2), PartError::Version(2), Code::PackMalformed),
            (change(5, 2), PartError::Flags(2), Code::PackMalformed),
            (change(6, 0xc9), length(201), Code::PackMalformed),
            (wire.bytes[..207].to_vec(), length(199), Code::PackMalformed),
            (
                change(5, 1),
                CodecError::NotZstd {
                    magic: u32::from_le_bytes(*b"line"),
                }
                .into(),
                Code::Compression,
            ),
            (
                b"PMXP".to_vec(),
                Malformed::Truncated.into(),
                Code::PackMalformed,
            ),
        ] {
            let refused = verify(&wire, part, &mut Decoder::new()).unwrap_err();
            assert_eq!((refused, refused.code()), (error, code));
        }
        let other = Parts::of(PART_BYTES + 1).unwrap().part(1).unwrap();
        let refused = WirePart::of(other, &bytes, &mut Encoder::new(), SOLID).unwrap_err();
        assert!(matches!(refused, PartError::Length { expected: 1, .. }));
        let few = Parts::of(3 * PART_BYTES).unwrap().merge(&[]);
        let (actual, expected) = (0, 3);
        assert_eq!(few, Err(PartError::Count { actual, expected }));
    }

    fn location(codec: Codec, len: u64) -> Location {
        let object = ObjectId::from_bytes([7; 16]);
        let extent = Extent {
            object,
            offset: 3,
            len,
        };
        Location { extent, codec }
    }

    #[test]
    fn tables_are_canonical() {
        let parts = Parts::of(PART_BYTES + 9).unwrap();
        for (second, codec) in [
            (location(Codec::Stored, 9), Codec::Parts),
            (location(Codec::Zstd, 8), Codec::ZstdParts),
        ] {
            let first = location(Codec::Zstd, PART_BYTES - 1);
            let table = PartTable::new(parts, vec![first, second]).unwrap();
            assert_eq!(table.codec(), codec);
            assert_eq!(table.location(parts.part(1).unwrap()), Some(&second));
            let mut bytes = Vec::new();
            table.encode(&mut bytes);
            assert_eq!(PartTable::decode(&bytes, parts), Ok(table));
            for end in 0..bytes.len() {
                assert!(PartTable::decode(&bytes[..end], parts).is_err(), "{end}");
            }
            bytes.push(0);
            let trailing = PartTable::decode(&bytes, parts);
            assert_eq!(trailing, Err(Malformed::Trailing(1).into()));
            let other = Parts::of(2 * PART_BYTES + 9).unwrap();
            let wrong = PartTable::decode(&bytes, other);
            assert!(matches!(wrong, Err(PartError::Count { .. })));
        }
        for bad in [
            location(Codec::Stored, 8),
            location(Codec::Zstd, 9),
            location(Codec::Zstd, 0),
            location(Codec::Parts, 9),
            location(Codec::ZstdParts, 8),
        ] {
            let first = location(Codec::Stored, PART_BYTES);
            let table = PartTable::new(parts, vec![first, bad]);
            assert_eq!(table, Err(PartError::Location { number: 1 }));
        }
        let mut many = Vec::new();
        write_varint(&mut many, u64::from(u32::MAX));
        many.resize(20, 0);
        let refused = PartTable::decode(&many, parts);
        assert!(matches!(
            refused,
            Err(PartError::Head(Malformed::TooLarge { .. }))
        ));
    }

    proptest! {
        /// The tree is the same whatever the size of a part, so small ones show its shape.
        #[test]
        fn merged_subtrees_are_the_hash(
            part_log in 10u32..14,
            parts in 2usize..40,
            last in prop_oneof![Just(0usize), Just(1), 0usize..16_384],
        ) {
            let part = 1 << part_log;
            let blob = text((parts - 1) * part + last % part + 1);
            let values: Vec<_> = blob
                .chunks(part)
                .zip(0..)
                .map(|(bytes, number)| subtree(number * part as u64, bytes))
                .collect();
            prop_assert_eq!(merge_root(&values), BlobId::of(&blob));
            let exact = &blob[..(parts - 1) * part];
            if parts > 2 {
                prop_assert_eq!(merge_root(&values[..parts - 1]), BlobId::of(exact));
            }
        }

        #[test]
        fn ranges_are_covered_once(
            size in PART_BYTES + 1..9 * PART_BYTES,
            start in 0..9 * PART_BYTES,
            len in 0..9 * PART_BYTES,
        ) {
            let mut next = start;
            for (part, range) in Parts::of(size).unwrap().touching(start..start + len) {
                prop_assert_eq!(part.offset() + range.start, next);
                prop_assert!(!range.is_empty() && range.end <= part.len());
                next = part.offset() + range.end;
            }
            prop_assert_eq!(next.max(start), (start + len).min(size).max(start));
        }

        #[test]
        fn no_bytes_panic(flags in 0u8..3, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (part, _) = short();
            let wire = [b"PMXP\x01", &[flags, 0xc8, 1][..], &bytes].concat();
            let _ = verify(&wire, part, &mut Decoder::new());
            let _ = verify(&bytes, part, &mut Decoder::new());
            let _ = PartTable::decode(&bytes, Parts::of(2 * PART_BYTES).unwrap());
        }
    }
}
