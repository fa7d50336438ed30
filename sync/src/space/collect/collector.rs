//! Collector: the state of a space's collection, one row that each step reads and writes.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::columns::text;
use super::super::tables;

/// The state of a collection. An **epoch** is one collection; its marks have its number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Collector {
    /// The epoch of the last sweep: what has an older mark is garbage. 0 before the first one.
    pub(crate) swept: u64,
    /// Whether every object has a row.
    #[serde(default)]
    pub(crate) is_filled: bool,
    /// The earliest time of the first collection that no client started, in milliseconds: a release
    /// can be taken back before it.
    #[serde(default)]
    pub(crate) not_before: u64,
    /// The step in progress.
    #[serde(default)]
    pub(crate) phase: Phase,
    /// Whether something was given up since the last collection began.
    #[serde(default)]
    pub(crate) is_wanted: bool,
    /// Whether the next sweep deletes what it finds at once.
    #[serde(default)]
    pub(crate) is_purge: bool,
    /// Whether the sweep in progress does.
    #[serde(default)]
    pub(crate) is_purging: bool,
    /// Until when a sweep waits for the delivery of pointers, or a collection after a failed one,
    /// in milliseconds.
    #[serde(default)]
    pub(crate) waits_until: u64,
    /// Hours that really passed: a clock that jumps ahead counts as one.
    #[serde(default)]
    pub(crate) ticks: u64,
    /// The time of the last of them, in milliseconds.
    #[serde(default)]
    pub(crate) ticked: u64,
    /// When the policy was last applied, in milliseconds; 0 if it has to be applied now.
    #[serde(default)]
    pub(crate) applied: u64,
    /// The last upload at the last look for abandoned ones, in milliseconds.
    #[serde(default)]
    pub(crate) looked: u64,
}

/// A phase, and the cursor of its stage. Each stage visits the rows of a table in the order of
/// their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// No collection.
    #[default]
    Idle,
    /// Gives rows of `object` to objects that an older version wrote.
    Filling(Filling, Cursor),
    /// Marks what is reachable.
    Marking(Marking, Cursor),
    /// Deletes the rows of what has no mark.
    Sweeping(Sweeping, Cursor),
}

/// Stages of [`Phase::Filling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Filling {
    Nodes,
    Blobs,
    Packs,
    Parts,
}

/// Stages of [`Phase::Marking`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Marking {
    Packs,
    Parts,
    Roots,
    Walk,
}

/// Stages of [`Phase::Sweeping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sweeping {
    Nodes,
    Blobs,
    Packs,
    Parts,
    Arrived,
    Big,
    Objects,
}

/// The key of the last row that a stage visited, or the number of the next bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The first column of the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) key: Vec<u8>,
    /// Its second column, or all of it.
    #[serde(default)]
    pub(crate) number: u64,
}

impl Cursor {
    /// The cursor behind a row with this key.
    pub(super) const fn key(key: Vec<u8>) -> Self {
        Self { key, number: 0 }
    }

    /// The cursor behind a row with this number, or at this bucket.
    pub(super) const fn number(number: u64) -> Self {
        Self {
            key: Vec::new(),
            number,
        }
    }
}

impl Collector {
    /// Reads the state; the one of a space that never collected is the default.
    pub(crate) fn read<S: Sql>(sql: &S) -> Result<Self, SqlError> {
        let select = "SELECT value FROM meta WHERE key = 'collector'";
        let rows = sql.run(select, &[])?;
        let Some(row) = rows.first() else {
            return Ok(Self::default());
        };
        let state = serde_json::from_str(&text(row, 0)?);
        state.map_err(|error| SqlError(format!("the state of the collection: {error}")))
    }

    /// Writes the state.
    pub(crate) fn write<S: Sql>(&self, sql: &S) -> Result<(), SqlError> {
        let text = serde_json::to_string(self).map_err(|error| SqlError(error.to_string()))?;
        let upsert = "INSERT INTO meta (key, value) VALUES ('collector', ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        sql.run(upsert, &[text.into()]).map(drop)
    }

    /// A collection is wanted: something was given up.
    pub(crate) fn wanting(self, purge: bool) -> Self {
        Self {
            is_wanted: true,
            is_purge: self.is_purge || purge,
            ..self
        }
    }

    /// The policy has to be applied again.
    pub(crate) fn policy_changed(self) -> Self {
        Self { applied: 0, ..self }
    }

    /// The mark of what arrives now. Objects that arrive during a collection survive it.
    pub(crate) const fn birth_mark(&self) -> u64 {
        match self.phase {
            Phase::Marking(..) => self.swept + 1,
            Phase::Idle | Phase::Filling(..) | Phase::Sweeping(..) => self.swept,
        }
    }

    /// Whether rows of garbage may still exist.
    pub(crate) const fn is_sweeping(&self) -> bool {
        matches!(self.phase, Phase::Sweeping(..))
    }

    /// Whether marks are being set: each root that is recorded now has to be walked.
    pub(crate) const fn is_marking(&self) -> bool {
        matches!(self.phase, Phase::Marking(..))
    }

    /// The epoch whose marks are being set.
    pub(crate) const fn epoch(&self) -> u64 {
        self.swept + 1
    }

    /// Counts an hour that has passed. Returns false if the clock was set back: no time may be
    /// waited for that only the wrong clock would have shown soon.
    pub(crate) fn tick(&mut self, now: Timestamp) -> bool {
        const HOUR: u64 = 3_600_000;
        let now = now.as_millis();
        let was_right = self.ticked <= now;
        if !was_right {
            self.ticked = now;
            self.waits_until = self.waits_until.min(now);
            self.applied = self.applied.min(now);
            self.not_before = self.not_before.min(now + 24 * HOUR);
        } else if self.ticked == 0 {
            self.ticked = now;
        } else if now - self.ticked >= HOUR {
            self.ticks += 1;
            self.ticked = now;
        }
        was_right
    }
}

/// Older releases write objects without rows, and nodes without marks: they may not use a ledger
/// that collects.
pub(super) fn refuse_older<S: Sql>(sql: &S) -> Result<(), SqlError> {
    let insert = "INSERT OR IGNORE INTO meta (key, value) VALUES ('collects', '1')";
    sql.run(insert, &[])?;
    tables::keep_readable(sql)
}
