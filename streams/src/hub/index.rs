//! A table of all streams in a database of the operator's, where there is one: D1 on Cloudflare.
//!
//! A row for each name says what stands in the registry, for an operator who prefers SQL. It is
//! written beside, after the registry's manner: in order, in batches, again until it is known to be
//! there. Each row says all, so that a batch may be written twice.

use std::collections::BTreeMap;

use pmx_core::schema::{Schema, SchemaError, Verdict};
use pmx_core::sql::{Sql, SqlError, Value};
use pmx_core::time::{Timestamp, rfc3339};
use serde::{Deserialize, Serialize};

use super::Hub;
use super::outbox::{INDEX, Outbox};
use crate::registry::is_registry;
use crate::{Expiry, LifecycleChange, StreamName};

/// The index. The operator reads it as well, so a version only adds to the one before.
const SCHEMA: Schema = Schema {
    database: "the index of streams",
    table: "streams_schema",
    version: 1,
    readable_by: 1,
};

/// What each version added to the one before. A release before the first number made the table too.
const VERSIONS: [&[&str]; SCHEMA.version as usize] = [&["CREATE TABLE IF NOT EXISTS streams (
    name TEXT PRIMARY KEY, content_type TEXT, created_at TEXT, ttl_seconds INTEGER,
    expires_at TEXT, deleted_at TEXT)"]];

/// Makes the table of versions, unless it is there.
pub const MAKE_VERSIONS: &str =
    "CREATE TABLE IF NOT EXISTS streams_schema (key TEXT PRIMARY KEY, value TEXT NOT NULL)";

/// Reads the versions: what [`migrations`] takes.
pub const READ_VERSIONS: &str = "SELECT key, value FROM streams_schema";

const KEEP_VERSION: &str = "INSERT INTO streams_schema (key, value) VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// What brings an index up to date that records these keys and values; they go in one transaction.
pub fn migrations<'t>(
    recorded: impl IntoIterator<Item = (&'t str, &'t str)>,
) -> Result<Vec<Statement>, SchemaError> {
    let recorded: BTreeMap<_, _> = recorded.into_iter().collect();
    let of = |key| recorded.get(key).copied();
    let from = match SCHEMA.parse(of("schema"), of("readable_by"))? {
        None => 0,
        Some(recorded) => match SCHEMA.check(recorded)? {
            Verdict::Use => return Ok(Vec::new()),
            Verdict::Migrate { from } => from,
        },
    };
    let added = VERSIONS.iter().skip(from as usize).copied().flatten();
    let mut statements: Vec<_> = added
        .map(|&text| Statement::new(text, Vec::new()))
        .collect();
    for (key, number) in SCHEMA.numbers() {
        let params = vec![key.into(), number.to_string().into()];
        statements.push(Statement::new(KEEP_VERSION, params));
    }
    Ok(statements)
}

const MADE: &str = "INSERT OR REPLACE INTO streams
    (name, content_type, created_at, ttl_seconds, expires_at, deleted_at)
    VALUES (?1, ?2, ?3, ?4, ?5, NULL)";

const GONE: &str = "INSERT INTO streams (name, deleted_at) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET deleted_at = excluded.deleted_at";

/// A statement for the database, and what its parameters are.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The statement: one of a few that never change.
    pub text: &'static str,
    /// Its parameters.
    pub params: Vec<Value>,
}

impl Statement {
    const fn new(text: &'static str, params: Vec<Value>) -> Self {
        Self { text, params }
    }
}

/// Rows that go together.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    number: u64,
    /// What has to be done, in one transaction.
    pub statements: Vec<Statement>,
}

/// Something that happened to a stream.
#[derive(Debug, Serialize, Deserialize)]
struct IndexedChange {
    name: StreamName,
    what: LifecycleChange,
    at: Timestamp,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// The next rows for the index, if any wait.
    pub fn index_rows(&self, now: Timestamp) -> Result<Option<Rows>, SqlError> {
        let Some((number, index_outbox)) = self.index_outbox().batch(now)? else {
            return Ok(None);
        };
        let mut statements = Vec::with_capacity(index_outbox.len());
        for note in index_outbox {
            let unreadable = |error| SqlError(format!("a note for the index: {error}"));
            let note: IndexedChange = serde_json::from_str(&note).map_err(unreadable)?;
            statements.push(note.statement());
        }
        Ok(Some(Rows { number, statements }))
    }

    /// Rows are written.
    pub fn ack_rows(&self, rows: &Rows) -> Result<(), SqlError> {
        self.index_outbox().ack(rows.number)
    }

    /// No one knows whether rows are written: it is tried again, ever later.
    pub fn nack_rows(&self, now: Timestamp) -> Result<(), SqlError> {
        self.index_outbox().nack(now)
    }

    /// Writes down what the index has to say, if there is one. It does not speak of the registry,
    /// as the registry does not speak of itself.
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
        let note = serde_json::to_string(&IndexedChange { name, what, at });
        self.index_outbox()
            .put(&note.map_err(|error| SqlError(error.to_string()))?)
    }

    pub(super) const fn index_outbox(&self) -> Outbox<'a, S> {
        Outbox::new(self.sql, INDEX)
    }
}

impl IndexedChange {
    fn statement(self) -> Statement {
        let name = self.name.as_str().into();
        let at = rfc3339(self.at);
        match self.what {
            LifecycleChange::Created(facts) => {
                let (ttl, expires) = match facts.expiry {
                    Expiry::Never => (Value::Null, Value::Null),
                    Expiry::Idle(seconds) => (seconds.into(), Value::Null),
                    Expiry::At(end) => (Value::Null, rfc3339(end).as_str().into()),
                };
                let media_type = facts.media_type.as_str().into();
                Statement {
                    text: MADE,
                    params: vec![name, media_type, at.as_str().into(), ttl, expires],
                }
            }
            LifecycleChange::Ended => Statement {
                text: GONE,
                params: vec![name, at.as_str().into()],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_made_or_used_or_left_to_newer_code() {
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
