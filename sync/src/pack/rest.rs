//! Packs at rest: one immutable object for each upload, a frame for each blob.
//!
//! A page is then one ranged read, and can be served as it lies to a client that takes zstd. The
//! object explains itself: with its table of contents at the end, a ledger that was lost can be
//! built again from the objects alone.
//!
//! | bytes | field |
//! |---|---|
//! | sum of stored lengths | the blobs, one after the other: each a zstd frame, or its bytes |
//! | | *table of contents:* |
//! | varint | count of blobs: 1 to `PACK_BLOBS_MAX` |
//! | count times | *an entry:* |
//! | 32 | the blob's id |
//! | 1 | codec: 0 stored, 1 zstd |
//! | varint | stored length: if stored the raw length, if zstd less than it |
//! | varint | raw length: up to `PART_BYTES`, together up to `PACK_RAW_BYTES_MAX`; not 0 if zstd |
//! | | *footer, 41 bytes:* |
//! | 32 | seal: the BLAKE3 of all bytes before it |
//! | 4 | length of the table of contents in bytes, little-endian |
//! | 4 | magic `PMXR` |
//! | 1 | version: 1 |
//!
//! Offsets follow from the order. No id occurs twice. The seal lets a scrubber notice any flipped
//! bit with one pass of hashing ([`open_object`]), where decoding alone would not: zstd can spell
//! the same content in several ways.

use std::borrow::Cow;

use thiserror::Error;

use crate::code::Code;
use crate::codec::{Bounds, CodecError, Decoder, Encoder, Level};
use crate::encode::{Malformed, Reader, write_varint};
use crate::hash::Hash;
use crate::id::BlobId;
use crate::limits::{PACK_BLOBS_MAX, PACK_RAW_BYTES_MAX, PART_BYTES};
use crate::location::Codec;
use crate::pack::verified::repeated;
use crate::pack::{PackKind, VerifiedBlob, VerifiedPack};

const MAGIC: [u8; 4] = *b"PMXR";
const VERSION: u8 = 1;

/// Bytes of the footer.
pub const FOOTER_BYTES: usize = Hash::LEN + 4 + MAGIC.len() + 1;

/// Bytes of an entry of the table of contents, at least and at most.
const ENTRY_BYTES: std::ops::RangeInclusive<usize> = 35..=41;

/// Bytes of the largest table of contents.
pub const TOC_BYTES_MAX: usize = 3 + PACK_BLOBS_MAX * *ENTRY_BYTES.end();

/// One blob of an object at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TocEntry {
    /// The blob.
    pub blob: BlobId,
    /// Where its stored bytes begin in the object.
    pub offset: u64,
    /// How many stored bytes there are.
    pub stored: u64,
    /// How many bytes the blob has.
    pub raw: u64,
    /// How it is coded: stored or zstd.
    pub codec: Codec,
}

impl TocEntry {
    /// The bytes of the object that are this blob.
    pub fn slice<'a>(&self, object: &'a [u8]) -> Option<&'a [u8]> {
        object
            .get(self.offset as usize..)?
            .get(..self.stored as usize)
    }
}

/// The table of contents of an object at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    entries: Vec<TocEntry>,
}

impl Toc {
    /// The blobs, in the order they lie in.
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }

    /// Bytes of all blobs as they lie.
    pub fn stored_bytes(&self) -> u64 {
        self.entries
            .last()
            .map_or(0, |last| last.offset + last.stored)
    }

    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.entries.len() as u64);
        for entry in &self.entries {
            out.extend_from_slice(entry.blob.as_bytes());
            out.push(entry.codec.tag());
            write_varint(out, entry.stored);
            write_varint(out, entry.raw);
        }
    }

    /// Reads the canonical encoding, which is all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.varint_up_to(PACK_BLOBS_MAX as u64, "the count of blobs")? as usize;
        if count == 0 {
            return Err(Malformed::NotCanonical("an object has at least one blob"));
        }
        if count * ENTRY_BYTES.start() > reader.remaining() {
            return Err(Malformed::Truncated);
        }
        let mut entries = Vec::with_capacity(count);
        let (mut offset, mut raw) = (0, 0);
        for _ in 0..count {
            let entry = read_entry(&mut reader, offset)?;
            offset += entry.stored;
            raw += entry.raw;
            check_raw(raw)?;
            entries.push(entry);
        }
        reader.end()?;
        match repeated(entries.iter().map(|entry| entry.blob).collect()) {
            Some(_) => Err(Malformed::NotCanonical("a blob occurs twice")),
            None => Ok(Self { entries }),
        }
    }

    /// Reads the table of contents from the last bytes of an object of `object_len` bytes. The
    /// seal is not checked, because it covers what is not there.
    ///
    /// Fails with [`RestError::TailTooShort`] if more of the tail is needed: read the tail again
    /// with that many bytes. A first guess of 64 KiB is enough for about 1,600 blobs.
    pub fn from_object_tail(tail: &[u8], object_len: u64) -> Result<Self, RestError> {
        let footer = Footer::read(tail)?;
        let needed = footer.toc_len + FOOTER_BYTES;
        let start = tail.len().checked_sub(needed);
        let start = start.ok_or(RestError::TailTooShort { needed })?;
        let toc = Self::decode(&tail[start..start + footer.toc_len])?;
        let expected = toc.stored_bytes() + needed as u64;
        if expected != object_len {
            return Err(RestError::Length {
                expected,
                actual: object_len,
            });
        }
        Ok(toc)
    }
}

