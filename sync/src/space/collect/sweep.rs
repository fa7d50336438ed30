//! Sweep: deletes the rows of what has no mark of the epoch, a bounded number a step.
//!
//! The space takes such rows for absent from the step on that began the sweep, so the order in
//! which they go does not matter, and a publish sends again what they named.

use std::time::Duration;

use pmx_core::id::{NodeId, ObjectId};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::super::blob_index;
use super::super::columns::{array, blob, integer, optional_integer};
use super::super::ledger::Ledger;
use super::super::{lease, pending};
use super::collector::{Collector, Cursor, Phase, Sweeping};
use super::mark::{key_cursor, last_of, part_cursor, parts_after};
use super::{GRACE, ROWS_AT_ONCE};
use crate::wire::CollectReply;

/// Buckets of the blob index that one step reads, of 1,024.
const BUCKETS_AT_ONCE: u64 = 32;

/// Buckets of arrived blobs that one step reads, of 256: they may be larger.
const ARRIVED_AT_ONCE: u64 = 16;

/// Objects that one step takes for its two rows each.
const OBJECTS_AT_ONCE: u64 = 128;

/// The same time in hours that really passed, see [`Collector::tick`].
pub(super) const GRACE_TICKS: u64 = 24;

/// The second deletion of what goes at once: requests that were under way have ended.
const SOON: Duration = Duration::from_mins(1);

/// Takes one step of the sweep. Returns false if it must wait for the delivery of a pointer.
pub(super) fn advance<S: Sql>(
    turn: &Ledger<'_, S>,
    collector: &mut Collector,
    (stage, cursor): (Sweeping, Cursor),
    reply: &mut CollectReply,
) -> Result<bool, Problem> {
    let next = match stage {
        Sweeping::Nodes => nodes(turn, collector.swept, &cursor)?,
        Sweeping::Blobs => blobs(turn, &cursor)?,
        Sweeping::Packs => packs(turn, &cursor)?,
        Sweeping::Parts => parts(turn, &cursor)?,
        Sweeping::Arrived => arrived(turn, &cursor)?,
        Sweeping::Big => big(turn, &cursor)?,
        Sweeping::Objects => {
            // A purge does not wait for what was given up before either.
            collector.is_purging |= collector.is_purge;
            if !collector.is_purging && turn.has_older_pointer(collector.swept)? {
                return Ok(false);
            }
            objects(turn, collector, &cursor, reply)?
        }
    };
    collector.phase = match (next, stage) {
        (Some(cursor), stage) => Phase::Sweeping(stage, cursor),
        (None, Sweeping::Nodes) => first(Sweeping::Blobs),
        (None, Sweeping::Blobs) => first(Sweeping::Packs),
        (None, Sweeping::Packs) => first(Sweeping::Parts),
        (None, Sweeping::Parts) => first(Sweeping::Arrived),
        (None, Sweeping::Arrived) => first(Sweeping::Big),
        (None, Sweeping::Big) => first(Sweeping::Objects),
        (None, Sweeping::Objects) => Phase::Idle,
    };
    Ok(true)
}

fn first(stage: Sweeping) -> Phase {
    Phase::Sweeping(stage, Cursor::default())
}

/// Deletes nodes without the mark, and pending ones that have expired.
fn nodes<S: Sql>(
    turn: &Ledger<'_, S>,
    swept: u64,
    cursor: &Cursor,
) -> Result<Option<Cursor>, Problem> {
    let select = "SELECT id, object IS NULL, mark, kept FROM node
         WHERE id > ? ORDER BY id LIMIT ?";
    let before = lease::expired(turn)?;
    let params = [cursor.key[..].into(), ROWS_AT_ONCE.into()];
    let rows = turn.sql().run(select, &params)?;
    for row in &rows {
        let is_pending = integer(row, 1)? != 0;
        let is_garbage = if is_pending {
            optional_integer(row, 3)?.is_some_and(|kept| kept < before)
        } else {
            integer(row, 2)? < swept
        };
        if is_garbage {
            delete_node(turn, &NodeId::from_bytes(array(row, 0)?))?;
        }
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(key_cursor).transpose()?)
}

fn delete_node<S: Sql>(turn: &Ledger<'_, S>, id: &NodeId) -> Result<(), SqlError> {
    for delete in [
        "DELETE FROM node WHERE id = ?",
        "DELETE FROM damaged WHERE node = ?",
    ] {
        turn.sql().run(delete, &[id.as_bytes()[..].into()])?;
    }
    Ok(())
}

/// Takes blobs in garbage out of their buckets.
fn blobs<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    let (buckets, next) = turn.buckets("have", cursor, BUCKETS_AT_ONCE)?;
    for number in buckets {
        blob_index::remove_doomed(turn, number)?;
    }
    Ok(next)
}

/// Forgets packs whose objects are garbage: the same pack sent again is a new one.
fn packs<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    let select = "SELECT id, object FROM pack WHERE id > ? ORDER BY id LIMIT ?";
    let params = [cursor.key[..].into(), ROWS_AT_ONCE.into()];
    let rows = turn.sql().run(select, &params)?;
    for row in &rows {
        if turn.is_doomed(&ObjectId::from_bytes(array(row, 1)?))? {
            let delete = "DELETE FROM pack WHERE id = ?";
            turn.sql().run(delete, &[blob(row, 0)?.into()])?;
        }
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(key_cursor).transpose()?)
}

