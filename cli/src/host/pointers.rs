//! Pointer table: the active deploy of each site and preview, for the read path.
//!
//! The table is in the host's own database. Memory caches the pointers in use, because this process
//! alone writes them. Readers never wait for a write. The table is a cache of the spaces' ledgers:
//! the host rebuilds a lost or damaged one from them. If the disk takes no writes, the table stays
//! in memory.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use pmx_core::backend::BackendError;
use pmx_core::channel::Channel;
use pmx_core::schema::{Schema, SchemaError};
use pmx_core::sql::{Sql, SqlError, Value};
use pmx_sync::pointer::Pointer;
use pmx_sync::serve::{Lag, Pointers};

use super::sql::Database;

/// The pointers of all sites and previews.
pub struct PointerTable {
    path: PathBuf,
    /// The writer's connection, one write at a time; `None` while the database can't be written.
    writer: Mutex<Option<Database>>,
    /// The readers' connection, for pointers that memory lacks. A read sees the committed state and
    /// waits for no flush.
    reader: Mutex<Option<Database>>,
    memory: RwLock<Memory>,
    lag: Option<Lag>,
}

#[derive(Default)]
struct Memory {
    /// The names of all channels in the table. Other channels have no pointer, and cost no query.
    names: HashSet<String>,
    known: HashMap<Channel, Pointer>,
    /// Counts writes: a pointer that was read before a write is not cached after it.
    writes: u64,
}

/// The state in which the host found its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TableState {
    /// As this host left it.
    Whole,
    /// New, or incompletely filled.
    New,
    /// Damaged and replaced; the old file has another name.
    Damaged(String),
    /// Not writable, so the table stays in memory.
    Unwritable(String),
}

impl PointerTable {
    /// Opens the database. It fails only if newer code wrote it. Unless the table is
    /// [`TableState::Whole`], the spaces have to fill it.
    pub(crate) fn open(path: &Path) -> Result<(Self, TableState), SchemaError> {
        let existed = path.exists();
        let (opened, found) = match prepared(path) {
            Ok(opened) if opened.whole => (Some(opened), TableState::Whole),
            Ok(opened) => (Some(opened), TableState::New),
            Err(SchemaError::Sql(error)) if existed && is_damage(&error) => match anew(path) {
                Ok(opened) => (Some(opened), TableState::Damaged(error.0)),
                Err(again) => (None, TableState::Unwritable(again.to_string())),
            },
            Err(SchemaError::Sql(error)) => (None, TableState::Unwritable(error.0)),
            Err(refusal) => return Err(refusal),
        };
        let (writer, reader, names) = match opened {
            Some(OpenTable {
                writer,
                reader,
                names,
                ..
            }) => (Some(writer), Some(reader), names),
            None => (None, None, HashSet::new()),
        };
        let memory = Memory {
            names,
            ..Memory::default()
        };
        let table = Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            memory: RwLock::new(memory),
            lag: None,
        };
        Ok((table, found))
    }

    /// A table whose pointers lag by a duration.
    pub(crate) fn lagging(self, by: Option<Duration>) -> Self {
        let lag = by.map(Lag::new);
        Self { lag, ..self }
    }

    /// Inserts a pointer from a space's ledger, even if the database takes no writes.
    pub(crate) fn restore(&self, channel: &Channel, pointer: &Pointer) {
        if self.store(channel, pointer).is_err() {
            self.memory_mut().insert(channel, pointer.clone());
        }
    }

    /// Records that the table has every space's pointers. Without that, the next start restores
    /// them again.
    pub(crate) fn complete(&self) -> Result<(), SqlError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = &*writer else {
            return Ok(());
        };
        writer.run(SET_WHOLE, &[]).map(drop)
    }

    fn apply_lag(&self, channel: &Channel, newest: Pointer) -> Pointer {
        match &self.lag {
            None => newest,
            Some(lag) => lag.lagged(channel, &newest, super::now()),
        }
    }

    fn find(&self, channel: &Channel) -> Result<Option<Pointer>, SqlError> {
        let (name, writes) = {
            let memory = self.memory();
            if let Some(pointer) = memory.known.get(channel) {
                return Ok(Some(pointer.clone()));
            }
            let name = channel.to_string();
            if !memory.names.contains(&name) {
                return Ok(None);
            }
            (name, memory.writes)
        };
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reader) = &*reader else {
            return Ok(None);
        };
        let Some(row) = reader.run(READ, &[name.into()])?.pop() else {
            return Ok(None);
        };
        let [Value::Text(body)] = &row[..] else {
            return Err(SqlError("its body is no text".into()));
        };
        let pointer: Pointer =
            serde_json::from_str(body).map_err(|error| SqlError(error.to_string()))?;
        let mut memory = self.memory_mut();
        if memory.writes == writes {
            memory.insert(channel, pointer.clone());
        }
        Ok(Some(pointer))
    }

    /// Writes a pointer, unless the table has a newer one.
    fn store(&self, channel: &Channel, pointer: &Pointer) -> Result<(), SqlError> {
        let body = serde_json::to_string(pointer).map_err(|error| SqlError(error.to_string()))?;
        let name = channel.to_string();
        let params = [name.into(), pointer.order().into(), body.into()];
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            // The disk may take writes again.
            let OpenTable {
                writer: opened,
                reader,
                ..
            } = prepared(&self.path).map_err(|error| SqlError(error.to_string()))?;
            *writer = Some(opened);
            *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
        }
        let written = match &*writer {
            Some(writer) => writer.run(WRITE, &params)?,
            None => Vec::new(),
        };
        if !written.is_empty() {
            self.memory_mut().insert(channel, pointer.clone());
        }
        Ok(())
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn insert(&mut self, channel: &Channel, pointer: Pointer) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.writes += 1;
        self.names.insert(channel.to_string());
        self.known.insert(channel.clone(), pointer);
    }
}

