//! Blob index of a space: which blobs it holds and where, in 1,024 buckets by ten bits of the id.
//!
//! ```text
//! bucket = entry*, in the order of ids
//! entry  = 32 bytes blob id, varint raw length, location (1 byte codec, 16 bytes object,
//!          varint offset, varint length)
//! ```
//!
//! A row per blob would make a first publish of 50,000 files 50,000 rows; buckets make it 1,024,
//! and a one-file change one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::id::{BlobId, ObjectId};
use pmx_core::location::{Extent, Location};
use pmx_core::sql::{Sql, SqlError};

use super::ledger::Ledger;
use crate::limits::BLOB_BYTES_MAX;
use crate::pack::stored::Toc;

/// A blob that the space holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredBlob {
    /// Uncompressed size in bytes.
    pub(crate) raw: u64,
    /// Where its bytes are stored.
    pub(crate) location: Location,
}

/// Buckets of a space: ten bits of an id.
const BUCKETS: u16 = 1 << 10;

type Bucket = BTreeMap<BlobId, StoredBlob>;

/// Looks blobs up, reading each bucket at most once.
pub(crate) struct BlobIndex<'a, S> {
    ledger: &'a Ledger<'a, S>,
    buckets: RefCell<BTreeMap<u16, Bucket>>,
}

impl<'a, S: Sql> BlobIndex<'a, S> {
    pub(crate) fn new(ledger: &'a Ledger<'a, S>) -> Self {
        Self {
            ledger,
            buckets: RefCell::default(),
        }
    }

    /// The stored blob, if its content is not lost.
    pub(crate) fn find(&self, blob: &BlobId) -> Result<Option<StoredBlob>, SqlError> {
        if self.ledger.lost()?.contains(blob) {
            return Ok(None);
        }
        self.find_or_lost(blob)
    }

    /// The stored blob, even if its content is lost.
    pub(crate) fn find_or_lost(&self, blob: &BlobId) -> Result<Option<StoredBlob>, SqlError> {
        let number = bucket_of(blob);
        let mut buckets = self.buckets.borrow_mut();
        if let Some(bucket) = buckets.get(&number) {
            return Ok(bucket.get(blob).copied());
        }
        let bucket = live(self.ledger, number)?.0;
        let found = bucket.get(blob).copied();
        buckets.insert(number, bucket);
        Ok(found)
    }
}

/// Visits every blob of the space.
pub(crate) fn each<S: Sql>(
    ledger: &Ledger<'_, S>,
    mut visit: impl FnMut(BlobId, &StoredBlob),
) -> Result<(), SqlError> {
    for number in 0..BUCKETS {
        for (blob, held) in live(ledger, number)?.0 {
            visit(blob, &held);
        }
    }
    Ok(())
}

/// Adds blobs to their buckets. Existing entries stay unchanged, unless their content is lost. Runs
/// inside a transaction.
pub(crate) fn add<S: Sql>(
    ledger: &Ledger<'_, S>,
    blobs: &BTreeMap<BlobId, StoredBlob>,
) -> Result<(), SqlError> {
    let mut rest = blobs.iter().peekable();
    while let Some((first, _)) = rest.peek() {
        let number = bucket_of(first);
        let mut bucket = live(ledger, number)?.0;
        let before = bucket.len();
        let mut is_found = false;
        while let Some((blob, held)) = rest.next_if(|(blob, _)| bucket_of(blob) == number) {
            if ledger.lost()?.contains(blob) {
                bucket.insert(*blob, *held);
                ledger.found(blob)?;
                is_found = true;
            } else {
                bucket.entry(*blob).or_insert(*held);
            }
        }
        if is_found || bucket.len() > before {
            ledger.put_bucket(number, write(&bucket))?;
        }
    }
    Ok(())
}

