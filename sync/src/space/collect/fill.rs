//! Filling: gives rows of the table `object` to objects that an older version wrote, before the
//! first collection of a space. Their bytes are not known and count as 0.

use pmx_core::encode::ByteReader;
use pmx_core::id::ObjectId;
use pmx_core::location::Location;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::super::blob_index;
use super::super::columns::{array, blob};
use super::super::ledger::Ledger;
use super::ROWS_AT_ONCE;
use super::collector::{Collector, Cursor, Filling, Phase};
use super::mark::{key_cursor, last_of, part_cursor, parts_after};

/// Buckets of the blob index that one step reads, of 1,024.
const BUCKETS_AT_ONCE: u64 = 8;

/// Takes one step.
pub(super) fn advance<S: Sql>(
    turn: &Ledger<'_, S>,
    collector: &mut Collector,
    (stage, cursor): (Filling, Cursor),
) -> Result<(), Problem> {
    let next = match stage {
        Filling::Nodes => rows_of(turn, NODES, &cursor)?,
        Filling::Blobs => blobs(turn, &cursor)?,
        Filling::Packs => rows_of(turn, PACKS, &cursor)?,
        Filling::Parts => parts(turn, &cursor)?,
    };
    let following = match stage {
        Filling::Nodes => Some(Filling::Blobs),
        Filling::Blobs => Some(Filling::Packs),
        Filling::Packs => Some(Filling::Parts),
        Filling::Parts => None,
    };
    collector.phase = match (next, following) {
        (Some(cursor), _) => Phase::Filling(stage, cursor),
        (None, Some(following)) => Phase::Filling(following, Cursor::default()),
        (None, None) => {
            collector.is_filled = true;
            Phase::Idle
        }
    };
    Ok(())
}

/// Gives what waits for a commit a time, where an older version recorded none: it expires, too.
pub(super) fn give_times<S: Sql>(turn: &Ledger<'_, S>) -> Result<(), SqlError> {
    for update in [
        "UPDATE pack SET at = ? WHERE toc IS NOT NULL AND at IS NULL",
        "UPDATE part SET at = ? WHERE at IS NULL",
        "UPDATE node SET kept = ? WHERE object IS NULL AND kept IS NULL",
    ] {
        let now = turn.now().as_millis().into();
        turn.sql().run(update, &[now])?;
    }
    Ok(())
}

const NODES: &str = "SELECT id, object FROM node
     WHERE id > ? AND object IS NOT NULL ORDER BY id LIMIT ?";
const PACKS: &str = "SELECT id, object FROM pack WHERE id > ? ORDER BY id LIMIT ?";

fn rows_of<S: Sql>(
    turn: &Ledger<'_, S>,
    select: &str,
    cursor: &Cursor,
) -> Result<Option<Cursor>, Problem> {
    let params = [cursor.key[..].into(), ROWS_AT_ONCE.into()];
    let rows = turn.sql().run(select, &params)?;
    for row in &rows {
        turn.fill_object(&ObjectId::from_bytes(array(row, 1)?))?;
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(key_cursor).transpose()?)
}

fn blobs<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    let (buckets, next) = turn.buckets("have", cursor, BUCKETS_AT_ONCE)?;
    for number in buckets {
        for object in blob_index::objects(turn, number)? {
            turn.fill_object(&object)?;
        }
    }
    Ok(next)
}

fn parts<S: Sql>(turn: &Ledger<'_, S>, cursor: &Cursor) -> Result<Option<Cursor>, Problem> {
    let rows = parts_after(turn, cursor)?;
    for row in &rows {
        let location = Location::decode(&mut ByteReader::new(&blob(row, 2)?))
            .map_err(|error| SqlError(format!("a part: {error}")))?;
        turn.fill_object(&location.extent.object)?;
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(part_cursor).transpose()?)
}

impl<S: Sql> Ledger<'_, S> {
    /// Gives an object a row, unless it has one.
    pub(super) fn fill_object(&self, object: &ObjectId) -> Result<(), SqlError> {
        let insert = "INSERT OR IGNORE INTO object (id, bytes, mark) VALUES (?, 0, ?)";
        let mark = self.collector()?.birth_mark();
        let params = [object.as_bytes()[..].into(), mark.into()];
        self.sql().run(insert, &params).map(drop)
    }
}
