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
//! No ids travel, because they do not compress. What arrives is hashed anyway, and the base is
//! known on both sides, so a page's old version is named by its rank, in bits. A receiver that does
//! not have the base says so by name ([`PackError::Prefix`]), and the sender goes on
//! without. A body of no bytes (one empty blob) is never a frame. All sizes are compared with their
//! bounds, and the frame's declared content with their sum, before anything is allocated for them.

use pmx_core::code::Code;
use pmx_core::codec::{Bounds, CodecError, Decoder, Encoder, Level};
use pmx_core::encode::{Malformed, Reader, write_varint};
use pmx_core::id::{BlobId, PackId, Root};
use pmx_core::limits::{PACK_RAW_BYTES_MAX, PART_BYTES};
use thiserror::Error;

use crate::limits::{PACK_BLOBS_MAX, PREFIX_RAW_BYTES_MAX, PREFIX_ROWS_MAX};
use crate::pack::verified::Repeated;
use crate::pack::{Coding, OpenPack, PackKind, VerifiedPack};
use crate::wire::Ranges;

const MAGIC: [u8; 4] = *b"PMXW";
const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;
const FLAG_PREFIX: u8 = 1 << 1;

/// The bytes of a pack, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WirePack {
    bytes: Vec<u8>,
}

impl WirePack {
    /// The name under which it is sent, which makes sending it twice harmless.
    pub fn id(&self) -> PackId {
        PackId::of(&self.bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to keep.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Collects blobs into packs, one pack after the other.
#[derive(Debug, Default)]
pub struct PackBuilder {
    raw: Vec<u8>,
    sizes: Vec<usize>,
}

impl PackBuilder {
    /// An empty pack.
    pub const fn new() -> Self {
        Self {
            raw: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Whether nothing was pushed since the last pack.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Adds a blob behind the others. What does not fit any more is refused, and the pack stays.
    pub fn push(&mut self, blob: &[u8]) -> Result<(), PackError> {
        check_size(blob.len() as u64)?;
        check_raw((self.raw.len() + blob.len()) as u64)?;
        check_count(self.sizes.len() as u64 + 1)?;
        self.raw.extend_from_slice(blob);
        self.sizes.push(blob.len());
        Ok(())
    }

    /// Lets `fill` append a blob behind the others, where it lies until it is sent. If `fill` says
    /// no, or the blob does not fit any more, the pack stays as it was.
    pub fn append(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> Result<bool, PackError> {
        let start = self.raw.len();
        if !fill(&mut self.raw) {
            self.raw.truncate(start);
            return Ok(false);
        }
        let len = self.raw.len().saturating_sub(start);
        let checked = check_size(len as u64)
            .and_then(|()| check_raw(self.raw.len() as u64))
            .and_then(|()| check_count(self.sizes.len() as u64 + 1));
        match checked {
            Ok(()) => self.sizes.push(len),
            Err(_) => self.raw.truncate(start),
        }
        checked.map(|()| true)
    }

    /// Ends the pack, and begins another in the same memory. A pack that zstd can't shrink is
    /// stored. Without a blob there is no pack.
    pub fn finish(&mut self, encoder: &mut Encoder, coding: Coding) -> Option<WirePack> {
        let pack = self.plain(encoder, coding);
        self.clear();
        pack
    }

    /// The pack as it is now, as [`Self::finish`] would make it.
    pub fn plain(&self, encoder: &mut Encoder, coding: Coding) -> Option<WirePack> {
        if self.is_empty() {
            return None;
        }
        let frame = frame_if_smaller(&self.raw, encoder, coding);
        let flags = if frame.is_some() { FLAG_ZSTD } else { 0 };
        Some(self.sealed(flags, None, frame.as_deref()))
    }

    /// The pack as it is now, behind blobs that the receiver has. Without a blob, or with nothing
    /// but empty ones, there is no such pack.
    pub fn build_with_prefix(
        &self,
        prefix: &Prefix,
        encoder: &mut Encoder,
        level: Level,
    ) -> Option<WirePack> {
        if self.raw.is_empty() || prefix.is_empty() {
            return None;
        }
        let frame = encoder.compress_with_prefix(&prefix.raw, &self.raw, level);
        Some(self.sealed(FLAGS_BEHIND, Some(&prefix.reference), Some(&frame)))
    }

    /// Bytes of its blobs.
    pub const fn raw_bytes(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Begins another pack in the same memory.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.sizes.clear();
    }

    fn sealed(&self, flags: u8, reference: Option<&Reference>, frame: Option<&[u8]>) -> WirePack {
        let body = frame.unwrap_or(&self.raw);
        let head = 64 + 4 * self.sizes.len();
        let mut bytes = Vec::with_capacity(head + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(flags);
        write_varint(&mut bytes, self.sizes.len() as u64);
        for size in &self.sizes {
            write_varint(&mut bytes, *size as u64);
        }
        if let Some(reference) = reference {
            reference.write(&mut bytes);
        }
        bytes.extend_from_slice(body);
        WirePack { bytes }
    }
}

/// One frame over all of `raw`, if it is to be coded so and comes out smaller.
pub(super) fn frame_if_smaller(
    raw: &[u8],
    encoder: &mut Encoder,
    coding: Coding,
) -> Option<Vec<u8>> {
    match coding {
        Coding::Stored => None,
        Coding::Zstd(level) => {
            Some(encoder.solid(raw, level)).filter(|frame| frame.len() < raw.len())
        }
    }
}

/// The blobs that a pack refers to: rows of a manifest that both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The manifest.
    pub base: Root,
    /// Its rows, at least one.
    pub rows: Ranges,
}

impl Reference {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.base.as_bytes());
        let runs = self.rows.runs();
        write_varint(out, runs.len() as u64);
        let mut free = 0;
        for &(first, count) in runs {
            write_varint(out, first - free);
            write_varint(out, count);
            free = first + count;
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, PackError> {
        let base = Root::from_bytes(reader.array()?);
        let runs = reader.varint()?;
        check_rows(runs)?;
        if runs > reader.remaining() as u64 / 2 {
            return Err(Malformed::Truncated.into());
        }
        let (mut all, mut free, mut rows) = (Vec::with_capacity(runs as usize), 0_u64, 0_u64);
        for number in 0..runs {
            let (gap, count) = (reader.varint()?, reader.varint()?);
            // Runs that touch are one.
            if count == 0 || number > 0 && gap == 0 {
                return Err(PackError::Rows);
            }
            rows = rows.saturating_add(count);
            check_rows(rows)?;
            let first = free.checked_add(gap).ok_or(PackError::Rows)?;
            free = first.checked_add(count).ok_or(PackError::Rows)?;
            all.push((first, count));
        }
        let rows = Ranges::try_from(all).map_err(|_| PackError::Rows)?;
        Ok(Self { base, rows })
    }
}

/// Reference prefix in memory: the blobs of the referenced rows, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    reference: Reference,
    raw: Vec<u8>,
}

impl Prefix {
    /// Nothing of a manifest yet.
    pub fn of(base: Root) -> Self {
        Self::within(Vec::new(), base)
    }

    /// The same within memory that was used before, whatever it holds.
    pub fn within(mut memory: Vec<u8>, base: Root) -> Self {
        memory.clear();
        let rows = Ranges::default();
        Self {
            reference: Reference { base, rows },
            raw: memory,
        }
    }

    /// The memory of the blobs, for the next prefix.
    pub fn into_memory(self) -> Vec<u8> {
        self.raw
    }

    /// Adds the blob of a row behind those that were added. One that is no longer within bounds is
    /// left out.
    pub fn push(&mut self, row: u64, blob: &[u8]) -> bool {
        let raw = (self.raw.len() + blob.len()) as u64;
        let rows = self.reference.rows.len();
        let fits = raw <= PREFIX_RAW_BYTES_MAX && rows < PREFIX_ROWS_MAX as u64;
        if fits {
            self.reference.rows.push(row);
            self.raw.extend_from_slice(blob);
        }
        fits
    }

    /// What a reference names, read again: the blobs of its rows, one after the other.
    pub const fn read(reference: Reference, raw: Vec<u8>) -> Self {
        Self { reference, raw }
    }

    /// Bytes of its blobs.
    pub const fn raw_bytes(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// What it is made of.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }
}

/// What a pack refers to, if anything: the receiver puts it together before it can
/// [`verify_with_prefix`] it.
pub fn reference_of(wire: &[u8]) -> Result<Option<Reference>, PackError> {
    Ok(Head::read(wire)?.reference)
}

/// Decodes a pack that arrived and hashes its blobs.
pub fn verify(wire: &[u8], decoder: &mut Decoder) -> Result<VerifiedPack, PackError> {
    verify_with_prefix(wire, None, decoder)
}

/// Decodes a pack that arrived and hashes its blobs. If it refers to others, `prefix` are those.
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

/// Decodes a pack that was kept, into memory that was used before, and hashes nothing yet. Without
/// a prefix, because what it would refer to may be gone.
pub fn open(wire: &[u8], memory: Vec<u8>, decoder: &mut Decoder) -> Result<OpenPack, PackError> {
    let pack = Head::read(wire)?;
    if pack.reference.is_some() {
        return Err(PackError::Prefix);
    }
    let raw = pack.raw(None, memory, decoder)?;
    Ok(OpenPack::of(raw, &pack.sizes))
}

/// What comes before the body.
struct Head<'a> {
    kind: PackKind,
    sizes: Vec<usize>,
    reference: Option<Reference>,
    body: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(wire: &'a [u8]) -> Result<Self, PackError> {
        let mut reader = Reader::new(wire);
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

    /// The blobs, one after the other.
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

/// How the body is coded, and whether it refers to other blobs.
const fn kind_of(flags: u8) -> Result<(PackKind, bool), PackError> {
    match flags {
        0 => Ok((PackKind::Stored, false)),
        FLAG_ZSTD => Ok((PackKind::Solid, false)),
        FLAGS_BEHIND => Ok((PackKind::Solid, true)),
        flags => Err(PackError::Flags(flags)),
    }
}

const FLAGS_BEHIND: u8 = FLAG_ZSTD | FLAG_PREFIX;

fn check_rows(rows: u64) -> Result<(), PackError> {
    let max = PREFIX_ROWS_MAX as u64;
    match rows {
        0 => Err(PackError::Rows),
        rows if rows > max => Err(PackError::TooManyRows { rows, max }),
        _ => Ok(()),
    }
}

fn read_sizes(reader: &mut Reader<'_>) -> Result<Vec<usize>, PackError> {
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

/// The bytes are not a pack, or the blobs do not fit one.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// Another kind of body.
    #[error("not a pack: it does not begin with PMXW")]
    Magic,
    /// A version that this program does not know.
    #[error("the pack has version {0}; this program reads version 1")]
    Version(u8),
    /// A flag that this program does not know.
    #[error("the pack has unknown flags: {0:#010b}")]
    Flags(u8),
    /// The pack refers to blobs that are not available.
    #[error("the pack refers to blobs that are not at hand here; send it without")]
    Prefix,
    /// It refers to rows in a way that has another spelling, or to none.
    #[error("the pack refers to rows of its base out of order, twice, or to none")]
    Rows,
    /// It refers to too many.
    #[error("the pack refers to {rows} rows of its base, above the limit of {max}")]
    TooManyRows {
        /// How many, up to the first run that is too much.
        rows: u64,
        /// The bound.
        max: u64,
    },
    /// A pack of nothing.
    #[error("the pack has no blobs")]
    Empty,
    /// More blobs than a pack may have.
    #[error("the pack has {count} blobs, above the limit of {max}")]
    TooManyBlobs {
        /// How many.
        count: u64,
        /// The bound.
        max: u64,
    },
    /// A blob that has to travel in parts.
    #[error("a blob of the pack has {size} bytes, above the limit of {max}")]
    BlobTooLarge {
        /// Its bytes.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// The blobs are too much for one pack.
    #[error("the blobs of the pack have {raw} bytes and more, above the limit of {max}")]
    TooLarge {
        /// Bytes of the blobs up to the first that is too much.
        raw: u64,
        /// The bound.
        max: u64,
    },
    /// The body is shorter or longer than the blobs.
    #[error("the pack declares {declared} bytes of blobs, but {actual} follow")]
    BodyLength {
        /// Bytes of the blobs by their sizes.
        declared: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// A blob is sent twice in one pack.
    #[error("the pack holds blob {0} twice")]
    Repeated(BlobId),
    /// The head can't be read.
    #[error("reading the head of a pack")]
    Head(#[from] Malformed),
    /// The body can't be decoded.
    #[error("decoding the body of a pack")]
    Body(#[from] CodecError),
}

impl PackError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Magic
            | Self::Version(_)
            | Self::Flags(_)
            | Self::Rows
            | Self::Empty
            | Self::BodyLength { .. }
            | Self::Repeated(_)
            | Self::Head(_) => Code::PackMalformed,
            Self::TooManyBlobs { .. }
            | Self::TooManyRows { .. }
            | Self::BlobTooLarge { .. }
            | Self::TooLarge { .. } => Code::TooLarge,
            Self::Prefix => Code::PrefixMissing,
            Self::Body(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests;
