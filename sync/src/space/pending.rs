//! Pending blobs: content of arrived packs that no deploy has yet.
//!
//! The ledger has the tables of contents of the packs that arrived last. When they are many, the
//! space folds them into buckets (`arrived`), so that a publish reads few rows however many packs
//! were abandoned. A publish reads these buckets only for a blob that it finds nowhere else.
//!
//! ```text
//! bucket = entry*, the oldest first; a bucket for each first byte of an id
//! entry  = 32 bytes blob id, varint raw length, location, varint milliseconds since the epoch
//! ```

use std::cell::{OnceCell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use pmx_core::encode::{ByteReader, Malformed, write_varint};
use pmx_core::id::{BlobId, ObjectId, PackId};
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::location::Location;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, SqlRow};
use pmx_core::time::Timestamp;

use super::blob_index::{StoredBlob, toc_blobs};
use super::columns::{array, blob, integer};
use super::ledger::Ledger;
use crate::limits::{ARRIVED_BUCKET_SPARE_BLOBS, BLOB_BYTES_MAX};
use crate::limits::{PENDING_PACKS_MAX, PENDING_TOC_BYTES_MAX};
use crate::pack::stored::Toc;

/// Looks up pending blobs. Reads the packs once and each bucket at most once.
pub(crate) struct PendingBlobs<'a, 's, S> {
    ledger: &'a Ledger<'s, S>,
    packs: OnceCell<Packs>,
    buckets: RefCell<BTreeMap<u8, BTreeMap<BlobId, StoredBlob>>>,
}

#[derive(Default)]
struct Packs {
    ids: Vec<PackId>,
    blobs: BTreeMap<BlobId, (StoredBlob, usize)>,
}

/// A pending blob.
pub(crate) struct PendingBlob {
    pub(crate) held: StoredBlob,
    /// The pack with the blob, unless that pack was folded.
    pub(crate) pack: Option<PackId>,
}

impl<'a, 's, S: Sql> PendingBlobs<'a, 's, S> {
    pub(crate) fn new(ledger: &'a Ledger<'s, S>) -> Self {
        Self {
            ledger,
            packs: OnceCell::new(),
            buckets: RefCell::default(),
        }
    }

    pub(crate) fn find(&self, blob: &BlobId) -> Result<Option<PendingBlob>, SqlError> {
        let packs = self.packs()?;
        if let Some((held, at)) = packs.blobs.get(blob) {
            let (held, pack) = (*held, packs.ids.get(*at).copied());
            return Ok(Some(PendingBlob { held, pack }));
        }
        let number = blob.as_bytes()[0];
        let mut buckets = self.buckets.borrow_mut();
        if let Entry::Vacant(empty) = buckets.entry(number) {
            let before = self.ledger.expired_before();
            let entries = entries(&self.ledger.arrived_bucket(number)?)?;
            let mut bucket = BTreeMap::new();
            for entry in entries {
                let object = &entry.held.location.extent.object;
                if entry.at >= before && !self.ledger.is_doomed(object)? {
                    bucket.insert(entry.blob, entry.held);
                }
            }
            empty.insert(bucket);
        }
        let held = buckets.get(&number).and_then(|bucket| bucket.get(blob));
        Ok(held.map(|held| PendingBlob {
            held: *held,
            pack: None,
        }))
    }

    fn packs(&self) -> Result<&Packs, SqlError> {
        if let Some(packs) = self.packs.get() {
            return Ok(packs);
        }
        let mut packs = Packs::default();
        for pack in self.ledger.pending_packs()? {
            let at = packs.ids.len();
            packs.ids.push(pack.id);
            for (blob, held) in toc_blobs(pack.object, &pack.toc()?) {
                packs.blobs.entry(blob).or_insert((held, at));
            }
        }
        Ok(self.packs.get_or_init(|| packs))
    }
}

/// A pack that arrived and is not folded.
pub(crate) struct PendingPack {
    pub(crate) id: PackId,
    pub(crate) object: ObjectId,
    toc: Vec<u8>,
    at: u64,
}

impl PendingPack {
    pub(crate) fn of(row: &SqlRow) -> Result<Self, SqlError> {
        Ok(Self {
            id: PackId::from_bytes(array(row, 0)?),
            object: ObjectId::from_bytes(array(row, 1)?),
            toc: blob(row, 2)?,
            at: integer(row, 3)?,
        })
    }

    pub(crate) fn toc(&self) -> Result<Toc, SqlError> {
        Toc::decode(&self.toc).map_err(|error| SqlError(format!("pack {}: {error}", self.id)))
    }
}

