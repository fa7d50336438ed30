//! Directory of streams: name, generation and reported tail of each.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::Hub;
use crate::http::ListRequest;
use crate::limits::SUBSCRIPTION_STREAMS_MAX;
use crate::row::{Columns, invalid_column};
use crate::subscription::{Pattern, RequiredTails};
use crate::{Generation, Offset, StreamName, StreamTail, schema};

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS hub_meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), round INTEGER NOT NULL) STRICT",
    "INSERT OR IGNORE INTO hub_meta (one, round) VALUES (1, 1)",
    // `tail`: as last reported. `followed`: whether the stream reports each append. `gone`: when it
    // ended; the row stays for some days, so that a repeated report has no effect.
    "CREATE TABLE IF NOT EXISTS hub_stream (
        name TEXT PRIMARY KEY, life TEXT NOT NULL, tail INTEGER NOT NULL,
        followed INTEGER NOT NULL, gone INTEGER, incarnation INTEGER NOT NULL DEFAULT 0)
        STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS hub_stream_gone ON hub_stream (gone) WHERE gone IS NOT NULL",
    // Streams that the hub has to ask to report their tails.
    "CREATE TABLE IF NOT EXISTS hub_follow (
        name TEXT PRIMARY KEY, at INTEGER NOT NULL, tries INTEGER NOT NULL)
        STRICT, WITHOUT ROWID",
];

/// Names per query.
const PAGE: u64 = 1_000;

/// How long the hub keeps the entry of an ended stream: longer than the stream retries its report.
const RETENTION: Duration = Duration::from_hours(7 * 24);

/// Creates or migrates the tables.
pub(super) fn install<S: Sql>(sql: &S) -> Result<(), SqlError> {
    for statement in SCHEMA {
        sql.run(statement, &[])?;
    }
    schema::add_column(sql, "hub_stream", "incarnation")
}

/// A stream in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The stream's name.
    pub name: StreamName,
    /// The last reported generation.
    pub generation: Generation,
    /// The last reported tail.
    pub tail: Offset,
    /// Whether the stream reports each append.
    pub followed: bool,
    /// When the stream ended, if it has.
    pub gone: Option<Timestamp>,
}

impl DirectoryEntry {
    /// Whether a tail belongs to this stream, which has not ended.
    pub(super) fn accepts(&self, tail: &StreamTail) -> bool {
        self.gone.is_none() && self.generation == tail.generation
    }
}

const COLUMNS: &str = "name, life, tail, followed, gone, incarnation";

