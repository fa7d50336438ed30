//! SQLite inside a Durable Object.

use pmx_sync::sql::{Sql, SqlError, SqlRow, Value};
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::{SqlStorage, SqlStorageValue, Storage};

use crate::tally::{self, Kind};
use crate::thrown::words;

/// The ledger of the space that this object is.
pub(crate) struct Ledger {
    storage: Storage,
    sql: SqlStorage,
}

impl Ledger {
    pub(crate) fn new(storage: Storage) -> Self {
        let sql = storage.sql();
        Self { storage, sql }
    }

    /// Where the alarm is set.
    pub(crate) const fn storage(&self) -> &Storage {
        &self.storage
    }
}

impl Sql for Ledger {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        let bound = params.iter().map(bound).collect::<Result<Vec<_>, _>>()?;
        let cursor = self.sql.exec(statement, bound).map_err(failed)?;
        let rows = cursor.raw().map(|row| {
            let row = row.map_err(failed)?;
            row.into_iter().map(value).collect()
        });
        let rows = rows.collect();
        tally::add(Kind::RowRead, cursor.rows_read() as u64);
        tally::add(Kind::RowWritten, cursor.rows_written() as u64);
        rows
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut body = Some(body);
        let mut outcome = None;
        // What is thrown out of the turn undoes it.
        let mut turn = || match body.take().map(|body| body(self)) {
            Some(done @ Ok(_)) => {
                outcome = Some(done);
                Ok(JsValue::UNDEFINED)
            }
            Some(failed @ Err(_)) => {
                outcome = Some(failed);
                Err(JsValue::from_str("undone"))
            }
            None => Err(JsValue::from_str("a turn was taken twice")),
        };
        let storage: &Turns = self.storage.as_raw().unchecked_ref();
        let ran = storage.transaction_sync(&mut turn);
        match (outcome, ran) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(output)), Ok(_)) => Ok(output),
            (Some(Ok(_)) | None, Err(thrown)) => Err(SqlError(words(thrown)).into()),
            (None, Ok(_)) => Err(SqlError("a turn was not taken".to_owned()).into()),
        }
    }
}

// workers-rs has no `transactionSync`.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// A Durable Object's storage.
    type Turns;

    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &Turns,
        turn: &mut dyn FnMut() -> Result<JsValue, JsValue>,
    ) -> Result<JsValue, JsValue>;
}

fn bound(value: &Value) -> Result<SqlStorageValue, SqlError> {
    match value {
        Value::Null => Ok(SqlStorageValue::Null),
        // Beyond 2^53 JavaScript would change it.
        Value::Integer(integer) => SqlStorageValue::try_from_i64(*integer).map_err(failed),
        Value::Text(text) => Ok(SqlStorageValue::String(text.clone())),
        Value::Blob(bytes) => Ok(SqlStorageValue::Blob(bytes.clone())),
    }
}

fn value(stored: SqlStorageValue) -> Result<Value, SqlError> {
    match stored {
        SqlStorageValue::Null => Ok(Value::Null),
        SqlStorageValue::Integer(integer) => Ok(Value::Integer(integer)),
        SqlStorageValue::String(text) => Ok(Value::Text(text)),
        SqlStorageValue::Blob(bytes) => Ok(Value::Blob(bytes)),
        SqlStorageValue::Float(real) => Err(SqlError(format!("an inexact number: {real}"))),
        SqlStorageValue::Boolean(boolean) => Err(SqlError(format!("a boolean: {boolean}"))),
    }
}

// By value, as `map_err` passes it.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn failed(thrown: worker::Error) -> SqlError {
    SqlError(thrown.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_return_as_they_went() {
        for stored in [
            Value::Null,
            Value::Integer(-1),
            Value::from("text"),
            Value::from(vec![0u8, 255]),
        ] {
            assert_eq!(value(bound(&stored).unwrap()).unwrap(), stored);
        }
        assert!(value(SqlStorageValue::Float(0.5)).is_err());
        assert!(value(SqlStorageValue::Boolean(true)).is_err());
    }
}
