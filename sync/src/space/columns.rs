//! SQL columns: reads the values of a row, and names a column of the wrong type.

use pmx_core::id::ObjectId;
use pmx_core::location::Extent;
use pmx_core::name::AliasName;
use pmx_core::sql::{SqlError, SqlRow, Value};

pub(super) fn extent(row: &SqlRow, at: usize) -> Result<Option<Extent>, SqlError> {
    if matches!(row.get(at), Some(Value::Null)) {
        return Ok(None);
    }
    Ok(Some(Extent {
        object: ObjectId::from_bytes(array(row, at)?),
        offset: integer(row, at + 1)?,
        len: integer(row, at + 2)?,
    }))
}

pub(super) fn integer(row: &SqlRow, at: usize) -> Result<u64, SqlError> {
    optional_integer(row, at)?.ok_or_else(|| odd(at, "an integer"))
}

pub(super) fn optional_integer(row: &SqlRow, at: usize) -> Result<Option<u64>, SqlError> {
    match row.get(at) {
        Some(Value::Integer(value)) => u64::try_from(*value)
            .map(Some)
            .map_err(|_| odd(at, "a natural number")),
        Some(Value::Null) => Ok(None),
        Some(Value::Text(_) | Value::Blob(_)) | None => Err(odd(at, "an integer")),
    }
}

pub(super) fn text(row: &SqlRow, at: usize) -> Result<String, SqlError> {
    optional_text(row, at)?.ok_or_else(|| odd(at, "text"))
}

pub(super) fn optional_text(row: &SqlRow, at: usize) -> Result<Option<String>, SqlError> {
    match row.get(at) {
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(Value::Null) => Ok(None),
        Some(Value::Integer(_) | Value::Blob(_)) | None => Err(odd(at, "text")),
    }
}

pub(super) fn blob(row: &SqlRow, at: usize) -> Result<Vec<u8>, SqlError> {
    match row.get(at) {
        Some(Value::Blob(bytes)) => Ok(bytes.clone()),
        Some(Value::Null | Value::Integer(_) | Value::Text(_)) | None => Err(odd(at, "bytes")),
    }
}

pub(super) fn array<const N: usize>(row: &SqlRow, at: usize) -> Result<[u8; N], SqlError> {
    blob(row, at)?
        .try_into()
        .map_err(|_| odd(at, "bytes of a fixed length"))
}

fn odd(at: usize, expected: &str) -> SqlError {
    SqlError(format!("column {at} of an answer is not {expected}"))
}

/// Parses the alias of a row.
pub(super) fn alias_name(name: &str) -> Result<AliasName, SqlError> {
    AliasName::parse(name).map_err(|error| SqlError(error.to_string()))
}
