//! Verification of objects: they exist, are long enough, and have the bytes that their blobs' ids
//! name.
//!
//! An object's checks are one for the blobs in it, and one for each part of a big blob whose table
//! of parts it has. So a step can end between the parts of a file of any size.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmx_core::backend::Blobs;
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::id::{BlobId, ObjectId};
use pmx_core::location::{Codec, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::super::blob_index::{self, BlobIndex, StoredBlob};
use super::super::command::{Loss, Lost};
use super::super::ledger::Ledger;
use super::{BYTES_AT_ONCE, Check, READS_AT_ONCE};
use crate::pack::part::{BlobParts, ChainingValue, Part, PartTable};
use crate::wire::VerifyCursor;

/// The blobs of one object.
type Held = Vec<(BlobId, StoredBlob)>;

/// What is wrong with stored bytes.
enum Fault {
    /// The range does not exist.
    Absent,
    /// The bytes are not those that the id names.
    Rotten(String),
}

impl<S: Sql, B: Blobs> Check<'_, '_, S, B> {
    /// Checks the objects behind one. Returns where the next step begins.
    pub(super) async fn objects(
        &mut self,
        mut after: Option<ObjectId>,
        mut skip: u64,
    ) -> Result<Option<VerifyCursor>, Problem> {
        let found = next_objects(self.ledger, after)?;
        let is_all = found.len() < READS_AT_ONCE;
        for (object, held) in found {
            let done = self.object(object, &held, skip).await?;
            if let Some(done) = done {
                return Ok(Some(VerifyCursor::Objects(after, done)));
            }
            (after, skip) = (Some(object), 0);
            self.reply.objects += 1;
            if self.is_over() {
                return Ok(Some(VerifyCursor::Objects(after, 0)));
            }
        }
        Ok((!is_all).then_some(VerifyCursor::Objects(after, 0)))
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
                self.blobs_in(object, &small).await?;
            }
        }
        for (blob, stored) in &big {
            let parts = BlobParts::of(stored.raw)?;
            if done + u64::from(parts.count()) <= skip {
                done += u64::from(parts.count());
                continue;
            }
            let Some(table) = self.table(blob, stored, parts).await? else {
                done += u64::from(parts.count());
                continue;
            };
            for part in parts.all() {
                done += 1;
                if done <= skip {
                    continue;
                }
                self.part((blob, stored), &table, part).await?;
                if self.is_over() {
                    return Ok(Some(done));
                }
            }
        }
        Ok(None)
    }

    /// Checks the blobs of an object that lie in it whole.
    async fn blobs_in(&mut self, object: ObjectId, held: &Held) -> Result<(), Problem> {
        let end = held.iter().map(|(_, blob)| end_of(&blob.location)).max();
        let end = end.unwrap_or_default();
        let last = end.saturating_sub(1)..end;
        if self.read(object, last).await?.is_none() {
            return self.short_object(object, held).await;
        }
        if !self.reads_data(object) {
            return Ok(());
        }
        let mut rest = held.clone();
        rest.sort_by_key(|(_, blob)| blob.location.extent.offset);
        let mut rest = &rest[..];
        while let Some((_, first)) = rest.first() {
            let from = first.location.extent.offset;
            let fits = |(_, blob): &&(BlobId, StoredBlob)| {
                end_of(&blob.location) <= from.saturating_add(BYTES_AT_ONCE)
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
            let bytes = read.as_ref().map(|read| {
                let start = (extent.offset - from) as usize;
                read.slice(start..start + extent.len as usize)
            });
            self.reply.blobs += 1;
            self.reply.bytes += extent.len;
            if let Err(fault) = hashed(blob, stored, bytes, &mut decoder) {
                self.lose_blob(blob, &stored.location, object, &fault)?;
            }
        }
        Ok(())
    }

    /// Checks a blob where an index node locates it, and the ledger does not.
    pub(super) async fn blob_elsewhere(
        &mut self,
        blob: &BlobId,
        stored: &StoredBlob,
    ) -> Result<(), Problem> {
        let extent = stored.location.extent;
        let is_whole = matches!(stored.location.codec, Codec::Stored | Codec::Zstd);
        let reads = is_whole && self.reads_data(extent.object);
        let from = if reads {
            extent.offset
        } else {
            end_of(&stored.location).saturating_sub(1)
        };
        let read = self.read(extent.object, from..end_of(&stored.location));
        let read = read.await?;
        let found = match &read {
            None => Err(Fault::Absent),
            Some(_) if reads => {
                self.reply.blobs += 1;
                self.reply.bytes += extent.len;
                hashed(blob, stored, read, &mut Decoder::new())
            }
            Some(_) => Ok(()),
        };
        if let Err(fault) = found {
            // The next publish of the blob writes the index nodes that lead to it again.
            self.report(blob, extent.object, &fault);
            self.mark(blob, &stored.location, extent.object, &fault);
        }
        Ok(())
    }

    /// An object is gone, or ends before its last blob.
    async fn short_object(&mut self, object: ObjectId, held: &Held) -> Result<(), Problem> {
        if self.read(object, 0..1).await?.is_some() {
            for (blob, stored) in held {
                let extent = stored.location.extent;
                let range = extent.offset..end_of(&stored.location);
                if self.read(object, range).await?.is_none() {
                    self.lose_blob(blob, &stored.location, object, &Fault::Absent)?;
                }
            }
            return Ok(());
        }
        let fresh = Ledger::new(self.ledger.sql()).at(self.ledger.now());
        let have = BlobIndex::new(&fresh);
        for (blob, stored) in held {
            if have.find_or_lost(blob)?.map(|held| held.location) == Some(stored.location) {
                let count = held.len();
                let why = format!("it is gone, with {count} of the space's blobs");
                self.fault(format!("object {object}"), why);
                self.mark(blob, &stored.location, object, &Fault::Absent);
                return Ok(());
            }
        }
        Ok(())
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
            None => Fault::Absent,
            Some(bytes) => match PartTable::decode(&bytes, parts) {
                Ok(table) if table.is_of(parts, blob) => return Ok(Some(table)),
                Ok(_) => Fault::Rotten("its parts do not merge to its id".into()),
                Err(error) => Fault::Rotten(format!("its table of parts: {error}")),
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
            None => Fault::Absent,
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
        let fresh = Ledger::new(self.ledger.sql()).at(self.ledger.now());
        let held = BlobIndex::new(&fresh).find_or_lost(blob)?;
        if held.is_some_and(|held| held.location == *at) {
            self.report(blob, object, fault);
            self.mark(blob, at, object, fault);
        }
        Ok(())
    }

    fn report(&mut self, blob: &BlobId, object: ObjectId, fault: &Fault) {
        let why = match fault {
            Fault::Absent => format!("object {object} is gone, or ends before it"),
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

/// The next objects with blobs, in the order of their ids, and the blobs in each.
fn next_objects<S: Sql>(
    ledger: &Ledger<'_, S>,
    after: Option<ObjectId>,
) -> Result<BTreeMap<ObjectId, Held>, SqlError> {
    let mut found: BTreeMap<ObjectId, Held> = BTreeMap::new();
    blob_index::each(ledger, |blob, stored| {
        let object = stored.location.extent.object;
        if after.is_some_and(|after| object <= after) {
            return;
        }
        found.entry(object).or_default().push((blob, *stored));
        if found.len() > READS_AT_ONCE {
            found.pop_last();
        }
    })?;
    Ok(found)
}

const fn end_of(location: &Location) -> u64 {
    let extent = location.extent;
    extent.offset.saturating_add(extent.len)
}

/// Compares stored bytes with the id of their blob.
fn hashed(
    blob: &BlobId,
    stored: &StoredBlob,
    bytes: Option<Bytes>,
    decoder: &mut Decoder,
) -> Result<(), Fault> {
    let bytes = bytes.ok_or(Fault::Absent)?;
    let found = match stored.location.codec {
        Codec::Zstd => {
            let decoded = decoder.frame(&bytes, stored.raw, Bounds::STORED);
            BlobId::of(&decoded.map_err(|error| Fault::Rotten(error.to_string()))?)
        }
        Codec::Stored | Codec::Parts | Codec::ZstdParts => BlobId::of(&bytes),
    };
    if found == *blob {
        Ok(())
    } else {
        Err(Fault::Rotten("its bytes have another hash".into()))
    }
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
