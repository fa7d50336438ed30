//! Subscription store: the SQL state of a server's subscriptions.
//!
//! A subscription is one row that contains its wake, so that a wake writes one row. Each of its
//! streams is a row of its own, because an append changes only that stream.

mod due;
mod links;
mod patterns;
mod record;

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError, Value};
use pmx_core::time::Timestamp;

use super::base_url::BaseUrl;
use super::config::SubscriptionConfig;
use super::id::SubscriptionId;
use super::pattern::Pattern;
use super::secret::Secret;
use super::wake::{SubscriptionWake, WakePhase};
use crate::row::{Columns, invalid_column};
use crate::schema;

pub(super) use links::{Link, LinkKind};
pub(super) use patterns::FanOut;
pub(super) use record::{Record, millis};

use record::COLUMNS;

const SCHEMA: &[&str] = &[
    // `next` only grows, so that no two subscriptions ever share a number, which tokens contain.
    // `patterns`: a random version, drawn again when a subscription is created or deleted.
    "CREATE TABLE IF NOT EXISTS subscription_meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), seed BLOB NOT NULL, next INTEGER NOT NULL,
        patterns INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE IF NOT EXISTS subscription (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, hash BLOB NOT NULL,
        kind TEXT NOT NULL, target TEXT NOT NULL, pattern TEXT, lease INTEGER NOT NULL,
        description TEXT, root TEXT NOT NULL, created INTEGER NOT NULL,
        links INTEGER NOT NULL, truncated INTEGER NOT NULL,
        generation INTEGER NOT NULL, phase TEXT NOT NULL, due INTEGER, keep INTEGER,
        holder TEXT, failures INTEGER NOT NULL, told TEXT) STRICT",
    "CREATE INDEX IF NOT EXISTS subscription_due ON subscription (due) WHERE due IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS subscription_link (
        number INTEGER NOT NULL, path TEXT NOT NULL, explicit INTEGER NOT NULL,
        acked INTEGER NOT NULL, tail INTEGER NOT NULL, incarnation INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (number, path)) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS subscription_link_path ON subscription_link (path)",
];

/// The subscriptions of a database, within one transaction.
pub(super) struct SubscriptionStore<'a, S>(pub(super) &'a S);

