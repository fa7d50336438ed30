//! Stored pack: one immutable object for each upload, a frame for each blob.
//!
//! A page is then one ranged read, and the server can send the stored bytes to a client that
//! accepts zstd. An object has its own table of contents at the end: the objects alone suffice to
//! rebuild a lost ledger.
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
//! Offsets follow from the order. No id occurs twice. With the seal, a scrubber detects any flipped
//! bit in one pass of hashing ([`open_object`]). Decoding alone would not: zstd can encode the same
//! content in several ways.

use std::borrow::Cow;

use pmx_core::code::Code;
use pmx_core::codec::{Bounds, CodecError, Decoder, Encoder, Level};
use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::hash::Hash;
use pmx_core::id::BlobId;
use pmx_core::limits::{PACK_RAW_BYTES_MAX, PART_BYTES};
use pmx_core::location::Codec;
use thiserror::Error;

use crate::limits::PACK_BLOBS_MAX;
use crate::pack::verified::repeated;
use crate::pack::{PackKind, VerifiedBlob, VerifiedPack};

const MAGIC: [u8; 4] = *b"PMXR";
const VERSION: u8 = 1;

/// Bytes of the footer.
pub const FOOTER_BYTES: usize = Hash::LEN + 4 + MAGIC.len() + 1;

/// Least and most bytes of an entry of the table of contents.
const ENTRY_BYTES: std::ops::RangeInclusive<usize> = 35..=41;

/// Bytes of the largest table of contents.
pub const TOC_BYTES_MAX: usize = 3 + PACK_BLOBS_MAX * *ENTRY_BYTES.end();

/// One blob of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TocEntry {
    /// The blob.
    pub blob: BlobId,
    /// Offset of its stored bytes in the object.
    pub offset: u64,
    /// Length of its stored bytes.
    pub stored: u64,
    /// Uncompressed size in bytes.
    pub raw: u64,
    /// Codec of its bytes: stored or zstd.
    pub codec: Codec,
}

impl TocEntry {
    /// The stored bytes of this blob.
    pub fn slice<'a>(&self, object: &'a [u8]) -> Option<&'a [u8]> {
        object
            .get(self.offset as usize..)?
            .get(..self.stored as usize)
    }
}

/// The table of contents of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    entries: Vec<TocEntry>,
}

impl Toc {
    /// The table of contents of blobs that are stored one after the other.
    pub(crate) const fn of(entries: Vec<TocEntry>) -> Self {
        Self { entries }
    }

    /// The blobs in stored order.
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }

    /// Stored bytes of all blobs.
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
        let mut reader = ByteReader::new(bytes);
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

    /// Reads the table of contents from the last bytes of an object of `object_len` bytes. It does
    /// not check the seal, which covers bytes before the tail.
    ///
    /// Fails with [`StoredPackError::TailTooShort`] if it needs more of the tail: read the tail
    /// again with that many bytes. A first guess of 64 KiB is enough for about 1,600 blobs.
    pub fn from_object_tail(tail: &[u8], object_len: u64) -> Result<Self, StoredPackError> {
        let footer = Footer::read(tail)?;
        let needed = footer.toc_len + FOOTER_BYTES;
        let start = tail.len().checked_sub(needed);
        let start = start.ok_or(StoredPackError::TailTooShort { needed })?;
        let toc = Self::decode(&tail[start..start + footer.toc_len])?;
        let expected = toc.stored_bytes() + needed as u64;
        if expected != object_len {
            return Err(StoredPackError::Length {
                expected,
                actual: object_len,
            });
        }
        Ok(toc)
    }
}

fn read_entry(reader: &mut ByteReader<'_>, offset: u64) -> Result<TocEntry, Malformed> {
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

/// An object to write, and its table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPack {
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// Its table of contents.
    pub toc: Toc,
}

