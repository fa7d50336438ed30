//! Outbox of a space: the pointers that its readers do not see yet.

use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::id::SpaceId;
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::history::locate;
use super::ledger::Ledger;
use super::removal::nowhere;
use super::reply::{Due, Outbox};
use crate::pointer::Pointer;

/// Makes the pointers of all channels in the outbox. A channel whose pointer cannot be made blocks
/// no other channel; a failure of the storage ends the command.
pub(crate) fn outbox<S: Sql>(
    ledger: &Ledger<'_, S>,
    space: Option<SpaceId>,
) -> Result<Outbox, Problem> {
    let mut outbox = Outbox::default();
    let mut before = EXACT_INTEGER_MAX;
    // Blocked channels do not use up the page: older rows follow them.
    while outbox.due.is_empty() {
        let page = ledger.pending_pointers(before)?;
        let Some(last) = page.last() else { break };
        before = last.order;
        for row in page {
            let alias = row.alias;
            let made = match (row.removed, space) {
                (Some(pointer), _) => Ok(pointer),
                (None, Some(space)) => pointer(ledger, space, alias.as_ref(), row.order),
                (None, None) => continue,
            };
            match made {
                Ok(pointer) => outbox.due.push(Due { alias, pointer }),
                Err(problem) if problem.code == Code::Storage => return Err(problem),
                Err(problem) => outbox.blocked.push(of_channel(alias.as_ref(), &problem)),
            }
        }
    }
    outbox.blocked.truncate(BLOCKED_MAX);
    Ok(outbox)
}

/// Blocked channels that a reply names: one log line for each is enough to find the cause.
const BLOCKED_MAX: usize = 8;

fn pointer<S: Sql>(
    ledger: &Ledger<'_, S>,
    space: SpaceId,
    alias: Option<&AliasName>,
    order: u64,
) -> Result<Pointer, Problem> {
    let selector = match alias {
        None => Selector::Active,
        Some(alias) if ledger.named(alias)?.is_some() => Selector::Alias(alias.clone()),
        // The content may be gone as well.
        Some(_) => {
            return Ok(Pointer {
                gone: true,
                base: ledger.base()?,
                revision: ledger.revision()?,
                ..nowhere(space, order / 2)
            });
        }
    };
    locate(ledger, space, &selector)
}

fn of_channel(alias: Option<&AliasName>, problem: &Problem) -> Problem {
    let channel = alias.map_or_else(|| "the site".to_owned(), |alias| format!("preview {alias}"));
    let detail = format!("making the pointer of {channel}: {problem}");
    // The cause's own code could be "not found", and a caller would conclude that the space is
    // gone.
    Problem::new(Code::MissingObjects, detail)
}
