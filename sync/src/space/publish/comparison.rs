//! Publish comparison: the changes of a root against the deploy that it would replace.

use pmx_core::id::Root;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::super::closure::{Closure, Incoming};
use super::super::ledger::Ledger;
use crate::manifest::{Change, Layered, diff};
use crate::wire::{DeployView, Summary};

/// The deploy to compare a publish with: the one that it replaces, or for a new preview the active
/// one.
pub(super) fn comparison_base<S: Sql>(
    ledger: &Ledger<'_, S>,
    replaced: Option<&DeployView>,
) -> Result<Option<DeployView>, Problem> {
    match replaced {
        Some(replaced) => Ok(Some(replaced.clone())),
        None => Ok(ledger.active()?),
    }
}

/// The changes against a deploy; `None` without a deploy.
pub(super) fn changes<S: Sql>(
    ledger: &Ledger<'_, S>,
    incoming: &Incoming,
    active: Option<&DeployView>,
    root: &Root,
) -> Result<Option<Vec<Change>>, Problem> {
    let Some(active) = active else {
        return Ok(None);
    };
    let source = Layered {
        new: &incoming.nodes,
        old: ledger,
    };
    Ok(Some(diff(ledger, active.root, &source, *root)?))
}

pub(super) fn summary(changes: Option<&[Change]>, closure: &Closure) -> Summary {
    let files = closure.totals.files;
    match changes {
        Some(changes) => Summary::of(changes, files),
        None => Summary {
            added: files,
            ..Summary::default()
        },
    }
}
