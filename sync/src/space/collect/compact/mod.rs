//! Compaction: copies what is live in objects that are mostly garbage into new ones.
//!
//! A sweep keeps an object as long as anything needs one blob in it. So after a sweep that a client
//! asked for, a run measures the objects. Where a copy is less than half as long, it makes one: the
//! frames as they are, and new index nodes for all nodes that name the object and for those above
//! them. One transaction points the nodes and the blob index to the copy, and queues the pointers
//! of all channels. Then nothing names the old object, and the next collection makes it garbage
//! like any other: readers with a pointer from before still find it for a day.
//!
//! Other commands run while a copy is read and written. The transaction therefore refuses it if a
//! collection began (a), an index node moved (b), a deploy was recorded, whose nodes may name the
//! old object or index nodes that would move (c), or the ledger has a copied blob elsewhere (d).
//! A copy that is refused, or that a failure left, is garbage for the next collection.

mod layout;
mod plan;
mod run;

use bytes::Bytes;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::hash::Hash;
use pmx_core::id::{ObjectId, SpaceId};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::super::blob_index::{self, BlobIndex};
use super::super::columns::{array, integer};
use super::super::ledger::Ledger;
use super::collector::{Collector, Phase};
use crate::wire::{CollectReply, Repack};

use layout::Layout;
use plan::{Plan, View};
use run::{Run, Stage};

/// Objects that one step measures.
const MEASURED_AT_ONCE: u64 = 8;

/// A copy that a step makes.
struct Rewrite {
    plan: Plan,
    layout: Layout,
    /// Bytes of the old object.
    bytes: u64,
    /// The epoch of the last sweep.
    swept: u64,
    /// How often index nodes moved, at least.
    revision: u64,
    /// The number of the last deploy.
    last: u64,
}

/// Sets what the compaction after the next sweep may do.
pub(super) fn allow<S: Sql>(turn: &Ledger<'_, S>, budget: Repack) -> Result<(), SqlError> {
    let run = Run {
        is_followed: false,
        is_wanted: true,
        budget,
        ..Run::read(turn.sql())?
    };
    run.write(turn.sql())
}

/// Ends a run, because a collection begins.
pub(super) fn stop<S: Sql>(turn: &Ledger<'_, S>) -> Result<(), SqlError> {
    let run = Run::read(turn.sql())?;
    if run.stage == Stage::Idle {
        return Ok(());
    }
    let stopped = Run {
        stage: Stage::Idle,
        has_begun: false,
        ..run
    };
    stopped.write(turn.sql())
}

/// Begins a run after a sweep, if a client asked for one, and the sweep was not for what the last
/// run left.
pub(super) fn begin<S: Sql>(turn: &Ledger<'_, S>) -> Result<(), SqlError> {
    let run = Run::read(turn.sql())?;
    let begun = Run {
        stage: if run.is_followed || !run.is_wanted {
            Stage::Idle
        } else {
            Stage::Measuring
        },
        is_wanted: run.is_wanted,
        copies: run.copies,
        budget: run.budget,
        ..Run::default()
    };
    begun.write(turn.sql())
}

/// Whether a run has work to do.
pub(super) fn is_running<S: Sql>(ledger: &Ledger<'_, S>) -> Result<bool, SqlError> {
    Ok(Run::read(ledger.sql())?.stage != Stage::Idle)
}

/// Takes one step: measures some objects, or makes one copy.
pub(super) async fn step<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    reply: &mut CollectReply,
) -> Result<(), Problem> {
    let copy = ledger.atomically(|turn| {
        turn.check_same(space)?;
        advance(turn)
    })?;
    let Some(mut copy) = copy else {
        return Ok(());
    };
    let key = |object| ObjectKey { space, object };
    let range = copy.plan.range();
    let read = if range.is_empty() {
        Some(Bytes::new())
    } else {
        blobs.read(key(copy.plan.object), range).await?
    };
    // What is lost or damaged stays as it is: the copy would take the place of the only evidence.
    let whole = read.filter(|read| copy.plan.is_whole(read));
    let Some(object) = whole.and_then(|read| copy.layout.filled(&copy.plan, &read)) else {
        return Ok(());
    };
    blobs.write(key(copy.layout.object), object).await?;
    ledger.atomically(|turn| {
        turn.check_same(space)?;
        if copy.is_current(turn)? {
            copy.record(turn)?;
            reply.repacked += 1;
            reply.repacked_bytes += copy.bytes;
        }
        Ok::<_, Problem>(())
    })
}