impl VerifiedPack {
    /// Encodes the blobs for storage. A blob becomes a frame if that saves enough to pay for
    /// decoding. The blobs of a stored pack are never compressed, and stay in their memory.
    pub fn rest(self, encoder: &mut Encoder, level: Level) -> StoredPack {
        let (mut bytes, entries) = match self.kind() {
            PackKind::Solid => coded_blobs(&self, encoder, level),
            PackKind::Stored => stored_blobs(self),
        };
        let toc = Toc { entries };
        append_toc(&mut bytes, &toc);
        seal(&mut bytes);
        bytes.shrink_to_fit();
        StoredPack { bytes, toc }
    }
}

fn coded_blobs(
    pack: &VerifiedPack,
    encoder: &mut Encoder,
    level: Level,
) -> (Vec<u8>, Vec<TocEntry>) {
    let mut bytes = Vec::with_capacity(pack.raw_bytes() as usize / 2);
    let mut entries = Vec::with_capacity(pack.count());
    for blob in pack.blobs() {
        let offset = bytes.len() as u64;
        let codec = append_coded(&mut bytes, blob.bytes(), encoder, level);
        let stored = bytes.len() as u64 - offset;
        entries.push(entry_of(&blob, offset, stored, codec));
    }
    (bytes, entries)
}

fn stored_blobs(pack: VerifiedPack) -> (Vec<u8>, Vec<TocEntry>) {
    let mut offset = 0;
    let entries = pack.blobs().map(|blob| {
        let stored = blob.bytes().len() as u64;
        let entry = entry_of(&blob, offset, stored, Codec::Stored);
        offset += stored;
        entry
    });
    let entries = entries.collect();
    (pack.into_raw(), entries)
}

fn entry_of(blob: &VerifiedBlob<'_>, offset: u64, stored: u64, codec: Codec) -> TocEntry {
    TocEntry {
        blob: blob.id(),
        offset,
        stored,
        raw: blob.bytes().len() as u64,
        codec,
    }
}

/// Appends `raw` as a frame, or uncompressed if a frame would not save enough.
fn append_coded(out: &mut Vec<u8>, raw: &[u8], encoder: &mut Encoder, level: Level) -> Codec {
    if append_frame(out, raw, encoder, level) {
        return Codec::Zstd;
    }
    out.extend_from_slice(raw);
    Codec::Stored
}

/// Appends `raw` as a frame, unless that would not save a sixteenth of it.
pub(super) fn append_frame(
    out: &mut Vec<u8>,
    raw: &[u8],
    encoder: &mut Encoder,
    level: Level,
) -> bool {
    let start = out.len();
    let largest_frame = raw.len() - raw.len().div_ceil(16);
    if raw.is_empty() {
        return false;
    }
    encoder.append_frame(out, raw, level);
    let saves = out.len() - start <= largest_frame;
    if !saves {
        out.truncate(start);
    }
    saves
}

/// Appends the table of contents and the footer, without its seal.
pub(crate) fn append_toc(object: &mut Vec<u8>, toc: &Toc) {
    let mut coded = Vec::new();
    toc.encode(&mut coded);
    object.reserve_exact(coded.len() + FOOTER_BYTES);
    let toc_len = coded.len() as u32;
    object.append(&mut coded);
    object.extend_from_slice(&[0; Hash::LEN]);
    object.extend_from_slice(&toc_len.to_le_bytes());
    object.extend_from_slice(&MAGIC);
    object.push(VERSION);
}

/// Seals a pack object that has all its bytes.
pub(crate) fn seal(object: &mut [u8]) {
    let sealed = object.len().saturating_sub(FOOTER_BYTES);
    let (blobs, footer) = object.split_at_mut(sealed);
    let seal = Hash::of(blobs);
    for (to, from) in footer.iter_mut().zip(seal.as_bytes()) {
        *to = *from;
    }
}

struct Footer {
    seal: Hash,
    toc_len: usize,
}

