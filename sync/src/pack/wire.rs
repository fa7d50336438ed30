//! Wire pack: many blobs, in path order, in one body.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `PMXW` |
//! | 1 | version: 1 |
//! | 1 | flags. Bit 0: the body is one zstd frame, else the blobs as they are. Bit 1: a reference prefix. Others: 0 |
//! | varint | count of blobs: 1 to `PACK_BLOBS_MAX` |
//! | count varints | the size of each blob: up to `PART_BYTES`, together up to `PACK_RAW_BYTES_MAX` |
//! | *if bit 1:* 32 | the root of the base, a manifest that both sides have |
//! | varint *n*, 2 *n* varints | rows of the base, in runs: how many are passed since the last run, how many follow. Their blobs, one after the other, are the frame's reference prefix: up to `PREFIX_ROWS_MAX` rows, `PREFIX_RAW_BYTES_MAX` bytes |
//! | to the end | the body: the blobs one after the other, or the frame of that |
//!
//! A pack has no ids, because ids do not compress, and the receiver hashes the blobs anyway. Both
//! sides have the base, so the pack names a page's old version by its rank, in bits. A receiver
//! without the base refuses with [`PackError::Prefix`], and the sender continues without a prefix.
//! A body of no bytes (one empty blob) is never a frame. The receiver checks all sizes against
//! their bounds, and the frame's declared content against their sum, before it allocates memory for
//! them.

mod builder;
mod error;
mod reference;

use pmx_core::codec::{Bounds, Decoder, Encoder};
use pmx_core::encode::{ByteReader, Malformed};
use pmx_core::limits::{PACK_RAW_BYTES_MAX, PART_BYTES};

use crate::limits::PACK_BLOBS_MAX;
use crate::pack::verified::Repeated;
use crate::pack::{OpenPack, PackCoding, PackKind, VerifiedPack};

pub use builder::{PackBuilder, WirePack};
pub use error::PackError;
pub use reference::{Prefix, Reference};

const MAGIC: [u8; 4] = *b"PMXW";
const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;
const FLAG_PREFIX: u8 = 1 << 1;

/// One frame over all of `raw`, if the coding asks for it and the frame is smaller.
pub(super) fn frame_if_smaller(
    raw: &[u8],
    encoder: &mut Encoder,
    coding: PackCoding,
) -> Option<Vec<u8>> {
    match coding {
        PackCoding::Stored => None,
        PackCoding::Zstd(level) => {
            Some(encoder.solid(raw, level)).filter(|frame| frame.len() < raw.len())
        }
    }
}

/// The reference of a pack, if it has one. The receiver reads the prefix first, and then calls
/// [`verify_with_prefix`].
pub fn reference_of(wire: &[u8]) -> Result<Option<Reference>, PackError> {
    Ok(Head::read(wire)?.reference)
}

/// Decodes a received pack and hashes its blobs.
pub fn verify(wire: &[u8], decoder: &mut Decoder) -> Result<VerifiedPack, PackError> {
    verify_with_prefix(wire, None, decoder)
}

/// Decodes a received pack and hashes its blobs. `prefix` has the referenced blobs, if any.
pub fn verify_with_prefix(
    wire: &[u8],
    prefix: Option<&Prefix>,
    decoder: &mut Decoder,
) -> Result<VerifiedPack, PackError> {
    let pack = Head::read(wire)?;
    if pack.reference.as_ref() != prefix.map(Prefix::reference) {
        return Err(PackError::Prefix);
    }
    let raw = pack.raw(prefix, Vec::new(), decoder)?;
    VerifiedPack::hash(pack.kind, raw, &pack.sizes).map_err(|Repeated(id)| PackError::Repeated(id))
}