fn read_entry(reader: &mut Reader<'_>, offset: u64) -> Result<TocEntry, Malformed> {
    let blob = BlobId::from_bytes(reader.array()?);
    let codec = Codec::from_tag(reader.byte()?)?;
    let stored = reader.varint_up_to(PART_BYTES, "a stored length")?;
    let raw = reader.varint_up_to(PART_BYTES, "a raw length")?;
    match codec {
        Codec::Stored if stored == raw => {}
        Codec::Stored => return Err(Malformed::NotCanonical("stored bytes of another length")),
        Codec::Zstd if 0 < stored && stored < raw => {}
        Codec::Zstd => {
            return Err(Malformed::NotCanonical(
                "a frame that does not save anything",
            ));
        }
        Codec::Parts | Codec::ZstdParts => {
            return Err(Malformed::NotCanonical("parts have objects of their own"));
        }
    }
    Ok(TocEntry {
        blob,
        offset,
        stored,
        raw,
        codec,
    })
}

fn check_raw(raw: u64) -> Result<(), Malformed> {
    if raw > PACK_RAW_BYTES_MAX {
        return Err(Malformed::TooLarge {
            what: "the raw length of all blobs",
            value: raw,
            max: PACK_RAW_BYTES_MAX,
        });
    }
    Ok(())
}

/// An object ready to be written, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestObject {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// Its table of contents.
    pub toc: Toc,
}

impl VerifiedPack {
    /// Lays the blobs down for rest. A blob becomes a frame if that saves enough to be worth
    /// decoding; the blobs of a stored pack are stored without trying.
    pub fn rest(&self, encoder: &mut Encoder, level: Level) -> RestObject {
        let mut bytes = Vec::with_capacity(self.raw_bytes() as usize / 2);
        let mut entries = Vec::with_capacity(self.count());
        for blob in self.blobs() {
            let offset = bytes.len() as u64;
            let codec = match self.kind() {
                PackKind::Solid => append_coded(&mut bytes, blob.bytes(), encoder, level),
                PackKind::Stored => append_stored(&mut bytes, blob.bytes()),
            };
            entries.push(TocEntry {
                blob: blob.id(),
                offset,
                stored: bytes.len() as u64 - offset,
                raw: blob.bytes().len() as u64,
                codec,
            });
        }
        let toc = Toc { entries };
        let toc_start = bytes.len();
        toc.encode(&mut bytes);
        append_footer(&mut bytes, toc_start);
        bytes.shrink_to_fit();
        RestObject { bytes, toc }
    }
}

/// Appends `raw` as a frame, or as it is if a frame would not save a sixteenth of it.
pub(super) fn append_coded(
    out: &mut Vec<u8>,
    raw: &[u8],
    encoder: &mut Encoder,
    level: Level,
) -> Codec {
    let start = out.len();
    let largest_frame = raw.len() - raw.len().div_ceil(16);
    if raw.is_empty() {
        return Codec::Stored;
    }
    encoder.append_frame(out, raw, level);
    if out.len() - start <= largest_frame {
        return Codec::Zstd;
    }
    out.truncate(start);
    append_stored(out, raw)
}

pub(super) fn append_stored(out: &mut Vec<u8>, raw: &[u8]) -> Codec {
    out.extend_from_slice(raw);
    Codec::Stored
}

