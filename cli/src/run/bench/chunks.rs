//! Chunk store, computed: one stream of the site, with content-defined chunks. Each new chunk is
//! compressed separately.
//!
//! The cut points are those of FastCDC with normalisation level 2. Its paper is Xia et al., "The
//! Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS
//! 2020. The sizes are those of casync and desync: 16, 64 and 256 KiB. The stream is the contents
//! in path order, without an archive's metadata. Each publish sends an index of all chunks, 40
//! bytes each.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use pmx_core::codec::{Encoder, Level};
use pmx_core::hash::Hash;

use super::report::Cost;
use super::{Contender, Version};
use crate::error::Failure;

const CHUNK_BYTES_MIN: usize = 16 * 1024;
const CHUNK_BYTES_AVERAGE: usize = 64 * 1024;
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Bits of the fingerprint that must be zero at a cut. Before the average size, there are two more
/// than the average needs; after it, two fewer.
const BITS_BEFORE: u32 = CHUNK_BYTES_AVERAGE.ilog2() + 2;
const BITS_AFTER: u32 = CHUNK_BYTES_AVERAGE.ilog2() - 2;

/// An offset and a hash, as in casync's index.
const INDEX_BYTES: u64 = 8 + 32;

/// Bytes of one read.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// A store whose contents the client knows, so it requests nothing.
#[derive(Default)]
pub(super) struct Chunks {
    held: BTreeSet<Hash>,
}

impl Contender for Chunks {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        let mut sending = Sending {
            held: &mut self.held,
            encoder: Encoder::new(),
            chunks: 0,
            new: 0,
            bytes: 0,
        };
        let mut buffer = Vec::new();
        for row in version.rows {
            let path = version.folder.join(row.path.as_str());
            let cannot = |error| Failure::local("can't read", &path, &error);
            let mut file = File::open(&path).map_err(cannot)?;
            loop {
                let mut piece = file.by_ref().take(PIECE_BYTES);
                if piece.read_to_end(&mut buffer).map_err(cannot)? == 0 {
                    break;
                }
                sending.take(&mut buffer, CHUNK_BYTES_MAX);
            }
        }
        sending.take(&mut buffer, 1);
        Ok(Cost {
            sent: sending.bytes + sending.chunks * INDEX_BYTES,
            received: 0,
            // The last request carries the index.
            requests: Some(sending.new + 1),
            files: Some(sending.bytes),
            bodies: None,
        })
    }
}

struct Sending<'a> {
    held: &'a mut BTreeSet<Hash>,
    encoder: Encoder,
    chunks: u64,
    new: u64,
    bytes: u64,
}

impl Sending<'_> {
    /// Takes chunks from the front while the buffer has at least `least` bytes. With fewer than the
    /// longest chunk, later bytes could move the cut.
    fn take(&mut self, buffer: &mut Vec<u8>, least: usize) {
        let mut rest = &buffer[..];
        while rest.len() >= least {
            let (chunk, after) = rest.split_at(cut(rest));
            self.chunk(chunk);
            rest = after;
        }
        let taken = buffer.len() - rest.len();
        buffer.drain(..taken);
    }

    fn chunk(&mut self, chunk: &[u8]) {
        self.chunks += 1;
        if self.held.insert(Hash::of(chunk)) {
            self.new += 1;
            self.bytes += self.encoder.frame(chunk, Level::WIRE).len() as u64;
        }
    }
}

/// The length of the first chunk.
fn cut(bytes: &[u8]) -> usize {
    let end = bytes.len().min(CHUNK_BYTES_MAX);
    let mut fingerprint = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(end).skip(CHUNK_BYTES_MIN) {
        fingerprint = (fingerprint << 1).wrapping_add(GEAR[usize::from(*byte)]);
        let bits = if at < CHUNK_BYTES_AVERAGE {
            BITS_BEFORE
        } else {
            BITS_AFTER
        };
        if fingerprint >> (u64::BITS - bits) == 0 {
            return at + 1;
        }
    }
    end
}

/// Random numbers for the gear hash, one for each byte value: always the same.
const GEAR: [u64; 256] = gear();

/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014): `SplitMix64`.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut at = 0;
    while at < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without repetition.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn lengths(mut bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            let len = cut(bytes);
            lengths.push(len);
            bytes = &bytes[len..];
        }
        lengths
    }

    #[test]
    fn chunks_have_about_the_average_length() {
        let lengths = lengths(&noise(16 << 20));
        let (_, whole) = lengths.split_last().unwrap();
        let range = CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX;
        assert!(whole.iter().all(|len| range.contains(len)));
        let average = (16 << 20) / lengths.len();
        assert!((48 << 10..96 << 10).contains(&average), "{average}");
        assert_eq!(cut(&[]), 0);
        assert_eq!(cut(&[1, 2, 3]), 3);
        assert_eq!(cut(&vec![0; 1 << 20]), CHUNK_BYTES_MAX);
    }

    #[test]
    fn cuts_come_back_after_an_insertion() {
        let before = noise(4 << 20);
        let mut after = before.clone();
        after.splice(1000..1000, *b"inserted");
        let (old, new) = (lengths(&before), lengths(&after));
        let same = old.iter().rev().zip(new.iter().rev());
        let same = same.take_while(|(old, new)| old == new).count();
        assert!(same + 3 >= old.len(), "{same} of {}", old.len());
    }

    #[test]
    fn new_chunks_alone_are_sent_however_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = noise(9 << 20);
        let mut rows = Vec::new();
        for (name, bytes) in [("a", &bytes[..5 << 20]), ("b", &bytes[5 << 20..])] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            rows.push(pmx_sync::manifest::Row {
                path: pmx_sync::path::SitePath::parse(name).unwrap(),
                entry: pmx_sync::manifest::Entry {
                    blob: pmx_core::id::BlobId::of(bytes),
                    size: bytes.len() as u64,
                    media: pmx_sync::media::Media::unknown(),
                },
            });
        }
        let version = Version {
            rows: &rows,
            folder: folder.path(),
        };
        let mut store = Chunks::default();
        let first = store.publish(&version).unwrap();
        let chunks = lengths(&bytes).len() as u64;
        assert_eq!(first.requests, Some(chunks + 1), "the stream is one");
        assert!(first.files.unwrap() >= 9 << 20, "noise is not compressed");
        let again = store.publish(&version).unwrap();
        let index = chunks * INDEX_BYTES;
        assert_eq!((again.sent, again.requests), (index, Some(1)));
    }
}
