//! Outbox: ordered messages of the hub to one receiver, acknowledged in batches.
//!
//! Messages wait in their order, and go in batches. A batch that went once stays as it is until it
//! is known to have arrived, and carries a number: it may go twice, and a client that gets it takes
//! each number once, or does not mind.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use crate::limits::REGISTRY_BATCH_MAX;
use crate::row::Columns;

/// An outbox: messages for one receiver, for the length of a turn.
pub(super) struct Outbox<'a, S> {
    sql: &'a S,
    tables: &'static Tables,
}

/// Where an outbox is kept.
pub(super) struct Tables {
    /// The messages.
    waiting: &'static str,
    /// The number of the next batch, and before when not to try.
    state: &'static str,
}

/// For the registry.
pub(super) const REGISTRY: &Tables = &Tables {
    waiting: "hub_post",
    state: "hub_posted",
};

/// For the index in D1.
pub(super) const INDEX: &Tables = &Tables {
    waiting: "hub_note",
    state: "hub_noted",
};

/// The longest pause between two tries.
const PAUSE_SECONDS_MAX: u64 = 60;

/// How long after a turn the alarm sends what was not sent at once.
const GRACE: Duration = Duration::from_secs(2);

impl<'a, S: Sql> Outbox<'a, S> {
    pub(super) const fn new(sql: &'a S, tables: &'static Tables) -> Self {
        Self { sql, tables }
    }

    /// Makes the tables, unless they are there.
    pub(super) fn install(&self) -> Result<(), SqlError> {
        let Tables { waiting, state } = self.tables;
        for statement in [
            format!(
                "CREATE TABLE IF NOT EXISTS {waiting} (
                    number INTEGER PRIMARY KEY, batch INTEGER, message TEXT NOT NULL) STRICT"
            ),
            // `next`: the number of the next batch. `at`: not before then.
            format!(
                "CREATE TABLE IF NOT EXISTS {state} (
                    one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL,
                    at INTEGER NOT NULL, tries INTEGER NOT NULL) STRICT"
            ),
            format!("INSERT OR IGNORE INTO {state} (one, next, at, tries) VALUES (1, 0, 0, 0)"),
        ] {
            self.sql.run(&statement, &[])?;
        }
        Ok(())
    }

    /// Writes a message down.
    pub(super) fn put(&self, message: &str) -> Result<(), SqlError> {
        let insert = format!("INSERT INTO {} (message) VALUES (?)", self.tables.waiting);
        self.sql.run(&insert, &[message.into()]).map(drop)
    }

    /// The number and the messages of the next batch, if any wait.
    pub(super) fn batch(&self, now: Timestamp) -> Result<Option<(u64, Vec<String>)>, SqlError> {
        let (number, at, _) = self.state()?;
        if at > now {
            return Ok(None);
        }
        let waiting = self.tables.waiting;
        let select = format!("SELECT message FROM {waiting} WHERE batch = ? ORDER BY number");
        let mut rows = self.sql.run(&select, &[number.into()])?;
        if rows.is_empty() {
            let update = format!(
                "UPDATE {waiting} SET batch = ? WHERE number IN \
                 (SELECT number FROM {waiting} WHERE batch IS NULL ORDER BY number LIMIT ?)"
            );
            let most = REGISTRY_BATCH_MAX as u64;
            self.sql.run(&update, &[number.into(), most.into()])?;
            rows = self.sql.run(&select, &[number.into()])?;
        }
        let messages = rows.into_iter().map(|row| Columns::of(row).text());
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        Ok((!messages.is_empty()).then_some((number, messages)))
    }

    /// A batch ack.
    pub(super) fn ack(&self, number: u64) -> Result<(), SqlError> {
        let Tables { waiting, state } = self.tables;
        let delete = format!("DELETE FROM {waiting} WHERE batch = ?");
        self.sql.run(&delete, &[number.into()])?;
        let update = format!("UPDATE {state} SET next = ?, at = 0, tries = 0 WHERE next = ?");
        let params = [(number + 1).into(), number.into()];
        self.sql.run(&update, &params).map(drop)
    }

    /// No one knows whether a batch arrived: it is tried again, ever later.
    pub(super) fn nack(&self, now: Timestamp) -> Result<(), SqlError> {
        let (_, _, tries) = self.state()?;
        let pause = (1 << tries.min(16)).min(PAUSE_SECONDS_MAX);
        let at = now.after(Duration::from_secs(pause)).as_millis();
        let update = format!("UPDATE {} SET at = ?, tries = ?", self.tables.state);
        let params = [at.into(), (tries + 1).into()];
        self.sql.run(&update, &params).map(drop)
    }

    /// When the alarm has to send what waits.
    pub(super) fn due(&self, now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        let select = format!("SELECT 1 FROM {} LIMIT 1", self.tables.waiting);
        if self.sql.run(&select, &[])?.is_empty() {
            return Ok(None);
        }
        let (_, at, _) = self.state()?;
        // The caller that queued it is about to send it.
        Ok(Some(at.max(now.after(GRACE))))
    }

    fn state(&self) -> Result<(u64, Timestamp, u64), SqlError> {
        let select = format!("SELECT next, at, tries FROM {}", self.tables.state);
        let rows = self.sql.run(&select, &[])?;
        let mut row = Columns::of(rows.into_iter().next().unwrap_or_default());
        let (next, at) = (row.integer()?, row.integer()?);
        Ok((next, Timestamp::from_millis(at), row.integer()?))
    }
}
