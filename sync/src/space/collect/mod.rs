//! Collection: deletes the objects that no kept deploy and no publish in progress needs.
//!
//! A space is the only writer of its ledger, and object ids are never used twice. So no lock and
//! no age of an object decides what is garbage; time only decides when garbage may go. A collection
//! takes bounded steps, each a transaction, and other commands run between them:
//!
//! 1. **Mark** ([`mark`]): everything that a kept deploy reaches gets the number of the collection,
//!    the epoch. A root that is recorded during the walk is walked, too, and objects that arrive
//!    during it are born with the mark (Dijkstra et al., "On-the-fly garbage collection", 1978).
//! 2. **Sweep** ([`sweep`]): one transaction makes the epoch count. From then on what has an older
//!    mark is absent for publishes; its rows go in further steps. An object that is garbage never
//!    comes back: the same content is a new object with a new id.
//! 3. **Delete**: an object goes 24 hours after every pointer that could lead to it was replaced,
//!    and is deleted once more 24 hours later. The clock has to say so, and as many hours have to
//!    have passed in steps, because a clock may jump.
//!
//! A commit whose transaction finds that a sweep began since it looked is refused, and the client
//! repeats it.

mod collector;
mod compact;
mod fill;
mod mark;
mod objects;
mod references;
mod sweep;

use std::time::Duration;

use bytes::Bytes;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::{ObjectId, SpaceId};
use pmx_core::location::Extent;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, Value};
use pmx_core::time::Timestamp;

use super::columns::{array, integer, optional_integer};
use super::ledger::Ledger;
use super::{lease, retention};
use crate::index::IndexNode;
use crate::pack::part::{BlobParts, PartTable};
use crate::wire::{CollectReply, Repack};

pub(crate) use collector::Collector;
pub(crate) use references::References;

use collector::{Cursor, Filling, Marking, Phase, refuse_older};
use mark::Unread;

/// Rows of a table that one step visits.
const ROWS_AT_ONCE: u64 = 256;

/// Objects that one step deletes: what R2 takes in one call.
const DELETED_AT_ONCE: u64 = 1_000;

/// Index nodes that one step reads: each read is a subrequest of a Worker.
const READ_AT_ONCE: usize = 16;

/// How long a space of an older release is not collected by itself.
const FIRST_WAIT: Duration = Duration::from_hours(24);

/// How often the policy is applied.
const POLICY_PERIOD: Duration = Duration::from_hours(6);

/// How long a sweep waits for the delivery of pointers before it looks again.
const OUTBOX_PAUSE: Duration = Duration::from_mins(1);

/// How long an object stays after the last pointer that could lead to it was replaced: longer than
/// any reader keeps one. It is deleted again after the same time, for a write that was late.
const GRACE: Duration = Duration::from_hours(24);

const HOUR: Duration = Duration::from_hours(1);

/// Takes one step of a collection, which begins if `start` says what it may copy.
pub(super) async fn step<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    start: Option<Repack>,
) -> Result<CollectReply, Problem> {
    let mut reply = CollectReply::default();
    delete_due(ledger, blobs, space, &mut reply).await?;
    let mut marked = ledger.atomically(|turn| {
        turn.check_same(space)?;
        if let Some(repack) = start {
            compact::allow(turn, repack)?;
        }
        advance(turn, start.is_some(), &mut reply)
    });
    if let Ok(unread) = &mut marked {
        let unread = std::mem::take(unread);
        marked = read_references(ledger, blobs, space, unread)
            .await
            .map(|()| Vec::new());
    }
    ledger.check_same(space)?;
    let ledger = Ledger::new(ledger.sql()).at(ledger.now());
    if let Err(problem) = marked {
        if problem.code == Code::Corrupt {
            ledger.atomically(abandon)?;
        }
        return Err(problem);
    }
    compact::step(&ledger, blobs, space, &mut reply).await?;
    ledger.check_same(space)?;
    let ledger = Ledger::new(ledger.sql()).at(ledger.now());
    reply.next = next(&ledger)?;
    reply.more = reply.next.is_some_and(|next| next <= ledger.now());
    if !reply.more {
        waiting(&ledger, &mut reply)?;
    }
    Ok(reply)
}