impl<S: Sql> Hub<'_, S> {
    /// The entry of a name, also after its stream ended.
    pub fn entry(&self, name: &StreamName) -> Result<Option<DirectoryEntry>, SqlError> {
        let select = format!("SELECT {COLUMNS} FROM hub_stream WHERE name = ?");
        let rows = self.sql.run(&select, &[name.as_str().into()])?;
        rows.into_iter().next().map(read).transpose()
    }

    /// The existing streams among the required ones.
    pub(super) fn entries(&self, needs: &RequiredTails) -> Result<Vec<DirectoryEntry>, SqlError> {
        let mut all = Vec::new();
        for name in &needs.streams {
            all.extend(self.entry(name)?.filter(|entry| entry.gone.is_none()));
        }
        if let Some(pattern) = &needs.pattern {
            let named = |entry: &DirectoryEntry| needs.streams.contains(&entry.name);
            all.extend(self.matching(pattern)?.into_iter().filter(|it| !named(it)));
        }
        Ok(all)
    }

    /// The existing streams that a pattern matches: at most one more than the limit of a
    /// subscription.
    fn matching(&self, pattern: &Pattern) -> Result<Vec<DirectoryEntry>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM hub_stream WHERE name > ? AND name < ? AND gone IS NULL \
             ORDER BY name LIMIT ?"
        );
        // No name has this character or a greater one.
        let mut begin = pattern.prefix().to_owned();
        let end = format!("{begin}\u{7f}");
        let mut found = Vec::new();
        if let Ok(name) = StreamName::parse(&begin) {
            let exact = self.entry(&name)?.filter(|entry| entry.gone.is_none());
            found.extend(exact.filter(|entry| pattern.matches(&entry.name)));
        }
        // Reads page by page, because few of the names may match.
        while found.len() <= SUBSCRIPTION_STREAMS_MAX {
            let params = [begin.as_str().into(), end.as_str().into(), PAGE.into()];
            let rows = self.sql.run(&select, &params)?;
            let is_last = (rows.len() as u64) < PAGE;
            for row in rows {
                let entry = read(row)?;
                entry.name.as_str().clone_into(&mut begin);
                if pattern.matches(&entry.name) {
                    found.push(entry);
                }
            }
            if is_last {
                break;
            }
        }
        found.truncate(SUBSCRIPTION_STREAMS_MAX + 1);
        Ok(found)
    }

    /// A page of stream names, and the name after which the next page begins, if there is one.
    pub fn list(
        &self,
        listing: &ListRequest,
    ) -> Result<(Vec<StreamName>, Option<StreamName>), SqlError> {
        let select = "SELECT name FROM hub_stream WHERE name >= ? AND name < ? AND name > ? \
             AND gone IS NULL ORDER BY name LIMIT ?";
        let params = [
            listing.prefix.as_str().into(),
            format!("{}\u{7f}", listing.prefix).into(),
            listing.after.as_str().into(),
            (listing.limit as u64).into(),
        ];
        let rows = self.sql.run(select, &params)?.into_iter();
        let names = rows.map(|row| stored_name(&Columns::of(row).text()?));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let next = names.last().cloned();
        let next = next.filter(|_| names.len() == listing.limit);
        Ok((names, next))
    }

    pub(super) fn save(&self, entry: &DirectoryEntry) -> Result<(), SqlError> {
        let upsert =
            format!("INSERT OR REPLACE INTO hub_stream ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)");
        let params = [
            entry.name.as_str().into(),
            entry.generation.to_string().into(),
            entry.tail.position().into(),
            u64::from(entry.followed).into(),
            entry.gone.map(Timestamp::as_millis).into(),
            entry.tail.incarnation().into(),
        ];
        self.sql.run(&upsert, &params).map(drop)
    }

    /// Deletes the entries of streams that ended long ago.
    pub(super) fn forget_gone(&self, now: Timestamp) -> Result<(), SqlError> {
        let long_ago = now.as_millis().saturating_sub(RETENTION.as_millis() as u64);
        let delete = "DELETE FROM hub_stream WHERE gone < ?";
        self.sql.run(delete, &[long_ago.into()]).map(drop)
    }

    /// The number of the last round of follow requests.
    pub(super) fn round(&self) -> Result<u64, SqlError> {
        let rows = self.sql.run("SELECT round FROM hub_meta", &[])?;
        let row = rows
            .into_iter()
            .next()
            .ok_or_else(|| invalid_column("there"))?;
        Columns::of(row).integer()
    }
}

fn read(row: SqlRow) -> Result<DirectoryEntry, SqlError> {
    let mut row = Columns::of(row);
    let name = stored_name(&row.text()?)?;
    let generation =
        Generation::from_hex(&row.text()?).ok_or_else(|| invalid_column("a generation"))?;
    let tail = Offset::at(row.integer()?);
    let (followed, gone) = (row.flag()?, row.optional_integer()?);
    Ok(DirectoryEntry {
        name,
        generation,
        tail: tail.of_incarnation(row.integer()?),
        followed,
        gone: gone.map(Timestamp::from_millis),
    })
}

/// Parses a stored name.
pub(super) fn stored_name(text: &str) -> Result<StreamName, SqlError> {
    StreamName::parse(text).map_err(|_| invalid_column("a name"))
}

/// A name as a parameter.
pub(super) fn name_param(name: &StreamName) -> Value {
    name.as_str().into()
}
