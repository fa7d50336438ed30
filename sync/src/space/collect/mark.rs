//! Marking: gives everything that a kept deploy or a publish in progress needs the mark of the
//! epoch, a bounded number of rows a step.
//!
//! The walk keeps nodes that are still to be visited in the table `unmarked`. When it is empty, the
//! kept roots are read again: a commit or a rollback may have recorded another one. If all have the
//! mark, the sweep begins in the same transaction: from then on everything without it is garbage.

use pmx_core::code::Code;
use pmx_core::encode::ByteReader;
use pmx_core::id::{NodeId, ObjectId};
use pmx_core::location::{Extent, Location};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};

use super::super::columns::{array, blob, extent, integer};
use super::super::lease;
use super::super::ledger::Ledger;
use super::ROWS_AT_ONCE;
use super::collector::{Collector, Cursor, Marking, Phase, Sweeping};
use super::references::References;
use crate::manifest::Node;

/// Rows that one step of the walk reads: nodes, and the objects that they refer to. It writes those
/// that have no mark yet. One node more may exceed it by its own objects.
const WORK_AT_ONCE: usize = 512;

/// Queued nodes that one step takes.
const NODES_AT_ONCE: usize = 256;

/// A node whose references an older version did not record.
pub(super) struct Unread {
    pub(super) id: NodeId,
    pub(super) at: Extent,
}

/// Takes one step of the marking. Returns nodes whose index nodes must be read first.
pub(super) fn advance<S: Sql>(
    turn: &Ledger<'_, S>,
    collector: &mut Collector,
    (stage, cursor): (Marking, Cursor),
) -> Result<Vec<Unread>, Problem> {
    let epoch = collector.epoch();
    let next = match stage {
        Marking::Packs => pending_packs(turn, epoch, &cursor)?.map(|at| (stage, at)),
        Marking::Parts => pending_parts(turn, epoch, &cursor)?.map(|at| (stage, at)),
        Marking::Roots => roots(turn, epoch, &cursor)?.map(|at| (stage, at)),
        Marking::Walk => {
            let (is_done, unread) = walk(turn, epoch)?;
            if is_done && !queue_unmarked_roots(turn, epoch)? {
                collector.swept = epoch;
                collector.phase = Phase::Sweeping(Sweeping::Nodes, Cursor::default());
            }
            return Ok(unread);
        }
    };
    let following = match stage {
        Marking::Packs => Marking::Parts,
        Marking::Parts => Marking::Roots,
        Marking::Roots | Marking::Walk => Marking::Walk,
    };
    let (stage, cursor) = next.unwrap_or((following, Cursor::default()));
    collector.phase = Phase::Marking(stage, cursor);
    Ok(Vec::new())
}

/// Marks the objects of packs that wait for a commit and have not expired. What arrives from now
/// on is born with the mark.
fn pending_packs<S: Sql>(
    turn: &Ledger<'_, S>,
    epoch: u64,
    cursor: &Cursor,
) -> Result<Option<Cursor>, Problem> {
    let select = "SELECT id, object FROM pack
         WHERE id > ? AND toc IS NOT NULL AND (at IS NULL OR at >= ?) ORDER BY id LIMIT ?";
    let before = lease::expired(turn)?;
    let params = [cursor.key[..].into(), before.into(), ROWS_AT_ONCE.into()];
    let rows = turn.sql().run(select, &params)?;
    for row in &rows {
        mark_object(turn, epoch, array(row, 1)?)?;
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(key_cursor).transpose()?)
}

fn pending_parts<S: Sql>(
    turn: &Ledger<'_, S>,
    epoch: u64,
    cursor: &Cursor,
) -> Result<Option<Cursor>, Problem> {
    let rows = parts_after(turn, cursor)?;
    let before = lease::expired(turn)?;
    for row in &rows {
        if integer(row, 3)? >= before {
            let location = blob(row, 2)?;
            let location = Location::decode(&mut ByteReader::new(&location))
                .map_err(|error| SqlError(format!("a part: {error}")))?;
            mark_object(turn, epoch, *location.extent.object.as_bytes())?;
        }
    }
    Ok(last_of(&rows, ROWS_AT_ONCE).map(part_cursor).transpose()?)
}

