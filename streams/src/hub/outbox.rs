//! Outbox: ordered messages of the hub to one receiver, acknowledged in batches.
//!
//! The outbox sends its messages in order and in batches. A batch has a number, and the outbox
//! repeats it unchanged until the receiver acknowledges it. So a receiver may get a batch twice: it
//! applies each number once, or applies a batch idempotently.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use crate::job::backoff;
use crate::limits::REGISTRY_BATCH_MAX;
use crate::row::Columns;

/// The messages for one receiver, within one transaction.
pub(super) struct HubOutbox<'a, S> {
    sql: &'a S,
    tables: &'static Tables,
}

/// The tables of an outbox.
pub(super) struct Tables {
    /// The messages.
    messages: &'static str,
    /// The number of the next batch, and the time of the next try.
    state: &'static str,
}

/// Tables of the registry's outbox.
pub(super) const REGISTRY: &Tables = &Tables {
    messages: "hub_post",
    state: "hub_posted",
};

/// Tables of the index's outbox.
pub(super) const INDEX: &Tables = &Tables {
    messages: "hub_note",
    state: "hub_noted",
};

/// Longest delay between two tries.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// How long after a transaction the alarm sends messages that the platform has not sent.
const GRACE: Duration = Duration::from_secs(2);

impl<'a, S: Sql> HubOutbox<'a, S> {
    pub(super) const fn new(sql: &'a S, tables: &'static Tables) -> Self {
        Self { sql, tables }
    }

    /// Creates the tables.
    pub(super) fn install(&self) -> Result<(), SqlError> {
        let Tables { messages, state } = self.tables;
        for statement in [
            format!(
                "CREATE TABLE IF NOT EXISTS {messages} (
                    number INTEGER PRIMARY KEY, batch INTEGER, message TEXT NOT NULL) STRICT"
            ),
            // `next`: the number of the next batch. `at`: the time of the next try.
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

    /// Queues a message.
    pub(super) fn put(&self, message: &str) -> Result<(), SqlError> {
        let insert = format!("INSERT INTO {} (message) VALUES (?)", self.tables.messages);
        self.sql.run(&insert, &[message.into()]).map(drop)
    }

    /// The number and the messages of the next batch, if it is time to send one.
    pub(super) fn batch(&self, now: Timestamp) -> Result<Option<(u64, Vec<String>)>, SqlError> {
        let (number, at, _) = self.state()?;
        if at > now {
            return Ok(None);
        }
        let table = self.tables.messages;
        let select = format!("SELECT message FROM {table} WHERE batch = ? ORDER BY number");
        let mut rows = self.sql.run(&select, &[number.into()])?;
        if rows.is_empty() {
            let update = format!(
                "UPDATE {table} SET batch = ? WHERE number IN \
                 (SELECT number FROM {table} WHERE batch IS NULL ORDER BY number LIMIT ?)"
            );
            let most = REGISTRY_BATCH_MAX as u64;
            self.sql.run(&update, &[number.into(), most.into()])?;
            rows = self.sql.run(&select, &[number.into()])?;
        }
        let messages = rows.into_iter().map(|row| Columns::of(row).text());
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        Ok((!messages.is_empty()).then_some((number, messages)))
    }

    /// Records that the receiver has a batch.
    pub(super) fn ack(&self, number: u64) -> Result<(), SqlError> {
        let Tables { messages, state } = self.tables;
        let delete = format!("DELETE FROM {messages} WHERE batch = ?");
        self.sql.run(&delete, &[number.into()])?;
        let update = format!("UPDATE {state} SET next = ?, at = 0, tries = 0 WHERE next = ?");
        let params = [(number + 1).into(), number.into()];
        self.sql.run(&update, &params).map(drop)
    }

    /// Schedules another try with backoff, after a batch may have been lost.
    pub(super) fn nack(&self, now: Timestamp) -> Result<(), SqlError> {
        let (_, _, tries) = self.state()?;
        let at = now.after(backoff(tries, BACKOFF_MAX)).as_millis();
        let update = format!("UPDATE {} SET at = ?, tries = ?", self.tables.state);
        let params = [at.into(), (tries + 1).into()];
        self.sql.run(&update, &params).map(drop)
    }

    /// When the alarm has to send the queued messages.
    pub(super) fn due(&self, now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        let select = format!("SELECT 1 FROM {} LIMIT 1", self.tables.messages);
        if self.sql.run(&select, &[])?.is_empty() {
            return Ok(None);
        }
        let (_, at, _) = self.state()?;
        // The platform is about to send messages that this transaction queued.
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
