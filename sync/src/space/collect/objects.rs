//! Objects of a space in the ledger: a row for each object from before it counts until it is
//! garbage, and two rows for each that waits for its deletion.

use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::encode::ByteReader;
use pmx_core::id::{BlobId, NodeId, ObjectId};
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::super::ledger::Ledger;
use super::GRACE;
use super::collector::Collector;
use super::references::References;
use super::sweep::GRACE_TICKS;

/// Age of a request from which on its arrivals are refused. Purged garbage is remembered for 24
/// ticks, of which the first may come at once, and the last tick may be almost an hour old.
const LATE: Duration = Duration::from_hours(22);

impl<S: Sql> Ledger<'_, S> {
    /// Records an object that was written or is about to be. One that was garbage before does not
    /// come back: its deletion may be on its way. The ledger remembers garbage for longer than
    /// [`LATE`], so it refuses arrivals whose requests began before that.
    pub(crate) fn record_object(&self, object: &ObjectId, bytes: u64) -> Result<(), Problem> {
        let id = || object.as_bytes()[..].into();
        let collector = self.collector()?;
        let is_late = self.now().after(LATE).as_millis() <= collector.ticked;
        let select = "SELECT 1 FROM doomed WHERE object = ?
             UNION ALL SELECT 1 FROM object WHERE id = ? AND mark < ? LIMIT 1";
        let live = if collector.is_sweeping() {
            collector.swept
        } else {
            0
        };
        let is_garbage = !self
            .sql()
            .run(select, &[id(), id(), live.into()])?
            .is_empty();
        if is_late || is_garbage {
            let detail = format!("object {object} was given up before its upload was recorded");
            return Err(Problem::new(Code::Unavailable, detail));
        }
        let insert = "INSERT INTO object (id, bytes, mark) VALUES (?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET mark = max(mark, excluded.mark)";
        let mark = collector.birth_mark();
        self.sql().run(insert, &[id(), bytes.into(), mark.into()])?;
        Ok(())
    }

    /// Gives an object to its sender, who deletes it, unless the ledger knows it already. A late
    /// repetition of its arrival is refused like that of garbage.
    pub(crate) fn disown_object(&self, object: &ObjectId, bytes: u64) -> Result<bool, SqlError> {
        let id = || object.as_bytes()[..].into();
        let select = "SELECT 1 FROM object WHERE id = ?";
        if !self.sql().run(select, &[id()])?.is_empty() {
            return Ok(false);
        }
        let insert = "INSERT OR IGNORE INTO doomed (due, object, tick, bytes, again)
             VALUES (?, ?, ?, ?, 1)";
        let due = self.now().after(GRACE).as_millis().into();
        let tick = self.collector()?.ticks + GRACE_TICKS;
        let params = [due, id(), tick.into(), bytes.into()];
        self.sql().run(insert, &params)?;
        Ok(true)
    }

    /// Whether an object is garbage whose rows are being deleted. Content in it is not here.
    pub(crate) fn is_doomed(&self, object: &ObjectId) -> Result<bool, SqlError> {
        let collector = self.collector()?;
        if !collector.is_sweeping() {
            return Ok(false);
        }
        let known = self.doomed_objects().borrow().get(object).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let is_doomed = !self.is_alive(object, &collector)?;
        self.doomed_objects()
            .borrow_mut()
            .insert(*object, is_doomed);
        Ok(is_doomed)
    }

    fn is_alive(&self, object: &ObjectId, collector: &Collector) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM object WHERE id = ? AND mark >= ?";
        let params = [object.as_bytes()[..].into(), collector.swept.into()];
        Ok(!self.sql().run(select, &params)?.is_empty())
    }

    /// Whether the object of an encoded location is garbage.
    pub(crate) fn is_location_doomed(&self, location: &[u8]) -> Result<bool, SqlError> {
        if !self.collector()?.is_sweeping() {
            return Ok(false);
        }
        let location = Location::decode(&mut ByteReader::new(location));
        let location = location.map_err(|error| SqlError(format!("a part: {error}")))?;
        self.is_doomed(&location.extent.object)
    }

    /// Records the objects of the parts of a big blob.
    pub(crate) fn record_big(&self, blob: &BlobId, parts: &[Location]) -> Result<(), SqlError> {
        let insert = "INSERT OR IGNORE INTO big (blob, object) VALUES (?, ?)";
        for part in parts {
            let object = part.extent.object;
            let params = [blob.as_bytes()[..].into(), object.as_bytes()[..].into()];
            self.sql().run(insert, &params)?;
        }
        Ok(())
    }

    /// Records the references of a node, unless its index node was replaced since.
    pub(super) fn record_references(
        &self,
        id: &NodeId,
        at: &Extent,
        references: &References,
    ) -> Result<(), SqlError> {
        let update = "UPDATE node SET refs = ? WHERE id = ? AND object = ? AND at = ?";
        let params = [
            references.encode().into(),
            id.as_bytes()[..].into(),
            at.object.as_bytes()[..].into(),
            at.offset.into(),
        ];
        self.sql().run(update, &params).map(drop)
    }
}