fn append_footer(object: &mut Vec<u8>, toc_start: usize) {
    let toc_len = (object.len() - toc_start) as u32;
    let seal = Hash::of(object);
    object.extend_from_slice(seal.as_bytes());
    object.extend_from_slice(&toc_len.to_le_bytes());
    object.extend_from_slice(&MAGIC);
    object.push(VERSION);
}

struct Footer {
    seal: Hash,
    toc_len: usize,
}

impl Footer {
    fn read(tail: &[u8]) -> Result<Self, RestError> {
        let needed = FOOTER_BYTES;
        let footer = tail.last_chunk::<FOOTER_BYTES>();
        let mut reader = Reader::new(footer.ok_or(RestError::TailTooShort { needed })?);
        let seal = Hash::from_bytes(reader.array()?);
        let toc_len = u32::from_le_bytes(reader.array()?) as usize;
        if reader.array()? != MAGIC {
            return Err(RestError::Magic);
        }
        let version = reader.byte()?;
        if version != VERSION {
            return Err(RestError::Version(version));
        }
        if toc_len > TOC_BYTES_MAX {
            return Err(RestError::Toc(Malformed::TooLarge {
                what: "the length of the table of contents",
                value: toc_len as u64,
                max: TOC_BYTES_MAX as u64,
            }));
        }
        Ok(Self { seal, toc_len })
    }
}

/// Checks the seal of a whole object and reads its table of contents: any damage is noticed,
/// without decoding anything.
pub fn open_object(object: &[u8]) -> Result<Toc, RestError> {
    let toc = Toc::from_object_tail(object, object.len() as u64)?;
    let sealed = &object[..object.len() - FOOTER_BYTES];
    if Hash::of(sealed) != Footer::read(object)?.seal {
        return Err(RestError::Seal);
    }
    Ok(toc)
}

/// The bytes of a blob, or of a part of one, from what is stored of it.
pub fn open_frame<'a>(
    stored: &'a [u8],
    codec: Codec,
    raw_len: u64,
    decoder: &mut Decoder,
) -> Result<Cow<'a, [u8]>, RestError> {
    match codec {
        Codec::Stored if stored.len() as u64 == raw_len => Ok(Cow::Borrowed(stored)),
        Codec::Stored => Err(RestError::Length {
            expected: raw_len,
            actual: stored.len() as u64,
        }),
        Codec::Zstd => Ok(Cow::Owned(decoder.frame(stored, raw_len, Bounds::REST)?)),
        Codec::Parts | Codec::ZstdParts => Err(RestError::Parts),
    }
}

/// Decodes what is stored of a blob and hashes it again.
pub fn verify_at_rest(
    stored: &[u8],
    entry: &TocEntry,
    decoder: &mut Decoder,
) -> Result<(), RestError> {
    let raw = open_frame(stored, entry.codec, entry.raw, decoder)?;
    let actual = VerifiedBlob::of(&raw).id();
    if actual != entry.blob {
        return Err(RestError::Mismatch {
            blob: entry.blob,
            actual,
        });
    }
    Ok(())
}

