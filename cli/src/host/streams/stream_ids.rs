//! Stream ids: maps the name of a stream to its key in the tables.
//!
//! All streams share one database, so that one flush commits appends of many. A key is never
//! reused, so that a job of a deleted stream never meets a later stream of the same name.

use pmx_core::sql::{Sql, SqlError, Value};
use pmx_streams::StreamName;

/// Creates the table.
pub(super) fn install<S: Sql>(sql: &S) -> Result<(), SqlError> {
    let table = "CREATE TABLE IF NOT EXISTS host_stream_names (\
        s INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)";
    sql.run(table, &[]).map(drop)
}

/// The key of a name, if it has one.
pub(super) fn find<S: Sql>(sql: &S, name: &StreamName) -> Result<Option<i64>, SqlError> {
    let select = "SELECT s FROM host_stream_names WHERE name = ?";
    let rows = sql.run(select, &[name.as_str().into()])?;
    keys(&rows.concat()).map(|keys| keys.first().copied())
}

/// The key of a name, which is inserted if needed.
pub(super) fn find_or_insert<S: Sql>(sql: &S, name: &StreamName) -> Result<i64, SqlError> {
    if let Some(key) = find(sql, name)? {
        return Ok(key);
    }
    let insert = "INSERT INTO host_stream_names (name) VALUES (?) RETURNING s";
    let rows = sql.run(insert, &[name.as_str().into()])?;
    let key = keys(&rows.concat())?.first().copied();
    key.ok_or_else(|| SqlError("a row was inserted without a key".into()))
}

/// Deletes a key and its name.
pub(super) fn forget<S: Sql>(sql: &S, key: i64) -> Result<(), SqlError> {
    let delete = "DELETE FROM host_stream_names WHERE s = ?";
    sql.run(delete, &[Value::Integer(key)]).map(drop)
}

/// The name that has a key.
pub(super) fn of<S: Sql>(sql: &S, key: i64) -> Result<Option<StreamName>, SqlError> {
    let select = "SELECT name FROM host_stream_names WHERE s = ?";
    let names = read(&sql.run(select, &[Value::Integer(key)])?.concat());
    names.map(|names| names.into_iter().next())
}

/// All names with a prefix.
pub(super) fn with_prefix<S: Sql>(sql: &S, prefix: &str) -> Result<Vec<StreamName>, SqlError> {
    let select = "SELECT name FROM host_stream_names WHERE name >= ? AND name < ?";
    // No name has this character or a greater one.
    let end = format!("{prefix}\u{7f}");
    read(&sql.run(select, &[prefix.into(), end.into()])?.concat())
}

/// A page of names with their keys, in order: those with a prefix, after a name.
pub(super) fn page<S: Sql>(
    sql: &S,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<(i64, StreamName)>, SqlError> {
    let select = "SELECT s, name FROM host_stream_names \
        WHERE name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?";
    let end = format!("{prefix}\u{7f}");
    let limit = (limit as u64).into();
    let rows = sql.run(
        select,
        &[prefix.into(), end.as_str().into(), after.into(), limit],
    )?;
    let rows = rows.iter().map(|row| {
        let (key, name) = row.split_at_checked(1).unwrap_or_default();
        let found = keys(key)?
            .first()
            .copied()
            .zip(read(name)?.into_iter().next());
        found.ok_or_else(|| SqlError("a row of names has other columns".into()))
    });
    rows.collect()
}

fn read(values: &[Value]) -> Result<Vec<StreamName>, SqlError> {
    let names = values.iter().map(|value| match value {
        Value::Text(text) => StreamName::parse(text).map_err(|error| SqlError(error.to_string())),
        Value::Null | Value::Integer(_) | Value::Blob(_) => {
            Err(SqlError("the name of a stream is no text".into()))
        }
    });
    names.collect()
}

/// All keys.
pub(super) fn all<S: Sql>(sql: &S) -> Result<Vec<i64>, SqlError> {
    let rows = sql.run("SELECT s FROM host_stream_names", &[])?;
    keys(&rows.concat())
}

fn keys(values: &[Value]) -> Result<Vec<i64>, SqlError> {
    let integers = values.iter().map(|value| match value {
        Value::Integer(key) => Ok(*key),
        Value::Null | Value::Text(_) | Value::Blob(_) => {
            Err(SqlError("the key of a stream is no number".into()))
        }
    });
    integers.collect()
}
