//! Run of a compaction: its state, one row that each step reads and writes.

use pmx_core::id::ObjectId;
use pmx_core::sql::{Sql, SqlError};

use super::super::super::columns::text;
use crate::wire::Repack;

/// What a run does next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing.
    #[default]
    Idle,
    /// It counts the garbage in objects, in the order of their ids.
    Measuring,
    /// It copies from those that are mostly garbage.
    Copying,
}

/// The state of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) stage: Stage,
    /// The last object that the stage visited; zeros before the first.
    pub(super) after: [u8; 16],
    /// Bytes of garbage in the visited objects.
    pub(super) garbage: u64,
    /// Bytes of the objects that were copied from.
    pub(super) repacked: u64,
    /// Copies that were begun since the space was made.
    pub(super) copies: u64,
    /// Whether this run has begun a copy.
    pub(super) has_begun: bool,
    /// Whether the next collection only sweeps what this run left.
    pub(super) is_followed: bool,
    /// Whether a client asked for a run, and none has ended since.
    pub(super) is_wanted: bool,
    pub(super) budget: Repack,
}

impl Run {
    /// Reads the state; without a row it is the default.
    pub(super) fn read<S: Sql>(sql: &S) -> Result<Self, SqlError> {
        let rows = sql.run("SELECT value FROM meta WHERE key = 'compaction'", &[])?;
        let Some(row) = rows.first() else {
            return Ok(Self::default());
        };
        let run = Self::parse(&text(row, 0)?);
        run.ok_or_else(|| SqlError("the state of the compaction is malformed".into()))
    }

    pub(super) fn write<S: Sql>(&self, sql: &S) -> Result<(), SqlError> {
        let upsert = "INSERT INTO meta (key, value) VALUES ('compaction', ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        sql.run(upsert, &[self.to_text().into()]).map(drop)
    }

    /// The row: decimal numbers and an id, separated by spaces.
    fn to_text(&self) -> String {
        let numbers = [
            self.stage as u64,
            self.garbage,
            self.repacked,
            self.copies,
            self.has_begun.into(),
            self.is_followed.into(),
            self.is_wanted.into(),
            self.budget.max_unused,
            self.budget.max_bytes,
            self.budget.min_freed,
            self.budget.max_live,
        ];
        let mut text = ObjectId::from_bytes(self.after).to_string();
        for number in numbers {
            text.push(' ');
            text.push_str(&number.to_string());
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (after, numbers) = text.split_once(' ')?;
        let mut numbers = numbers.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            after: *ObjectId::from_hex(after).ok()?.as_bytes(),
            stage: match next()? {
                0 => Stage::Idle,
                1 => Stage::Measuring,
                2 => Stage::Copying,
                _ => return None,
            },
            garbage: next()?,
            repacked: next()?,
            copies: next()?,
            has_begun: next()? != 0,
            is_followed: next()? != 0,
            is_wanted: next()? != 0,
            budget: Repack {
                max_unused: next()?,
                max_bytes: next()?,
                min_freed: next()?,
                max_live: next()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_as_it_was_written() {
        for stage in [Stage::Idle, Stage::Measuring, Stage::Copying] {
            let run = Run {
                stage,
                after: [250; 16],
                garbage: 1 << 52,
                copies: 7,
                is_followed: true,
                is_wanted: true,
                ..Run::default()
            };
            assert_eq!(Run::parse(&run.to_text()), Some(run));
        }
        let zeros = "00".repeat(16);
        for bad in [
            String::new(),
            zeros.clone(),
            format!("{zeros} 3 0 0 0 0 0 0 0 0 0 0"),
        ] {
            assert_eq!(Run::parse(&bad), None, "{bad}");
        }
    }
}
