//! What the registry is to be told.
//!
//! Messages wait in their order, and go in batches. A batch that went once stays as it is until
//! the registry has it, and carries a number: the registry takes each number once, so a batch may
//! go twice.

use std::time::Duration;

use bytes::Bytes;

use super::Hub;
use crate::limits::REGISTRY_BATCH_MAX;
use crate::sql::{Sql, SqlError};
use crate::stream::registry;
use crate::stream::row::Columns;
use crate::stream::{Append, Producer};
use crate::time::Timestamp;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS hub_post (
        number INTEGER PRIMARY KEY, batch INTEGER, message TEXT NOT NULL) STRICT",
    // `next`: the number of the next batch. `at`: not before then.
    "CREATE TABLE IF NOT EXISTS hub_posted (
        one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL, at INTEGER NOT NULL,
        tries INTEGER NOT NULL) STRICT",
    "INSERT OR IGNORE INTO hub_posted (one, next, at, tries) VALUES (1, 0, 0, 0)",
];

/// The name under which the hub writes to the registry.
const PRODUCER: &str = "hub";

/// The longest pause between two tries.
const PAUSE_SECONDS_MAX: u64 = 60;

/// Messages for the registry that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    number: u64,
    /// What has to be appended, once.
    pub append: Append,
}

/// Makes the tables, unless they are there.
pub(super) fn install<S: Sql>(sql: &S) -> Result<(), SqlError> {
    SCHEMA
        .iter()
        .try_for_each(|statement| sql.run(statement, &[]).map(drop))
}

impl<S: Sql> Hub<'_, S> {
    /// The next messages for the registry, if any wait. The same, until they
    /// [arrived](Self::posted).
    pub fn batch(&self, now: Timestamp) -> Result<Option<Batch>, SqlError> {
        let (number, at, _) = self.posting()?;
        if at > now {
            return Ok(None);
        }
        let select = "SELECT message FROM hub_post WHERE batch = ? ORDER BY number";
        let mut rows = self.sql.run(select, &[number.into()])?;
        if rows.is_empty() {
            let update = "UPDATE hub_post SET batch = ? WHERE number IN \
                 (SELECT number FROM hub_post WHERE batch IS NULL ORDER BY number LIMIT ?)";
            let most = REGISTRY_BATCH_MAX as u64;
            self.sql.run(update, &[number.into(), most.into()])?;
            rows = self.sql.run(select, &[number.into()])?;
        }
        let messages = rows.into_iter().map(|row| Columns::of(row).text());
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        let body = Bytes::from(format!("[{}]", messages.join(",")));
        Ok((!messages.is_empty()).then(|| batch(number, body)))
    }

    /// A batch arrived.
    pub fn posted(&self, batch: &Batch) -> Result<(), SqlError> {
        let number = batch.number;
        self.sql
            .run("DELETE FROM hub_post WHERE batch = ?", &[number.into()])?;
        let update = "UPDATE hub_posted SET next = ?, at = 0, tries = 0 WHERE next = ?";
        let params = [(number + 1).into(), number.into()];
        self.sql.run(update, &params).map(drop)
    }

    /// Nobody knows whether a batch arrived: it is tried again, ever later.
    pub fn not_posted(&self, now: Timestamp) -> Result<(), SqlError> {
        let (_, _, tries) = self.posting()?;
        let pause = (1 << tries.min(16)).min(PAUSE_SECONDS_MAX);
        let at = now.after(Duration::from_secs(pause)).as_millis();
        let update = "UPDATE hub_posted SET at = ?, tries = ?";
        let params = [at.into(), (tries + 1).into()];
        self.sql.run(update, &params).map(drop)
    }

    /// Writes down what the registry is to be told.
    pub(super) fn post(&self, message: &str) -> Result<(), SqlError> {
        let insert = "INSERT INTO hub_post (message) VALUES (?)";
        self.sql.run(insert, &[message.into()]).map(drop)
    }

    pub(super) fn outbox_due(&self, now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        let rows = self.sql.run("SELECT 1 FROM hub_post LIMIT 1", &[])?;
        if rows.is_empty() {
            return Ok(None);
        }
        let (_, at, _) = self.posting()?;
        // Whoever wrote it down is about to send it.
        Ok(Some(at.max(now.after(GRACE))))
    }

    fn posting(&self) -> Result<(u64, Timestamp, u64), SqlError> {
        let rows = self
            .sql
            .run("SELECT next, at, tries FROM hub_posted", &[])?;
        let mut row = Columns::of(rows.into_iter().next().unwrap_or_default());
        let (next, at) = (row.integer()?, row.integer()?);
        Ok((next, Timestamp::from_millis(at), row.integer()?))
    }
}

/// How long after a turn the alarm sends what was not sent at once.
const GRACE: Duration = Duration::from_secs(2);

fn batch(number: u64, body: Bytes) -> Batch {
    let append = Append {
        media_type: Some(registry::media_type()),
        body,
        seq: None,
        producer: Some(Producer {
            id: PRODUCER.to_owned(),
            epoch: 0,
            seq: number,
        }),
        close: false,
    };
    Batch { number, append }
}
