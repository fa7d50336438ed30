//! Commit preconditions: checks their limits, and loads the ledger's view for a decision.

use pmx_core::problem::{Problem, check_number};
use pmx_core::sql::Sql;

use super::command::PublishCommand;
use super::decide::{self, ChannelState, CommitDecision};
use super::ledger::Ledger;
use super::meta::check_meta;
use super::restore;
use crate::wire::{CommitPreconditions, DeployView, MaxDelete, Order, Replace};

/// The view of the ledger that a decision about a commit depends on.
fn view<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    preconditions: &CommitPreconditions,
) -> Result<ChannelState, Problem> {
    let alias = publish.alias.as_ref();
    let active = ledger.current(alias)?;
    let hold = ledger.hold(alias)?;
    let mut view = ChannelState {
        alias: alias.cloned(),
        aliases: alias.map_or(Ok(0), |_| ledger.alias_count())?,
        last: ledger.last_number()?,
        same_key: ledger.find_by_idempotency_key(&preconditions.key)?,
        ..ChannelState::default()
    };
    if let Some(order) = &preconditions.order {
        view.newest = ledger.newest_order(alias, order.kind())?;
        if let Some(active) = &active {
            view.comparable = ledger.order_of(active, order.kind())?;
        }
        // Once its hold is lifted, the order of the deploy before the rollback counts.
        if let (None, Some(hold)) = (&view.comparable, &hold)
            && hold.is_lifted
            && let Some(before) = ledger.deploy(hold.since)?
        {
            view.comparable = ledger.order_of(&before, order.kind())?;
        }
    }
    Ok(ChannelState {
        active,
        hold,
        ..view
    })
}

/// Decides whether a publish may continue under its preconditions.
pub(super) fn decide<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    preconditions: &CommitPreconditions,
) -> Result<CommitDecision, Problem> {
    if let Some(last) = preconditions.restore.last() {
        return restore::decide(ledger, publish, last);
    }
    decide::commit(
        &view(ledger, publish, preconditions)?,
        &publish.root,
        preconditions,
    )
}

/// Records the order of a build whose site is already active: builds before it now count as older.
/// Refuses a build older than the newest, as if it changed something.
pub(super) fn note_unchanged<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
    preconditions: &CommitPreconditions,
    deploy: &DeployView,
) -> Result<(), Problem> {
    let Some(order) = &preconditions.order else {
        return Ok(());
    };
    ledger.atomically(|ledger| {
        let view = view(ledger, publish, preconditions)?;
        if preconditions.replace != Replace::Any {
            decide::not_older(&view, preconditions)?;
        }
        match view.newest {
            Some((newest, of)) if newest == *order && of == deploy.number => Ok(()),
            Some(_) | None => {
                let alias = publish.alias.as_ref();
                Ok(ledger.note_build(alias, order, deploy.number)?)
            }
        }
    })
}

/// Refuses preconditions beyond their limits.
pub(super) fn check_limits(preconditions: &CommitPreconditions) -> Result<(), Problem> {
    check_number("expect", preconditions.expect)?;
    check_number("the order", preconditions.order.as_ref().map(Order::value))?;
    if let Some(MaxDelete::Files(files)) = preconditions.max_delete {
        check_number("max_delete", Some(files))?;
    }
    check_meta(&preconditions.meta, &preconditions.key)
}