/// A page of the table of parts: blob, number, location and time.
pub(super) fn parts_after<S: Sql>(
    turn: &Ledger<'_, S>,
    cursor: &Cursor,
) -> Result<Vec<SqlRow>, SqlError> {
    let select = "SELECT blob, number, location, coalesce(at, 9007199254740991) FROM part
         WHERE (blob, number) > (?, ?) ORDER BY blob, number LIMIT ?";
    let number = cursor.number.into();
    let params = [cursor.key[..].into(), number, ROWS_AT_ONCE.into()];
    turn.sql().run(select, &params)
}

/// The last row of a page, if there may be another page.
pub(super) fn last_of(rows: &[SqlRow], most: u64) -> Option<&SqlRow> {
    rows.last().filter(|_| rows.len() as u64 == most)
}

/// The cursor behind a row of [`parts_after`].
pub(super) fn part_cursor(row: &SqlRow) -> Result<Cursor, SqlError> {
    Ok(Cursor {
        key: blob(row, 0)?,
        number: integer(row, 1)?,
    })
}

/// The cursor behind a row whose key is its first column.
pub(super) fn key_cursor(row: &SqlRow) -> Result<Cursor, SqlError> {
    Ok(Cursor::key(blob(row, 0)?))
}

/// Queues the roots of kept deploys.
fn roots<S: Sql>(
    turn: &Ledger<'_, S>,
    epoch: u64,
    cursor: &Cursor,
) -> Result<Option<Cursor>, Problem> {
    let select = "SELECT number, root FROM deploy
         WHERE number > ? AND state = 0 ORDER BY number LIMIT ?";
    let params = [cursor.number.into(), ROWS_AT_ONCE.into()];
    let rows = turn.sql().run(select, &params)?;
    for row in &rows {
        turn.queue_unmarked(&NodeId::from_bytes(array(row, 1)?), epoch)?;
    }
    let last = last_of(&rows, ROWS_AT_ONCE);
    let last = last.map(|row| integer(row, 0)).transpose()?;
    Ok(last.map(Cursor::number))
}

/// Queues kept roots without the mark, if there are any: the last look before the sweep.
fn queue_unmarked_roots<S: Sql>(turn: &Ledger<'_, S>, epoch: u64) -> Result<bool, Problem> {
    let select = "SELECT DISTINCT deploy.root FROM deploy LEFT JOIN node ON node.id = deploy.root
         WHERE deploy.state = 0 AND (node.mark IS NULL OR node.mark < ?) LIMIT ?";
    let params = [epoch.into(), ROWS_AT_ONCE.into()];
    let rows = turn.sql().run(select, &params)?;
    for row in &rows {
        let root = NodeId::from_bytes(array(row, 0)?);
        turn.queue_unmarked(&root, epoch)?;
    }
    Ok(!rows.is_empty())
}

/// Visits queued nodes and what is beneath them. Returns whether no node is left.
fn walk<S: Sql>(turn: &Ledger<'_, S>, epoch: u64) -> Result<(bool, Vec<Unread>), Problem> {
    let take = "DELETE FROM unmarked WHERE node IN (SELECT node FROM unmarked LIMIT ?)
         RETURNING node";
    let rows = turn.sql().run(take, &[(NODES_AT_ONCE as u64).into()])?;
    let mut rest = Vec::with_capacity(rows.len());
    for row in &rows {
        rest.push(NodeId::from_bytes(array(row, 0)?));
    }
    let mut unread = Vec::new();
    let mut work = 0;
    while work < WORK_AT_ONCE
        && let Some(id) = rest.pop()
    {
        match visit(turn, epoch, id)? {
            Visited::Marked { children, objects } => {
                rest.extend(children);
                work += 2 + objects;
            }
            Visited::Unread(node) => {
                unread.push(node);
                work += 1;
            }
        }
    }
    let left = rest.iter().chain(unread.iter().map(|node| &node.id));
    let mut is_done = true;
    for id in left {
        turn.queue_unmarked(id, epoch)?;
        is_done = false;
    }
    let select = "SELECT 1 FROM unmarked LIMIT 1";
    let is_done = is_done && turn.sql().run(select, &[])?.is_empty();
    Ok((is_done, unread))
}