/// Ends a collection that can't see what a kept deploy needs. Another one begins later, or after a
/// publish has healed the deploy, or a client removed it, with `pmx gc`.
fn abandon<S: Sql>(turn: &Ledger<'_, S>) -> Result<(), SqlError> {
    let collector = Collector::read(turn.sql())?;
    if !matches!(collector.phase, Phase::Marking(..)) {
        return Ok(());
    }
    turn.sql().run("DELETE FROM unmarked", &[])?;
    collector.record_abandoned(turn.sql())?;
    let abandoned = Collector {
        phase: Phase::Idle,
        is_purge: collector.is_purge || collector.is_purging,
        is_wanted: true,
        waits_until: turn.now().after(POLICY_PERIOD).as_millis(),
        ..collector
    };
    turn.write_collector(&abandoned)
}

/// The transaction of a step. Returns nodes whose index nodes have to be read.
fn advance<S: Sql>(
    turn: &Ledger<'_, S>,
    start: bool,
    reply: &mut CollectReply,
) -> Result<Vec<Unread>, Problem> {
    let mut collector = Collector::read(turn.sql())?;
    let before = collector.clone();
    let now = turn.now();
    if !collector.tick(now) {
        // Later than any deletion that is planned now.
        let later = now.after(GRACE);
        for (first, due) in [("= 0", later), ("> 0", later.after(GRACE))] {
            let update =
                format!("UPDATE OR REPLACE doomed SET due = ? WHERE again {first} AND due > ?");
            let due: Value = due.as_millis().into();
            turn.sql().run(&update, &[due.clone(), due])?;
        }
    }
    reply.dropped = apply_policy(turn, &mut collector, start)?;
    look_for_abandoned(turn, &mut collector)?;
    if collector.phase == Phase::Idle
        && (start || collector.is_wanted && may_begin(&mut collector, now))
    {
        begin(turn, &mut collector)?;
    }
    let mut unread = Vec::new();
    match std::mem::take(&mut collector.phase) {
        Phase::Idle => {}
        Phase::Filling(stage, cursor) => fill::advance(turn, &mut collector, (stage, cursor))?,
        Phase::Marking(stage, cursor) => {
            collector.phase = Phase::Marking(stage, cursor.clone());
            unread = mark::advance(turn, &mut collector, (stage, cursor))?;
        }
        Phase::Sweeping(stage, cursor) => {
            collector.phase = Phase::Sweeping(stage, cursor.clone());
            if sweep::advance(turn, &mut collector, (stage, cursor), reply)? {
                collector.waits_until = 0;
            } else {
                collector.waits_until = now.after(OUTBOX_PAUSE).as_millis();
                reply.is_waiting = true;
            }
            if collector.phase == Phase::Idle {
                compact::begin(turn)?;
            }
        }
    }
    if collector != before {
        turn.write_collector(&collector)?;
    }
    Ok(unread)
}

/// Gives up what the policy does not keep, if it is time to.
fn apply_policy<S: Sql>(
    turn: &Ledger<'_, S>,
    collector: &mut Collector,
    start: bool,
) -> Result<u64, Problem> {
    let next = Timestamp::from_millis(collector.applied).after(POLICY_PERIOD);
    if next > turn.now() && collector.applied != 0 && !start {
        return Ok(0);
    }
    let dropped = retention::apply(turn)?;
    if dropped > 0 {
        // The next step gives up the rest.
        collector.is_wanted = true;
        collector.applied = 0;
    } else if retention::get(turn)?.policy.is_some() {
        collector.applied = turn.now().as_millis();
    }
    Ok(dropped)
}

/// Wants a collection if uploads were abandoned.
fn look_for_abandoned<S: Sql>(
    turn: &Ledger<'_, S>,
    collector: &mut Collector,
) -> Result<(), Problem> {
    let Some(look) = lease::next_look(turn, collector.looked)? else {
        return Ok(());
    };
    if look.at > turn.now() {
        return Ok(());
    }
    collector.looked = look.last;
    collector.is_wanted |= lease::has_expired(turn)?;
    Ok(())
}

/// Whether a collection may begin that no client started.
fn may_begin(collector: &mut Collector, now: Timestamp) -> bool {
    if collector.waits_until > now.as_millis() {
        return false;
    }
    if collector.is_filled || collector.is_purge {
        return true;
    }
    if collector.not_before == 0 {
        collector.not_before = now.after(FIRST_WAIT).as_millis();
    }
    collector.not_before <= now.as_millis()
}

