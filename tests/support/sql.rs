//! In-memory ledger over rusqlite.

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use rusqlite::config::DbConfig;
use rusqlite::types::{Value as Held, ValueRef};
use rusqlite::{Connection, OpenFlags};

/// A database in memory.
#[derive(Debug)]
pub struct Sqlite(Connection);

impl Sqlite {
    /// An empty database.
    #[expect(clippy::new_without_default, reason = "it may fail")]
    pub fn new() -> Self {
        let flags = OpenFlags::default().difference(OpenFlags::SQLITE_OPEN_FULL_MUTEX)
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_in_memory_with_flags(flags).unwrap();
        // More than the statements of a space: a schedule would parse most of them each time.
        connection.set_prepared_statement_cache_capacity(512);
        // As on the embedded host.
        let stable = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
        connection.set_db_config(stable, true).unwrap();
        Self(connection)
    }
}

impl Sql for Sqlite {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        let run = || {
            let mut prepared = self.0.prepare_cached(statement)?;
            let columns = prepared.column_count();
            let params = rusqlite::params_from_iter(params.iter().map(bound));
            let mut rows = prepared.query(params)?;
            let mut answer = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|at| row.get_ref(at).map(read));
                answer.push(values.collect::<Result<SqlRow, _>>()?);
            }
            Ok(answer)
        };
        run().map_err(|error: rusqlite::Error| SqlError(error.to_string()))
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("BEGIN", &[])?;
        let done = body(self);
        self.run(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }, &[])?;
        done
    }
}

fn bound(value: &Value) -> Held {
    match value {
        Value::Null => Held::Null,
        Value::Integer(value) => Held::Integer(*value),
        Value::Text(text) => Held::Text(text.clone()),
        Value::Blob(bytes) => Held::Blob(bytes.clone()),
    }
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => panic!("no column holds a float, but one has {value}"),
        ValueRef::Text(text) => Value::Text(String::from_utf8(text.to_vec()).unwrap()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