/// The transaction before a copy: decides which object is next, and records the new one.
fn advance<S: Sql>(turn: &Ledger<'_, S>) -> Result<Option<Rewrite>, Problem> {
    let mut run = Run::read(turn.sql())?;
    if run.stage == Stage::Idle || Collector::read(turn.sql())?.phase != Phase::Idle {
        return Ok(None);
    }
    if turn.has_losses()? {
        finish(turn, &run)?;
        return Ok(None);
    }
    let view = View::new(turn);
    let objects = objects_after(turn, &run)?;
    let is_last = (objects.len() as u64) < MEASURED_AT_ONCE;
    for (object, bytes) in objects {
        run.after = *object.as_bytes();
        let Some(plan) = view.plan(object)? else {
            continue;
        };
        let Some(layout) = laid_out(&plan, turn, fresh(&run, turn))? else {
            continue;
        };
        if run.stage == Stage::Measuring {
            run.garbage += bytes.saturating_sub(layout.size());
        } else if is_worth(bytes, &layout, &run.budget)
            && run.repacked + bytes <= run.budget.max_bytes
        {
            return begin_copy(turn, run, (plan, layout), bytes).map(Some);
        }
    }
    match run.stage {
        Stage::Measuring if is_last && is_too_much(turn, &run)? => {
            (run.stage, run.after) = (Stage::Copying, [0; 16]);
        }
        Stage::Idle | Stage::Measuring | Stage::Copying if is_last => {
            finish(turn, &run)?;
            return Ok(None);
        }
        Stage::Idle | Stage::Measuring | Stage::Copying => {}
    }
    run.write(turn.sql())?;
    Ok(None)
}

fn begin_copy<S: Sql>(
    turn: &Ledger<'_, S>,
    mut run: Run,
    (plan, layout): (Plan, Layout),
    bytes: u64,
) -> Result<Rewrite, Problem> {
    run.has_begun = true;
    run.copies += 1;
    run.repacked += bytes;
    run.write(turn.sql())?;
    // The row comes first: an object without one would never be deleted.
    turn.record_object(&layout.object, layout.size())?;
    Ok(Rewrite {
        plan,
        layout,
        bytes,
        swept: turn.collector()?.swept,
        revision: turn.revision()?,
        last: turn.last_number()?,
    })
}

/// Ends a run. What it left is garbage that a collection has to find.
fn finish<S: Sql>(turn: &Ledger<'_, S>, run: &Run) -> Result<(), SqlError> {
    if run.has_begun {
        turn.write_collector(&Collector::read(turn.sql())?.wanting(false))?;
    }
    let finished = Run {
        is_followed: run.has_begun,
        copies: run.copies,
        ..Run::default()
    };
    finished.write(turn.sql())
}

/// The next objects that a copy could free enough of.
fn objects_after<S: Sql>(
    turn: &Ledger<'_, S>,
    run: &Run,
) -> Result<Vec<(ObjectId, u64)>, SqlError> {
    let select = "SELECT id, bytes FROM object WHERE id > ? AND mark >= ? AND bytes > ?
         ORDER BY id LIMIT ?";
    let params = [
        run.after[..].into(),
        turn.collector()?.swept.into(),
        run.budget.min_freed.into(),
        MEASURED_AT_ONCE.into(),
    ];
    let rows = turn.sql().run(select, &params)?;
    let objects = rows
        .iter()
        .map(|row| Ok((ObjectId::from_bytes(array(row, 0)?), integer(row, 1)?)));
    objects.collect()
}

