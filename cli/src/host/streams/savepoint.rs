//! Savepoints inside a shared transaction: each step commits or rolls back alone.

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};

use crate::host::sql::Database;

/// A transaction that is under way.
pub(super) struct Savepoints<'a>(&'a Database);

impl<'a> Savepoints<'a> {
    /// Wraps a ledger inside its `atomically`.
    pub(super) const fn new(ledger: &'a Database) -> Self {
        Self(ledger)
    }
}

impl Sql for Savepoints<'_> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        // A full disk ends a transaction automatically. What came next would hold on its own.
        if self.0.is_idle() {
            return Err(SqlError("the transaction has come to an end".into()));
        }
        self.0.run(statement, params)
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("SAVEPOINT turn", &[])?;
        // Leaving early, by an error or a panic, undoes what was done.
        let undo = Undo(self);
        let output = body(self)?;
        std::mem::forget(undo);
        self.run("RELEASE turn", &[])?;
        Ok(output)
    }
}

struct Undo<'a, 'b>(&'a Savepoints<'b>);

impl Drop for Undo<'_, '_> {
    fn drop(&mut self) {
        // If this fails, the transaction is over, and no later statement of it runs.
        let undone = self.0.run("ROLLBACK TO turn", &[]);
        let _ = undone.and_then(|_| self.0.run("RELEASE turn", &[]));
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
    fn a_turn_that_fails_undoes_itself_and_no_other() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Database::open(&home.path().join("x.db")).unwrap();
        ledger.run("CREATE TABLE t (v)", &[]).unwrap();
        let committed = ledger.atomically(|ledger| {
            let batch = Savepoints::new(ledger);
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
        let rows = ledger.run("SELECT v FROM t ORDER BY rowid", &[]).unwrap();
        assert_eq!(rows.concat(), ["a".into(), "e".into()]);
    }

    #[test]
    fn nothing_runs_after_the_transaction_came_to_an_end() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Database::open(&home.path().join("x.db")).unwrap();
        ledger.run("CREATE TABLE t (v)", &[]).unwrap();
        let batch = Savepoints::new(&ledger);
        insert(&batch, "a").unwrap_err();
        batch.atomically(|sql| insert(sql, "b")).unwrap_err();
        assert_eq!(ledger.run("SELECT v FROM t", &[]).unwrap(), [[]; 0]);
    }
}
