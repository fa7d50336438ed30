//! Aliases in the ledger, and the outbox of pointers that are not yet propagated.

use std::collections::BTreeMap;

use pmx_core::code::Code;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError};

use super::columns::{alias_name, integer, optional_text, text};
use super::ledger::Ledger;
use super::retention::drop_preview;
use crate::pointer::Pointer;
use crate::wire::DeployView;

/// A pointer that is not yet propagated.
#[derive(Debug)]
pub(crate) struct PendingPointer {
    pub(crate) alias: Option<AliasName>,
    /// Its [`Pointer::order`].
    pub(crate) order: u64,
    /// The pointer itself, if it is of a space that was removed.
    pub(crate) removed: Option<Pointer>,
}

impl<S: Sql> Ledger<'_, S> {
    /// The deploy that an alias names.
    pub(crate) fn named(&self, alias: &AliasName) -> Result<Option<DeployView>, SqlError> {
        let select = "SELECT deploy FROM alias
             WHERE name = ? AND (expires IS NULL OR expires > ?)";
        let params = [alias.as_str().into(), self.now().as_millis().into()];
        let rows = self.sql().run(select, &params)?;
        let number = rows.first().map(|row| integer(row, 0)).transpose()?;
        number.map_or(Ok(None), |number| self.deploy(number))
    }

    /// The current deploy: the active one, or the one that an alias names.
    pub(crate) fn current(
        &self,
        alias: Option<&AliasName>,
    ) -> Result<Option<DeployView>, SqlError> {
        alias.map_or_else(|| self.active(), |alias| self.named(alias))
    }

    /// Whether a deploy of another channel than the alias has a number between two numbers.
    pub(crate) fn has_others(
        &self,
        alias: Option<&AliasName>,
        after: u64,
        up_to: u64,
    ) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM deploy WHERE number > ? AND number <= ? AND alias IS NOT ?
             LIMIT 1";
        let alias = alias.map(AliasName::as_str).into();
        let rows = self
            .sql()
            .run(select, &[after.into(), up_to.into(), alias])?;
        Ok(!rows.is_empty())
    }

    /// The deploy that each alias names.
    pub(crate) fn aliases(&self) -> Result<BTreeMap<AliasName, u64>, SqlError> {
        let select = "SELECT name, deploy FROM alias WHERE expires IS NULL OR expires > ?";
        let now = self.now().as_millis();
        let rows = self.sql().run(select, &[now.into()])?;
        rows.iter()
            .map(|row| Ok((alias_name(&text(row, 0)?)?, integer(row, 1)?)))
            .collect()
    }

    /// The number of aliases.
    pub(crate) fn alias_count(&self) -> Result<u64, SqlError> {
        let select = "SELECT count(*) FROM alias WHERE expires IS NULL OR expires > ?";
        let now = self.now().as_millis();
        let rows = self.sql().run(select, &[now.into()])?;
        rows.first().map_or(Ok(0), |row| integer(row, 0))
    }

    /// Deletes an alias, queues its pointer, and gives up its deploys. Returns the deploy that it
    /// named.
    pub(crate) fn unalias(&self, alias: &AliasName) -> Result<Option<u64>, SqlError> {
        let delete = "DELETE FROM alias WHERE name = ? RETURNING deploy";
        let rows = self.sql().run(delete, &[alias.as_str().into()])?;
        let named = rows.first().map(|row| integer(row, 0)).transpose()?;
        if let Some(deploy) = named {
            self.announce(Some(alias), Pointer::order_of(deploy) + 1)?;
            drop_preview(self, alias)?;
        }
        Ok(named)
    }

    /// Records that a deploy is now active, or that its alias names it.
    pub(super) fn point(&self, alias: Option<&AliasName>, deploy: u64) -> Result<(), SqlError> {
        if let Some(alias) = alias {
            // A preview whose time was over begins anew, without an end.
            let upsert = "INSERT INTO alias (name, deploy) VALUES (?, ?)
                 ON CONFLICT (name) DO UPDATE SET deploy = excluded.deploy,
                     expires = CASE WHEN expires <= ? THEN NULL ELSE expires END";
            let now = self.now().as_millis();
            let params = [alias.as_str().into(), deploy.into(), now.into()];
            self.sql().run(upsert, &params)?;
        }
        self.announce(alias, Pointer::order_of(deploy))
    }

    /// Queues the pointers of all channels: they may show nodes whose index nodes moved.
    pub(super) fn announce_all_again(&self) -> Result<(), SqlError> {
        self.announce_again(None)?;
        for alias in self.aliases()?.keys() {
            self.announce_again(Some(alias))?;
        }
        Ok(())
    }

    /// Queues the pointer of a channel again, because what it leads to moved. It has the order of
    /// the one before, and a greater revision.
    pub(super) fn announce_again(&self, alias: Option<&AliasName>) -> Result<(), SqlError> {
        let upsert = "INSERT INTO meta (key, value) VALUES ('revision', '1')
             ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1";
        self.sql().run(upsert, &[])?;
        let current = self.current(alias)?;
        current.map_or(Ok(()), |deploy| {
            self.announce(alias, Pointer::order_of(deploy.number))
        })
    }

    /// Queues a pointer of this order in the outbox.
    pub(super) fn announce(&self, alias: Option<&AliasName>, order: u64) -> Result<(), SqlError> {
        // `since` stays that of the first announcement that is not delivered: readers have a
        // pointer from before it.
        let upsert = "INSERT INTO outbox (kind, deploy, since) VALUES (?, ?, ?)
             ON CONFLICT (kind) DO UPDATE SET deploy = excluded.deploy, pointer = NULL";
        let since = self.collector()?.swept.into();
        let params = [outbox_kind(alias).into(), order.into(), since];
        self.sql().run(upsert, &params).map(drop)
    }

    /// A page of the outbox: rows of an order below `before`, the newest first.
    pub(crate) fn pending_pointers(&self, before: u64) -> Result<Vec<PendingPointer>, SqlError> {
        let select = "SELECT kind, deploy, pointer FROM outbox WHERE deploy < ?
             ORDER BY deploy DESC LIMIT 8";
        let rows = self.sql().run(select, &[before.into()])?;
        let due = rows.iter().map(|row| {
            let alias = text(row, 0)?.strip_prefix(ALIAS_KIND).map(alias_name);
            let removed = optional_text(row, 2)?.map(|json| serde_json::from_str(&json));
            let removed = removed.transpose();
            Ok(PendingPointer {
                alias: alias.transpose()?,
                order: integer(row, 1)?,
                removed: removed.map_err(|error| SqlError(error.to_string()))?,
            })
        });
        due.collect()
    }

    /// How often pointers were made anew for the deploys that they had.
    pub(crate) fn revision(&self) -> Result<u64, SqlError> {
        let select = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'revision'";
        let rows = self.sql().run(select, &[])?;
        rows.first().map_or(Ok(0), |row| integer(row, 0))
    }

    /// Takes a pointer that was written out of the outbox, unless a newer one waits: one of a
    /// greater order, or one that was made anew while this one was written.
    pub(crate) fn ack_pointer(
        &self,
        alias: Option<&AliasName>,
        (order, revision): (u64, Option<u64>),
    ) -> Result<(), SqlError> {
        // A pointer as JSON is of a space that was removed, and has the revision of that one.
        let delete = "DELETE FROM outbox WHERE kind = ? AND deploy <= ?
             AND (pointer IS NOT NULL OR ? >= ?)";
        let made = self.revision()?;
        let revision = revision.unwrap_or(made);
        let kind = outbox_kind(alias).into();
        let params = [kind, order.into(), revision.into(), made.into()];
        self.sql().run(delete, &params).map(drop)
    }
}

/// Prefix of an alias's rows in the outbox.
pub(super) const ALIAS_KIND: &str = "pointer/";

pub(super) fn outbox_kind(alias: Option<&AliasName>) -> String {
    alias.map_or_else(|| "pointer".into(), |alias| format!("{ALIAS_KIND}{alias}"))
}

/// The current deploy: the active one, or the one that an alias names.
pub(super) fn current<S: Sql>(
    ledger: &Ledger<'_, S>,
    alias: Option<&AliasName>,
) -> Result<DeployView, Problem> {
    let absent = || match alias {
        Some(alias) => format!("there is no preview {alias}"),
        None => "the space has no deploy yet".to_owned(),
    };
    let current = ledger.current(alias)?;
    current.ok_or_else(|| Problem::new(Code::NotFound, absent()))
}
