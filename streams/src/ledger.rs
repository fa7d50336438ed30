//! The rows of streams: one of its own for each stream, and the tables around it.
//!
//! All streams of a database share these tables, so each begins with the stream's key `s`; in a
//! Durable Object it is always the same. An append writes its row of the log and the stream's own
//! row, and one more for its producer.

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::call::{Expiry, MediaType};
use super::engine::Engine;
use super::generation::Generation;
use super::memory::Memory;
use super::name::StreamName;
use super::offset::Offset;
use super::reply::{Refusal, View};
use super::row::{Columns, odd};
use super::schema;
use super::segment::Kind;

const SCHEMA: &[&str] = &[
    // `tail`: the position behind the last message. `hot`: that of the first in the log; what is
    // before lies in segments. `weight`: bytes ever written to the log; `hot_weight`: those before
    // `hot`. `hot_rows`: appends in the log. `touched`: last read or written, as far as it matters.
    // `cold`: whether objects may have been written. `edges`: forks that need this stream.
    // `incarnation`: how many streams had the name before.
    // `followed`: whether the hub wants to hear of appends, as it said in `round`; `told`: the tail
    // that it knows.
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
    // `start`: the position of the first message. `part`: 0, or the number of a further piece of
    // a message that is longer than a row. `weight`: bytes of the log before `part` 0. `head`: in a
    // stream of bytes, the bytes of the same append before the row.
    "CREATE TABLE IF NOT EXISTS stream_log (
        s INTEGER NOT NULL, start INTEGER NOT NULL, part INTEGER NOT NULL,
        weight INTEGER NOT NULL, body BLOB NOT NULL, head INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (s, start, part)) STRICT, WITHOUT ROWID",
    // `finish`: how far readers of this stream may go; a fork's may end before its source's.
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
    // What the hub was not told yet, in its order.
    "CREATE TABLE IF NOT EXISTS stream_news (
        s INTEGER NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (s, number)) STRICT, WITHOUT ROWID",
];

/// Makes the tables, unless they are there, and adds what later versions added.
pub(super) fn install<S: Sql>(sql: &S) -> Result<(), SchemaError> {
    schema::settle(sql, &schema::STREAMS, |sql| {
        for statement in SCHEMA {
            sql.run(statement, &[])?;
        }
        schema::add_column(sql, "stream", "incarnation")?;
        schema::add_column(sql, "stream_log", "head")?;
        schema::add_column(sql, "stream_segment", "appends")
    })
}

/// Keeps the name of the one stream of a database beside the versions of its tables.
pub(super) fn keep_name<S: Sql>(sql: &S, name: &StreamName) -> Result<(), SqlError> {
    let table = schema::STREAMS.table;
    let upsert = format!(
        "INSERT INTO {table} (key, value) VALUES ('name', ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value"
    );
    sql.run(&upsert, &[name.as_str().into()]).map(drop)
}

/// The name that [`keep_name`] kept.
pub(super) fn name_of<S: Sql>(sql: &S) -> Result<Option<StreamName>, SqlError> {
    let table = schema::STREAMS.table;
    let select = format!("SELECT value FROM {table} WHERE key = 'name'");
    let row = sql.run(&select, &[])?.into_iter().next();
    let name = row.map(|row| Columns::of(row).text()).transpose()?;
    Ok(name.and_then(|name| StreamName::parse(&name).ok()))
}

/// Whether they are there.
pub(super) fn is_installed<S: Sql>(sql: &S) -> Result<bool, SqlError> {
    let select = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'stream'";
    Ok(!sql.run(select, &[])?.is_empty())
}

/// A stream's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a row, column by column")]
pub(super) struct Stream {
    pub(super) generation: Generation,
    pub(super) media: MediaType,
    pub(super) expiry: Expiry,
    pub(super) expiry_text: Option<String>,
    pub(super) expiry_inherited: bool,
    pub(super) closed: bool,
    pub(super) deleted: bool,
    pub(super) tail: u64,
    pub(super) weight: u64,
    pub(super) hot: u64,
    pub(super) hot_weight: u64,
    pub(super) hot_rows: u64,
    pub(super) seq: Option<String>,
    pub(super) touched: Timestamp,
    pub(super) cold: bool,
    pub(super) edges: u64,
    pub(super) branch: Option<Branch>,
    pub(super) followed: bool,
    pub(super) round: u64,
    pub(super) told: u64,
    pub(super) incarnation: u64,
}

/// Where a fork left its source, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) source: String,
    pub(super) at: u64,
    pub(super) beyond: u64,
}

const COLUMNS: &str = "generation, media, expiry, expiry_value, expiry_text, expiry_inherited, \
     closed, deleted, tail, weight, hot, hot_weight, hot_rows, seq, touched, cold, edges, source, \
     fork_at, fork_beyond, followed, round, told, incarnation";

impl Stream {
    /// A stream without anything in it.
    pub(super) fn new(
        generation: Generation,
        media: MediaType,
        expiry: Expiry,
        now: Timestamp,
    ) -> Self {
        Self {
            generation,
            media,
            expiry: exact(expiry),
            expiry_text: None,
            expiry_inherited: false,
            closed: false,
            deleted: false,
            tail: 0,
            weight: 0,
            hot: 0,
            hot_weight: 0,
            hot_rows: 0,
            seq: None,
            touched: now,
            cold: false,
            edges: 0,
            branch: None,
            followed: false,
            round: 0,
            told: 0,
            incarnation: 0,
        }
    }