impl Pointers for PointerTable {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        let found = self.find(channel);
        let found = found
            .map_err(|why| BackendError::new(format!("reading the pointer of {channel}"), why))?;
        Ok(found.map(|pointer| self.apply_lag(channel, pointer)))
    }

    /// Pointers lag only if a test configures it.
    fn may_lag(&self) -> bool {
        self.lag.is_some()
    }

    async fn write(&self, channel: &Channel, pointer: &Pointer) -> Result<(), BackendError> {
        let stored = self.store(channel, pointer);
        stored.map_err(|why| BackendError::new(format!("writing the pointer of {channel}"), why))
    }
}

/// Cached pointers: one with its ten earlier deploys takes about a kilobyte.
const KNOWN_MAX: usize = 8_192;

/// `deploy` is the pointer's order, which is greater than the deploy's number. A space whose ledger
/// was lost leaves its pointers; those of the next space of the name replace them, whatever their
/// numbers, unless they are of a space before it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS pointer (
    name TEXT NOT NULL PRIMARY KEY,
    deploy INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID";

const READ: &str = "SELECT body FROM pointer WHERE name = ?";

const WRITE: &str = "INSERT INTO pointer (name, deploy, body) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET deploy = excluded.deploy, body = excluded.body
    WHERE CASE excluded.body ->> '$.space' WHEN pointer.body ->> '$.space'
        THEN (excluded.deploy, coalesce(excluded.body ->> '$.revision', 0))
            >= (pointer.deploy, coalesce(pointer.body ->> '$.revision', 0))
        ELSE excluded.body ->> '$.deploy' > coalesce(pointer.body ->> '$.base', 0) END
    RETURNING deploy";

const META: &str = "CREATE TABLE IF NOT EXISTS meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID";

/// A table without a schema version is of an earlier release, and counts as version 1.
const SCHEMA: Schema = Schema {
    database: "the host's table of pointers",
    table: "meta",
    version: 1,
    readable_by: 1,
};

const SET_WHOLE: &str = "INSERT OR REPLACE INTO meta (key, value) VALUES ('whole', '1')";

const GET_WHOLE: &str = "SELECT 1 FROM meta WHERE key = 'whole'";

const NAMES: &str = "SELECT name FROM pointer";

/// Checks the pages of the file, not only single rows.
const CHECK: &str = "PRAGMA quick_check(1)";

/// An open database.
struct OpenTable {
    writer: Database,
    reader: Database,
    names: HashSet<String>,
    /// Whether the table has every space's pointers.
    whole: bool,
}

fn prepared(path: &Path) -> Result<OpenTable, SchemaError> {
    let writer = Database::open(path)?;
    let checked = writer.run(CHECK, &[])?;
    if checked != [[Value::Text("ok".into())]] {
        return Err(SqlError(format!("{DAMAGED}: {checked:?}")).into());
    }
    writer.atomically(settle)?;
    let whole = !writer.run(GET_WHOLE, &[])?.is_empty();
    let rows = writer.run(NAMES, &[])?;
    let names = rows.into_iter().flatten().filter_map(|name| match name {
        Value::Text(name) => Some(name),
        _ => None,
    });
    Ok(OpenTable {
        names: names.collect(),
        reader: Database::open(path)?,
        writer,
        whole,
    })
}

/// Creates or migrates the tables. A table of a release before schema versions counts as whole if
/// it has any pointer, because that release filled it with each publish.
fn settle(sql: &Database) -> Result<(), SchemaError> {
    sql.run(TABLE, &[])?;
    sql.run(META, &[])?;
    if let Some(recorded) = SCHEMA.recorded(sql)? {
        return SCHEMA.check(recorded).map(drop);
    }
    if !sql.run("SELECT 1 FROM pointer LIMIT 1", &[])?.is_empty() {
        sql.run(SET_WHOLE, &[])?;
    }
    Ok(SCHEMA.record(sql)?)
}

const DAMAGED: &str = "the database is damaged";

/// Whether an error says that the file is no sound database, in SQLite's wording.
fn is_damage(error: &SqlError) -> bool {
    let signs = [
        DAMAGED,
        "not a database",
        "malformed",
        "text that is not UTF-8",
        "no such column",
    ];
    signs.iter().any(|sign| error.0.contains(sign))
}

/// Renames a damaged file, keeping only the last one, and creates a new one.
fn anew(path: &Path) -> Result<OpenTable, SchemaError> {
    let failed = |error: std::io::Error| SqlError(format!("putting it aside: {error}"));
    for end in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        from.push(end);
        let mut to = path.as_os_str().to_owned();
        to.push(".damaged");
        to.push(end);
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    prepared(path)
}

#[cfg(test)]
mod tests;
