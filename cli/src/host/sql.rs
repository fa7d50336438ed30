//! SQLite in a file: the ledger of one space, or the host's own table.

use std::path::Path;
use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::private;

/// A SQLite database with a write-ahead log that is flushed with every commit.
pub struct Database {
    connection: Connection,
}

impl Database {
    /// Opens a database, and creates it if needed.
    pub fn open(path: &Path) -> Result<Self, SqlError> {
        // SQLite gives its other files the permissions of this one.
        private::touch(path).map_err(|error| SqlError(format!("making the file: {error}")))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // Else SQLite plans a statement again whenever a bound of a range changes.
        let stable = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
        connection.set_db_config(stable, true).map_err(failed)?;
        let ledger = Self { connection };
        let mode = ledger.run("PRAGMA journal_mode = WAL", &[])?;
        if mode != [[Value::Text("wal".into())]] {
            return Err(SqlError(format!("no write-ahead log here: {mode:?}")));
        }
        for pragma in PRAGMAS {
            ledger.run(pragma, &[])?;
        }
        Ok(ledger)
    }

    /// Opens a database on a disk that takes no writes.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, SqlError> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let has_log = std::fs::metadata(&log).is_ok_and(|log| log.len() > 0);
        let connection = if has_log {
            beside_log(path).or_else(|_| readable(path))
        } else {
            immutable(path).or_else(|_| readable(path))
        };
        let connection = connection.map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(Self { connection })
    }

    /// Whether no transaction is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.connection.is_autocommit()
    }
}

impl Sql for Database {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        let mut prepared = self.connection.prepare_cached(statement).map_err(failed)?;
        let columns = prepared.column_count();
        let bound = params_from_iter(params.iter().map(Bound));
        let mut rows = prepared.query(bound).map_err(failed)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..columns).map(|column| value(row.get_ref(column).map_err(failed)?));
            all.push(values.collect::<Result<SqlRow, _>>()?);
        }
        Ok(all)
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.connection.is_autocommit() {
            return Err(SqlError("a transaction inside a transaction".into()).into());
        }
        self.run("BEGIN IMMEDIATE", &[])?;
        // An error or a panic drops the guard, which rolls back.
        let _undo = RollbackOnDrop(&self.connection);
        let output = body(self)?;
        self.run("COMMIT", &[])?;
        Ok(output)
    }
}

/// Time to wait for another program that reads the database.
const BUSY: Duration = Duration::from_secs(5);

/// Compiled statements in the cache.
const STATEMENTS_MAX: usize = 128;

const PRAGMAS: &[&str] = &[
    // A flush with every commit, not only with every checkpoint.
    "PRAGMA synchronous = FULL",
    // On Apple systems, a flush includes the drive's own cache; no effect elsewhere.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA foreign_keys = OFF",
    // A big publish may grow the log; afterwards it shrinks.
    "PRAGMA journal_size_limit = 16777216",
];

/// Opens a database on a full disk. It uses no shared memory, which would have to grow, since one
/// connection alone uses the file. It reads the write-ahead log, and writes nothing back.
fn beside_log(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "query_only", true)?;
    checked(connection)
}

/// Opens a database on a read-only file system, with the shared memory of an earlier run.
fn readable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    checked(Connection::open_with_flags(path, flags)?)
}

/// Opens a file without a write-ahead log: it is complete, and does not change.
fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.extend(escaped(*byte)),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    checked(Connection::open_with_flags(
        uri,
        flags | OpenFlags::SQLITE_OPEN_URI,
    )?)
}

fn checked(connection: Connection) -> rusqlite::Result<Connection> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Escapes a byte in a URI.
fn escaped(byte: u8) -> [char; 3] {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    ['%', digit(byte >> 4), digit(byte & 15)]
}

struct RollbackOnDrop<'a>(&'a Connection);

impl Drop for RollbackOnDrop<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // If this fails, closing the connection rolls back. Until then, `atomically` refuses to
            // begin a transaction on it.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(stored: ValueRef<'_>) -> Result<Value, SqlError> {
    match stored {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(integer) => Ok(Value::Integer(integer)),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(SqlError(format!("text that is not UTF-8: {error}"))),
        },
        ValueRef::Blob(bytes) => Ok(Value::Blob(bytes.to_vec())),
        ValueRef::Real(real) => Err(SqlError(format!("a fraction where none is used: {real}"))),
    }
}

