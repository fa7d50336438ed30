//! Signatures of big blobs: the hashes of their chunks. With them, the client sends a new version
//! as a delta to the old one. It does not store the bytes themselves, because big files would fill
//! a disk.
//!
//! ```text
//! file  = magic (8 bytes), sum (32 bytes, BLAKE3 of all that follows), chunk*
//! chunk = 16 bytes of its hash, varint bytes passed since the last chunk, varint length
//! ```
//!
//! The receiver hashes the result, and the client sends a wrong one again without a signature. So
//! an invalid file can only make a publish larger, never wrong. A sweep deletes the oldest files
//! when there are too many.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pmx_core::encode::{ByteReader, write_varint};
use pmx_core::hash::Hash;
use pmx_core::id::BlobId;
use pmx_sync::limits::BLOB_BYTES_MAX;

use super::{keep, read, sealed, unsealed};

const MAGIC: [u8; 8] = *b"pmxsign\x01";

/// Bytes that the signatures of one site may take: those of about 30 GB.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

const EXTENSION: &str = "signature";

/// The first half of the hash of a chunk. It suffices to find the chunk, because the server hashes
/// the result.
pub type ChunkHash = [u8; 16];

/// A chunk of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The hash of the chunk.
    pub hash: ChunkHash,
    /// Where it begins in the blob.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
}

impl Chunk {
    /// The chunk of these bytes.
    pub fn of(offset: u64, bytes: &[u8]) -> Self {
        let hash = Hash::of(bytes);
        let half = hash.as_bytes().first_chunk();
        Self {
            hash: half.copied().unwrap_or_default(),
            offset,
            len: bytes.len() as u64,
        }
    }

    /// The range of the blob that the chunk covers.
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}

/// The signatures of a site.
#[derive(Debug)]
pub struct Signatures {
    folder: Option<PathBuf>,
}

impl Signatures {
    /// The signatures of a folder.
    pub const fn open(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Whether there is a folder to store signatures in.
    pub const fn is_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// Whether no signature is stored.
    pub fn is_empty(&self) -> bool {
        self.folder.as_deref().is_none_or(|at| files(at).is_empty())
    }

    /// The chunks of a blob, in order, if they are known.
    pub fn find(&self, blob: &BlobId) -> Option<Vec<Chunk>> {
        parse(&read(&file_of(self.folder.as_deref()?, blob))?)
    }

    /// Stores the chunks of some blobs, each blob's in order.
    pub fn add(&self, all: &BTreeMap<BlobId, Vec<Chunk>>) {
        let Some(folder) = self.folder.as_deref().filter(|_| !all.is_empty()) else {
            return;
        };
        for (blob, chunks) in all {
            keep(Some(&file_of(folder, blob)), &encode(chunks));
        }
        sweep(folder, BYTES_MAX);
    }
}

/// Deletes the oldest files while all together take more than this many bytes.
fn sweep(folder: &Path, bytes_max: u64) {
    let mut files = files(folder);
    files.sort_by_key(|file| std::cmp::Reverse(file.written));
    let mut total = 0;
    for file in files {
        total += file.bytes;
        if total > bytes_max {
            let _gone = std::fs::remove_file(file.path);
        }
    }
}

struct File {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
}

fn files(folder: &Path) -> Vec<File> {
    let file = |path: PathBuf| {
        let metadata = path.metadata().ok()?;
        let (bytes, written) = (metadata.len(), metadata.modified().ok()?);
        Some(File {
            path,
            bytes,
            written,
        })
    };
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let ours = paths.filter(|path| path.extension().is_some_and(|it| it == EXTENSION));
    ours.filter_map(file).collect()
}

fn file_of(folder: &Path, blob: &BlobId) -> PathBuf {
    folder.join(blob.to_string()).with_extension(EXTENSION)
}

fn encode(chunks: &[Chunk]) -> Vec<u8> {
    let mut body = Vec::with_capacity(20 * chunks.len());
    let mut free = 0;
    for chunk in chunks {
        // A chunk that overlaps the one before belongs to another chunking; the file omits it.
        let Some(gap) = chunk.offset.checked_sub(free) else {
            continue;
        };
        body.extend_from_slice(&chunk.hash);
        write_varint(&mut body, gap);
        write_varint(&mut body, chunk.len);
        free = chunk.range().end;
    }
    sealed(MAGIC, &body)
}

/// Reads a file; `None` if it is invalid.
fn parse(bytes: &[u8]) -> Option<Vec<Chunk>> {
    let mut reader = ByteReader::new(unsealed(MAGIC, bytes)?);
    let (mut chunks, mut free) = (Vec::new(), 0_u64);
    while reader.remaining() > 0 {
        let hash = reader.array().ok()?;
        let offset = free.checked_add(reader.varint().ok()?)?;
        let len = reader.varint().ok()?;
        free = offset.checked_add(len)?;
        if free > BLOB_BYTES_MAX {
            return None;
        }
        chunks.push(Chunk { hash, offset, len });
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(count: u64) -> Vec<Chunk> {
        let chunk = |at: u64| Chunk::of(at * 1_000, &at.to_le_bytes().repeat(100));
        (0..count).map(chunk).collect()
    }

    #[test]
    fn signatures_come_back_unless_they_are_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let signatures = Signatures::open(Some(dir.path().join("new")));
        let blob = BlobId::of(b"big");
        assert!(signatures.is_empty());
        assert_eq!(signatures.find(&blob), None);
        signatures.add(&[(blob, chunks(50))].into());
        assert!(!signatures.is_empty());
        assert_eq!(signatures.find(&blob), Some(chunks(50)));
        assert_eq!(signatures.find(&BlobId::of(b"other")), None);
        let path = file_of(&dir.path().join("new"), &blob);
        let good = std::fs::read(&path).unwrap();
        for end in 0..good.len() {
            assert_eq!(parse(&good[..end]), None, "{end}");
        }
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 1;
            assert_eq!(parse(&bent), None, "{at}");
        }
    }

    #[test]
    fn signature_keeps_overlapping_chunks_once() {
        let mut all = chunks(3);
        let doubled = Chunk::of(1_100, b"another cut");
        all.insert(2, doubled);
        assert_eq!(parse(&encode(&all)), Some(chunks(3)));
    }

    #[test]
    fn signatures_drop_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let signatures = Signatures::open(Some(dir.path().to_owned()));
        let blobs: Vec<_> = (0..4_u8).map(|number| BlobId::of(&[number])).collect();
        for (blob, age) in blobs.iter().zip([2, 9, 1, 5]) {
            signatures.add(&[(*blob, chunks(10))].into());
            let file = file_of(dir.path(), blob);
            let file = std::fs::File::options().write(true).open(file).unwrap();
            let written = SystemTime::now() - std::time::Duration::from_hours(age);
            file.set_modified(written).unwrap();
        }
        sweep(dir.path(), 2 * encode(&chunks(10)).len() as u64);
        let left: Vec<_> = blobs
            .iter()
            .map(|blob| signatures.find(blob).is_some())
            .collect();
        assert_eq!(left, [true, false, true, false]);
    }
}
