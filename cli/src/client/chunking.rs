//! Content-defined chunking: finds the chunks that a part of a big file shares with the file's old
//! version. The client kept only the hashes of that version's chunks.
//!
//! The cut points are those of FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking
//! for Data Deduplication Based Storage Systems", IEEE TPDS 2020). Each part is chunked separately,
//! so that several threads can work at once. Its window starts before the part and ends after it,
//! because cut points align within a few chunks. So both parts know a chunk across their border.

use std::collections::{BTreeMap, HashMap};

use fastcdc::v2020::FastCDC;
use pmx_core::id::Root;
use pmx_core::limits::PART_BYTES;
use pmx_sync::limits::COPIED_PARTS_MAX;
use pmx_sync::pack::part::{Part, PartDelta, Run};
use pmx_sync::push::DeltaBase;

use crate::cache::{Chunk, ChunkHash};

/// Smallest chunk in bytes.
const LEAST: usize = 2 * 1024;
const AVERAGE: usize = 8 * 1024;
const MOST: usize = 32 * 1024;

/// Bytes before a part that its window includes: enough for cut points to align.
const LEAD: u64 = 8 * AVERAGE as u64;

/// Least share of a part that must match the old version. Below it, the client sends the part
/// itself: the server would read the base for little gain.
const LEAST_SHARE: u64 = 16;

/// A part and the bytes around it.
pub(super) struct ChunkWindow {
    part: Part,
    start: u64,
    bytes: Vec<u8>,
}

impl ChunkWindow {
    /// The range of the file to read for a part and its window.
    pub(super) const fn range(part: Part) -> std::ops::Range<u64> {
        let start = part.offset().saturating_sub(LEAD);
        start..part.offset() + part.len() + MOST as u64
    }

    /// The window from the bytes read; the file may end early. `None` if it ends within the part.
    pub(super) fn of(part: Part, bytes: Vec<u8>) -> Option<Self> {
        let start = Self::range(part).start;
        let end = start + bytes.len() as u64;
        (end >= part.offset() + part.len()).then_some(Self { part, start, bytes })
    }

    /// The bytes of the part.
    pub(super) fn part(&self) -> &[u8] {
        let at = (self.part.offset() - self.start) as usize;
        &self.bytes[at..at + self.part.len() as usize]
    }

    /// The chunks that have bytes of the part, in order.
    pub(super) fn chunks(&self) -> Vec<Chunk> {
        let part = self.part.offset()..self.part.offset() + self.part.len();
        let cuts = FastCDC::new(&self.bytes, LEAST, AVERAGE, MOST);
        let cuts = cuts.map(|cut| (self.start + cut.offset as u64, cut.offset, cut.length));
        let inside =
            cuts.filter(|(start, _, len)| *start < part.end && *start + *len as u64 > part.start);
        let chunk =
            |(start, at, len): (u64, usize, usize)| Chunk::of(start, &self.bytes[at..at + len]);
        inside.map(chunk).collect()
    }

    /// The chunks that begin in the part: no other part has them.
    pub(super) fn own(&self, chunks: &[Chunk]) -> Vec<Chunk> {
        let begins = |chunk: &&Chunk| chunk.offset >= self.part.offset();
        chunks.iter().filter(begins).copied().collect()
    }
}

/// A blob of the base deploy, known by the hashes of its chunks.
pub(super) struct ChunkedBase {
    base: Root,
    rank: u64,
    chunks: Vec<Chunk>,
    places: HashMap<ChunkHash, usize>,
}

impl ChunkedBase {
    /// The base blob of a row that has these chunks.
    pub(super) fn new(base: Root, delta_base: DeltaBase, mut chunks: Vec<Chunk>) -> Self {
        // Chunks of another blob may reach beyond the end of this one.
        chunks.retain(|chunk| chunk.range().end <= delta_base.size);
        let mut places = HashMap::with_capacity(chunks.len());
        for (at, chunk) in chunks.iter().enumerate() {
            places.entry(chunk.hash).or_insert(at);
        }
        let rank = delta_base.rank;
        Self {
            base,
            rank,
            chunks,
            places,
        }
    }

    /// The delta of a part that has these chunks, if it saves enough.
    pub(super) fn copies(&self, part: Part, chunks: &[Chunk]) -> Option<PartDelta> {
        let runs = self.runs(part, chunks);
        let mut weights: BTreeMap<u64, u64> = BTreeMap::new();
        for run in runs.iter().flat_map(|run| by_part(*run)) {
            *weights.entry(run.from / PART_BYTES).or_default() += run.len;
        }
        let mut heaviest: Vec<_> = weights.into_iter().collect();
        heaviest.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        heaviest.truncate(COPIED_PARTS_MAX);
        let mut copies = PartDelta::of(part, self.base, self.rank);
        for run in runs.iter().flat_map(|run| by_part(*run)) {
            let source = run.from / PART_BYTES;
            if heaviest.iter().any(|(number, _)| *number == source) {
                copies.push(run);
            }
        }
        (copies.bytes() * LEAST_SHARE >= part.len()).then_some(copies)
    }

