//! Stream tables: one row for each stream, and the tables that belong to it.
//!
//! All streams of a database share these tables, whose first column is the stream's key `s`; in a
//! Durable Object it is always the same. An append writes a row of the log and the stream's own
//! row, and one more for its producer.

use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::engine::Engine;
use super::name::StreamName;
use super::record::{COLUMNS, StreamRecord};
use super::reply::Refusal;
use super::row::Columns;
use super::row_cache::RowCache;
use super::schema;

const SCHEMA: &[&str] = &[
    // `tail`: the position after the last message. `hot`: that of the first message in the log;
    // earlier ones are in segments. `weight`: bytes ever written to the log; `hot_weight`: those
    // before `hot`. `hot_rows`: appends in the log. `touched`: the last renewal of the time to
    // live. `cold`: whether segments may exist. `edges`: the number of forks that reference this
    // stream. `incarnation`: the number of earlier streams of the name. `followed`: whether the
    // stream reports its appends to the hub, as acknowledged in `round`. The column after `round`:
    // the tail that the hub has acknowledged.
    "CREATE TABLE IF NOT EXISTS stream (
        s INTEGER PRIMARY KEY, generation TEXT NOT NULL, media TEXT NOT NULL,
        expiry INTEGER NOT NULL, expiry_value INTEGER NOT NULL, expiry_text TEXT,
        expiry_inherited INTEGER NOT NULL, closed INTEGER NOT NULL, deleted INTEGER NOT NULL,
        tail INTEGER NOT NULL, weight INTEGER NOT NULL, hot INTEGER NOT NULL,
        hot_weight INTEGER NOT NULL, hot_rows INTEGER NOT NULL, seq TEXT,
        touched INTEGER NOT NULL, cold INTEGER NOT NULL, edges INTEGER NOT NULL,
        source TEXT, fork_at INTEGER, fork_beyond INTEGER,
        followed INTEGER NOT NULL, round INTEGER NOT NULL, told INTEGER NOT NULL,
        incarnation INTEGER NOT NULL DEFAULT 0) STRICT",
    // `start`: the position of the first message. `part`: 0, or the number of a further piece of a
    // message that is longer than a row. `weight`: bytes of the log before `part` 0. `head`: in a
    // stream of bytes, the bytes of the same append before the row.
    "CREATE TABLE IF NOT EXISTS stream_log (
        s INTEGER NOT NULL, start INTEGER NOT NULL, part INTEGER NOT NULL,
        weight INTEGER NOT NULL, body BLOB NOT NULL, head INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (s, start, part)) STRICT, WITHOUT ROWID",
    // `finish`: the end for readers of this stream; a fork's may be before its source's.
    // `appends`: whether a frame is a whole append, in a stream of bytes.
    "CREATE TABLE IF NOT EXISTS stream_segment (
        s INTEGER NOT NULL, start INTEGER NOT NULL, finish INTEGER NOT NULL,
        generation TEXT NOT NULL, object_end INTEGER NOT NULL, footer BLOB NOT NULL,
        appends INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (s, start)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS stream_producer (
        s INTEGER NOT NULL, id TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (s, id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS stream_edge (
        s INTEGER NOT NULL, edge TEXT NOT NULL, PRIMARY KEY (s, edge)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS stream_chore (
        s INTEGER NOT NULL, kind TEXT NOT NULL, what TEXT NOT NULL, whom TEXT,
        at INTEGER NOT NULL, tries INTEGER NOT NULL,
        PRIMARY KEY (s, kind, what)) STRICT, WITHOUT ROWID",
    // Lifecycle events that the hub has not acknowledged, in order.
    "CREATE TABLE IF NOT EXISTS stream_news (
        s INTEGER NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (s, number)) STRICT, WITHOUT ROWID",
    // An insert into the view writes a row of the log and the stream's own row: one statement is
    // atomic without a transaction. No statement reads the view.
    "CREATE VIEW IF NOT EXISTS stream_append AS
        SELECT s, tail AS start, weight, NULL AS body, tail, closed, seq, touched FROM stream",
    "CREATE TRIGGER IF NOT EXISTS stream_append_one INSTEAD OF INSERT ON stream_append BEGIN
        INSERT INTO stream_log (s, start, part, weight, body)
            VALUES (NEW.s, NEW.start, 0, NEW.weight, NEW.body);
        UPDATE stream SET tail = NEW.tail, weight = NEW.weight + length(NEW.body),
            hot_rows = hot_rows + 1, closed = NEW.closed, seq = NEW.seq, touched = NEW.touched
            WHERE s = NEW.s;
    END",
];

/// Creates or migrates the tables.
pub(super) fn install<S: Sql>(sql: &S) -> Result<(), SchemaError> {
    schema::install_or_migrate(sql, &schema::STREAMS, |sql| {
        for statement in SCHEMA {
            sql.run(statement, &[])?;
        }
        schema::add_column(sql, "stream", "incarnation")?;
        schema::add_column(sql, "stream_log", "head")?;
        schema::add_column(sql, "stream_segment", "appends")
    })
}

/// Saves the name of the only stream of a database, in the table of its schema version.
pub(super) fn save_name<S: Sql>(sql: &S, name: &StreamName) -> Result<(), SqlError> {
    let table = schema::STREAMS.table;
    let upsert = format!(
        "INSERT INTO {table} (key, value) VALUES ('name', ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value"
    );
    sql.run(&upsert, &[name.as_str().into()]).map(drop)
}

/// The name that [`save_name`] saved.
pub(super) fn name_of<S: Sql>(sql: &S) -> Result<Option<StreamName>, SqlError> {
    let table = schema::STREAMS.table;
    let select = format!("SELECT value FROM {table} WHERE key = 'name'");
    let row = sql.run(&select, &[])?.into_iter().next();
    let name = row.map(|row| Columns::of(row).text()).transpose()?;
    Ok(name.and_then(|name| StreamName::parse(&name).ok()))
}

/// Whether the tables exist.
pub(super) fn is_installed<S: Sql>(sql: &S) -> Result<bool, SqlError> {
    let select = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'stream'";
    Ok(!sql.run(select, &[])?.is_empty())
}

impl<S: Sql> Engine<'_, S> {
    /// Creates or migrates the tables, and refuses those of a version that needs newer code. The
    /// platform calls it once for each database that it opens.
    pub fn install(sql: &S) -> Result<(), SchemaError> {
        install(sql)
    }

    /// Saves the name of the only stream of a database, for an alarm that has no name.
    pub fn save_name(sql: &S, name: &StreamName) -> Result<(), SqlError> {
        save_name(sql, name)
    }

    /// The name that [`save_name`](Self::save_name) saved.
    pub fn name_of(sql: &S) -> Result<Option<StreamName>, SqlError> {
        name_of(sql)
    }

    /// Whether the tables exist: a database without them has no stream.
    pub fn is_installed(sql: &S) -> Result<bool, SqlError> {
        is_installed(sql)
    }

    /// The stream's own row, whatever its state.
    pub(super) fn load(&self) -> Result<Option<StreamRecord>, SqlError> {
        if let Some(stream) = self.row_cache.and_then(RowCache::get) {
            return Ok(Some(stream));
        }
        let select = format!("SELECT {COLUMNS} FROM stream WHERE s = ?");
        let rows = self.run(&select, [])?;
        let stream = rows
            .into_iter()
            .next()
            .map(StreamRecord::read)
            .transpose()?;
        if let Some(stream) = &stream {
            self.cache_row(stream);
        }
        Ok(stream)
    }

    /// The stream, if clients may see it.
    pub(super) fn live(&self, now: Timestamp) -> Result<StreamRecord, Refusal> {
        let stream = self.load()?.ok_or(Refusal::Unknown)?;
        if stream.is_over(now) {
            return Err(stream.gone_error());
        }
        Ok(stream)
    }

    /// Inserts the row of a new stream.
    pub(super) fn insert(&self, stream: &StreamRecord) -> Result<(), SqlError> {
        let insert = format!(
            "INSERT INTO stream (s, {COLUMNS}) VALUES \
             (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        self.sql.run(&insert, &stream.values(self.key))?;
        self.cache_row(stream);
        Ok(())
    }

    /// Updates the columns of a stream that can change.
    pub(super) fn save(&self, stream: &StreamRecord) -> Result<(), SqlError> {
        let update = "UPDATE stream SET closed = ?, deleted = ?, tail = ?, weight = ?, hot = ?, \
             hot_weight = ?, hot_rows = ?, seq = ?, touched = ?, cold = ?, edges = ? WHERE s = ?";
        let params = [
            u64::from(stream.closed).into(),
            u64::from(stream.deleted).into(),
            stream.tail.into(),
            stream.weight.into(),
            stream.hot.into(),
            stream.hot_weight.into(),
            stream.hot_rows.into(),
            stream.seq.clone().into(),
            stream.touched.as_millis().into(),
            u64::from(stream.cold).into(),
            stream.references.into(),
            Value::Integer(self.key),
        ];
        self.sql.run(update, &params)?;
        self.cache_row(stream);
        Ok(())
    }

    /// Runs a statement whose first parameter is the stream's key.
    pub(super) fn run<const N: usize>(
        &self,
        statement: &str,
        params: [Value; N],
    ) -> Result<Vec<SqlRow>, SqlError> {
        let mut all = Vec::with_capacity(N + 1);
        all.push(Value::Integer(self.key));
        all.extend(params);
        self.sql.run(statement, &all)
    }
}