/// An object at rest is not what was written.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestError {
    /// More of the object's end is needed to find its table of contents.
    #[error("the table of contents needs the last {needed} bytes of the object")]
    TailTooShort {
        /// How many bytes.
        needed: usize,
    },
    /// Another kind of object.
    #[error("not a pack at rest: it does not end with PMXR and a version")]
    Magic,
    /// A version that this program does not know.
    #[error("the object has version {0}; this program reads version 1")]
    Version(u8),
    /// Bytes are missing, or there are too many.
    #[error("{actual} bytes are stored where {expected} are expected")]
    Length {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// The bytes changed since they were written.
    #[error("the object does not have the hash it was sealed with")]
    Seal,
    /// The blob's bytes are described by a table of parts, not by a frame.
    #[error("a table of parts can't be read as a frame")]
    Parts,
    /// The blob changed since it was written.
    #[error("what is stored as blob {blob} hashes to {actual}")]
    Mismatch {
        /// What it should be.
        blob: BlobId,
        /// What it is.
        actual: BlobId,
    },
    /// The table of contents can't be read.
    #[error("reading the table of contents of an object")]
    Toc(#[from] Malformed),
    /// A frame can't be decoded.
    #[error("decoding a frame at rest")]
    Frame(#[from] CodecError),
}

impl RestError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        Code::Corrupt
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack::{Coding, wire};

    fn pack(blobs: &[&[u8]], coding: Coding) -> VerifiedPack {
        let mut builder = wire::PackBuilder::new();
        for blob in blobs {
            builder.push(blob).unwrap();
        }
        let packed = builder.finish(&mut Encoder::new(), coding).unwrap();
        wire::verify(packed.bytes(), &mut Decoder::new()).unwrap()
    }

    fn solid(blobs: &[&[u8]]) -> VerifiedPack {
        pack(blobs, Coding::Zstd(Level::WIRE))
    }

    const PAGE: &[u8] = b"<p>words and words and words and words and words and words</p>";
    const NOISE: &[u8] = b"\x8f\x1b\xd3\x42\x97\xe5\x06\x7c";

    fn object() -> RestObject {
        solid(&[PAGE, b"", NOISE]).rest(&mut Encoder::new(), Level::REST)
    }

    #[test]
    fn the_format_is_what_the_table_says() {
        let RestObject { bytes, toc } =
            pack(&[b"ab", b"c"], Coding::Stored).rest(&mut Encoder::new(), Level::REST);
        let mut expected = b"abc\x02".to_vec();
        expected.extend_from_slice(BlobId::of(b"ab").as_bytes());
        expected.extend_from_slice(&[0, 2, 2]);
        expected.extend_from_slice(BlobId::of(b"c").as_bytes());
        expected.extend_from_slice(&[0, 1, 1]);
        let seal = Hash::of(&expected);
        expected.extend_from_slice(seal.as_bytes());
        expected.extend_from_slice(b"\x47\0\0\0PMXR\x01");
        assert_eq!(bytes, expected);
        assert_eq!(toc.stored_bytes(), 3);
    }

    #[test]
    fn each_blob_is_coded_as_suits_it() {
        let coded: Vec<_> = object()
            .toc
            .entries()
            .iter()
            .map(|entry| (entry.codec, entry.raw, entry.stored < entry.raw))
            .collect();
        assert_eq!(
            coded,
            [
                (Codec::Zstd, PAGE.len() as u64, true),
                (Codec::Stored, 0, false),
                (Codec::Stored, 8, false),
            ]
        );
        // A page in a stored pack is not tried: its sender knew its media type.
        let stored = pack(&[PAGE], Coding::Stored).rest(&mut Encoder::new(), Level::REST);
        assert_eq!(stored.toc.entries()[0].codec, Codec::Stored);
    }

    #[test]
    fn a_tail_is_enough_for_the_table_of_contents() {
        let RestObject { bytes, toc } = object();
        let len = bytes.len() as u64;
        let needed = bytes.len() - toc.stored_bytes() as usize;
        for start in 0..bytes.len() {
            let found = Toc::from_object_tail(&bytes[start..], len);
            match bytes.len() - start {
                have if have < FOOTER_BYTES => {
                    let needed = FOOTER_BYTES;
                    assert_eq!(found, Err(RestError::TailTooShort { needed }));
                }
                have if have < needed => {
                    assert_eq!(found, Err(RestError::TailTooShort { needed }));
                }
                _ => assert_eq!(found.as_ref(), Ok(&toc)),
            }
        }
        for wrong in [len - 1, len + 1] {
            let found = Toc::from_object_tail(&bytes, wrong);
            assert!(matches!(found, Err(RestError::Length { .. })));
        }
    }

    fn toc_of(count: u64, entries: &[(&[u8], u8, u64, u64)]) -> Vec<u8> {
        let mut toc = Vec::new();
        write_varint(&mut toc, count);
        for (blob, tag, stored, raw) in entries {
            toc.extend_from_slice(BlobId::of(blob).as_bytes());
            toc.push(*tag);
            write_varint(&mut toc, *stored);
            write_varint(&mut toc, *raw);
        }
        toc
    }

    #[test]
    fn a_table_of_contents_has_one_spelling() {
        let max = PART_BYTES;
        for (count, entries, reason) in [
            (0, vec![], "not canonical: an object has at least one blob"),
            (
                u64::from(u32::MAX),
                vec![],
                "the count of blobs is 4294967295, above the limit of 32768",
            ),
            (2, vec![(&b"a"[..], 0, 1, 1)], "the bytes end too early"),
            (
                1,
                vec![(b"a", 0, 1, 2)],
                "not canonical: stored bytes of another length",
            ),
            (
                1,
                vec![(b"a", 1, 2, 2)],
                "not canonical: a frame that does not save anything",
            ),
            (
                1,
                vec![(b"a", 1, 0, 2)],
                "not canonical: a frame that does not save anything",
            ),
            (
                1,
                vec![(b"a", 2, 1, 1)],
                "not canonical: parts have objects of their own",
            ),
            (1, vec![(b"a", 9, 1, 1)], "unknown codec 9"),
            (
                1,
                vec![(b"a", 1, 1, max + 1)],
                "a raw length is 8388609, above the limit of 8388608",
            ),
            (
                2,
                vec![(b"a", 1, 1, max), (b"b", 0, 1, 1)],
                "the raw length of all blobs is 8388609, above the limit of 8388608",
            ),
            (
                2,
                vec![(b"a", 0, 1, 1), (b"a", 0, 1, 1)],
                "not canonical: a blob occurs twice",
            ),
            (
                1,
                vec![(b"a", 0, 1, 1), (b"b", 0, 1, 1)],
                "35 bytes follow the end",
            ),
        ] {
            let found = Toc::decode(&toc_of(count, &entries));
            assert_eq!(found.unwrap_err().to_string(), reason);
        }
    }

    /// What a scrubber does with a whole object, and what a reader does with each blob.
    fn scrub(object: &[u8]) -> Result<(), RestError> {
        let toc = open_object(object)?;
        read_all(object, &toc)
    }

    fn read_all(object: &[u8], toc: &Toc) -> Result<(), RestError> {
        for entry in toc.entries() {
            let stored = entry.slice(object).expect("the table fits the object");
            verify_at_rest(stored, entry, &mut Decoder::new())?;
        }
        Ok(())
    }

    #[test]
    fn every_flip_and_every_truncation_is_noticed() {
        let RestObject { bytes, toc } = object();
        assert_eq!(scrub(&bytes), Ok(()));
        for end in 0..bytes.len() {
            assert!(scrub(&bytes[..end]).is_err(), "cut at {end}");
            assert!(
                scrub(&bytes[bytes.len() - end..]).is_err(),
                "only the last {end}"
            );
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let error = scrub(&flipped).unwrap_err();
                assert_eq!(error.code(), Code::Corrupt, "{at} {bit}");
                // Without the seal, too, whatever is served is what was written.
                for entry in toc.entries() {
                    let stored = entry.slice(&flipped).unwrap();
                    let mut decoder = Decoder::new();
                    if verify_at_rest(stored, entry, &mut decoder).is_ok() {
                        let raw = open_frame(stored, entry.codec, entry.raw, &mut decoder);
                        assert_eq!(BlobId::of(&raw.unwrap()), entry.blob);
                    }
                }
            }
        }
    }

    #[test]
    fn tables_of_parts_are_not_frames() {
        for codec in [Codec::Parts, Codec::ZstdParts] {
            let opened = open_frame(b"", codec, 0, &mut Decoder::new());
            assert_eq!(opened, Err(RestError::Parts));
        }
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_what_is_read(
            blobs in prop::collection::btree_set(prop::collection::vec(0u8..9, 0..900), 1..30),
            stored: bool,
        ) {
            let coding = if stored { Coding::Stored } else { Coding::Zstd(Level::WIRE) };
            let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
            let RestObject { bytes, toc } =
                pack(&blobs, coding).rest(&mut Encoder::new(), Level::REST);
            prop_assert_eq!(open_object(&bytes), Ok(toc.clone()));
            prop_assert_eq!(read_all(&bytes, &toc), Ok(()));
            prop_assert_eq!(toc.entries().len(), blobs.len());
            let mut decoder = Decoder::new();
            for (entry, blob) in toc.entries().iter().zip(&blobs) {
                let stored = entry.slice(&bytes).unwrap();
                let raw = open_frame(stored, entry.codec, entry.raw, &mut decoder).unwrap();
                prop_assert_eq!(&raw[..], *blob);
                prop_assert_eq!(entry.blob, BlobId::of(blob));
            }
            let mut encoded = Vec::new();
            toc.encode(&mut encoded);
            prop_assert_eq!(Toc::decode(&encoded), Ok(toc));
        }

        #[test]
        fn what_decodes_encodes_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut counted = vec![1];
            counted.extend(&bytes);
            for bytes in [bytes, counted] {
                if let Ok(toc) = Toc::decode(&bytes) {
                    let mut again = Vec::new();
                    toc.encode(&mut again);
                    prop_assert_eq!(again, bytes.clone());
                }
                let _ = open_object(&bytes);
            }
        }
    }
}
