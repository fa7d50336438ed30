//! Segment footer: the encoding of the index at the end of the object.

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::hash::Hash;
use pmx_core::limits::EXACT_INTEGER_MAX;

use super::index::{BlockEntry, SegmentIndex};
use super::{BLOCKS_MAX, SegmentError, StreamKind};
use crate::limits::{STREAM_APPEND_BYTES_MAX, STREAM_BLOCK_BYTES, STREAM_OBJECT_BYTES_MAX};

const CONTEXT: &str = "pmx-sync 2026-11 stream segment footer v1";
const MAGIC: [u8; 4] = *b"PMXS";
const VERSION: u8 = 1;

/// Bytes of the trailer before its checksum: the length, the kind and three numbers.
const NUMBERS_BYTES: usize = 4 + 1 + 3 * 8;

type Checksum = [u8; 16];

/// Bytes of the trailer.
const TRAILER_BYTES: usize = NUMBERS_BYTES + size_of::<Checksum>() + MAGIC.len() + 1;

/// Longest entry of a block: two varints below 2^28 and a checksum.
const ENTRY_BYTES_MAX: usize = 4 + 4 + 8;

/// Longest footer before its trailer.
const ENTRIES_BYTES_MAX: usize = 2 + BLOCKS_MAX * ENTRY_BYTES_MAX;

const _: () = assert!(BLOCKS_MAX < 1 << 14);
const _: () = assert!(STREAM_OBJECT_BYTES_MAX < 1 << 28);

impl SegmentIndex {
    /// Length of a tail that contains the footer of every segment of ordinary size (4 MiB), and of
    /// most larger ones.
    pub const TAIL_BYTES: usize = 4 * 1024;

    /// Encodes the footer of the object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.blocks().len() * ENTRY_BYTES_MAX + TRAILER_BYTES);
        write_varint(&mut out, self.blocks().len() as u64);
        for block in self.blocks() {
            write_varint(&mut out, block.summary.messages);
            write_varint(&mut out, block.summary.payload);
            out.extend_from_slice(&block.summary.sum);
        }
        let entries = out.len() as u32;
        out.extend_from_slice(&entries.to_be_bytes());
        out.push(self.kind().tag());
        for number in [self.first(), self.end(), self.messages()] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out
    }

    /// Decodes `bytes`, which is exactly a footer.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let footer = Footer::find(bytes)?;
        match bytes.len() - footer.all.len() {
            0 => footer.read(),
            more => Err(Malformed::Trailing(more).into()),
        }
    }

    /// Decodes the footer from the last bytes of an object of `object_bytes` bytes.
    ///
    /// Fails with [`SegmentError::TailTooShort`] if the footer is longer than `tail`.
    pub fn from_object_tail(tail: &[u8], object_bytes: u64) -> Result<Self, SegmentError> {
        let footer = Footer::find(tail)?;
        let index = footer.read()?;
        let expected = index.frames_bytes() + footer.all.len() as u64;
        if expected == object_bytes {
            Ok(index)
        } else {
            let found = object_bytes;
            Err(SegmentError::ObjectLength { expected, found })
        }
    }
}

/// A footer with a valid checksum.
struct Footer<'a> {
    all: &'a [u8],
    entries: &'a [u8],
    numbers: ByteReader<'a>,
}

impl<'a> Footer<'a> {
    /// Finds the footer that ends with `tail`.
    fn find(tail: &'a [u8]) -> Result<Self, SegmentError> {
        let (before, trailer) = tail
            .split_last_chunk::<TRAILER_BYTES>()
            .ok_or(Malformed::Truncated)?;
        let mut end = ByteReader::new(trailer);
        let numbers = end.take(NUMBERS_BYTES)?;
        let claimed: Checksum = end.array()?;
        check_magic(end)?;
        let mut numbers = ByteReader::new(numbers);
        let len = u32::from_be_bytes(numbers.array()?) as usize;
        if len > ENTRIES_BYTES_MAX {
            return Err(too_large("the length of a footer", len, ENTRIES_BYTES_MAX).into());
        }
        let Some(begin) = before.len().checked_sub(len) else {
            let (have, needed) = (tail.len(), len + TRAILER_BYTES);
            return Err(SegmentError::TailTooShort { have, needed });
        };
        let (_, entries) = before.split_at(begin);
        let (_, all) = tail.split_at(begin);
        let (sealed, _) = all.split_at(len + NUMBERS_BYTES);
        if checksum(sealed) != claimed {
            return Err(SegmentError::FooterDamaged);
        }
        Ok(Self {
            all,
            entries,
            numbers,
        })
    }