    /// What its positions count.
    pub(super) fn kind(&self) -> Kind {
        if self.media.is_json() {
            Kind::Json
        } else {
            Kind::Bytes
        }
    }

    /// A place in it, as its readers name it.
    pub(super) const fn offset(&self, position: u64) -> Offset {
        Offset::at(position).of_incarnation(self.incarnation)
    }

    /// What others see of it.
    pub(super) fn view(&self) -> View {
        View {
            media_type: self.media.clone(),
            next: self.offset(self.tail),
            closed: self.closed,
            expiry: self.expiry,
            expiry_text: self.expiry_text.clone(),
            generation: self.generation.to_string(),
        }
    }

    fn read(row: SqlRow) -> Result<Self, SqlError> {
        let mut row = Columns::of(row);
        let generation = Generation::from_hex(&row.text()?).ok_or_else(|| odd("a generation"))?;
        let media = MediaType::new(row.text()?);
        let expiry = match (row.integer()?, row.integer()?) {
            (NEVER, _) => Expiry::Never,
            (IDLE, seconds) => Expiry::Idle(seconds),
            (AT, millis) => Expiry::At(Timestamp::from_millis(millis)),
            (_, _) => return Err(odd("an expiry")),
        };
        Ok(Self {
            generation,
            media,
            expiry,
            expiry_text: row.maybe_text()?,
            expiry_inherited: row.flag()?,
            closed: row.flag()?,
            deleted: row.flag()?,
            tail: row.integer()?,
            weight: row.integer()?,
            hot: row.integer()?,
            hot_weight: row.integer()?,
            hot_rows: row.integer()?,
            seq: row.maybe_text()?,
            touched: Timestamp::from_millis(row.integer()?),
            cold: row.flag()?,
            edges: row.integer()?,
            branch: branch(&mut row)?,
            followed: row.flag()?,
            round: row.integer()?,
            told: row.integer()?,
            incarnation: row.integer()?,
        })
    }

    fn values(&self, key: i64) -> Vec<Value> {
        let (expiry, value) = match self.expiry {
            Expiry::Never => (NEVER, 0),
            Expiry::Idle(seconds) => (IDLE, seconds),
            Expiry::At(at) => (AT, at.as_millis()),
        };
        let branch = self.branch.as_ref();
        vec![
            Value::Integer(key),
            self.generation.to_string().into(),
            self.media.as_str().into(),
            expiry.into(),
            value.into(),
            self.expiry_text.clone().into(),
            u64::from(self.expiry_inherited).into(),
            u64::from(self.closed).into(),
            u64::from(self.deleted).into(),
            self.tail.into(),
            self.weight.into(),
            self.hot.into(),
            self.hot_weight.into(),
            self.hot_rows.into(),
            self.seq.clone().into(),
            self.touched.as_millis().into(),
            u64::from(self.cold).into(),
            self.edges.into(),
            branch.map(|branch| branch.source.clone()).into(),
            branch.map(|branch| branch.at).into(),
            branch.map(|branch| branch.beyond).into(),
            u64::from(self.followed).into(),
            self.round.into(),
            self.told.into(),
            self.incarnation.into(),
        ]
    }
}

fn branch(row: &mut Columns) -> Result<Option<Branch>, SqlError> {
    let (source, at, beyond) = (
        row.maybe_text()?,
        row.maybe_integer()?,
        row.maybe_integer()?,
    );
    let place = at.zip(beyond);
    Ok(source
        .zip(place)
        .map(|(source, (at, beyond))| Branch { source, at, beyond }))
}

const NEVER: u64 = 0;
const IDLE: u64 = 1;
const AT: u64 = 2;

/// The expiry as it can be kept; what lies beyond is as far away as anything can be.
pub(super) fn exact(expiry: Expiry) -> Expiry {
    match expiry {
        Expiry::Never => Expiry::Never,
        Expiry::Idle(seconds) => Expiry::Idle(seconds.min(EXACT_INTEGER_MAX)),
        Expiry::At(at) => {
            let millis = at.as_millis().min(EXACT_INTEGER_MAX);
            Expiry::At(Timestamp::from_millis(millis))
        }
    }
}

impl<S: Sql> Engine<'_, S> {
    /// The stream's own row, whatever its state.
    pub(super) fn load(&self) -> Result<Option<Stream>, SqlError> {
        if let Some(stream) = self.memory.and_then(Memory::recall) {
            return Ok(Some(stream));
        }
        let select = format!("SELECT {COLUMNS} FROM stream WHERE s = ?");
        let rows = self.run(&select, [])?;
        let stream = rows.into_iter().next().map(Stream::read).transpose()?;
        if let Some(stream) = &stream {
            self.remember(stream);
        }
        Ok(stream)
    }

    /// The stream, if readers and writers may see it.
    pub(super) fn live(&self, now: Timestamp) -> Result<Stream, Refusal> {
        let stream = self.load()?.ok_or(Refusal::Unknown)?;
        if stream.is_over(now) {
            return Err(stream.epitaph());
        }
        Ok(stream)
    }

    /// Writes the row of a new stream.
    pub(super) fn insert(&self, stream: &Stream) -> Result<(), SqlError> {
        let insert = format!(
            "INSERT INTO stream (s, {COLUMNS}) VALUES \
             (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        self.sql.run(&insert, &stream.values(self.key))?;
        self.remember(stream);
        Ok(())
    }

    /// Writes what may change of a stream.
    pub(super) fn save(&self, stream: &Stream) -> Result<(), SqlError> {
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
            stream.edges.into(),
            Value::Integer(self.key),
        ];
        self.sql.run(update, &params)?;
        self.remember(stream);
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