fn begin<S: Sql>(turn: &Ledger<'_, S>, collector: &mut Collector) -> Result<(), Problem> {
    refuse_older(turn.sql())?;
    compact::stop(turn)?;
    collector.waits_until = 0;
    if !collector.is_filled {
        fill::give_times(turn)?;
        collector.phase = Phase::Filling(Filling::Nodes, Cursor::default());
        // The collection itself begins once every object has a row.
        collector.is_wanted = true;
        return Ok(());
    }
    collector.is_wanted = false;
    collector.is_purging = std::mem::take(&mut collector.is_purge);
    collector.phase = Phase::Marking(Marking::Packs, Cursor::default());
    turn.sql().run("DELETE FROM unmarked", &[])?;
    Ok(())
}

/// Says what a whole collection would do, and changes nothing but the references of nodes that
/// were not known.
pub(super) async fn dry_run<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    repack: Repack,
) -> Result<CollectReply, Problem> {
    let mut reply = CollectReply::default();
    let mut unread = Vec::new();
    let undone = ledger.atomically(|turn| -> Result<(), Undo> {
        unread = rehearse(turn, repack, &mut reply)?;
        // Takes back everything that the rehearsal wrote.
        Err(Undo::Done)
    });
    if let Err(Undo::Failed(problem)) = undone {
        return Err(problem);
    }
    reply.more = !unread.is_empty();
    read_references(ledger, blobs, space, unread).await?;
    ledger.check_same(space)?;
    waiting(&Ledger::new(ledger.sql()).at(ledger.now()), &mut reply)?;
    Ok(reply)
}

enum Undo {
    Done,
    Failed(Problem),
}

impl<E: Into<Problem>> From<E> for Undo {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Marks like a collection, and counts the garbage.
fn rehearse<S: Sql>(
    turn: &Ledger<'_, S>,
    repack: Repack,
    reply: &mut CollectReply,
) -> Result<Vec<Unread>, Problem> {
    loop {
        let dropped = retention::apply(turn)?;
        reply.dropped += dropped;
        if dropped == 0 {
            break;
        }
    }
    let mut collector = Collector::read(turn.sql())?;
    if collector.phase == Phase::Idle {
        begin(turn, &mut collector)?;
    }
    loop {
        turn.write_collector(&collector)?;
        match collector.phase.clone() {
            Phase::Idle => begin(turn, &mut collector)?,
            Phase::Filling(stage, cursor) => fill::advance(turn, &mut collector, (stage, cursor))?,
            Phase::Marking(stage, cursor) => {
                let unread = mark::advance(turn, &mut collector, (stage, cursor))?;
                if !unread.is_empty() {
                    return Ok(unread);
                }
            }
            Phase::Sweeping(..) => break,
        }
    }
    sweep::count(turn, collector.swept, reply)?;
    compact::count(turn, repack, reply)?;
    Ok(Vec::new())
}

/// Reads index nodes whose references the ledger does not know, and records them.
async fn read_references<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    mut unread: Vec<Unread>,
) -> Result<(), Problem> {
    unread.truncate(READ_AT_ONCE);
    for node in unread {
        let bytes = read(blobs, space, node.at, "an index node").await?;
        let index_node = IndexNode::decode(&bytes, node.id).map_err(|e| rotten(&e))?;
        let references = References::of(&index_node, &node.at);
        let mut parts = Vec::new();
        if let IndexNode::Leaf(rows) = &index_node {
            for (row, location) in rows {
                if references::is_table(location) {
                    let table = read(blobs, space, location.extent, "a table of parts").await?;
                    let of = BlobParts::of(row.entry.size)?;
                    let table = PartTable::decode(&table, of).map_err(|e| rotten(&e))?;
                    parts.push((row.entry.blob, table));
                }
            }
        }
        ledger.atomically(|turn| {
            turn.check_same(space)?;
            for (blob, table) in &parts {
                for part in table.locations() {
                    turn.fill_object(&part.extent.object)?;
                }
                turn.record_big(blob, table.locations())?;
            }
            turn.record_references(&node.id, &node.at, &references)?;
            Ok::<_, Problem>(())
        })?;
    }
    Ok(())
}

