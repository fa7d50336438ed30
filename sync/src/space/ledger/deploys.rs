//! Deploys of a ledger: the history of the site and of its previews.

use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, SqlRow};
use pmx_core::time::Timestamp;

use super::super::columns::{alias_name, array, integer, optional_integer, optional_text, text};
use super::Ledger;
use crate::wire::{DeployContent, DeployKind, DeployMeta, DeployView, Order, Summary};

const DEPLOY_COLUMNS: &str = "number, root, parent, kind, restores, at, files, bytes, new_bytes, \
     added, modified, removed, unchanged, order_kind, order_value, meta, key, alias, state, pin";

/// Deploys among which a repeated key is searched: a retry soon follows the first try.
const KEYS_REMEMBERED: u64 = 100;

/// A deploy and its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeployWithKey {
    pub(crate) deploy: DeployView,
    pub(crate) key: String,
}

impl<S: Sql> Ledger<'_, S> {
    /// Whether any kept deploy, of the site or of a preview, has this root.
    pub(crate) fn was_deployed(&self, root: &Root) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM deploy WHERE root = ? AND state = 0 LIMIT 1";
        let rows = self.sql.run(select, &[root.as_bytes()[..].into()])?;
        Ok(!rows.is_empty())
    }

    /// The active deploy: the newest that is no preview, since every activation has the next
    /// number.
    pub(crate) fn active(&self) -> Result<Option<DeployView>, SqlError> {
        Ok(self.of_alias(None, u64::MAX, 1)?.pop())
    }

    /// Kept deploys of an alias, or those that were active, from a number downward.
    pub(crate) fn of_alias(
        &self,
        alias: Option<&AliasName>,
        from: u64,
        limit: u64,
    ) -> Result<Vec<DeployView>, SqlError> {
        let select = format!(
            "SELECT {DEPLOY_COLUMNS} FROM deploy
             WHERE alias IS ? AND state = 0 AND number <= ? ORDER BY number DESC LIMIT ?"
        );
        let from = from.min(pmx_core::limits::EXACT_INTEGER_MAX);
        let params = [
            alias.map(AliasName::as_str).into(),
            from.into(),
            limit.into(),
        ];
        let rows = self.sql.run(&select, &params)?;
        rows.iter().map(|row| Ok(deploy(row)?.deploy)).collect()
    }

    /// The newest deploy of an alias, or of those that were active, up to a number, kept or not.
    pub(crate) fn newest_up_to(
        &self,
        alias: Option<&AliasName>,
        number: u64,
    ) -> Result<Option<DeployView>, SqlError> {
        let select = format!(
            "SELECT {DEPLOY_COLUMNS} FROM deploy WHERE alias IS ? AND number <= ?
             ORDER BY number DESC LIMIT 1"
        );
        let params = [alias.map(AliasName::as_str).into(), number.into()];
        let rows = self.sql.run(&select, &params)?;
        rows.first().map(|row| Ok(deploy(row)?.deploy)).transpose()
    }

    /// The greatest number of all deploys, of earlier spaces of the name too; 0 if there is none.
    pub(crate) fn last_number(&self) -> Result<u64, SqlError> {
        let rows = self.sql.run("SELECT max(number) FROM deploy", &[])?;
        let last = rows.first().map(|row| optional_integer(row, 0));
        match last.transpose()?.flatten() {
            Some(last) => Ok(last),
            None => self.base(),
        }
    }

    pub(crate) fn deploy(&self, number: u64) -> Result<Option<DeployView>, SqlError> {
        let select = format!("SELECT {DEPLOY_COLUMNS} FROM deploy WHERE number = ?");
        let rows = self.sql.run(&select, &[number.into()])?;
        rows.first().map(|row| Ok(deploy(row)?.deploy)).transpose()
    }

    /// The deploy of a number that a client named.
    pub(crate) fn named_deploy(&self, number: u64) -> Result<DeployView, Problem> {
        let unknown = || Problem::new(Code::DeployUnknown, format!("there is no deploy {number}"));
        self.deploy(number)?.ok_or_else(unknown)
    }

    /// Deploys, newest first.
    pub(crate) fn deploys(
        &self,
        before: Option<u64>,
        limit: u64,
    ) -> Result<Vec<DeployWithKey>, SqlError> {
        let select = format!(
            "SELECT {DEPLOY_COLUMNS} FROM deploy WHERE number < ? ORDER BY number DESC LIMIT ?"
        );
        let before = before
            .unwrap_or(u64::MAX)
            .min(pmx_core::limits::EXACT_INTEGER_MAX);
        let rows = self.sql.run(&select, &[before.into(), limit.into()])?;
        rows.iter().map(deploy).collect()
    }

    /// The deploy with this key, if it is among the newest.
    pub(crate) fn find_by_idempotency_key(
        &self,
        key: &str,
    ) -> Result<Option<DeployWithKey>, SqlError> {
        let select = format!(
            "SELECT {DEPLOY_COLUMNS} FROM deploy
             WHERE key = ? AND number > (SELECT max(number) FROM deploy) - {KEYS_REMEMBERED}"
        );
        let rows = self.sql.run(&select, &[key.into()])?;
        rows.first().map(deploy).transpose()
    }

    /// Records a deploy as active, or as the one that its alias names, and queues its pointer for
    /// readers.
    pub(crate) fn record(&self, made: &DeployWithKey) -> Result<(), SqlError> {
        self.insert(made)?;
        self.point(made.deploy.alias.as_ref(), made.deploy.number)
    }

    /// Inserts the row of a deploy, which no reader is shown by that alone.
    pub(crate) fn insert(&self, made: &DeployWithKey) -> Result<(), SqlError> {
        let deploy = &made.deploy;
        let alias = deploy.alias.as_ref();
        let insert = format!(
            "INSERT INTO deploy ({DEPLOY_COLUMNS})
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        let meta = serde_json::to_string(&deploy.meta).map_err(|e| SqlError(e.to_string()))?;
        let params = [
            deploy.number.into(),
            deploy.root.as_bytes()[..].into(),
            deploy.parent.into(),
            kind_name(deploy.kind).into(),
            deploy.restores.into(),
            deploy.at.as_millis().into(),
            deploy.files.into(),
            deploy.bytes.into(),
            deploy.new_bytes.into(),
            deploy.summary.added.into(),
            deploy.summary.modified.into(),
            deploy.summary.removed.into(),
            deploy.summary.unchanged.into(),
            deploy.order.as_ref().map(Order::kind).into(),
            deploy.order.as_ref().map(Order::value).into(),
            meta.into(),
            made.key.as_str().into(),
            alias.map(AliasName::as_str).into(),
            content_state(deploy.content).into(),
            u64::from(deploy.pinned).into(),
        ];
        self.sql.run(&insert, &params).map(drop)
    }
}

