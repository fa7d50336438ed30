//! Ledger schema: the tables of a space's database, and the migrations from older versions.

use pmx_core::schema::Schema;
use pmx_core::sql::{Sql, SqlError};

use super::event_log;

/// The schema of a space's ledger. Code that knows version 2 ignores what later versions added.
pub(super) const SCHEMA: Schema = Schema {
    database: "the ledger of a space",
    table: "meta",
    version: 6,
    readable_by: 2,
};

/// The statements by which each version extends the one before.
const VERSIONS: [&[&[&str]]; SCHEMA.version as usize] = [
    &[FIRST],
    &[PREVIEWS],
    &[HOLDS, LOSSES, LEASES],
    &[PREVIEW_ENDS],
    &[REMOVALS],
    &[COLLECTION],
];

const FIRST: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS meta (
        key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    // A node without an object is pending: its index node is not written, and content that it
    // references may be missing.
    "CREATE TABLE IF NOT EXISTS node (
        id BLOB PRIMARY KEY, bytes BLOB NOT NULL, claimed INTEGER NOT NULL,
        object BLOB, at INTEGER, length INTEGER) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS have (
        bucket INTEGER PRIMARY KEY, blobs BLOB NOT NULL) STRICT",
    // A pack with a table of contents is pending: its blobs are not in their buckets yet.
    "CREATE TABLE IF NOT EXISTS pack (
        id BLOB PRIMARY KEY, object BLOB NOT NULL, toc BLOB) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS part (
        blob BLOB NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL,
        chaining_value BLOB NOT NULL, location BLOB NOT NULL,
        PRIMARY KEY (blob, number)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS deploy (
        number INTEGER PRIMARY KEY, root BLOB NOT NULL, parent INTEGER NOT NULL,
        kind TEXT NOT NULL, restores INTEGER, at INTEGER NOT NULL,
        files INTEGER NOT NULL, bytes INTEGER NOT NULL, new_bytes INTEGER NOT NULL,
        added INTEGER NOT NULL, modified INTEGER NOT NULL, removed INTEGER NOT NULL,
        unchanged INTEGER NOT NULL, order_kind TEXT, order_value INTEGER,
        key TEXT NOT NULL, meta TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS outbox (
        kind TEXT PRIMARY KEY, deploy INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

/// Version 2: previews. A deploy with an alias was never active.
const PREVIEWS: &[&str] = &[
    "ALTER TABLE deploy ADD COLUMN alias TEXT",
    "CREATE INDEX IF NOT EXISTS deploy_alias ON deploy (alias, number)",
    "CREATE TABLE IF NOT EXISTS alias (
        name TEXT PRIMARY KEY, deploy INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

/// Version 3: holds, and orders of builds that found nothing to change. A channel is the name of
/// an alias, or empty for the deploys that were active.
const HOLDS: &[&str] = &[
    // `since` is the deploy that the rollback replaced; `lifted` is 0 while the hold lasts.
    "CREATE TABLE IF NOT EXISTS hold (
        channel TEXT PRIMARY KEY, deploy INTEGER NOT NULL, since INTEGER NOT NULL,
        at INTEGER NOT NULL, lifted INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    // The newest build of each kind that found its site in a deploy, and that deploy.
    "CREATE TABLE IF NOT EXISTS build (
        channel TEXT NOT NULL, order_kind TEXT NOT NULL, order_value INTEGER NOT NULL,
        deploy INTEGER NOT NULL, PRIMARY KEY (channel, order_kind)) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS deploy_order ON deploy (order_kind, alias, order_value, number)
        WHERE order_kind IS NOT NULL",
];

/// Version 3: lost content, see [`repair`](super::repair).
const LOSSES: &[&str] = &[
    // Marks of readers, each a `Loss` as JSON.
    "CREATE TABLE IF NOT EXISTS loss (
        number INTEGER PRIMARY KEY, loss TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE IF NOT EXISTS lost_blob (
        blob BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
    // Nodes whose index nodes lead to lost content, or are lost.
    "CREATE TABLE IF NOT EXISTS damaged (
        node BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
];

/// Version 3: leases of content that no deploy has yet, see [`lease`](super::lease). A row of an
/// older version has no time.
const LEASES: &[&str] = &[
    "ALTER TABLE pack ADD COLUMN at INTEGER",
    // The blobs of a folded pack are in `arrived`.
    "ALTER TABLE pack ADD COLUMN folded INTEGER",
    "ALTER TABLE part ADD COLUMN at INTEGER",
    "ALTER TABLE node ADD COLUMN kept INTEGER",
    "CREATE INDEX IF NOT EXISTS pack_arrived ON pack (at) WHERE toc IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS pack_pending ON pack (at)
        WHERE toc IS NOT NULL AND folded IS NULL",
    "CREATE INDEX IF NOT EXISTS part_pending ON part (at)",
    "CREATE INDEX IF NOT EXISTS node_pending ON node (kept) WHERE object IS NULL",
    // Blobs of many pending packs, in buckets like those of `have`.
    "CREATE TABLE IF NOT EXISTS arrived (
        bucket INTEGER PRIMARY KEY, blobs BLOB NOT NULL, last INTEGER NOT NULL) STRICT",
];

/// Version 4: the time at which a preview ends; none where it stays until its removal.
const PREVIEW_ENDS: &[&str] = &[
    "ALTER TABLE alias ADD COLUMN expires INTEGER",
    "CREATE INDEX IF NOT EXISTS alias_expires ON alias (expires) WHERE expires IS NOT NULL",
];

/// Version 5: removals of a space, see [`removal`](super::removal).
const REMOVALS: &[&str] = &[
    // A pointer that no row of the ledger describes any more, as JSON.
    "ALTER TABLE outbox ADD COLUMN pointer TEXT",
    // Ids of earlier spaces of the name, and when their objects may go.
    "CREATE TABLE IF NOT EXISTS removed (
        space TEXT NOT NULL, due INTEGER NOT NULL,
        PRIMARY KEY (due, space)) STRICT, WITHOUT ROWID",
];

/// Version 6: retention and collection, see [`collect`](super::collect).
const COLLECTION: &[&str] = &[
    // 0: the content is kept; 1: it was given up; 2: it was given up at once.
    "ALTER TABLE deploy ADD COLUMN state INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE deploy ADD COLUMN pin INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX IF EXISTS deploy_alias",
    "CREATE INDEX IF NOT EXISTS deploy_channel ON deploy (alias, state, number)",
    // The epoch in which a collection last reached the node.
    "ALTER TABLE node ADD COLUMN mark INTEGER NOT NULL DEFAULT 0",
    // What its index node refers to; NULL if an older version wrote the row.
    "ALTER TABLE node ADD COLUMN refs BLOB",
    // The epoch of the oldest announcement of the channel that is not delivered.
    "ALTER TABLE outbox ADD COLUMN since INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE IF NOT EXISTS object (
        id BLOB PRIMARY KEY, bytes INTEGER NOT NULL, mark INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    // The objects of the parts of big blobs.
    "CREATE TABLE IF NOT EXISTS big (
        blob BLOB NOT NULL, object BLOB NOT NULL,
        PRIMARY KEY (blob, object)) STRICT, WITHOUT ROWID",
    // Objects that nothing refers to, and when they may go: each twice, see `collect`.
    "CREATE TABLE IF NOT EXISTS doomed (
        due INTEGER NOT NULL, object BLOB NOT NULL, tick INTEGER NOT NULL, bytes INTEGER NOT NULL,
        again INTEGER NOT NULL, PRIMARY KEY (due, object)) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS doomed_object ON doomed (object)",
    "CREATE TABLE IF NOT EXISTS unmarked (
        node BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
];

