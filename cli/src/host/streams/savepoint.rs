//! Savepoints inside a shared transaction: each step commits or rolls back alone.

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};

use crate::host::sql::Database;

/// A transaction in progress, in which `atomically` opens a savepoint.
pub(super) struct Savepoints<'a>(&'a Database);

impl<'a> Savepoints<'a> {
    /// Wraps a database inside its `atomically`.
    pub(super) const fn new(database: &'a Database) -> Self {
        Self(database)
    }
}

impl Sql for Savepoints<'_> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        // SQLite ends a transaction when the disk is full; later statements would commit alone.
        if self.0.is_idle() {
            return Err(SqlError("the transaction has come to an end".into()));
        }
        self.0.run(statement, params)
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("SAVEPOINT step", &[])?;
        // An error or a panic drops the guard, which rolls back.
        let guard = SavepointRollback(self);
        let output = body(self)?;
        std::mem::forget(guard);
        self.run("RELEASE step", &[])?;
        Ok(output)
    }
}

struct SavepointRollback<'a, 'b>(&'a Savepoints<'b>);

impl Drop for SavepointRollback<'_, '_> {
    fn drop(&mut self) {
        // If this fails, the transaction is over, and no later statement of it runs.
        let undone = self.0.run("ROLLBACK TO step", &[]);
        let _ = undone.and_then(|_| self.0.run("RELEASE step", &[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(sql: &impl Sql, value: &str) -> Result<(), SqlError> {
        sql.run("INSERT INTO t VALUES (?)", &[value.into()])
            .map(drop)
    }

    #[test]
    fn savepoint_that_fails_rolls_back_alone() {
        let home = tempfile::tempdir().unwrap();
        let database = Database::open(&home.path().join("x.db")).unwrap();
        database.run("CREATE TABLE t (v)", &[]).unwrap();
        let committed = database.atomically(|database| {
            let batch = Savepoints::new(database);
            batch.atomically(|sql| insert(sql, "a")).unwrap();
            let fails = |sql: &Savepoints<'_>| {
                insert(sql, "b")?;
                sql.atomically(|sql| insert(sql, "c"))?;
                Err(SqlError("no".into()))
            };
            let failed: Result<(), SqlError> = batch.atomically(fails);
            failed.unwrap_err();
            let panics = std::panic::AssertUnwindSafe(|| {
                batch.atomically(|sql| -> Result<(), SqlError> {
                    insert(sql, "d")?;
                    panic!("on purpose");
                })
            });
            std::panic::catch_unwind(panics).unwrap_err();
            batch.atomically(|sql| {
                insert(sql, "e")?;
                let inner: Result<(), SqlError> = sql.atomically(fails);
                inner.unwrap_err();
                Ok::<_, SqlError>(())
            })
        });
        committed.unwrap();
        let rows = database.run("SELECT v FROM t ORDER BY rowid", &[]).unwrap();
        assert_eq!(rows.concat(), ["a".into(), "e".into()]);
    }

    #[test]
    fn savepoint_runs_nothing_after_the_transaction_ended() {
        let home = tempfile::tempdir().unwrap();
        let database = Database::open(&home.path().join("x.db")).unwrap();
        database.run("CREATE TABLE t (v)", &[]).unwrap();
        let batch = Savepoints::new(&database);
        insert(&batch, "a").unwrap_err();
        batch.atomically(|sql| insert(sql, "b")).unwrap_err();
        assert_eq!(database.run("SELECT v FROM t", &[]).unwrap(), [[]; 0]);
    }
}
