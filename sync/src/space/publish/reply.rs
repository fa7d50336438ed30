//! Publish replies: one for each state of an offer.

use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::super::closure::Closure;
use super::super::ledger::Ledger;
use crate::limits::PREFIX_RAW_BYTES_MAX;
use crate::wire::{BeginReply, DeployView, PublishState};

/// The reply to an offer that does not yield the root yet.
pub(super) fn with_arrived<S: Sql>(
    ledger: &Ledger<'_, S>,
    reply: BeginReply,
) -> Result<BeginReply, Problem> {
    if reply.state == PublishState::Outline && reply.active == 0 {
        // A client of a first publish uploads early: it looks here for packs of an earlier try.
        let packs = ledger.arrived_packs()?;
        return Ok(BeginReply { packs, ..reply });
    }
    if reply.state != PublishState::Base {
        return Ok(reply);
    }
    Ok(BeginReply {
        parts: ledger.arrived_parts()?,
        packs: ledger.arrived_packs()?,
        prefix_max: Some(PREFIX_RAW_BYTES_MAX),
        ..reply
    })
}

/// The reply that names the missing content of a root.
pub(super) fn outstanding(closure: Closure, active: Option<&DeployView>) -> BeginReply {
    let state = if closure.missing.is_empty() {
        PublishState::Ready
    } else {
        PublishState::Blobs
    };
    BeginReply {
        blobs: closure.missing,
        parts: closure.parts,
        ..reply(state, active)
    }
}

pub(super) fn reply(state: PublishState, active: Option<&DeployView>) -> BeginReply {
    BeginReply {
        active: active.map_or(0, |deploy| deploy.number),
        root: active
            .map(|deploy| deploy.root)
            .filter(|_| state != PublishState::Current),
        ..BeginReply::new(state)
    }
}

pub(super) fn published(deploy: DeployView) -> BeginReply {
    BeginReply {
        active: deploy.number,
        summary: Some(deploy.summary),
        deploy: Some(Box::new(deploy)),
        ..BeginReply::new(PublishState::Published)
    }
}