/// Records a pack that arrived; returns the object that counts. The buckets have room for the
/// `files_max` blobs of one publish.
pub(crate) fn record_pack<S: Sql>(
    ledger: &Ledger<'_, S>,
    pack: &PackId,
    object: &ObjectId,
    toc: &[u8],
    files_max: u64,
    now: Timestamp,
) -> Result<ObjectId, Problem> {
    super::lease::touch(ledger, now)?;
    let kept = ledger.atomically(|turn| turn.insert_pack(pack, object, toc, now))?;
    let (packs, bytes) = ledger.pending_size()?;
    if packs > PENDING_PACKS_MAX || bytes > PENDING_TOC_BYTES_MAX {
        ledger.atomically(|turn| {
            turn.expire_before(ledger.expired_before());
            fold(turn, bucket_blobs_max(files_max))
        })?;
    }
    Ok(kept)
}

/// Most blobs of a bucket: its share of `files_max` blobs, and a margin, because ids fall into
/// buckets by chance.
fn bucket_blobs_max(files_max: u64) -> usize {
    let share = usize::try_from(files_max / BUCKETS).unwrap_or(usize::MAX);
    share.saturating_add(share / 8 + ARRIVED_BUCKET_SPARE_BLOBS)
}

/// One bucket for each first byte of an id.
const BUCKETS: u64 = 256;

/// Moves the blobs of pending packs into their buckets; a full bucket drops its oldest blobs.
fn fold<S: Sql>(ledger: &Ledger<'_, S>, blobs_max: usize) -> Result<(), SqlError> {
    let packs = ledger.pending_packs()?;
    let mut added: BTreeMap<u8, Vec<Arrived>> = BTreeMap::new();
    for pack in &packs {
        for (blob, held) in toc_blobs(pack.object, &pack.toc()?) {
            let entry = Arrived {
                blob,
                held,
                at: pack.at,
            };
            added.entry(blob.as_bytes()[0]).or_default().push(entry);
        }
    }
    let before = ledger.expired_before();
    for (number, added) in added {
        let ids: BTreeSet<BlobId> = added.iter().map(|entry| entry.blob).collect();
        let mut all = entries(&ledger.arrived_bucket(number)?)?;
        all.retain(|entry| entry.at >= before && !ids.contains(&entry.blob));
        all.extend(added);
        let surplus = all.len().saturating_sub(blobs_max);
        all.drain(..surplus);
        let last = all.iter().map(|entry| entry.at).max().unwrap_or(0);
        ledger.put_arrived_bucket(number, encoded(&all), last)?;
    }
    packs.iter().try_for_each(|pack| ledger.folded(&pack.id))
}

/// Takes blobs in garbage, and those that have expired, out of a bucket. Runs inside a transaction.
pub(super) fn remove_doomed<S: Sql>(ledger: &Ledger<'_, S>, number: u8) -> Result<(), SqlError> {
    let before = super::lease::expired(ledger)?;
    let all = entries(&ledger.arrived_bucket(number)?)?;
    let count = all.len();
    let mut live = Vec::with_capacity(count);
    for entry in all {
        let object = &entry.held.location.extent.object;
        if entry.at >= before && !ledger.is_doomed(object)? {
            live.push(entry);
        }
    }
    if live.len() == count {
        return Ok(());
    }
    let last = live.iter().map(|entry| entry.at).max().unwrap_or(0);
    ledger.put_arrived_bucket(number, encoded(&live), last)
}

struct Arrived {
    blob: BlobId,
    held: StoredBlob,
    at: u64,
}

fn entries(bytes: &[u8]) -> Result<Vec<Arrived>, SqlError> {
    let mut reader = ByteReader::new(bytes);
    let mut entries = Vec::new();
    while reader.remaining() > 0 {
        let entry = entry(&mut reader);
        entries.push(entry.map_err(|error| SqlError(format!("arrived blobs: {error}")))?);
    }
    Ok(entries)
}

fn entry(reader: &mut ByteReader<'_>) -> Result<Arrived, Malformed> {
    let blob = BlobId::from_bytes(reader.array()?);
    let raw = reader.varint_up_to(BLOB_BYTES_MAX, "a blob's length")?;
    let location = Location::decode(reader)?;
    let at = reader.varint_up_to(EXACT_INTEGER_MAX, "a time")?;
    let held = StoredBlob { raw, location };
    Ok(Arrived { blob, held, at })
}

fn encoded(entries: &[Arrived]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 72);
    for entry in entries {
        out.extend_from_slice(entry.blob.as_bytes());
        write_varint(&mut out, entry.held.raw);
        entry.held.location.encode(&mut out);
        write_varint(&mut out, entry.at);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FILES_MAX, ISOLATE_FILES_MAX};

    #[test]
    fn buckets_hold_what_one_publish_may_bring() {
        for files_max in [ISOLATE_FILES_MAX, FILES_MAX] {
            let (mean, max) = (files_max / BUCKETS, bucket_blobs_max(files_max) as u64);
            // The margin is ten standard deviations of a bucket's number of blobs.
            assert!(mean + 10 * mean.isqrt() < max, "{files_max}: {mean}, {max}");
            // An entry has at most 100 bytes, and a row of a Durable Object 2 MB.
            assert!(max * 100 < 2_000_000, "{files_max}: {max}");
        }
    }
}