/// Decodes a local pack into reused memory, without hashing. The pack must not have a prefix,
/// because its referenced blobs may be gone.
pub fn open(wire: &[u8], memory: Vec<u8>, decoder: &mut Decoder) -> Result<OpenPack, PackError> {
    let pack = Head::read(wire)?;
    if pack.reference.is_some() {
        return Err(PackError::Prefix);
    }
    let raw = pack.raw(None, memory, decoder)?;
    Ok(OpenPack::of(raw, &pack.sizes))
}

/// Head of a pack: all bytes before the body.
struct Head<'a> {
    kind: PackKind,
    sizes: Vec<usize>,
    reference: Option<Reference>,
    body: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(wire: &'a [u8]) -> Result<Self, PackError> {
        let mut reader = ByteReader::new(wire);
        if reader.array()? != MAGIC {
            return Err(PackError::Magic);
        }
        let version = reader.byte()?;
        if version != VERSION {
            return Err(PackError::Version(version));
        }
        let (kind, is_behind) = kind_of(reader.byte()?)?;
        let sizes = read_sizes(&mut reader)?;
        let reference = if is_behind {
            Some(Reference::read(&mut reader)?)
        } else {
            None
        };
        let body = reader.take(reader.remaining())?;
        Ok(Self {
            kind,
            sizes,
            reference,
            body,
        })
    }

    /// The decoded blobs, one after the other.
    fn raw(
        &self,
        prefix: Option<&Prefix>,
        memory: Vec<u8>,
        decoder: &mut Decoder,
    ) -> Result<Vec<u8>, PackError> {
        let declared = self.sizes.iter().sum::<usize>() as u64;
        match (self.kind, prefix) {
            (PackKind::Solid, Some(prefix)) => Ok(decoder.decompress_with_prefix(
                &prefix.raw,
                self.body,
                declared,
                Bounds::WIRE,
            )?),
            (PackKind::Solid, None) => {
                Ok(decoder.frame_in(memory, self.body, declared, Bounds::WIRE)?)
            }
            (PackKind::Stored, _) if self.body.len() as u64 == declared => Ok(self.body.to_vec()),
            (PackKind::Stored, _) => Err(PackError::BodyLength {
                declared,
                actual: self.body.len() as u64,
            }),
        }
    }
}

/// The body's coding, and whether the pack refers to other blobs.
const fn kind_of(flags: u8) -> Result<(PackKind, bool), PackError> {
    match flags {
        0 => Ok((PackKind::Stored, false)),
        FLAG_ZSTD => Ok((PackKind::Solid, false)),
        FLAGS_WITH_PREFIX => Ok((PackKind::Solid, true)),
        flags => Err(PackError::Flags(flags)),
    }
}

const FLAGS_WITH_PREFIX: u8 = FLAG_ZSTD | FLAG_PREFIX;

fn read_sizes(reader: &mut ByteReader<'_>) -> Result<Vec<usize>, PackError> {
    let count = reader.varint()?;
    check_count(count)?;
    if count > reader.remaining() as u64 {
        return Err(Malformed::Truncated.into());
    }
    let mut sizes = Vec::with_capacity(count as usize);
    let mut raw = 0;
    for _ in 0..count {
        let size = reader.varint()?;
        check_size(size)?;
        raw += size;
        check_raw(raw)?;
        sizes.push(size as usize);
    }
    Ok(sizes)
}

fn check_count(count: u64) -> Result<(), PackError> {
    match count {
        0 => Err(PackError::Empty),
        count if count > PACK_BLOBS_MAX as u64 => Err(PackError::TooManyBlobs {
            count,
            max: PACK_BLOBS_MAX as u64,
        }),
        _ => Ok(()),
    }
}

fn check_size(size: u64) -> Result<(), PackError> {
    if size > PART_BYTES {
        let max = PART_BYTES;
        return Err(PackError::BlobTooLarge { size, max });
    }
    Ok(())
}

fn check_raw(raw: u64) -> Result<(), PackError> {
    if raw > PACK_RAW_BYTES_MAX {
        let max = PACK_RAW_BYTES_MAX;
        return Err(PackError::TooLarge { raw, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