/// The layout of a copy; `None` if the ledger lacks what it needs: the object stays as it is then.
fn laid_out<S: Sql>(
    plan: &Plan,
    turn: &Ledger<'_, S>,
    id: ObjectId,
) -> Result<Option<Layout>, Problem> {
    match Layout::of(plan, turn, id) {
        Ok(layout) => Ok(Some(layout)),
        Err(problem) if problem.code == Code::Corrupt => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Whether a copy is less than half as long as its object, and frees enough.
const fn is_worth(bytes: u64, layout: &Layout, budget: &Repack) -> bool {
    let size = layout.size();
    size.saturating_mul(100) < bytes.saturating_mul(budget.max_live)
        && bytes.saturating_sub(size) >= budget.min_freed
}

/// Whether the measured garbage is too large a share of the space.
fn is_too_much<S: Sql>(turn: &Ledger<'_, S>, run: &Run) -> Result<bool, SqlError> {
    let select = "SELECT coalesce(sum(bytes), 0) FROM object WHERE mark >= ?";
    let swept = turn.collector()?.swept;
    let rows = turn.sql().run(select, &[swept.into()])?;
    let all = rows.first().map_or(Ok(0), |row| integer(row, 0))?;
    Ok(run.garbage.saturating_mul(100) >= all.saturating_mul(run.budget.max_unused))
}

/// The id of a new object. No two copies of a space have the same number, and a ledger that was
/// restored from a backup counts at another time.
fn fresh<S: Sql>(run: &Run, turn: &Ledger<'_, S>) -> ObjectId {
    let mut seed = run.after.to_vec();
    seed.extend_from_slice(&run.copies.to_le_bytes());
    seed.extend_from_slice(&turn.now().as_millis().to_le_bytes());
    let hash = Hash::derived("pmx-sync 2026-11 copied object id v1", &seed);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    ObjectId::from_bytes(id)
}

/// Counts what a run after the sweep in progress would copy from, and changes nothing.
pub(super) fn count<S: Sql>(
    turn: &Ledger<'_, S>,
    budget: Repack,
    reply: &mut CollectReply,
) -> Result<(), Problem> {
    let mut run = Run {
        budget,
        ..Run::default()
    };
    let view = View::new(turn);
    let (mut repacked, mut repacked_bytes) = (0, 0);
    loop {
        let objects = objects_after(turn, &run)?;
        let Some((last, _)) = objects.last() else {
            break;
        };
        run.after = *last.as_bytes();
        for (object, bytes) in objects {
            let Some(plan) = view.plan(object)? else {
                continue;
            };
            let Some(layout) = laid_out(&plan, turn, object)? else {
                continue;
            };
            run.garbage += bytes.saturating_sub(layout.size());
            if is_worth(bytes, &layout, &budget) && repacked_bytes + bytes <= budget.max_bytes {
                (repacked, repacked_bytes) = (repacked + 1, repacked_bytes + bytes);
            }
        }
    }
    if is_too_much(turn, &run)? && !turn.has_losses()? {
        (reply.repacked, reply.repacked_bytes) = (repacked, repacked_bytes);
    }
    Ok(())
}

impl Rewrite {
    /// Whether the ledger still is as the plan has it.
    fn is_current<S: Sql>(&self, turn: &Ledger<'_, S>) -> Result<bool, Problem> {
        let collector = turn.collector()?;
        if collector.phase != Phase::Idle || collector.swept != self.swept {
            return Ok(false);
        }
        let select = "SELECT 1 FROM deploy WHERE number > ? LIMIT 1";
        let is_alone = turn.sql().run(select, &[self.last.into()])?.is_empty();
        if !is_alone || turn.revision()? != self.revision || turn.has_losses()? {
            return Ok(false);
        }
        for live in &self.plan.nodes {
            if turn.node_extent(&live.id)? != Some(live.at) {
                return Ok(false);
            }
        }
        let have = BlobIndex::new(turn);
        for (blob, held) in &self.plan.copied {
            if have.find(blob)? != Some(*held) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Points nodes and blobs to the new object, and has readers see it.
    fn record<S: Sql>(&self, turn: &Ledger<'_, S>) -> Result<(), SqlError> {
        let update = "UPDATE node SET object = ?, at = ?, length = ?, refs = ? WHERE id = ?";
        for (id, at, references) in &self.layout.nodes {
            let params = [
                at.object.as_bytes()[..].into(),
                at.offset.into(),
                at.len.into(),
                references.encode().into(),
                id.as_bytes()[..].into(),
            ];
            turn.sql().run(update, &params)?;
        }
        blob_index::repoint(turn, &self.layout.blobs)?;
        turn.announce_all_again()
    }
}
