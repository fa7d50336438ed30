//! Arrivals: the ledger's queries about packs, parts and blobs that wait for a commit.

use pmx_core::id::{BlobId, ObjectId, PackId};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::blob_index::StoredBlob;
use super::blob_index::toc_blobs;
use super::columns::{array, blob, integer};
use super::ledger::{KeptPart, Ledger};
use super::pending::PendingPack;
use crate::limits::{ARRIVED_PACKS_NAMED_MAX, PARTS_NAMED_MAX};
use crate::pack::stored::Toc;
use crate::wire::ArrivedParts;

impl<S: Sql> Ledger<'_, S> {
    /// Records a pack that arrived; returns the object that counts. A pack that is sent again
    /// counts as new.
    pub(crate) fn insert_pack(
        &self,
        pack: &PackId,
        object: &ObjectId,
        toc: &[u8],
        now: Timestamp,
    ) -> Result<ObjectId, Problem> {
        let upsert = "INSERT INTO pack (id, object, toc, at) VALUES (?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET at = excluded.at, folded = NULL
             WHERE toc IS NOT NULL";
        let id: Value = pack.as_bytes()[..].into();
        if let Some(known) = self.pack_object(pack)?
            && self.is_doomed(&known)?
        {
            let delete = "DELETE FROM pack WHERE id = ?";
            self.sql().run(delete, std::slice::from_ref(&id))?;
        }
        let object_id = object.as_bytes()[..].into();
        let params = [id.clone(), object_id, toc.into(), now.as_millis().into()];
        self.sql().run(upsert, &params)?;
        let kept = self.pack_object(pack)?.unwrap_or(*object);
        if kept == *object {
            self.record_object(object, stored_bytes(toc)?)?;
        } else if !self.disown_object(object, stored_bytes(toc)?)? {
            return Ok(*object);
        }
        Ok(kept)
    }

    /// The object of a pack that arrived.
    fn pack_object(&self, pack: &PackId) -> Result<Option<ObjectId>, SqlError> {
        let select = "SELECT object FROM pack WHERE id = ?";
        let rows = self.sql().run(select, &[pack.as_bytes()[..].into()])?;
        let object = rows.first().map(|row| array(row, 0)).transpose()?;
        Ok(object.map(ObjectId::from_bytes))
    }

    /// Packs that are neither in a deploy nor folded: at most a few more than
    /// `PENDING_PACKS_MAX`.
    pub(crate) fn pending_packs(&self) -> Result<Vec<PendingPack>, SqlError> {
        let select = "SELECT id, object, toc, coalesce(at, 0) FROM pack
             WHERE toc IS NOT NULL AND folded IS NULL AND (at IS NULL OR at >= ?) ORDER BY at";
        let rows = self.sql().run(select, &[self.expired_before().into()])?;
        let mut packs = Vec::with_capacity(rows.len());
        for row in &rows {
            let pack = PendingPack::of(row)?;
            if !self.is_doomed(&pack.object)? {
                packs.push(pack);
            }
        }
        Ok(packs)
    }

    /// The number of packs that are pending and not folded, and the bytes of their tables of
    /// contents.
    pub(crate) fn pending_size(&self) -> Result<(u64, u64), SqlError> {
        let select = "SELECT count(*), coalesce(sum(length(toc)), 0) FROM pack
             WHERE toc IS NOT NULL AND folded IS NULL";
        let rows = self.sql().run(select, &[])?;
        let size = |row: &SqlRow| Ok((integer(row, 0)?, integer(row, 1)?));
        rows.first().map_or(Ok((0, 0)), size)
    }

    /// Packs that arrived last and that no deploy has.
    pub(crate) fn arrived_packs(&self) -> Result<Vec<PackId>, SqlError> {
        let select = "SELECT id, object FROM pack
             WHERE toc IS NOT NULL AND (at IS NULL OR at >= ?) ORDER BY at DESC LIMIT ?";
        let params = [self.expired_before().into(), ARRIVED_PACKS_NAMED_MAX.into()];
        let rows = self.sql().run(select, &params)?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            if !self.is_doomed(&ObjectId::from_bytes(array(row, 1)?))? {
                ids.push(PackId::from_bytes(array(row, 0)?));
            }
        }
        Ok(ids)
    }

    /// Records that the blobs of a pack are in the buckets of arrived blobs.
    pub(crate) fn folded(&self, pack: &PackId) -> Result<(), SqlError> {
        let update = "UPDATE pack SET folded = 1 WHERE id = ?";
        let params = [pack.as_bytes()[..].into()];
        self.sql().run(update, &params).map(drop)
    }

    pub(crate) fn arrived_bucket(&self, bucket: u8) -> Result<Vec<u8>, SqlError> {
        let select = "SELECT blobs FROM arrived WHERE bucket = ?";
        let rows = self.sql().run(select, &[u64::from(bucket).into()])?;
        rows.first().map_or(Ok(Vec::new()), |row| blob(row, 0))
    }

    pub(crate) fn put_arrived_bucket(
        &self,
        bucket: u8,
        blobs: Vec<u8>,
        last: u64,
    ) -> Result<(), SqlError> {
        let upsert = "INSERT INTO arrived (bucket, blobs, last) VALUES (?, ?, ?)
             ON CONFLICT (bucket) DO UPDATE SET blobs = excluded.blobs, last = excluded.last";
        let params = [u64::from(bucket).into(), blobs.into(), last.into()];
        self.sql().run(upsert, &params).map(drop)
    }

    /// The encoded table of contents of a pack whose blobs are not in their buckets yet.
    pub(crate) fn pending_toc(&self, pack: &PackId) -> Result<Option<Vec<u8>>, SqlError> {
        let select = "SELECT toc FROM pack WHERE id = ? AND toc IS NOT NULL";
        let rows = self.sql().run(select, &[pack.as_bytes()[..].into()])?;
        rows.first().map(|row| blob(row, 0)).transpose()
    }

    /// The blobs of a pack that are not in their buckets yet.
    pub(crate) fn pending_blobs(
        &self,
        pack: &PackId,
    ) -> Result<Vec<(BlobId, StoredBlob)>, SqlError> {
        let select = "SELECT id, object, toc, coalesce(at, 0) FROM pack
             WHERE id = ? AND toc IS NOT NULL";
        let rows = self.sql().run(select, &[pack.as_bytes()[..].into()])?;
        let Some(row) = rows.first() else {
            return Ok(Vec::new());
        };
        let pack = PendingPack::of(row)?;
        Ok(toc_blobs(pack.object, &pack.toc()?).collect())
    }

    /// Records that a pack's blobs are in their buckets.
    pub(crate) fn fold_pack(&self, pack: &PackId) -> Result<(), SqlError> {
        let update = "UPDATE pack SET toc = NULL WHERE id = ? AND toc IS NOT NULL";
        self.sql()
            .run(update, &[pack.as_bytes()[..].into()])
            .map(drop)
    }

    /// Records a part that arrived. A later one replaces it, because either may be the false one.
    pub(crate) fn insert_part(
        &self,
        (blob, size): (&BlobId, u64),
        number: u64,
        chaining_value: &[u8; 32],
        location: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let upsert = "INSERT INTO part (blob, number, size, chaining_value, location, at)
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (blob, number) DO UPDATE
             SET size = excluded.size, chaining_value = excluded.chaining_value,
                 location = excluded.location, at = excluded.at";
        let (blob, value) = (blob.as_bytes()[..].into(), chaining_value[..].into());
        let (number, size, at) = (number.into(), size.into(), now.as_millis().into());
        let params = [blob, number, size, value, location.into(), at];
        self.sql().run(upsert, &params).map(drop)
    }

    /// The arrived parts of a blob of `size`, by number: chaining value, encoded location.
    pub(crate) fn parts(&self, blob_id: &BlobId, size: u64) -> Result<Vec<KeptPart>, SqlError> {
        let select = "SELECT number, chaining_value, location FROM part
             WHERE blob = ? AND size = ? AND (at IS NULL OR at >= ?) ORDER BY number";
        let before = self.expired_before().into();
        let params = [blob_id.as_bytes()[..].into(), size.into(), before];
        let rows = self.sql().run(select, &params)?;
        let mut parts = Vec::with_capacity(rows.len());
        for row in &rows {
            let location = blob(row, 2)?;
            if !self.is_location_doomed(&location)? {
                parts.push((integer(row, 0)?, array(row, 1)?, location));
            }
        }
        Ok(parts)
    }

    /// The arrived parts of incomplete blobs.
    pub(crate) fn arrived_parts(&self) -> Result<Vec<ArrivedParts>, SqlError> {
        let select = "SELECT blob, number, location FROM part WHERE at IS NULL OR at >= ?
             ORDER BY blob, number LIMIT ?";
        let params = [self.expired_before().into(), PARTS_NAMED_MAX.into()];
        let rows = self.sql().run(select, &params)?;
        let mut all: Vec<ArrivedParts> = Vec::new();
        for row in &rows {
            if self.is_location_doomed(&blob(row, 2)?)? {
                continue;
            }
            let (blob, number) = (BlobId::from_bytes(array(row, 0)?), integer(row, 1)?);
            match all.last_mut() {
                Some(last) if last.blob == blob => last.have.push(number),
                Some(_) | None => all.push(ArrivedParts {
                    blob,
                    have: std::iter::once(number).collect(),
                }),
            }
        }
        Ok(all)
    }

    pub(crate) fn drop_parts(&self, blob: &BlobId) -> Result<(), SqlError> {
        self.sql()
            .run(
                "DELETE FROM part WHERE blob = ?",
                &[blob.as_bytes()[..].into()],
            )
            .map(drop)
    }
}

/// Bytes of a stored pack with this table of contents: its frames, the seal, the table and the
/// footer.
fn stored_bytes(toc: &[u8]) -> Result<u64, SqlError> {
    const SEAL_AND_FOOTER: u64 = 32 + 4 + 4 + 1;
    let table = Toc::decode(toc).map_err(|error| SqlError(format!("a pack: {error}")))?;
    let frames: u64 = table.entries().iter().map(|entry| entry.stored).sum();
    Ok(frames + toc.len() as u64 + SEAL_AND_FOOTER)
}
