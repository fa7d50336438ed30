//! Holds and build orders in the ledger: deploys that a rollback keeps active, and the newest
//! builds.

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::name::AliasName;
use pmx_core::sql::{Sql, SqlError, SqlRow};
use pmx_core::time::Timestamp;

use super::columns::integer;
use super::ledger::Ledger;
use crate::wire::{DeployKind, DeployView, Order};

/// Hold of a rollback: while its deploy is active, the space refuses publishes until the hold is
/// lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The held deploy.
    pub(crate) deploy: u64,
    /// The deploy before the rollback; of several rollbacks in a row, before the first.
    pub(crate) since: u64,
    /// The time of the rollback.
    pub(crate) at: Timestamp,
    /// Whether `pmx resume` lifted it.
    pub(crate) is_lifted: bool,
}

/// The key of a channel in the tables of holds and builds.
fn channel(alias: Option<&AliasName>) -> &str {
    alias.map_or("", AliasName::as_str)
}

/// An order value and a deploy number.
fn order_and_deploy(row: &SqlRow) -> Result<(u64, u64), SqlError> {
    Ok((integer(row, 0)?, integer(row, 1)?))
}

impl<S: Sql> Ledger<'_, S> {
    /// The hold of the last rollback of a channel, in force, lifted or over.
    pub(crate) fn hold(&self, alias: Option<&AliasName>) -> Result<Option<Hold>, SqlError> {
        let select = "SELECT deploy, since, at, lifted FROM hold WHERE channel = ?";
        let rows = self.sql().run(select, &[channel(alias).into()])?;
        let hold = rows.first().map(|row| {
            Ok(Hold {
                deploy: integer(row, 0)?,
                since: integer(row, 1)?,
                at: Timestamp::from_millis(integer(row, 2)?),
                is_lifted: integer(row, 3)? != 0,
            })
        });
        hold.transpose()
    }

    /// The hold of a channel, if it is in force.
    pub(crate) fn hold_in_force(
        &self,
        alias: Option<&AliasName>,
    ) -> Result<Option<Hold>, SqlError> {
        let active = self.current(alias)?.map_or(0, |deploy| deploy.number);
        let hold = self.hold(alias)?;
        Ok(hold.filter(|hold| hold.deploy == active && !hold.is_lifted))
    }

    /// Holds a channel at the deploy that a rollback made or found, where `before` was active.
    pub(crate) fn set_hold(
        &self,
        alias: Option<&AliasName>,
        deploy: u64,
        before: u64,
        at: Timestamp,
    ) -> Result<(), SqlError> {
        // After a second rollback, `since` stays the deploy that publishers saw before the first.
        let earlier = self.hold(alias)?.filter(|hold| hold.deploy == before);
        let since = earlier.map_or(before, |hold| hold.since);
        let upsert = "INSERT INTO hold (channel, deploy, since, at, lifted) VALUES (?, ?, ?, ?, 0)
             ON CONFLICT (channel) DO UPDATE SET deploy = excluded.deploy,
                 since = excluded.since, at = excluded.at, lifted = 0";
        let at = at.as_millis();
        let params = [
            channel(alias).into(),
            deploy.into(),
            since.into(),
            at.into(),
        ];
        self.sql().run(upsert, &params).map(drop)
    }

    /// Lifts the hold of a channel. Returns the deploy that was held, if one was.
    pub(crate) fn lift_hold(&self, alias: Option<&AliasName>) -> Result<Option<u64>, SqlError> {
        let held = self.hold_in_force(alias)?;
        if held.is_some() {
            let update = "UPDATE hold SET lifted = 1 WHERE channel = ?";
            self.sql().run(update, &[channel(alias).into()])?;
        }
        Ok(held.map(|hold| hold.deploy))
    }

    /// Ends the hold of a channel whose deploy was replaced.
    pub(crate) fn end_hold(&self, alias: Option<&AliasName>) -> Result<(), SqlError> {
        let delete = "DELETE FROM hold WHERE channel = ?";
        self.sql().run(delete, &[channel(alias).into()]).map(drop)
    }

    /// The newest build of a kind in a channel, and the deploy that it made or found unchanged.
    pub(crate) fn newest_order(
        &self,
        alias: Option<&AliasName>,
        kind: &str,
    ) -> Result<Option<(Order, u64)>, SqlError> {
        let select = "SELECT order_value, number FROM deploy
             WHERE order_kind = ? AND alias IS ? AND order_value <= ?
             ORDER BY order_value DESC, number DESC LIMIT 1";
        let name = alias.map(AliasName::as_str).into();
        let params = [kind.into(), name, EXACT_INTEGER_MAX.into()];
        let rows = self.sql().run(select, &params)?;
        let made = rows.first().map(order_and_deploy).transpose()?;
        let newest = made.max(self.build(alias, kind)?);
        Ok(newest.and_then(|(value, deploy)| Some((Order::from_parts(kind, value)?, deploy))))
    }

    /// The newest build of a kind that found its site already deployed, and that deploy.
    fn build(&self, alias: Option<&AliasName>, kind: &str) -> Result<Option<(u64, u64)>, SqlError> {
        let select = "SELECT order_value, deploy FROM build WHERE channel = ? AND order_kind = ?";
        let rows = self
            .sql()
            .run(select, &[channel(alias).into(), kind.into()])?;
        rows.first().map(order_and_deploy).transpose()
    }

    /// Records that a build found its site already deployed: the space then refuses older builds.
    pub(crate) fn note_build(
        &self,
        alias: Option<&AliasName>,
        order: &Order,
        deploy: u64,
    ) -> Result<(), SqlError> {
        let upsert = "INSERT INTO build (channel, order_kind, order_value, deploy)
             VALUES (?, ?, ?, ?) ON CONFLICT (channel, order_kind) DO UPDATE
             SET order_value = excluded.order_value, deploy = excluded.deploy
             WHERE excluded.order_value >= order_value";
        let params = [
            channel(alias).into(),
            order.kind().into(),
            order.value().into(),
            deploy.into(),
        ];
        self.sql().run(upsert, &params).map(drop)
    }

    /// A deploy's order of a kind: of the build that made it, or of a build that found it
    /// unchanged. A rollback has the order of the deploy that it restored.
    pub(crate) fn order_of(
        &self,
        deploy: &DeployView,
        kind: &str,
    ) -> Result<Option<Order>, SqlError> {
        let own = deploy.order.as_ref().filter(|order| order.kind() == kind);
        let own = own.map(Order::value);
        let found = self.build(deploy.alias.as_ref(), kind)?;
        let found = found.filter(|(_, of)| *of == deploy.number);
        let value = own.max(found.map(|(value, _)| value));
        if value.is_none()
            && deploy.kind == DeployKind::Rollback
            && let Some(restored) = deploy.restores
            && let Some(restored) = self.deploy(restored)?
            && restored.kind == DeployKind::Publish
        {
            return self.order_of(&restored, kind);
        }
        Ok(value.and_then(|value| Order::from_parts(kind, value)))
    }
}