fn rotten(error: &impl std::fmt::Display) -> Problem {
    let detail = format!("reading what a kept deploy refers to: {error}; nothing is deleted");
    Problem::new(Code::Corrupt, detail)
}

async fn read<B: Blobs>(
    blobs: &B,
    space: SpaceId,
    at: Extent,
    what: &str,
) -> Result<Bytes, Problem> {
    let key = ObjectKey {
        space,
        object: at.object,
    };
    let bytes = blobs.read(key, at.offset..at.offset + at.len).await?;
    bytes.ok_or_else(|| {
        let detail = format!("{what} of a kept deploy is lost ({key}); nothing is deleted");
        Problem::new(Code::Corrupt, detail)
    })
}

/// Deletes the objects whose time has come.
async fn delete_due<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    reply: &mut CollectReply,
) -> Result<(), Problem> {
    let collector = Collector::read(ledger.sql())?;
    let select = "SELECT due, object, bytes, again FROM doomed WHERE due <= ? AND tick <= ?
         ORDER BY due, object LIMIT ?";
    let now = ledger.now().as_millis();
    let params = [now.into(), collector.ticks.into(), DELETED_AT_ONCE.into()];
    let rows = ledger.sql().run(select, &params)?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        let object = ObjectId::from_bytes(array(row, 1)?);
        keys.push(ObjectKey { space, object });
        if integer(row, 3)? == 0 {
            reply.deleted += 1;
            reply.deleted_bytes += integer(row, 2)?;
        }
    }
    blobs.delete(&keys).await?;
    ledger.atomically(|turn| {
        turn.check_same(space)?;
        let delete = "DELETE FROM doomed WHERE due = ? AND object = ?";
        for (row, key) in rows.iter().zip(&keys) {
            let params = [integer(row, 0)?.into(), key.object.as_bytes()[..].into()];
            turn.sql().run(delete, &params)?;
        }
        Ok(())
    })
}

/// Adds what waits for its deletion.
fn waiting<S: Sql>(ledger: &Ledger<'_, S>, reply: &mut CollectReply) -> Result<(), SqlError> {
    let select = "SELECT count(*), coalesce(sum(bytes), 0), min(due) FROM doomed WHERE again = 0";
    if let Some(row) = ledger.sql().run(select, &[])?.first() {
        (reply.waiting, reply.waiting_bytes) = (integer(row, 0)?, integer(row, 1)?);
        reply.next_deletion = optional_integer(row, 2)?.map(Timestamp::from_millis);
    }
    Ok(())
}

/// When the next step is due, if there is one.
pub(super) fn next<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Option<Timestamp>, SqlError> {
    let collector = Collector::read(ledger.sql())?;
    let now = ledger.now();
    if collector.ticked > now.as_millis() {
        // The clock was set back.
        return Ok(Some(now));
    }
    let earliest = now.max(Timestamp::from_millis(collector.waits_until));
    if collector.phase != Phase::Idle {
        return Ok(Some(earliest));
    }
    let mut times = Vec::new();
    if compact::is_running(ledger)? {
        times.push(now);
    }
    if collector.is_wanted {
        let is_first = !collector.is_filled && !collector.is_purge;
        let first = Timestamp::from_millis(if is_first { collector.not_before } else { 0 });
        times.push(first.max(earliest));
    }
    if retention::get(ledger)?.policy.is_some() {
        let applied = Timestamp::from_millis(collector.applied);
        let is_due = collector.applied == 0;
        times.push(if is_due {
            now
        } else {
            applied.after(POLICY_PERIOD)
        });
    }
    times.extend(lease::next_look(ledger, collector.looked)?.map(|look| look.at));
    times.extend(next_deletion(ledger, &collector)?);
    Ok(times.into_iter().min())
}

/// When an object may go, or the next hour is to be counted.
fn next_deletion<S: Sql>(
    ledger: &Ledger<'_, S>,
    collector: &Collector,
) -> Result<Option<Timestamp>, SqlError> {
    let select = "SELECT due, tick FROM doomed ORDER BY due LIMIT 1";
    let rows = ledger.sql().run(select, &[])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let due = Timestamp::from_millis(integer(row, 0)?);
    let hour = Timestamp::from_millis(collector.ticked).after(HOUR);
    // Ticks ascend with the times.
    let is_counted = integer(row, 1)? <= collector.ticks;
    Ok(Some(if is_counted { due } else { hour }))
}
