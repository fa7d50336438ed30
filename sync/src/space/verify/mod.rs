//! Verification: compares what the ledger records with the objects of the space, in steps.
//!
//! The nodes come first ([`nodes`]): each is what its id says, its children and its index node are
//! there, and the index node leads to what the ledger knows. Then the objects ([`objects`]): each
//! exists and is long enough, and on request the space reads and hashes the blobs in it.
//!
//! A step only reads. It reads again past all caches before it finds a fault, and a store that
//! fails is no fault. On request it marks what it finds as a reader does, see
//! [`repair`](super::repair): the next publish sends lost content again.

mod nodes;
mod objects;

use std::ops::Range;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::id::{ObjectId, SpaceId};
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::columns::integer;
use super::command::{Loss, VerifyStep};
use super::ledger::Ledger;
use super::repair;
use crate::wire::{VerifyCursor, VerifyData, VerifyFault, VerifyReply};

/// Reads of a step: each is a subrequest of a Worker.
const READS_AT_ONCE: usize = 16;

/// Bytes that a step reads, beside the last one: a Worker hashes them in a tenth of a second.
const BYTES_AT_ONCE: u64 = 8 * 1024 * 1024;

/// Damaged deploys that a reply names.
const DAMAGED_MAX: u64 = 1_000;

/// Takes one step.
pub(super) async fn step<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    step: VerifyStep,
) -> Result<VerifyReply, Problem> {
    let mut check = Check {
        ledger,
        blobs,
        space,
        data: step.data,
        reply: VerifyReply::default(),
        losses: Vec::new(),
        reads: 0,
    };
    let next = match step.after.unwrap_or(VerifyCursor::Nodes(None)) {
        VerifyCursor::Nodes(after) => check.nodes(after).await?,
        VerifyCursor::Objects(after, skip) => check.objects(after, skip).await?,
    };
    let Check {
        mut reply, losses, ..
    } = check;
    let fresh = Ledger::new(ledger.sql()).at(ledger.now());
    if step.repair {
        fresh.atomically(|turn| {
            turn.check_same(space)?;
            losses.iter().try_for_each(|loss| repair::note(turn, loss))
        })?;
        if next.is_none() {
            repair::take_in(&fresh, blobs, space, Vec::new()).await?;
        }
    }
    if next.is_none() {
        reply.damaged = damaged(&fresh)?;
    }
    reply.next = next.map(|cursor| cursor.to_string());
    Ok(reply)
}

/// Kept deploys that lead to lost content.
fn damaged<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Vec<u64>, SqlError> {
    let select = "SELECT number FROM deploy WHERE state = 0
         AND root IN (SELECT node FROM damaged) ORDER BY number LIMIT ?";
    let rows = ledger.sql().run(select, &[DAMAGED_MAX.into()])?;
    rows.iter().map(|row| integer(row, 0)).collect()
}

/// A step in progress.
struct Check<'a, 'l, S, B> {
    ledger: &'a Ledger<'l, S>,
    blobs: &'a B,
    space: SpaceId,
    data: Option<VerifyData>,
    reply: VerifyReply,
    losses: Vec<Loss>,
    reads: usize,
}

impl<S: Sql, B: Blobs> Check<'_, '_, S, B> {
    const fn key(&self, object: ObjectId) -> ObjectKey {
        ObjectKey {
            space: self.space,
            object,
        }
    }

    /// Reads a range past all caches; `None` if it does not exist.
    async fn read(
        &mut self,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        self.reads += 1;
        self.blobs.read_again(self.key(object), range).await
    }

    /// Whether the step has done its share.
    const fn is_over(&self) -> bool {
        self.reads >= READS_AT_ONCE || self.reply.bytes >= BYTES_AT_ONCE
    }

    fn fault(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (what.into(), why.into());
        self.reply.faults.push(VerifyFault { what, why });
    }
}
