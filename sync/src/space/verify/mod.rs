//! Verification: compares what the ledger records with the objects of the space, in steps.
//!
//! The nodes come first ([`nodes`]): each is what its id says, its children and its index node are
//! there, and the index node leads to what the ledger knows. Then the objects ([`objects`]): each
//! exists and is long enough, and on request the space reads and hashes the blobs in it.
//!
//! A step only reads, past all caches. A store that fails ends it and is no fault, and so is a row
//! that another command changed since the step read it. On request it marks what it finds as a
//! reader does, see [`repair`](super::repair): the next publish sends lost content again.

mod nodes;
mod objects;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::id::{NodeId, ObjectId, SpaceId};
use pmx_core::location::Extent;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::blob_index::BlobIndex;
use super::columns::integer;
use super::command::{Loss, VerifyStep};
use super::ledger::Ledger;
use super::repair;
use crate::limits::LOSSES_MAX;
use crate::wire::{VerifyCursor, VerifyData, VerifyFault, VerifyReply};

/// Reads of a step: each is a subrequest of a Worker.
const READS_AT_ONCE: usize = 16;

/// Bytes that a step reads, beside the last read: a Worker hashes them in half a second.
const BYTES_AT_ONCE: u64 = 32 * 1024 * 1024;

/// Faults of a step, beside those of the last object.
const FAULTS_AT_ONCE: usize = 1_000;

/// Damaged deploys that a reply names.
const DAMAGED_MAX: u64 = 1_000;

/// Takes one step.
pub(super) async fn step<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    step: VerifyStep,
) -> Result<VerifyReply, Problem> {
    let mut check = Check::new(ledger, blobs, space, step.data);
    let next = match step.after.unwrap_or(VerifyCursor::Nodes(None)) {
        VerifyCursor::Nodes(reached) => Some(check.nodes(reached).await?),
        VerifyCursor::Objects(reached) => {
            let next = check.objects(reached).await?;
            next.map(|reached| VerifyCursor::Objects(Some(reached)))
        }
    };
    let Check {
        mut reply, losses, ..
    } = check;
    let fresh = Ledger::new(ledger.sql()).at(ledger.now());
    fresh.check_same(space)?;
    if step.repair {
        mark(&fresh, blobs, space, &losses).await?;
    }
    if next.is_none() {
        reply.damaged = damaged(&Ledger::new(ledger.sql()))?;
    }
    reply.next = next.map(|cursor| cursor.to_string());
    Ok(reply)
}

/// Marks losses, and takes them in: the ledger keeps few marks at a time.
async fn mark<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    losses: &[Loss],
) -> Result<(), Problem> {
    for some in losses.chunks(LOSSES_MAX as usize) {
        let turn = || Ledger::new(ledger.sql()).at(ledger.now());
        // Marks of readers may fill the table.
        repair::take_in(&turn(), blobs, space, Vec::new()).await?;
        turn().atomically(|turn| {
            turn.check_same(space)?;
            some.iter().try_for_each(|loss| repair::note(turn, loss))
        })?;
        repair::take_in(&turn(), blobs, space, Vec::new()).await?;
    }
    Ok(())
}

/// Kept deploys that lead to lost content.
fn damaged<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Vec<u64>, SqlError> {
    let select = "SELECT number FROM deploy WHERE state = 0
         AND root IN (SELECT node FROM damaged) ORDER BY number LIMIT ?";
    let rows = ledger.sql().run(select, &[DAMAGED_MAX.into()])?;
    rows.iter().map(|row| integer(row, 0)).collect()
}

/// A step in progress.
struct Check<'a, S, B> {
    ledger: &'a Ledger<'a, S>,
    have: BlobIndex<'a, S>,
    blobs: &'a B,
    space: SpaceId,
    data: Option<VerifyData>,
    reply: VerifyReply,
    losses: Vec<Loss>,
    reads: usize,
    /// Objects that a row of the ledger names, and whether they are there to stay.
    known: BTreeMap<ObjectId, bool>,
}

impl<'a, S: Sql, B: Blobs> Check<'a, S, B> {
    fn new(
        ledger: &'a Ledger<'a, S>,
        blobs: &'a B,
        space: SpaceId,
        data: Option<VerifyData>,
    ) -> Self {
        Self {
            ledger,
            have: BlobIndex::new(ledger),
            blobs,
            space,
            data,
            reply: VerifyReply::default(),
            losses: Vec::new(),
            reads: 0,
            known: BTreeMap::new(),
        }
    }

    /// Reads a range past all caches; `None` if it does not exist.
    async fn read(
        &mut self,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        self.reads += 1;
        let space = self.space;
        let key = ObjectKey { space, object };
        self.blobs.read_again(key, range).await
    }

    /// Whether an object does not exist at all.
    async fn is_gone(&mut self, object: ObjectId) -> Result<bool, BackendError> {
        Ok(self.read(object, 0..1).await?.is_none())
    }

    /// Whether the step has done its share.
    const fn is_over(&self) -> bool {
        self.reads >= READS_AT_ONCE
            || self.reply.bytes >= BYTES_AT_ONCE
            || self.reply.faults.len() >= FAULTS_AT_ONCE
    }

    /// The ledger as it is now: other commands ran while the step read.
    fn now(&self) -> Ledger<'a, S> {
        Ledger::new(self.ledger.sql()).at(self.ledger.now())
    }

    /// Whether a node still has its index node where the step read it.
    fn is_still_at(&self, node: &NodeId, at: Extent) -> Result<bool, SqlError> {
        Ok(self.now().node_extent(node)? == Some(at))
    }

    fn fault(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (what.into(), why.into());
        self.reply.faults.push(VerifyFault { what, why });
    }
}