    fn read(&self) -> Result<SegmentIndex, SegmentError> {
        let mut numbers = self.numbers;
        let kind = read_kind(numbers.byte()?)?;
        let first = u64::from_be_bytes(numbers.array()?);
        let end = u64::from_be_bytes(numbers.array()?);
        let messages = u64::from_be_bytes(numbers.array()?);
        for position in [first, end] {
            if position > EXACT_INTEGER_MAX {
                let what = "a position of a segment";
                let (value, max) = (position, EXACT_INTEGER_MAX);
                return Err(Malformed::TooLarge { what, value, max }.into());
            }
        }
        let mut index = SegmentIndex::new(kind, first);
        read_blocks(self.entries, &mut index)?;
        if index.end() == end && index.messages() == messages {
            Ok(index)
        } else {
            Err(Malformed::NotCanonical("the trailer contradicts its blocks").into())
        }
    }
}

fn check_magic(mut end: ByteReader<'_>) -> Result<(), Malformed> {
    if end.array()? != MAGIC {
        return Err(Malformed::NotCanonical("not the magic of a segment"));
    }
    match end.byte()? {
        VERSION => Ok(()),
        other => Err(Malformed::Unknown {
            what: "version of a segment",
            value: u64::from(other),
        }),
    }
}

fn read_kind(tag: u8) -> Result<StreamKind, Malformed> {
    [StreamKind::Bytes, StreamKind::Json]
        .into_iter()
        .find(|kind| kind.tag() == tag)
        .ok_or(Malformed::Unknown {
            what: "kind of a segment",
            value: u64::from(tag),
        })
}

fn read_blocks(entries: &[u8], index: &mut SegmentIndex) -> Result<(), Malformed> {
    let mut reader = ByteReader::new(entries);
    let count = reader.varint_up_to(BLOCKS_MAX as u64, "the count of blocks")?;
    if count == 0 {
        return Err(Malformed::NotCanonical("a segment has at least one block"));
    }
    let mut before = None;
    for _ in 0..count {
        let block = read_block(&mut reader)?;
        if before.is_some_and(|before| before + block.bytes() <= STREAM_BLOCK_BYTES) {
            return Err(Malformed::NotCanonical("two blocks fit in one"));
        }
        before = Some(block.bytes());
        let bytes = index.frames_bytes() + block.bytes();
        if bytes > STREAM_OBJECT_BYTES_MAX {
            let max = STREAM_OBJECT_BYTES_MAX as usize;
            return Err(too_large("the bytes of the frames", bytes as usize, max));
        }
        index.push(block);
    }
    reader.end()
}

fn read_block(reader: &mut ByteReader<'_>) -> Result<BlockEntry, Malformed> {
    let most = STREAM_APPEND_BYTES_MAX as u64;
    let messages = reader.varint_up_to(most, "the messages of a block")?;
    let payload = reader.varint_up_to(most, "the bytes of a block")?;
    let block = BlockEntry {
        messages,
        payload,
        sum: reader.array()?,
    };
    if messages == 0 || payload < messages {
        return Err(Malformed::NotCanonical("a message of a block is empty"));
    }
    if messages > 1 && block.bytes() > STREAM_BLOCK_BYTES {
        return Err(Malformed::NotCanonical(
            "a block of several frames is too long",
        ));
    }
    Ok(block)
}

fn too_large(what: &'static str, value: usize, max: usize) -> Malformed {
    let (value, max) = (value as u64, max as u64);
    Malformed::TooLarge { what, value, max }
}

fn checksum(sealed: &[u8]) -> Checksum {
    let hash = Hash::derived(CONTEXT, sealed);
    let (start, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash is longer than a checksum");
    *start
}