/// Replaces the places of blobs that their buckets have. Runs inside a transaction.
pub(super) fn repoint<S: Sql>(
    ledger: &Ledger<'_, S>,
    blobs: &BTreeMap<BlobId, StoredBlob>,
) -> Result<(), SqlError> {
    let mut rest = blobs.iter().peekable();
    while let Some((first, _)) = rest.peek() {
        let number = bucket_of(first);
        let mut bucket = live(ledger, number)?.0;
        while let Some((blob, held)) = rest.next_if(|(blob, _)| bucket_of(blob) == number) {
            bucket.insert(*blob, *held);
        }
        ledger.put_bucket(number, write(&bucket))?;
    }
    Ok(())
}

/// The blobs of a bucket that are not in garbage, and whether others were in it.
fn live<S: Sql>(ledger: &Ledger<'_, S>, number: u16) -> Result<(Bucket, bool), SqlError> {
    let mut bucket = read(&ledger.bucket(number)?)?;
    let before = bucket.len();
    if ledger.collector()?.is_sweeping() {
        let mut live = Bucket::new();
        for (blob, held) in bucket {
            if !ledger.is_doomed(&held.location.extent.object)? {
                live.insert(blob, held);
            }
        }
        bucket = live;
    }
    let had_garbage = bucket.len() < before;
    Ok((bucket, had_garbage))
}

/// Takes blobs in garbage out of a bucket. Runs inside a transaction.
pub(super) fn remove_doomed<S: Sql>(ledger: &Ledger<'_, S>, number: u16) -> Result<(), SqlError> {
    let (bucket, had_garbage) = live(ledger, number)?;
    if !had_garbage {
        return Ok(());
    }
    for lost in ledger
        .lost()?
        .iter()
        .filter(|blob| bucket_of(blob) == number)
    {
        if !bucket.contains_key(lost) {
            ledger.found(lost)?;
        }
    }
    ledger.put_bucket(number, write(&bucket))
}

/// The objects of the blobs of a bucket.
pub(super) fn objects<S: Sql>(
    ledger: &Ledger<'_, S>,
    number: u16,
) -> Result<BTreeSet<ObjectId>, SqlError> {
    let bucket = read(&ledger.bucket(number)?)?;
    Ok(bucket
        .values()
        .map(|held| held.location.extent.object)
        .collect())
}

fn bucket_of(blob: &BlobId) -> u16 {
    let [first, second, ..] = *blob.as_bytes();
    u16::from_be_bytes([first, second]) >> 6
}

fn write(bucket: &Bucket) -> Vec<u8> {
    let mut out = Vec::with_capacity(bucket.len() * 64);
    for (blob, held) in bucket {
        out.extend_from_slice(blob.as_bytes());
        write_varint(&mut out, held.raw);
        held.location.encode(&mut out);
    }
    out
}

fn read(bytes: &[u8]) -> Result<Bucket, SqlError> {
    let mut reader = ByteReader::new(bytes);
    let mut bucket = Bucket::new();
    while reader.remaining() > 0 {
        let (blob, held) = entry(&mut reader).map_err(|e| SqlError(format!("a bucket: {e}")))?;
        bucket.insert(blob, held);
    }
    Ok(bucket)
}

fn entry(reader: &mut ByteReader<'_>) -> Result<(BlobId, StoredBlob), Malformed> {
    let blob = BlobId::from_bytes(reader.array()?);
    let raw = reader.varint_up_to(BLOB_BYTES_MAX, "a blob's length")?;
    Ok((
        blob,
        StoredBlob {
            raw,
            location: Location::decode(reader)?,
        },
    ))
}

/// The blobs of an object, and their locations.
pub(crate) fn toc_blobs(object: ObjectId, toc: &Toc) -> impl Iterator<Item = (BlobId, StoredBlob)> {
    toc.entries().iter().map(move |entry| {
        let extent = Extent {
            object,
            offset: entry.offset,
            len: entry.stored,
        };
        let location = Location {
            extent,
            codec: entry.codec,
        };
        let raw = entry.raw;
        (entry.blob, StoredBlob { raw, location })
    })
}
