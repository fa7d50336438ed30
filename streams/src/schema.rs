//! Schema versions of streams, subscriptions and the hub. On the embedded host, one database has
//! the streams and the subscriptions; on the Worker, the hub's database has the subscriptions.

use pmx_core::schema::{Compatibility, Schema, SchemaError};
use pmx_core::sql::{Sql, SqlError};

/// Streams. Version 2 added `stream.incarnation`, `stream_log.head` and `stream_segment.appends`,
/// version 3 the view `stream_append` and its trigger.
pub(super) const STREAMS: Schema = Schema {
    database: "the database of streams",
    table: "stream_schema",
    version: 3,
    readable_by: 1,
};

/// Subscriptions. Version 2 added `subscription_link.incarnation` and `subscription_meta.patterns`.
pub(super) const SUBSCRIPTIONS: Schema = Schema {
    database: "the ledger of subscriptions",
    table: "subscription_schema",
    version: 2,
    readable_by: 1,
};

/// The hub. Version 2 added `hub_stream.incarnation`.
pub(super) const HUB: Schema = Schema {
    database: "the hub of streams",
    table: "hub_schema",
    version: 2,
    readable_by: 1,
};

/// Creates or migrates the tables of a database, unless they are current, or newer and readable.
/// `create` creates missing tables and adds the columns of later versions.
pub(super) fn install_or_migrate<S: Sql>(
    sql: &S,
    schema: &Schema,
    create: impl FnOnce(&S) -> Result<(), SqlError>,
) -> Result<(), SchemaError> {
    let table = schema.table;
    let numbers = format!(
        "CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, value TEXT NOT NULL) \
         STRICT, WITHOUT ROWID"
    );
    sql.run(&numbers, &[])?;
    let verdict = match schema.recorded(sql)? {
        Some(recorded) => schema.check(recorded)?,
        None => Compatibility::Migrate { from: 1 },
    };
    match verdict {
        Compatibility::Use => Ok(()),
        Compatibility::Migrate { .. } => {
            create(sql)?;
            Ok(schema.record(sql)?)
        }
    }
}

/// Adds an integer column to a table of an older version.
pub(super) fn add_column<S: Sql>(sql: &S, table: &str, column: &str) -> Result<(), SqlError> {
    let select = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? \
         AND instr(sql, ?) > 0";
    let declared = format!(" {column} INTEGER");
    let known = sql.run(select, &[table.into(), declared.into()])?;
    if known.is_empty() {
        let add = format!("ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0");
        sql.run(&add, &[])?;
    }
    Ok(())
}
