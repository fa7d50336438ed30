//! SQL port: SQLite on both platforms, synchronous and with one writer.
//!
//! A Durable Object's `SqlStorage` and `rusqlite` share only the SQL text, so the port has two
//! methods. A Durable Object may not run `BEGIN` or `SAVEPOINT`, and binds at most 100 parameters.
//! It stores at most 2 MB in a value and passes integers through `f64`. Statements in this project
//! observe these limits.

use thiserror::Error;

use crate::code::Code;
use crate::encode::Malformed;
use crate::problem::Problem;

/// A value of a row or a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// An integer; exact below 2^53.
    Integer(i64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// One row of an answer, in the order of the statement's columns.
pub type SqlRow = Vec<Value>;

/// A SQL failure: a defect of the statement or of the storage, never of a user's input.
#[derive(Debug, Error)]
#[error("SQL failed: {0}")]
pub struct SqlError(pub String);

/// The state of one space or stream.
pub trait Sql {
    /// Runs one statement and returns all its rows.
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError>;

    /// Runs `body` in a transaction: an `Err` from `body` undoes all its statements. After an `Ok`,
    /// they survive a crash.
    fn atomically<T, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E>;
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Blob(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Blob(bytes)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        Self::new(Code::Storage, error.to_string())
    }
}

/// A value of a ledger that does not decode.
impl From<Malformed> for Problem {
    fn from(error: Malformed) -> Self {
        Self::new(Code::Corrupt, format!("reading the ledger: {error}"))
    }
}