impl<S: Sql> SubscriptionStore<'_, S> {
    pub(super) fn install(&self, seed: [u8; 32]) -> Result<(), SchemaError> {
        schema::install_or_migrate(self.0, &schema::SUBSCRIPTIONS, |sql| {
            for statement in SCHEMA {
                sql.run(statement, &[])?;
            }
            schema::add_column(sql, "subscription_link", "incarnation")?;
            schema::add_column(sql, "subscription_meta", "patterns")?;
            let insert =
                "INSERT OR IGNORE INTO subscription_meta (one, seed, next) VALUES (1, ?, 1)";
            sql.run(insert, &[seed.as_slice().into()]).map(drop)
        })
    }

    pub(super) fn secret(&self) -> Result<Secret, SqlError> {
        let rows = self.0.run("SELECT seed FROM subscription_meta", &[])?;
        let row = rows.into_iter().next();
        let row = row.ok_or_else(|| SqlError("the ledger of subscriptions is not made".into()))?;
        let seed = Columns::of(row).blob()?.try_into();
        seed.map(Secret::new).map_err(|_| invalid_column("a seed"))
    }

    pub(super) fn count(&self) -> Result<u64, SqlError> {
        self.number("SELECT COUNT(*) FROM subscription", &[])
    }

    pub(super) fn find(&self, id: &SubscriptionId) -> Result<Option<Record>, SqlError> {
        let select = format!("SELECT {COLUMNS} FROM subscription WHERE id = ?");
        self.record(&select, &[id.as_str().into()])
    }

    pub(super) fn at(&self, number: u64) -> Result<Option<Record>, SqlError> {
        let select = format!("SELECT {COLUMNS} FROM subscription WHERE number = ?");
        self.record(&select, &[number.into()])
    }

    pub(super) fn hash(&self, number: u64) -> Result<Option<Vec<u8>>, SqlError> {
        let select = "SELECT hash FROM subscription WHERE number = ?";
        let row = self.0.run(select, &[number.into()])?.into_iter().next();
        row.map(|row| Columns::of(row).blob()).transpose()
    }

    /// Inserts a new subscription, without its streams.
    pub(super) fn insert(
        &self,
        id: &SubscriptionId,
        config: &SubscriptionConfig,
        base_url: &BaseUrl,
        now: Timestamp,
    ) -> Result<Record, SqlError> {
        let number = self.number("SELECT next FROM subscription_meta", &[])?;
        let next = "UPDATE subscription_meta SET next = ?";
        self.0.run(next, &[(number + 1).into()])?;
        self.draw_version()?;
        let insert = "INSERT INTO subscription (number, id, hash, kind, target, pattern, lease,
             description, root, created, links, truncated, generation, phase, failures)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 'idle', 0)";
        let params = [
            number.into(),
            id.as_str().into(),
            config.hash().as_slice().into(),
            config.delivery.kind().into(),
            config.delivery.target().into(),
            config.pattern.as_ref().map(Pattern::as_str).into(),
            millis(config.lease).into(),
            config.description.as_deref().into(),
            base_url.as_str().into(),
            now.as_millis().into(),
        ];
        self.0.run(insert, &params)?;
        Ok(Record {
            number,
            id: id.clone(),
            delivery: config.delivery.clone(),
            pattern: config.pattern.clone(),
            lease: config.lease,
            description: config.description.clone(),
            base_url: base_url.clone(),
            created: now,
            links: 0,
            truncated: false,
            wake: SubscriptionWake::none(),
        })
    }

    pub(super) fn remove(&self, number: u64) -> Result<(), SqlError> {
        for delete in [
            "DELETE FROM subscription_link WHERE number = ?",
            "DELETE FROM subscription WHERE number = ?",
        ] {
            self.0.run(delete, &[number.into()])?;
        }
        self.draw_version()
    }

    /// Draws another version of the patterns. It is random, so that no transaction that was rolled
    /// back had the same one.
    fn draw_version(&self) -> Result<(), SqlError> {
        let draw = "UPDATE subscription_meta SET patterns = random() & ?";
        self.0.run(draw, &[EXACT_INTEGER_MAX.into()]).map(drop)
    }

    /// The version of the patterns.
    pub(super) fn version(&self) -> Result<u64, SqlError> {
        self.number("SELECT patterns FROM subscription_meta", &[])
    }

    /// Writes the columns of a subscription that can change.
    pub(super) fn save(&self, record: &Record) -> Result<(), SqlError> {
        let wake = &record.wake;
        let (phase, keep) = match wake.phase {
            WakePhase::Idle => ("idle", None),
            WakePhase::Queued { keep, .. } => ("queued", Some(keep.as_millis())),
            WakePhase::Sent { .. } => ("sent", None),
            WakePhase::Announced => ("announced", None),
            WakePhase::Awake { .. } => ("awake", None),
        };
        let sent = if wake.sent.is_empty() {
            None
        } else {
            let text = serde_json::to_string(&wake.sent);
            Some(text.map_err(|error| SqlError(error.to_string()))?)
        };
        let update = "UPDATE subscription SET links = ?, truncated = ?, generation = ?, phase = ?,
             due = ?, keep = ?, holder = ?, failures = ?, told = ? WHERE number = ?";
        let params = [
            record.links.into(),
            u64::from(record.truncated).into(),
            wake.generation.into(),
            phase.into(),
            wake.due().map(Timestamp::as_millis).into(),
            keep.into(),
            wake.holder().into(),
            wake.failures.into(),
            sent.into(),
            record.number.into(),
        ];
        self.0.run(update, &params).map(drop)
    }

    fn number(&self, select: &str, params: &[Value]) -> Result<u64, SqlError> {
        let row = self.0.run(select, params)?.into_iter().next();
        row.map_or(Ok(0), |row| Columns::of(row).integer())
    }

    fn record(&self, select: &str, params: &[Value]) -> Result<Option<Record>, SqlError> {
        Ok(self.records(select, params)?.into_iter().next())
    }

    fn records(&self, select: &str, params: &[Value]) -> Result<Vec<Record>, SqlError> {
        let rows = self.0.run(select, params)?;
        rows.into_iter().map(Record::read).collect()
    }
}
