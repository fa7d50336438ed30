//! SQL row reader: takes the columns of a row one by one.

use pmx_core::sql::{SqlError, SqlRow, Value};

/// The columns of a row that are left.
pub(super) struct Columns(std::vec::IntoIter<Value>);

impl Columns {
    /// All columns of a row.
    pub(super) fn of(row: SqlRow) -> Self {
        Self(row.into_iter())
    }

    /// The next one, a natural number.
    pub(super) fn integer(&mut self) -> Result<u64, SqlError> {
        self.maybe_integer()?.ok_or_else(|| odd("a number"))
    }

    /// The next one, a natural number or nothing.
    pub(super) fn maybe_integer(&mut self) -> Result<Option<u64>, SqlError> {
        match self.0.next() {
            Some(Value::Integer(value)) => {
                let natural = u64::try_from(value).map_err(|_| odd("a natural number"))?;
                Ok(Some(natural))
            }
            Some(Value::Null) => Ok(None),
            Some(Value::Text(_) | Value::Blob(_)) | None => Err(odd("a number")),
        }
    }

    /// The next one, yes or no.
    pub(super) fn flag(&mut self) -> Result<bool, SqlError> {
        Ok(self.integer()? != 0)
    }

    /// The next one, text.
    pub(super) fn text(&mut self) -> Result<String, SqlError> {
        self.maybe_text()?.ok_or_else(|| odd("text"))
    }

    /// The next one, text or nothing.
    pub(super) fn maybe_text(&mut self) -> Result<Option<String>, SqlError> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(_) | Value::Blob(_)) | None => Err(odd("text")),
        }
    }

    /// The next one, bytes.
    pub(super) fn blob(&mut self) -> Result<Vec<u8>, SqlError> {
        match self.0.next() {
            Some(Value::Blob(bytes)) => Ok(bytes),
            Some(Value::Null | Value::Integer(_) | Value::Text(_)) | None => Err(odd("bytes")),
        }
    }
}

/// A row that no statement here writes.
pub(super) fn odd(expected: &str) -> SqlError {
    SqlError(format!("a column of a stream is not {expected}"))
}
