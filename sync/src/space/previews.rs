//! Preview lifetime in the ledger: the time at which a preview ends, and the list of previews.
//!
//! Readers see no preview whose time is over, whether or not its row still exists. The alarm of the
//! platform removes the row and announces that the address is gone.

use std::time::Duration;

use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::collect;
use super::columns::{alias_name, integer, optional_integer, text};
use super::command::PublishCommand;
use super::ledger::Ledger;
use super::reply::Reply;
use crate::pointer::Pointer;
use crate::wire::{BeginReply, PreviewView, PublishState};

/// When to look again after the state of a collection could not be read.
const LATER: Duration = Duration::from_hours(1);

/// Previews that one command removes. The next one follows at once.
const REMOVED_AT_ONCE: u64 = 64;

impl<S: Sql> Ledger<'_, S> {
    /// The time at which a preview ends, if it has one.
    pub(crate) fn expiry(&self, alias: &AliasName) -> Result<Option<Timestamp>, SqlError> {
        let select = "SELECT expires FROM alias WHERE name = ?";
        let rows = self.sql().run(select, &[alias.as_str().into()])?;
        let at = rows
            .first()
            .map_or(Ok(None), |row| optional_integer(row, 0))?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// Sets the end of an existing preview, and queues its pointer if that changes anything.
    pub(super) fn set_expiry(
        &self,
        alias: &AliasName,
        at: Option<Timestamp>,
    ) -> Result<(), SqlError> {
        let update = "UPDATE alias SET expires = ? WHERE name = ? AND expires IS NOT ?
             RETURNING deploy";
        let at = at.map(Timestamp::as_millis);
        let params = [at.into(), alias.as_str().into(), at.into()];
        let rows = self.sql().run(update, &params)?;
        let deploy = rows.first().map(|row| integer(row, 0)).transpose()?;
        deploy.map_or(Ok(()), |deploy| {
            self.announce(Some(alias), Pointer::order_of(deploy))
        })
    }

    /// Previews whose time is over, the oldest first.
    fn expired(&self) -> Result<Vec<AliasName>, SqlError> {
        let select = "SELECT name FROM alias WHERE expires <= ? ORDER BY expires LIMIT ?";
        let now = self.now().as_millis();
        let rows = self
            .sql()
            .run(select, &[now.into(), REMOVED_AT_ONCE.into()])?;
        rows.iter().map(|row| alias_name(&text(row, 0)?)).collect()
    }

    /// The next time at which a preview ends.
    fn next_expiry(&self) -> Result<Option<Timestamp>, SqlError> {
        let select = "SELECT min(expires) FROM alias WHERE expires IS NOT NULL";
        let rows = self.sql().run(select, &[])?;
        let at = rows
            .first()
            .map_or(Ok(None), |row| optional_integer(row, 0))?;
        Ok(at.map(Timestamp::from_millis))
    }
}

/// Sets the end of a published preview, in the transaction of the publish. A publish that names no
/// end leaves the one that the preview has.
pub(super) fn set_end<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
) -> Result<(), SqlError> {
    let expiry = publish.commit.as_ref().and_then(|commit| commit.expires);
    match (&publish.alias, expiry) {
        (Some(alias), Some(expiry)) => ledger.set_expiry(alias, expiry.end(ledger.now())),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Adds the end of the preview to the reply of its publish.
pub(super) fn with_end<S: Sql>(
    ledger: &Ledger<'_, S>,
    alias: Option<&AliasName>,
    reply: BeginReply,
) -> Result<BeginReply, Problem> {
    match (alias, reply.state) {
        (Some(alias), PublishState::Current | PublishState::Published) => Ok(BeginReply {
            expires: ledger.expiry(alias)?,
            ..reply
        }),
        _ => Ok(reply),
    }
}

/// Removes previews whose time is over, and names the removed space whose objects may go.
pub(super) fn expire<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Reply, Problem> {
    let removed = ledger.expired()?;
    if !removed.is_empty() {
        ledger.atomically(|ledger| {
            removed
                .iter()
                .try_for_each(|alias| ledger.unalias(alias).map(drop))
        })?;
    }
    let purge = ledger.next_removed()?;
    let is_due = |(_, at): &(_, Timestamp)| *at <= ledger.now();
    let collection = match ledger.space()? {
        // Readers need pointers, whatever becomes of a collection.
        Some(_) => collect::next(ledger).unwrap_or_else(|_| Some(ledger.now().after(LATER))),
        None => None,
    };
    let ends = [ledger.next_expiry()?, purge.map(|(_, at)| at), collection];
    Ok(Reply::Expired {
        removed,
        next: ends.into_iter().flatten().min(),
        purge: purge.filter(is_due).map(|(space, _)| space),
    })
}

/// Lists all previews with their deploys, in the order of their names.
pub(super) fn list<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Reply, Problem> {
    let mut previews = Vec::new();
    for (name, number) in ledger.aliases()? {
        if let Some(deploy) = ledger.deploy(number)? {
            previews.push(PreviewView {
                expires: ledger.expiry(&name)?,
                name,
                deploy,
                url: None,
            });
        }
    }
    Ok(Reply::Previews(previews))
}
