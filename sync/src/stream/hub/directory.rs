//! Which streams there are, as far as they told.

use std::time::Duration;

use super::Hub;
use crate::sql::{Sql, SqlError, SqlRow, Value};
use crate::stream::row::{Columns, odd};
use crate::stream::subscription::Needs;
use crate::stream::{Generation, Offset, Place, StreamName};
use crate::time::Timestamp;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS hub_meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), round INTEGER NOT NULL) STRICT",
    "INSERT OR IGNORE INTO hub_meta (one, round) VALUES (1, 1)",
    // `tail`: as it was told last. `followed`: whether the stream tells each append. `gone`: when
    // it ended; the row stays for a while, so that what is told twice is heard once.
    "CREATE TABLE IF NOT EXISTS hub_stream (
        name TEXT PRIMARY KEY, life TEXT NOT NULL, tail INTEGER NOT NULL,
        followed INTEGER NOT NULL, gone INTEGER) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS hub_stream_gone ON hub_stream (gone) WHERE gone IS NOT NULL",
    // Streams that are to be asked to tell.
    "CREATE TABLE IF NOT EXISTS hub_follow (
        name TEXT PRIMARY KEY, at INTEGER NOT NULL, tries INTEGER NOT NULL)
        STRICT, WITHOUT ROWID",
];

/// How long the hub knows of a stream that it ended: longer than anybody tries to tell.
const MEMORY: Duration = Duration::from_hours(7 * 24);

/// Makes the tables, unless they are there.
pub(super) fn install<S: Sql>(sql: &S) -> Result<(), SqlError> {
    SCHEMA
        .iter()
        .try_for_each(|statement| sql.run(statement, &[]).map(drop))
}

/// A stream in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: StreamName,
    /// Which life of the name was heard of last.
    pub life: Generation,
    /// How far it was when it last told.
    pub tail: Offset,
    /// Whether it tells each append.
    pub followed: bool,
    /// When it ended, if it did.
    pub gone: Option<Timestamp>,
}

impl Entry {
    /// Whether a place is one in this stream, as long as it lives.
    pub(super) fn is_of(&self, place: &Place) -> bool {
        self.gone.is_none() && self.life == place.life
    }
}

const COLUMNS: &str = "name, life, tail, followed, gone";

impl<S: Sql> Hub<'_, S> {
    /// The last that was heard of a name.
    pub fn entry(&self, name: &StreamName) -> Result<Option<Entry>, SqlError> {
        let select = format!("SELECT {COLUMNS} FROM hub_stream WHERE name = ?");
        let rows = self.sql.run(&select, &[name.as_str().into()])?;
        rows.into_iter().next().map(read).transpose()
    }

    /// The streams there are among those that are needed.
    pub(super) fn entries(&self, needs: &Needs) -> Result<Vec<Entry>, SqlError> {
        let mut all = Vec::new();
        for name in &needs.streams {
            all.extend(self.entry(name)?.filter(|entry| entry.gone.is_none()));
        }
        if let Some(pattern) = &needs.pattern {
            let select = format!(
                "SELECT {COLUMNS} FROM hub_stream WHERE name >= ? AND name < ? AND gone IS NULL"
            );
            // No name has this character, nor any behind it.
            let end = format!("{}\u{7f}", pattern.prefix());
            let rows = self
                .sql
                .run(&select, &[pattern.prefix().into(), end.into()])?;
            for row in rows {
                let entry = read(row)?;
                if pattern.matches(&entry.name) && !needs.streams.contains(&entry.name) {
                    all.push(entry);
                }
            }
        }
        Ok(all)
    }

    pub(super) fn keep(&self, entry: &Entry) -> Result<(), SqlError> {
        let upsert =
            format!("INSERT OR REPLACE INTO hub_stream ({COLUMNS}) VALUES (?, ?, ?, ?, ?)");
        let params = [
            entry.name.as_str().into(),
            entry.life.to_string().into(),
            entry.tail.position().into(),
            u64::from(entry.followed).into(),
            entry.gone.map(Timestamp::as_millis).into(),
        ];
        self.sql.run(&upsert, &params).map(drop)
    }

    /// Forgets what ended long ago.
    pub(super) fn forget_gone(&self, now: Timestamp) -> Result<(), SqlError> {
        let long_ago = now.as_millis().saturating_sub(MEMORY.as_millis() as u64);
        let delete = "DELETE FROM hub_stream WHERE gone < ?";
        self.sql.run(delete, &[long_ago.into()]).map(drop)
    }

    /// The last round in which streams were asked to tell.
    pub(super) fn round(&self) -> Result<u64, SqlError> {
        let rows = self.sql.run("SELECT round FROM hub_meta", &[])?;
        let row = rows.into_iter().next().ok_or_else(|| odd("there"))?;
        Columns::of(row).integer()
    }
}

fn read(row: SqlRow) -> Result<Entry, SqlError> {
    let mut row = Columns::of(row);
    Ok(Entry {
        name: named(&row.text()?)?,
        life: Generation::from_hex(&row.text()?).ok_or_else(|| odd("a generation"))?,
        tail: Offset::at(row.integer()?),
        followed: row.flag()?,
        gone: row.maybe_integer()?.map(Timestamp::from_millis),
    })
}

/// A name as it is kept.
pub(super) fn named(text: &str) -> Result<StreamName, SqlError> {
    StreamName::parse(text).map_err(|_| odd("a name"))
}

/// A name as a parameter.
pub(super) fn bound(name: &StreamName) -> Value {
    name.as_str().into()
}