// By value, as `map_err` passes it.
#[allow(clippy::needless_pass_by_value)]
fn failed(error: rusqlite::Error) -> SqlError {
    SqlError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(home: &Path) -> Database {
        let ledger = Database::open(&home.join("x.db")).unwrap();
        ledger.run("CREATE TABLE IF NOT EXISTS t (v)", &[]).unwrap();
        ledger
    }

    fn insert(sql: &Database, value: impl Into<Value>) -> Result<(), SqlError> {
        sql.run("INSERT INTO t VALUES (?)", &[value.into()])
            .map(drop)
    }

    fn all(sql: &Database) -> Vec<Value> {
        sql.run("SELECT v FROM t ORDER BY rowid", &[])
            .unwrap()
            .concat()
    }

    #[test]
    fn values_return_as_they_were_written() {
        let home = tempfile::tempdir().unwrap();
        let sql = ledger(home.path());
        let values = [
            Value::Null,
            Value::from((1u64 << 53) - 1),
            Value::Integer(i64::MIN),
            Value::from("\u{fc}\0x"),
            Value::from(vec![0u8, 255]),
            Value::from(Vec::new()),
        ];
        for value in &values {
            insert(&sql, value.clone()).unwrap();
        }
        assert_eq!(all(&sql), values);
        drop(sql);
        assert_eq!(all(&ledger(home.path())), values);
    }

    #[test]
    fn run_refuses_misuse() {
        let home = tempfile::tempdir().unwrap();
        let sql = ledger(home.path());
        assert!(sql.run("SELECT ?", &[]).is_err());
        assert!(sql.run("SELECT 1; SELECT 2", &[]).is_err());
        assert!(sql.run("SELECT 0.5", &[]).is_err());
        let nested = sql.atomically(|sql| sql.atomically(|_| Ok::<_, SqlError>(())));
        assert!(nested.is_err());
        insert(&sql, "x").unwrap();
    }

    #[test]
    fn atomically_applies_all_or_nothing() {
        let home = tempfile::tempdir().unwrap();
        let sql = ledger(home.path());
        sql.atomically(|sql| insert(sql, "a").and_then(|()| insert(sql, "b")))
            .unwrap();
        let refused: Result<(), SqlError> = sql.atomically(|sql| {
            insert(sql, "c")?;
            Err(SqlError("no".into()))
        });
        assert_eq!(refused.unwrap_err().0, "no");
        assert_eq!(all(&sql), ["a".into(), "b".into()]);
    }

    #[test]
    fn atomically_undoes_a_panic() {
        let home = tempfile::tempdir().unwrap();
        let sql = ledger(home.path());
        let panics = std::panic::AssertUnwindSafe(|| {
            sql.atomically(|sql| -> Result<(), SqlError> {
                insert(sql, "a")?;
                panic!("on purpose");
            })
        });
        std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(all(&sql), []);
        sql.atomically(|sql| insert(sql, "b")).unwrap();
        assert_eq!(all(&sql), ["b".into()]);
    }

    #[test]
    fn open_read_only_sees_what_the_log_holds() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x y%.db");
        for value in ["one", "two"] {
            let sql = Database::open(&path).unwrap();
            sql.run("CREATE TABLE IF NOT EXISTS t (v)", &[]).unwrap();
            insert(&sql, value).unwrap();
            if value == "two" {
                // After a crash, the log remains, and no process holds it.
                let copy = home.path().join("crashed.db");
                std::fs::copy(&path, &copy).unwrap();
                let log = home.path().join("x y%.db-wal");
                std::fs::copy(log, home.path().join("crashed.db-wal")).unwrap();
                let crashed = Database::open_read_only(&copy).unwrap();
                assert_eq!(all(&crashed), ["one".into(), "two".into()]);
                assert!(insert(&crashed, "three").is_err());
            }
        }
        let clean = Database::open_read_only(&path).unwrap();
        assert_eq!(all(&clean), ["one".into(), "two".into()]);
        assert!(insert(&clean, "three").is_err());
    }

    #[test]
    fn open_refuses_a_file_that_is_no_database() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("x.db"), [7; 4_096]).unwrap();
        assert!(Database::open(&home.path().join("x.db")).is_err());
    }
}
