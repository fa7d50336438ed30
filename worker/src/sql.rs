//! SQLite port of a Durable Object's storage.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use worker::js_sys::{Array, ArrayBuffer, Uint8Array};
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::{SqlStorage, Storage};

use crate::js_error::words;
use crate::op_counts::{self, OpKind};

/// The ledger of this object's space.
pub(crate) struct ObjectDatabase {
    storage: Storage,
    sql: SqlStorage,
    statements: AssertUnwindSafe<RefCell<HashMap<String, Statement>>>,
}

impl ObjectDatabase {
    pub(crate) fn new(storage: Storage) -> Self {
        let sql = storage.sql();
        Self {
            storage,
            sql,
            statements: AssertUnwindSafe(RefCell::default()),
        }
    }

    /// Executes a statement. It keeps the JavaScript string, by which the runtime finds the
    /// prepared statement.
    fn execute(&self, text: &str, bound: Array) -> Result<(Cursor, Finds), JsValue> {
        let database: &Database = self.sql.as_ref().unchecked_ref();
        let mut statements = self.statements.borrow_mut();
        if let Some(known) = statements.get(text) {
            return Ok((database.exec(&known.text, bound)?, known.finds));
        }
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        let made = JsValue::from_str(text);
        let cursor = database.exec(&made, bound)?;
        let finds = match cursor.column_names().length() {
            0 => Finds::Nothing,
            _ => Finds::Rows,
        };
        statements.insert(text.to_owned(), Statement { text: made, finds });
        Ok((cursor, finds))
    }

    /// The storage, which also has the alarm.
    pub(crate) const fn storage(&self) -> &Storage {
        &self.storage
    }
}

/// A statement that was executed before.
struct Statement {
    /// The text as a JavaScript string.
    text: JsValue,
    finds: Finds,
}

/// Kind of the result of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finds {
    /// Rows, possibly zero.
    Rows,
    /// No columns.
    Nothing,
}

/// Statements in the cache: more than the code has, unless each transaction builds a new one.
const STATEMENTS_MAX: usize = 256;

impl Sql for ObjectDatabase {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        let bound = Array::new();
        for param in params {
            bound.push(&self::bound(param)?);
        }
        let (cursor, finds) = self.execute(statement, bound).map_err(failed)?;
        let rows = match finds {
            Finds::Nothing => Ok(Vec::new()),
            Finds::Rows => {
                // All rows in one call: each step of an iterator would take three calls.
                let rows = cursor.raw().and_then(|rows| array_from(&rows));
                let rows = rows.map_err(failed)?;
                rows.iter().map(|found| row(&found)).collect()
            }
        };
        op_counts::add(OpKind::RowRead, count(cursor.rows_read()));
        op_counts::add(OpKind::RowWritten, count(cursor.rows_written()));
        rows
    }

    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut body = Some(body);
        let mut outcome = None;
        // An error thrown out of the transaction rolls it back.
        let mut transaction = || match body.take().map(|body| body(self)) {
            Some(done @ Ok(_)) => {
                outcome = Some(done);
                Ok(JsValue::UNDEFINED)
            }
            Some(failed @ Err(_)) => {
                outcome = Some(failed);
                Err(JsValue::from_str("undone"))
            }
            None => Err(JsValue::from_str("the platform ran a transaction twice")),
        };
        let storage: &TransactionStorage = self.storage.as_raw().unchecked_ref();
        let ran = storage.transaction_sync(&mut transaction);
        match (outcome, ran) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(output)), Ok(_)) => Ok(output),
            (Some(Ok(_)) | None, Err(thrown)) => Err(SqlError(words(thrown)).into()),
            (None, Ok(_)) => {
                Err(SqlError("the platform did not run a transaction".to_owned()).into())
            }
        }
    }
}

// workers-rs has no `transactionSync`.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// A Durable Object's storage.
    type TransactionStorage;

    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &TransactionStorage,
        transaction: &mut dyn FnMut() -> Result<JsValue, JsValue>,
    ) -> Result<JsValue, JsValue>;
}

// The bindings of workers-rs take eight calls for each value of a row, and throw past Rust.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// A Durable Object's `storage.sql`.
    type Database;

    #[wasm_bindgen(method, catch, variadic)]
    fn exec(this: &Database, statement: &JsValue, params: Array) -> Result<Cursor, JsValue>;

    /// Result of a statement.
    type Cursor;

    #[wasm_bindgen(method, catch)]
    fn raw(this: &Cursor) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, getter, js_name = columnNames)]
    fn column_names(this: &Cursor) -> Array;

    #[wasm_bindgen(method, getter, js_name = rowsRead)]
    fn rows_read(this: &Cursor) -> f64;

    #[wasm_bindgen(method, getter, js_name = rowsWritten)]
    fn rows_written(this: &Cursor) -> f64;

    #[wasm_bindgen(js_namespace = Array, js_name = from, catch)]
    fn array_from(rows: &JsValue) -> Result<Array, JsValue>;
}

#[expect(clippy::cast_sign_loss, reason = "it counts")]
fn count(rows: f64) -> u64 {
    rows as u64
}

fn bound(value: &Value) -> Result<JsValue, SqlError> {
    match value {
        Value::Null => Ok(JsValue::NULL),
        Value::Integer(integer) => Ok(JsValue::from_f64(number(*integer)?)),
        Value::Text(text) => Ok(JsValue::from_str(text)),
        Value::Blob(bytes) => Ok(Uint8Array::from(bytes.as_slice()).into()),
    }
}

fn row(row: &JsValue) -> Result<SqlRow, SqlError> {
    let columns: &Array = row.unchecked_ref();
    columns.iter().map(value).collect()
}

// By value, as an iterator passes it.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map")]
fn value(stored: JsValue) -> Result<Value, SqlError> {
    if let Some(number) = stored.as_f64() {
        return integer(number).map(Value::Integer);
    }
    if let Some(text) = stored.as_string() {
        return Ok(Value::Text(text));
    }
    if stored.is_null() {
        return Ok(Value::Null);
    }
    match stored.dyn_ref::<ArrayBuffer>() {
        Some(buffer) => Ok(Value::Blob(Uint8Array::new(buffer).to_vec())),
        None => Err(SqlError(format!("a value of an unknown type: {stored:?}"))),
    }
}

/// A number that JavaScript treats as this integer. Beyond 2^53 it would be a different one.
#[expect(clippy::cast_precision_loss, reason = "it is small enough to be exact")]
fn number(integer: i64) -> Result<f64, SqlError> {
    if integer.unsigned_abs() <= EXACT_INTEGER_MAX {
        Ok(integer as f64)
    } else {
        Err(SqlError(format!("an inexact number: {integer}")))
    }
}

fn integer(number: f64) -> Result<i64, SqlError> {
    let integer = number as i64;
    if self::number(integer).is_ok_and(|same| same.to_bits() == number.to_bits()) {
        Ok(integer)
    } else {
        Err(SqlError(format!("an inexact number: {number}")))
    }
}

fn failed(thrown: JsValue) -> SqlError {
    SqlError(words(thrown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_return_as_they_went() {
        let most = EXACT_INTEGER_MAX.cast_signed();
        for exact in [0, 1, -1, most, -most] {
            assert_eq!(integer(number(exact).unwrap()).unwrap(), exact);
        }
        for inexact in [most + 1, i64::MAX, i64::MIN] {
            number(inexact).unwrap_err();
        }
        for real in [0.5, f64::NAN, f64::INFINITY, 1e300] {
            integer(real).unwrap_err();
        }
    }
}