enum Visited {
    /// With its children, and the number of objects that it refers to.
    Marked {
        children: Vec<NodeId>,
        objects: usize,
    },
    Unread(Unread),
}

/// Marks a node and the objects that it refers to; returns its children.
fn visit<S: Sql>(turn: &Ledger<'_, S>, epoch: u64, id: NodeId) -> Result<Visited, Problem> {
    let select = "SELECT bytes, object, at, length, mark, refs FROM node WHERE id = ?";
    let key = || Value::from(&id.as_bytes()[..]);
    let rows = turn.sql().run(select, &[key()])?;
    let indexed = rows.first().map(|row| Ok((row, extent(row, 1)?)));
    let Some((row, Some(at))) = indexed.transpose().map_err(|error: SqlError| error)? else {
        let detail = format!("node {id} of a kept deploy is not in the ledger; nothing is deleted");
        return Err(Problem::new(Code::Corrupt, detail));
    };
    if integer(row, 4)? >= epoch {
        return Ok(Visited::Marked {
            children: Vec::new(),
            objects: 0,
        });
    }
    if row.get(5) == Some(&Value::Null) {
        return Ok(Visited::Unread(Unread { id, at }));
    }
    let references = References::decode(&blob(row, 5)?)?;
    if !references.objects.contains(&at.object) {
        // An older version replaced the index node since.
        return Ok(Visited::Unread(Unread { id, at }));
    }
    for big in &references.big {
        // An older version recorded no parts.
        let select = "SELECT 1 FROM big WHERE blob = ? LIMIT 1";
        let params = [big.as_bytes()[..].into()];
        if turn.sql().run(select, &params)?.is_empty() {
            return Ok(Visited::Unread(Unread { id, at }));
        }
    }
    for object in &references.objects {
        mark_object(turn, epoch, *object.as_bytes())?;
    }
    for big in &references.big {
        let update = "UPDATE object SET mark = ? WHERE mark < ?
             AND id IN (SELECT object FROM big WHERE blob = ?)";
        let params = [epoch.into(), epoch.into(), big.as_bytes()[..].into()];
        turn.sql().run(update, &params)?;
    }
    let update = "UPDATE node SET mark = ? WHERE id = ?";
    turn.sql().run(update, &[epoch.into(), key()])?;
    Ok(Visited::Marked {
        children: match Node::decode(&blob(row, 0)?)? {
            Node::Leaf(_) => Vec::new(),
            Node::Interior { children, .. } => children.iter().map(|child| child.id).collect(),
        },
        objects: references.objects.len(),
    })
}

fn mark_object<S: Sql>(turn: &Ledger<'_, S>, epoch: u64, id: [u8; 16]) -> Result<(), SqlError> {
    let object = ObjectId::from_bytes(id);
    let update = "UPDATE object SET mark = ? WHERE id = ? AND mark < ?";
    let params = [epoch.into(), object.as_bytes()[..].into(), epoch.into()];
    turn.sql().run(update, &params).map(drop)
}

impl<S: Sql> Ledger<'_, S> {
    /// Queues a node for the walk, if it has no mark of the epoch yet.
    fn queue_unmarked(&self, id: &NodeId, epoch: u64) -> Result<(), SqlError> {
        let insert = "INSERT OR IGNORE INTO unmarked (node) SELECT ? WHERE NOT EXISTS
             (SELECT 1 FROM node WHERE id = ? AND mark >= ?)";
        let key = || id.as_bytes()[..].into();
        let params = [key(), key(), epoch.into()];
        self.sql().run(insert, &params).map(drop)
    }

    /// Has a node walked again whose references changed.
    pub(crate) fn references_changed(&self, id: &NodeId) -> Result<(), SqlError> {
        let collector = self.collector()?;
        if collector.is_marking() {
            let update = "UPDATE node SET mark = ? WHERE id = ?";
            let params = [collector.swept.into(), id.as_bytes()[..].into()];
            self.sql().run(update, &params)?;
            self.queue_unmarked(id, collector.epoch())?;
        }
        Ok(())
    }
}