fn parts<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    let rows = parts_after(turn, cursor)?;
    for row in &rows {
        if turn.is_location_doomed(&blob(row, 2)?)? {
            let delete = "DELETE FROM part WHERE blob = ? AND number = ?";
            let params = [blob(row, 0)?.into(), integer(row, 1)?.into()];
            turn.sql().run(delete, &params)?;
        }
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(part_cursor).transpose()?)
}

fn arrived<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    let (buckets, next) = turn.buckets("arrived", cursor, ARRIVED_AT_ONCE)?;
    for number in buckets {
        pending::remove_doomed(turn, number)?;
    }
    Ok(next)
}

/// Forgets parts of big blobs whose objects are garbage.
fn big<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    // The blobs of a page, whole: the cursor names a blob.
    let select = "SELECT DISTINCT blob FROM big WHERE blob > ? ORDER BY blob LIMIT 1";
    let rows = turn.sql().run(select, &[cursor.key[..].into()])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let select = "SELECT object FROM big WHERE blob = ?";
    for part in turn.sql().run(select, &[blob(row, 0)?.into()])? {
        if turn.is_doomed(&ObjectId::from_bytes(array(&part, 0)?))? {
            let delete = "DELETE FROM big WHERE blob = ? AND object = ?";
            let params = [blob(row, 0)?.into(), blob(&part, 0)?.into()];
            turn.sql().run(delete, &params)?;
        }
    }
    Ok(Some(key_cursor(row)?))
}

/// Moves garbage from the objects to those that wait for their deletion.
fn objects<S: Sql>(
    turn: &Ledger<'_, S>,
    collector: &Collector,
    cursor: &Cursor,
    reply: &mut CollectReply,
) -> Result<Option<Cursor>, Problem> {
    let select = "SELECT id, bytes FROM object WHERE id > ? AND mark < ? ORDER BY id LIMIT ?";
    let (mark, limit) = (collector.swept.into(), OBJECTS_AT_ONCE.into());
    let rows = turn
        .sql()
        .run(select, &[cursor.key[..].into(), mark, limit])?;
    let now = turn.now();
    let later = (now.after(GRACE), GRACE_TICKS);
    let deletions = if collector.is_purging {
        vec![(now, 0), (now.after(SOON), 0), later]
    } else {
        vec![later, (now.after(GRACE).after(GRACE), 2 * GRACE_TICKS)]
    };
    let insert = "INSERT INTO doomed (due, object, tick, bytes, again) VALUES (?, ?, ?, ?, ?)";
    for row in &rows {
        for (again, (due, ticks)) in (0..).zip(&deletions) {
            let params = [
                due.as_millis().into(),
                blob(row, 0)?.into(),
                (collector.ticks + ticks).into(),
                integer(row, 1)?.into(),
                u64::into(again),
            ];
            turn.sql().run(insert, &params)?;
        }
        let delete = "DELETE FROM object WHERE id = ?";
        turn.sql().run(delete, &[blob(row, 0)?.into()])?;
        reply.doomed += 1;
        reply.doomed_bytes += integer(row, 1)?;
    }
    Ok(last_of(&rows, OBJECTS_AT_ONCE)
        .map(key_cursor)
        .transpose()?)
}

/// Counts the garbage of a collection that changes nothing.
pub(super) fn count<S: Sql>(
    turn: &Ledger<'_, S>,
    swept: u64,
    reply: &mut CollectReply,
) -> Result<(), SqlError> {
    let select = "SELECT count(*), coalesce(sum(bytes), 0) FROM object WHERE mark < ?";
    let rows = turn.sql().run(select, &[swept.into()])?;
    if let Some(row) = rows.first() {
        (reply.doomed, reply.doomed_bytes) = (integer(row, 0)?, integer(row, 1)?);
    }
    Ok(())
}

impl<S: Sql> Ledger<'_, S> {
    /// The next buckets of a table, and the cursor behind them if there may be more.
    pub(super) fn buckets<N: TryFrom<u64>>(
        &self,
        table: &str,
        cursor: &Cursor,
        most: u64,
    ) -> Result<(Vec<N>, Option<Cursor>), SqlError> {
        let select =
            format!("SELECT bucket FROM {table} WHERE bucket >= ? ORDER BY bucket LIMIT ?");
        let params = [cursor.number.into(), most.into()];
        let rows = self.sql().run(&select, &params)?;
        let mut buckets = Vec::with_capacity(rows.len());
        for row in &rows {
            let number = N::try_from(integer(row, 0)?);
            buckets.push(number.map_err(|_| SqlError(format!("a bucket of {table}")))?);
        }
        let last = last_of(&rows, most);
        let next = last.map(|row| integer(row, 0)).transpose()?;
        Ok((buckets, next.map(|last| Cursor::number(last + 1))))
    }

    /// Whether readers may still have a pointer from before the sweep began.
    fn has_older_pointer(&self, swept: u64) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM outbox WHERE since < ? LIMIT 1";
        Ok(!self.sql().run(select, &[swept.into()])?.is_empty())
    }
}
