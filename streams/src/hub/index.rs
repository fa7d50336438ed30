//! Stream index: a table of all streams in the operator's database, for queries in SQL (D1 on
//! Cloudflare).
//!
//! The hub queues a change in the transaction that applies it. The platform writes the changes in
//! order and in batches, and repeats a batch until it succeeds. Each statement writes a complete
//! row, so that a repeated batch is harmless.

use std::collections::BTreeMap;

use pmx_core::schema::{Compatibility, Schema, SchemaError};
use pmx_core::sql::{Sql, SqlError, Value};
use pmx_core::time::{Timestamp, rfc3339};
use serde::{Deserialize, Serialize};

use super::Hub;
use super::outbox::{HubOutbox, INDEX};
use crate::registry::is_registry;
use crate::{Expiry, LifecycleChange, StreamName};

/// Schema version of the index. Operators query it, so a version only adds to the one before.
const SCHEMA: Schema = Schema {
    database: "the index of streams",
    table: "streams_schema",
    version: 1,
    readable_by: 1,
};

/// The statements that each version added. A release before version 1 created the table as well.
const VERSIONS: [&[&str]; SCHEMA.version as usize] = [&["CREATE TABLE IF NOT EXISTS streams (
    name TEXT PRIMARY KEY, content_type TEXT, created_at TEXT, ttl_seconds INTEGER,
    expires_at TEXT, deleted_at TEXT)"]];

/// Creates the table of versions.
pub const CREATE_VERSIONS: &str =
    "CREATE TABLE IF NOT EXISTS streams_schema (key TEXT PRIMARY KEY, value TEXT NOT NULL)";

/// Selects the versions for [`migrations`].
pub const READ_VERSIONS: &str = "SELECT key, value FROM streams_schema";

const SAVE_VERSION: &str = "INSERT INTO streams_schema (key, value) VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// The statements that migrate an index with these recorded versions, for one transaction.
pub fn migrations<'t>(
    recorded: impl IntoIterator<Item = (&'t str, &'t str)>,
) -> Result<Vec<Statement>, SchemaError> {
    let recorded: BTreeMap<_, _> = recorded.into_iter().collect();
    let of = |key| recorded.get(key).copied();
    let from = match SCHEMA.parse(of("schema"), of("readable_by"))? {
        None => 0,
        Some(recorded) => match SCHEMA.check(recorded)? {
            Compatibility::Use => return Ok(Vec::new()),
            Compatibility::Migrate { from } => from,
        },
    };
    let added = VERSIONS.iter().skip(from as usize).copied().flatten();
    let mut statements: Vec<_> = added
        .map(|&text| Statement::new(text, Vec::new()))
        .collect();
    for (key, number) in SCHEMA.numbers() {
        let params = vec![key.into(), number.to_string().into()];
        statements.push(Statement::new(SAVE_VERSION, params));
    }
    Ok(statements)
}

const INSERT_CREATED: &str = "INSERT OR REPLACE INTO streams
    (name, content_type, created_at, ttl_seconds, expires_at, deleted_at)
    VALUES (?1, ?2, ?3, ?4, ?5, NULL)";

const UPDATE_DELETED: &str = "INSERT INTO streams (name, deleted_at) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET deleted_at = excluded.deleted_at";

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// One of a few constant texts.
    pub text: &'static str,
    /// The statement's parameters.
    pub params: Vec<Value>,
}

impl Statement {
    const fn new(text: &'static str, params: Vec<Value>) -> Self {
        Self { text, params }
    }
}

/// A batch of statements for one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexBatch {
    number: u64,
    /// The statements, in order.
    pub statements: Vec<Statement>,
}

/// A change of a stream's lifecycle, as queued.
#[derive(Debug, Serialize, Deserialize)]
struct IndexedChange {
    name: StreamName,
    what: LifecycleChange,
    at: Timestamp,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// The next batch for the index, if there is one.
    pub fn index_batch(&self, now: Timestamp) -> Result<Option<IndexBatch>, SqlError> {
        let Some((number, messages)) = self.index_outbox().batch(now)? else {
            return Ok(None);
        };
        let mut statements = Vec::with_capacity(messages.len());
        for message in messages {
            let unreadable = |error| SqlError(format!("a note for the index: {error}"));
            let change: IndexedChange = serde_json::from_str(&message).map_err(unreadable)?;
            statements.push(change.statement());
        }
        Ok(Some(IndexBatch { number, statements }))
    }

    /// Records that a batch was written.
    pub fn ack_index_batch(&self, batch: &IndexBatch) -> Result<(), SqlError> {
        self.index_outbox().ack(batch.number)
    }

    /// Schedules another try with backoff, after a batch may have failed.
    pub fn nack_index_batch(&self, now: Timestamp) -> Result<(), SqlError> {
        self.index_outbox().nack(now)
    }

    /// Queues a change for the index, if there is one. As in the registry, the registry itself is
    /// not listed.
    pub(super) fn queue_index_change(
        &self,
        name: &StreamName,
        what: &LifecycleChange,
        at: Timestamp,
    ) -> Result<(), SqlError> {
        if !self.has_index || is_registry(name) {
            return Ok(());
        }
        let (name, what) = (name.clone(), what.clone());
        let message = serde_json::to_string(&IndexedChange { name, what, at });
        self.index_outbox()
            .put(&message.map_err(|error| SqlError(error.to_string()))?)
    }

    pub(super) const fn index_outbox(&self) -> HubOutbox<'a, S> {
        HubOutbox::new(self.sql, INDEX)
    }
}

impl IndexedChange {
    fn statement(self) -> Statement {
        let name = self.name.as_str().into();
        let at = rfc3339(self.at);
        match self.what {
            LifecycleChange::Created(metadata) => {
                let (ttl, expires) = match metadata.expiry {
                    Expiry::Never => (Value::Null, Value::Null),
                    Expiry::Idle(seconds) => (seconds.into(), Value::Null),
                    Expiry::At(end) => (Value::Null, rfc3339(end).as_str().into()),
                };
                let media_type = metadata.media_type.as_str().into();
                Statement {
                    text: INSERT_CREATED,
                    params: vec![name, media_type, at.as_str().into(), ttl, expires],
                }
            }
            LifecycleChange::Ended => Statement {
                text: UPDATE_DELETED,
                params: vec![name, at.as_str().into()],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_create_an_index_and_refuse_a_newer_one() {
        let texts = |recorded: &[(&'static str, &'static str)]| {
            let statements = migrations(recorded.iter().copied());
            let statements = statements.map_err(|error| error.code().to_string())?;
            let made = statements
                .iter()
                .filter(|one| VERSIONS[0].contains(&one.text));
            Ok::<_, String>((made.count(), statements.len()))
        };
        assert_eq!(
            texts(&[]),
            Ok((1, 3)),
            "new, or of a release that kept no version"
        );
        assert_eq!(texts(&[("schema", "1"), ("readable_by", "1")]), Ok((0, 0)));
        assert_eq!(texts(&[("schema", "4"), ("readable_by", "1")]), Ok((0, 0)));
        let newer = texts(&[("schema", "4"), ("readable_by", "2")]);
        assert_eq!(newer, Err("E_SCHEMA_TOO_NEW".to_owned()));
    }
}