impl Footer {
    fn read(tail: &[u8]) -> Result<Self, StoredPackError> {
        let needed = FOOTER_BYTES;
        let footer = tail.last_chunk::<FOOTER_BYTES>();
        let mut reader = ByteReader::new(footer.ok_or(StoredPackError::TailTooShort { needed })?);
        let seal = Hash::from_bytes(reader.array()?);
        let toc_len = u32::from_le_bytes(reader.array()?) as usize;
        if reader.array()? != MAGIC {
            return Err(StoredPackError::Magic);
        }
        let version = reader.byte()?;
        if version != VERSION {
            return Err(StoredPackError::Version(version));
        }
        if toc_len > TOC_BYTES_MAX {
            return Err(StoredPackError::Toc(Malformed::TooLarge {
                what: "the length of the table of contents",
                value: toc_len as u64,
                max: TOC_BYTES_MAX as u64,
            }));
        }
        Ok(Self { seal, toc_len })
    }
}

/// Checks the seal of a whole object and reads its table of contents. This detects any damage
/// without decoding.
pub fn open_object(object: &[u8]) -> Result<Toc, StoredPackError> {
    let toc = Toc::from_object_tail(object, object.len() as u64)?;
    let sealed = &object[..object.len() - FOOTER_BYTES];
    if Hash::of(sealed) != Footer::read(object)?.seal {
        return Err(StoredPackError::Seal);
    }
    Ok(toc)
}

/// The decoded bytes of a stored blob, or of a part of one.
pub fn open_frame<'a>(
    stored: &'a [u8],
    codec: Codec,
    raw_len: u64,
    decoder: &mut Decoder,
) -> Result<Cow<'a, [u8]>, StoredPackError> {
    match codec {
        Codec::Stored if stored.len() as u64 == raw_len => Ok(Cow::Borrowed(stored)),
        Codec::Stored => Err(StoredPackError::Length {
            expected: raw_len,
            actual: stored.len() as u64,
        }),
        Codec::Zstd => Ok(Cow::Owned(decoder.frame(
            stored,
            raw_len,
            Bounds::STORED,
        )?)),
        Codec::Parts | Codec::ZstdParts => Err(StoredPackError::Parts),
    }
}

/// Decodes the stored bytes of a blob and checks their hash.
pub fn verify_at_rest(
    stored: &[u8],
    entry: &TocEntry,
    decoder: &mut Decoder,
) -> Result<(), StoredPackError> {
    let raw = open_frame(stored, entry.codec, entry.raw, decoder)?;
    let actual = VerifiedBlob::of(&raw).id();
    if actual != entry.blob {
        return Err(StoredPackError::Mismatch {
            blob: entry.blob,
            actual,
        });
    }
    Ok(())
}

/// A stored object differs from the written one.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredPackError {
    /// The table of contents needs more of the object's end.
    #[error("the table of contents needs the last {needed} bytes of the object")]
    TailTooShort {
        /// Bytes of the tail that are needed.
        needed: usize,
    },
    /// The magic is not that of a stored pack.
    #[error("not a stored pack: it does not end with PMXR and a version")]
    Magic,
    /// A version that this program does not know.
    #[error("the object has version {0}; this program reads version 1")]
    Version(u8),
    /// Bytes are missing, or there are too many.
    #[error("{actual} bytes are stored where {expected} are expected")]
    Length {
        /// The expected length.
        expected: u64,
        /// The actual length.
        actual: u64,
    },
    /// The bytes changed since they were written.
    #[error("the object does not have the hash it was sealed with")]
    Seal,
    /// A table of parts describes the blob's bytes, not a frame.
    #[error("a table of parts can't be read as a frame")]
    Parts,
    /// The blob changed since it was written.
    #[error("what is stored as blob {blob} hashes to {actual}")]
    Mismatch {
        /// The expected value.
        blob: BlobId,
        /// The actual value.
        actual: BlobId,
    },
    /// The table of contents is malformed.
    #[error("reading the table of contents of an object")]
    Toc(#[from] Malformed),
    /// A frame does not decode.
    #[error("decoding a stored frame")]
    Frame(#[from] CodecError),
}

impl StoredPackError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        Code::Corrupt
    }
}

#[cfg(test)]
mod tests;