/// The value of the column `state`.
const fn content_state(content: DeployContent) -> u64 {
    match content {
        DeployContent::Kept => 0,
        DeployContent::Dropped => 1,
        DeployContent::Purged => 2,
    }
}

const fn kind_name(kind: DeployKind) -> &'static str {
    match kind {
        DeployKind::Publish => "publish",
        DeployKind::Rollback => "rollback",
    }
}

fn deploy(row: &SqlRow) -> Result<DeployWithKey, SqlError> {
    let kind = match text(row, 3)?.as_str() {
        "rollback" => DeployKind::Rollback,
        _ => DeployKind::Publish,
    };
    let order = match (optional_text(row, 13)?, optional_integer(row, 14)?) {
        (Some(kind), Some(value)) => Order::from_parts(&kind, value),
        _ => None,
    };
    let meta: DeployMeta = serde_json::from_str(&text(row, 15)?)
        .map_err(|e| SqlError(format!("a deploy's meta: {e}")))?;
    let deploy = DeployView {
        number: integer(row, 0)?,
        root: Root::from_bytes(array(row, 1)?),
        parent: integer(row, 2)?,
        kind,
        restores: optional_integer(row, 4)?,
        at: Timestamp::from_millis(integer(row, 5)?),
        files: integer(row, 6)?,
        bytes: integer(row, 7)?,
        new_bytes: integer(row, 8)?,
        summary: Summary {
            added: integer(row, 9)?,
            modified: integer(row, 10)?,
            removed: integer(row, 11)?,
            unchanged: integer(row, 12)?,
        },
        order,
        meta,
        alias: optional_text(row, 17)?
            .map(|name| alias_name(&name))
            .transpose()?,
        content: match integer(row, 18)? {
            0 => DeployContent::Kept,
            1 => DeployContent::Dropped,
            _ => DeployContent::Purged,
        },
        pinned: integer(row, 19)? != 0,
    };
    Ok(DeployWithKey {
        deploy,
        key: text(row, 16)?,
    })
}
