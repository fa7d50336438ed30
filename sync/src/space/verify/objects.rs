//! Verification of objects: they exist, are long enough, and have the bytes that their blobs' ids
//! name.
//!
//! An object's checks are one for the blobs in it, and one for each part of a big blob whose table
//! of parts it has. So a step can end between the parts of a file of any size.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs};
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::id::{BlobId, NodeId, ObjectId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::super::blob_index::{self, BlobIndex, StoredBlob};
use super::super::command::{Loss, Lost};
use super::super::ledger::Ledger;
use super::super::stored_bytes::{Fault, hashed, open_table};
use super::{Check, FAULTS_AT_ONCE, READS_AT_ONCE};
use crate::pack::part::{BlobParts, ChainingValue, Part, PartTable};
use crate::wire::Reached;

/// The blobs of one object.
type Held = Vec<(BlobId, StoredBlob)>;

/// Bytes of one read of neighbouring blobs.
const CHUNK_BYTES: u64 = 8 * 1024 * 1024;

/// Blobs whose locations a step keeps in memory, unless one object has more.
const BLOBS_AT_ONCE: usize = 65_536;

/// Faults that an answer names. All are marked.
const FAULTS_MAX: usize = 2 * FAULTS_AT_ONCE;

impl<S: Sql, B: Blobs> Check<'_, S, B> {
    /// Checks the objects behind one. Returns what it reached, if more are left.
    pub(super) async fn objects(
        &mut self,
        reached: Option<Reached<ObjectId>>,
    ) -> Result<Option<Reached<ObjectId>>, Problem> {
        let Some(page) = next_objects(self.ledger, reached.as_ref())? else {
            return Ok(None);
        };
        let mut last = None;
        for (object, held) in &page.objects {
            let done = Reached::done_of(reached.as_ref(), object);
            let checks = self.object(*object, held, done).await?;
            last = Some(Reached {
                id: *object,
                checks,
            });
            if checks.is_some() {
                return Ok(last);
            }
            self.reply.objects += 1;
            if self.is_over() {
                return Ok(last);
            }
        }
        Ok(last.filter(|_| page.has_more))
    }

    /// Does the checks of an object from one on. Returns their number so far if more are left.
    async fn object(
        &mut self,
        object: ObjectId,
        held: &Held,
        skip: u64,
    ) -> Result<Option<u64>, Problem> {
        let is_big = |codec| matches!(codec, Codec::Parts | Codec::ZstdParts);
        let (big, small): (Held, Held) = held
            .iter()
            .partition(|(_, blob)| is_big(blob.location.codec));
        let mut done = 0;
        if !small.is_empty() {
            done += 1;
            if done > skip {
                self.blobs_in(object, small).await?;
                if self.is_over() && !big.is_empty() {
                    return Ok(Some(done));
                }
            }
        }
        for (blob, stored) in &big {
            let parts = match BlobParts::of(stored.raw) {
                Ok(parts) => parts,
                Err(error) => {
                    let fault = Fault::Rotten(error.to_string());
                    self.lose_blob(blob, &stored.location, object, &fault)?;
                    continue;
                }
            };
            let first = done;
            done += u64::from(parts.count());
            if done <= skip {
                continue;
            }
            if let Some(table) = self.table(blob, stored, parts).await? {
                for (part, number) in parts.all().zip(first + 1..) {
                    if number <= skip {
                        continue;
                    }
                    self.part((blob, stored), &table, part).await?;
                    if self.is_over() {
                        return Ok(Some(number));
                    }
                }
            }
            if self.is_over() {
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// Checks the blobs of an object that lie in it whole.
    async fn blobs_in(&mut self, object: ObjectId, mut held: Held) -> Result<(), Problem> {
        held.sort_by_key(|(_, blob)| end_of(&blob.location));
        let last = held.last().map_or(0, |(_, blob)| end_of(&blob.location));
        if !self.reaches(object, last).await? {
            let whole = self.short_object(object, &held).await?;
            held.truncate(whole);
        }
        if !self.reads_data(object) {
            return Ok(());
        }
        held.sort_by_key(|(_, blob)| blob.location.extent.offset);
        let mut rest = &held[..];
        while let Some((_, first)) = rest.first() {
            let from = first.location.extent.offset;
            let fits = |(_, blob): &&(BlobId, StoredBlob)| {
                end_of(&blob.location) <= from.saturating_add(CHUNK_BYTES)
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (chunk, others) = rest.split_at(count);
            self.chunk(object, from, chunk).await?;
            rest = others;
        }
        Ok(())
    }

    /// Reads neighbouring blobs at once, and hashes each.
    async fn chunk(
        &mut self,
        object: ObjectId,
        from: u64,
        held: &[(BlobId, StoredBlob)],
    ) -> Result<(), Problem> {
        let to = held.iter().map(|(_, blob)| end_of(&blob.location)).max();
        let read = self.read(object, from..to.unwrap_or(from)).await?;
        let mut decoder = Decoder::new();
        for (blob, stored) in held {
            let extent = stored.location.extent;
            let bytes = read.as_ref().and_then(|read| {
                let start = usize::try_from(extent.offset.checked_sub(from)?).ok()?;
                let end = start.checked_add(usize::try_from(extent.len).ok()?)?;
                (end <= read.len()).then(|| read.slice(start..end))
            });
            self.reply.blobs += 1;
            self.reply.bytes += extent.len;
            if let Err(fault) = hashed(blob, stored, bytes, &mut decoder) {
                self.lose_blob(blob, &stored.location, object, &fault)?;
            }
        }
        Ok(())
    }

    /// Whether an object has a byte before `end`.
    async fn reaches(&mut self, object: ObjectId, end: u64) -> Result<bool, BackendError> {
        let last = end.saturating_sub(1)..end;
        Ok(self.read(object, last).await?.is_some())
    }

    /// Checks a blob where the index node of `node` locates it, and the ledger does not. Of a big
    /// blob it checks the table of parts alone.
    pub(super) async fn blob_elsewhere(
        &mut self,
        node: (NodeId, Extent),
        blob: &BlobId,
        stored: &StoredBlob,
    ) -> Result<(), Problem> {
        let extent = stored.location.extent;
        let is_big = matches!(stored.location.codec, Codec::Parts | Codec::ZstdParts);
        let reads = is_big || self.reads_data(extent.object);
        let end = end_of(&stored.location);
        let from = if reads {
            extent.offset
        } else {
            end.saturating_sub(1)
        };
        let read = self.read(extent.object, from..end).await?;
        let found = match read {
            None => Err(Fault::Short),
            Some(bytes) if is_big => open_table(&bytes, blob, stored.raw).map(drop),
            Some(bytes) if reads => {
                self.reply.blobs += 1;
                self.reply.bytes += extent.len;
                hashed(blob, stored, Some(bytes), &mut Decoder::new())
            }
            Some(_) => Ok(()),
        };
        if let Err(fault) = found
            && self.is_still_at(&node.0, node.1)?
        {
            // The next publish of the node writes an index node that leads to the ledger's copy.
            self.report(blob, extent.object, &fault);
            self.mark(blob, &stored.location, extent.object, &fault);
        }
        Ok(())
    }

    /// An object is gone, or ends before its last blob. Returns how many of its blobs, in the order
    /// of their ends, are before the end.
    async fn short_object(&mut self, object: ObjectId, held: &Held) -> Result<usize, Problem> {
        if self.is_gone(object).await? {
            let have = self.now();
            let have = BlobIndex::new(&have);
            let mut is_known = false;
            for (blob, stored) in held.iter().take(1) {
                let now = have.find_or_lost(blob)?;
                is_known = now.is_some_and(|now| now.location == stored.location);
            }
            if let Some((blob, stored)) = held.first().filter(|_| is_known) {
                let why = format!("it is gone, with {} of the space's blobs", held.len());
                self.fault(format!("object {object}"), why);
                self.mark(blob, &stored.location, object, &Fault::Absent);
            }
            return Ok(0);
        }
        // Every blob before one that is there is there.
        let (mut there, mut short) = (0, held.len());
        while there < short {
            let middle = there.midpoint(short);
            let end = held
                .get(middle)
                .map_or(0, |(_, blob)| end_of(&blob.location));
            if self.reaches(object, end).await? {
                there = middle + 1;
            } else {
                short = middle;
            }
        }
        for (blob, stored) in held.iter().skip(there) {
            self.lose_blob(blob, &stored.location, object, &Fault::Short)?;
        }
        Ok(there)
    }

    /// Reads the table of the parts of a big blob.
    async fn table(
        &mut self,
        blob: &BlobId,
        stored: &StoredBlob,
        parts: BlobParts,
    ) -> Result<Option<PartTable>, Problem> {
        let extent = stored.location.extent;
        let range = extent.offset..end_of(&stored.location);
        let fault = match self.read(extent.object, range).await? {
            None => self.short_or_gone(extent.object).await?,
            Some(bytes) => match open_table(&bytes, blob, parts.size()) {
                Ok(table) => return Ok(Some(table)),
                Err(fault) => fault,
            },
        };
        self.lose_blob(blob, &stored.location, extent.object, &fault)?;
        Ok(None)
    }

    /// Checks a part of a big blob. A table of the first version has no hash of each part: such a
    /// part is only decoded.
    async fn part(
        &mut self,
        (blob, stored): (&BlobId, &StoredBlob),
        table: &PartTable,
        part: Part,
    ) -> Result<(), Problem> {
        let Some(at) = table.location(part) else {
            return Ok(());
        };
        let (object, reads) = (at.extent.object, self.reads_data(at.extent.object));
        let from = if reads {
            at.extent.offset
        } else {
            end_of(at).saturating_sub(1)
        };
        let read = self.read(object, from..end_of(at)).await?;
        let fault = match read {
            None => self.short_or_gone(object).await?,
            Some(_) if !reads => return Ok(()),
            Some(bytes) => {
                self.reply.blobs += 1;
                self.reply.bytes += at.extent.len;
                match hashed_part(bytes, at, table, part) {
                    Ok(()) => return Ok(()),
                    Err(why) => Fault::Rotten(format!("its part {}: {why}", part.number())),
                }
            }
        };
        self.lose_blob(blob, &stored.location, object, &fault)
    }

    async fn short_or_gone(&mut self, object: ObjectId) -> Result<Fault, BackendError> {
        Ok(if self.is_gone(object).await? {
            Fault::Absent
        } else {
            Fault::Short
        })
    }

    fn reads_data(&self, object: ObjectId) -> bool {
        self.data.is_some_and(|data| data.has(&object))
    }

    /// Records a fault of a blob, unless it was collected or sent again since the step read where
    /// it lies.
    fn lose_blob(
        &mut self,
        blob: &BlobId,
        at: &Location,
        object: ObjectId,
        fault: &Fault,
    ) -> Result<(), Problem> {
        let now = self.now();
        let held = BlobIndex::new(&now).find_or_lost(blob)?;
        if held.is_some_and(|held| held.location == *at) {
            self.report(blob, object, fault);
            self.mark(blob, at, object, fault);
        }
        Ok(())
    }

    fn report(&mut self, blob: &BlobId, object: ObjectId, fault: &Fault) {
        if self.reply.faults.len() >= FAULTS_MAX {
            return;
        }
        let why = match fault {
            Fault::Absent => format!("object {object} is gone"),
            Fault::Short => format!("object {object} ends before it"),
            Fault::Rotten(why) => format!("in object {object}: {why}"),
        };
        self.fault(format!("blob {blob}"), why);
    }

    fn mark(&mut self, blob: &BlobId, at: &Location, object: ObjectId, fault: &Fault) {
        self.losses.push(Loss {
            lost: Lost::Blob {
                blob: *blob,
                at: *at,
            },
            object,
            is_absent: matches!(fault, Fault::Absent),
        });
    }
}

/// Some objects with blobs, in the order of their ids.
struct Page {
    objects: BTreeMap<ObjectId, Held>,
    has_more: bool,
}

/// The objects from one on, and the blobs in each; `None` if there is none.
fn next_objects<S: Sql>(
    ledger: &Ledger<'_, S>,
    reached: Option<&Reached<ObjectId>>,
) -> Result<Option<Page>, SqlError> {
    let is_before = |object: &ObjectId| {
        reached.is_some_and(|reached| {
            *object < reached.id || *object == reached.id && reached.checks.is_none()
        })
    };
    let mut objects: BTreeMap<ObjectId, Held> = BTreeMap::new();
    let (mut has_more, mut count) = (false, 0);
    blob_index::each(ledger, |blob, stored| {
        let object = stored.location.extent.object;
        let is_left_out = has_more && objects.last_key_value().is_some_and(|(id, _)| object > *id);
        if is_before(&object) || is_left_out {
            return;
        }
        objects.entry(object).or_default().push((blob, *stored));
        count += 1;
        while objects.len() > READS_AT_ONCE || count > BLOBS_AT_ONCE && objects.len() > 1 {
            has_more = true;
            count -= objects.pop_last().map_or(0, |(_, held)| held.len());
        }
    })?;
    Ok((!objects.is_empty()).then_some(Page { objects, has_more }))
}

const fn end_of(location: &Location) -> u64 {
    let extent = location.extent;
    extent.offset.saturating_add(extent.len)
}

fn hashed_part(bytes: Bytes, at: &Location, table: &PartTable, part: Part) -> Result<(), String> {
    let raw = match at.codec {
        Codec::Zstd => {
            let decoded = Decoder::new().frame(&bytes, part.len(), Bounds::STORED);
            Bytes::from(decoded.map_err(|error| error.to_string())?)
        }
        Codec::Stored | Codec::Parts | Codec::ZstdParts => bytes,
    };
    let found = ChainingValue::of(part, &raw).map_err(|error| error.to_string())?;
    if table.value(part).is_none_or(|value| *value == found) {
        Ok(())
    } else {
        Err("its bytes have another hash".into())
    }
}