    /// All runs of bytes that the part shares with the blob.
    fn runs(&self, part: Part, chunks: &[Chunk]) -> Vec<Run> {
        let (mut runs, mut next) = (Vec::new(), 0);
        for chunk in chunks {
            let is_same = |at: &usize| {
                let known = self.chunks.get(*at);
                known.is_some_and(|known| (known.hash, known.len) == (chunk.hash, chunk.len))
            };
            // The next chunk here likely matches the next chunk there, even if it also occurs
            // elsewhere.
            let found = Some(next).filter(is_same);
            let found = found.or_else(|| self.places.get(&chunk.hash).copied().filter(is_same));
            let Some(found) = found else { continue };
            next = found + 1;
            let start = chunk.offset.max(part.offset());
            let end = chunk.range().end.min(part.offset() + part.len());
            if start < end {
                runs.push(Run {
                    at: start - part.offset(),
                    from: self.chunks[found].offset + (start - chunk.offset),
                    len: end - start,
                });
            }
        }
        runs
    }
}

/// Divides a run at the part borders of the blob that it copies from.
fn by_part(run: Run) -> impl Iterator<Item = Run> {
    let ends = run.from..run.from + run.len;
    let numbers = ends.start / PART_BYTES..ends.end.div_ceil(PART_BYTES);
    numbers.map(move |number| {
        let from = ends.start.max(number * PART_BYTES);
        let end = ends.end.min((number + 1) * PART_BYTES);
        Run {
            at: run.at + (from - run.from),
            from,
            len: end - from,
        }
    })
}

#[cfg(test)]
mod tests {
    use pmx_core::codec::{Decoder, Encoder, Level};
    use pmx_core::id::{BlobId, NodeId};
    use pmx_sync::pack::part::{Arrived, BlobParts, WirePart, open};
    use pmx_sync::pack::{PackCoding, PackKind};

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// Bytes without repetition.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn window(blob: &[u8], part: Part) -> ChunkWindow {
        let range = ChunkWindow::range(part);
        let end = (range.end as usize).min(blob.len());
        ChunkWindow::of(part, blob[range.start as usize..end].to_vec()).unwrap()
    }

    fn parts(blob: &[u8]) -> impl Iterator<Item = Part> {
        BlobParts::of(blob.len() as u64).unwrap().all()
    }

    fn old(blob: &[u8]) -> ChunkedBase {
        let own = |part| {
            let window = window(blob, part);
            window.own(&window.chunks())
        };
        let chunks = parts(blob).flat_map(own).collect();
        let (rank, blob, size) = (3, BlobId::of(blob), blob.len() as u64);
        ChunkedBase::new(NodeId::of(b"base"), DeltaBase { rank, blob, size }, chunks)
    }

    /// Sends a new version with an old one as base, and counts the bytes that are not copied.
    fn literal_bytes(old_blob: &[u8], new: &[u8]) -> u64 {
        let old = old(old_blob);
        let mut literal = 0;
        for part in parts(new) {
            let window = window(new, part);
            let Some(copies) = old.copies(part, &window.chunks()) else {
                literal += part.len();
                continue;
            };
            literal += part.len() - copies.bytes();
            let (mut encoder, coding) = (Encoder::new(), PackCoding::Zstd(Level::STORED));
            let wire =
                WirePart::build_with_delta(&copies, window.part(), &mut encoder, coding).unwrap();
            let opened = open(&wire.bytes, part, &mut Decoder::new()).unwrap();
            let Arrived::Pending(mut pending) = opened else {
                panic!("it copies nothing")
            };
            pending.fill(0, old_blob, PackKind::Stored);
            assert!(pending.finish().unwrap().raw() == window.part());
        }
        literal
    }

    #[test]
    fn chunks_of_all_parts_are_those_of_the_whole() {
        for blob in [noise(1, 17 * MIB), vec![7; 17 * MIB]] {
            let chunks = old(&blob).chunks;
            let mut free = 0;
            for chunk in &chunks {
                assert_eq!(chunk.offset, free, "cuts fell into step");
                free = chunk.range().end;
            }
            assert_eq!(free, blob.len() as u64);
        }
    }

    #[test]
    fn edit_changes_few_chunks_wherever_it_is() {
        let base = noise(2, 20 * MIB);
        assert_eq!(literal_bytes(&base, &base), 0);
        for at in [0, 5, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 19 * MIB] {
            let mut new = base.clone();
            new[at] ^= 1;
            assert!(literal_bytes(&base, &new) < 40_000, "one byte at {at}");
            new.splice(at..at, *b"inserted");
            assert!(literal_bytes(&base, &new) < 40_000, "inserted at {at}");
            let cut = literal_bytes(&base, &base[..at.max(9 * MIB)]);
            assert!(cut < 40_000, "cut at {at}");
        }
    }

    #[test]
    fn part_delta_copies_from_few_parts_and_from_none_if_it_is_new() {
        let base = noise(3, 60 * MIB);
        // A mebibyte of each part, repeatedly.
        let mixed: Vec<u8> = (0..16)
            .flat_map(|at| &base[at % 7 * 8 * MIB..][..MIB])
            .copied()
            .collect();
        let literal = literal_bytes(&base, &mixed) / MIB as u64;
        assert!((8..=9).contains(&literal), "{literal} of 16 MiB");
        let new = noise(4, 9 * MIB);
        let part = parts(&new).next().unwrap();
        assert_eq!(old(&base).copies(part, &window(&new, part).chunks()), None);
    }

    #[test]
    fn file_that_ends_within_a_part_is_not_the_one_that_was_scanned() {
        let part = BlobParts::of(9 * MIB as u64).unwrap().part(1).unwrap();
        let start = ChunkWindow::range(part).start as usize;
        assert!(ChunkWindow::of(part, vec![0; 9 * MIB - start]).is_some());
        assert!(ChunkWindow::of(part, vec![0; 9 * MIB - start - 1]).is_none());
    }
}