/// Creates all tables, in the transaction that creates a space.
pub(super) fn make<S: Sql>(sql: &S) -> Result<(), SqlError> {
    migrate(sql, 0)
}

/// Applies the versions after `from`, and records the current version.
pub(super) fn migrate<S: Sql>(sql: &S, from: u32) -> Result<(), SqlError> {
    let added = VERSIONS.iter().skip(from as usize).copied().flatten();
    for statement in added.copied().flatten() {
        sql.run(statement, &[])?;
    }
    if from > 0 {
        event_log::upgrade(sql)?;
    }
    SCHEMA.record(sql)?;
    keep_readable(sql)
}

/// Code before version 5 takes a space that follows a deleted one for the first of its name, and
/// code before version 6 does not know that a row may be garbage: they may not use such ledgers.
pub(super) fn keep_readable<S: Sql>(sql: &S) -> Result<(), SqlError> {
    for (version, key) in [("5", "base"), ("6", "collects")] {
        let update = "UPDATE meta SET value = ? WHERE key = 'readable_by'
             AND CAST(value AS INTEGER) < CAST(? AS INTEGER)
             AND EXISTS (SELECT 1 FROM meta WHERE key = ?)";
        sql.run(update, &[version.into(), version.into(), key.into()])?;
    }
    Ok(())
}
