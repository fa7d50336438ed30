//! SQL row reader: takes the columns of a row one by one.

use pmx_core::sql::{SqlError, SqlRow, Value};

/// The remaining columns of a row.
pub(super) struct Columns(std::vec::IntoIter<Value>);

impl Columns {
    /// All columns of a row.
    pub(super) fn of(row: SqlRow) -> Self {
        Self(row.into_iter())
    }

    /// The next column, a natural number.
    pub(super) fn integer(&mut self) -> Result<u64, SqlError> {
        self.optional_integer()?
            .ok_or_else(|| invalid_column("a number"))
    }

    /// The next column, a natural number or null.
    pub(super) fn optional_integer(&mut self) -> Result<Option<u64>, SqlError> {
        match self.0.next() {
            Some(Value::Integer(value)) => {
                let natural =
                    u64::try_from(value).map_err(|_| invalid_column("a natural number"))?;
                Ok(Some(natural))
            }
            Some(Value::Null) => Ok(None),
            Some(Value::Text(_) | Value::Blob(_)) | None => Err(invalid_column("a number")),
        }
    }

    /// The next column, a boolean.
    pub(super) fn flag(&mut self) -> Result<bool, SqlError> {
        Ok(self.integer()? != 0)
    }

    /// The next column, text.
    pub(super) fn text(&mut self) -> Result<String, SqlError> {
        self.optional_text()?.ok_or_else(|| invalid_column("text"))
    }

    /// The next column, text or null.
    pub(super) fn optional_text(&mut self) -> Result<Option<String>, SqlError> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(_) | Value::Blob(_)) | None => Err(invalid_column("text")),
        }
    }

    /// The next column, bytes.
    pub(super) fn blob(&mut self) -> Result<Vec<u8>, SqlError> {
        match self.0.next() {
            Some(Value::Blob(bytes)) => Ok(bytes),
            Some(Value::Null | Value::Integer(_) | Value::Text(_)) | None => {
                Err(invalid_column("bytes"))
            }
        }
    }
}

/// Error for a column that this code never writes.
pub(super) fn invalid_column(expected: &str) -> SqlError {
    SqlError(format!("a column of a stream is not {expected}"))
}
