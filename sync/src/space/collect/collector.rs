//! Collector: the state of a space's collection, one row that each step reads and writes.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::super::columns::{integer, text};
use super::super::tables;

/// The state of a collection. An **epoch** is one collection; its marks have its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Collector {
    /// The epoch of the last sweep: what has an older mark is garbage. 0 before the first one.
    pub(crate) swept: u64,
    /// The last epoch without a sweep, in a row of its own: its marks count for no later one, as
    /// the walk that set them did not end.
    pub(crate) abandoned: u64,
    /// Whether every object has a row.
    pub(crate) is_filled: bool,
    /// The earliest time of the first collection that no client started, in milliseconds: a release
    /// can be taken back before it.
    pub(crate) not_before: u64,
    /// The step in progress.
    pub(crate) phase: Phase,
    /// Whether something was given up since the last collection began.
    pub(crate) is_wanted: bool,
    /// Whether the next sweep deletes what it finds at once.
    pub(crate) is_purge: bool,
    /// Whether the sweep in progress does.
    pub(crate) is_purging: bool,
    /// Until when a sweep waits for the delivery of pointers, or a collection after a failed one,
    /// in milliseconds.
    pub(crate) waits_until: u64,
    /// Hours that really passed: a clock that jumps ahead counts as one.
    pub(crate) ticks: u64,
    /// The time of the last of them, in milliseconds.
    pub(crate) ticked: u64,
    /// When the policy was last applied, in milliseconds; 0 if it has to be applied now.
    pub(crate) applied: u64,
    /// The last upload at the last look for abandoned ones, in milliseconds.
    pub(crate) looked: u64,
}

/// A phase, and the cursor of its stage. Each stage visits the rows of a table in the order of
/// their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
    Nodes,
    Blobs,
    Packs,
    Parts,
}

/// Stages of [`Phase::Marking`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marking {
    Packs,
    Parts,
    Roots,
    Walk,
}

/// Stages of [`Phase::Sweeping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The first column of the key.
    pub(crate) key: Vec<u8>,
    /// Its second column, or all of it.
    pub(crate) number: u64,
}

impl Phase {
    /// The stages, by their numbers in the row; 0 is [`Phase::Idle`].
    const FILLING: [Filling; 4] = [
        Filling::Nodes,
        Filling::Blobs,
        Filling::Packs,
        Filling::Parts,
    ];
    const MARKING: [Marking; 4] = [
        Marking::Packs,
        Marking::Parts,
        Marking::Roots,
        Marking::Walk,
    ];
    const SWEEPING: [Sweeping; 7] = [
        Sweeping::Nodes,
        Sweeping::Blobs,
        Sweeping::Packs,
        Sweeping::Parts,
        Sweeping::Arrived,
        Sweeping::Big,
        Sweeping::Objects,
    ];

    fn numbered(&self) -> (u64, Cursor) {
        fn at<T: PartialEq>(stages: &[T], stage: &T) -> u64 {
            let at = stages.iter().position(|one| one == stage);
            at.unwrap_or_default() as u64
        }
        match self {
            Self::Idle => (0, Cursor::default()),
            Self::Filling(stage, cursor) => (10 + at(&Self::FILLING, stage), cursor.clone()),
            Self::Marking(stage, cursor) => (20 + at(&Self::MARKING, stage), cursor.clone()),
            Self::Sweeping(stage, cursor) => (30 + at(&Self::SWEEPING, stage), cursor.clone()),
        }
    }

    fn of(number: u64, cursor: Cursor) -> Option<Self> {
        let at = usize::try_from(number % 10).ok()?;
        Some(match number / 10 {
            0 if at == 0 => Self::Idle,
            1 => Self::Filling(*Self::FILLING.get(at)?, cursor),
            2 => Self::Marking(*Self::MARKING.get(at)?, cursor),
            3 => Self::Sweeping(*Self::SWEEPING.get(at)?, cursor),
            _ => return None,
        })
    }
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
        let select = "SELECT value, coalesce((
                 SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'abandoned'), 0)
             FROM meta WHERE key = 'collector'";
        let rows = sql.run(select, &[])?;
        let Some(row) = rows.first() else {
            return Ok(Self::default());
        };
        let state = Self::parse(&text(row, 0)?);
        let state =
            state.ok_or_else(|| SqlError("the state of the collection is malformed".into()))?;
        let abandoned = integer(row, 1)?;
        Ok(Self { abandoned, ..state })
    }

    /// Records that the walk of this epoch ended early.
    pub(super) fn record_abandoned<S: Sql>(&self, sql: &S) -> Result<(), SqlError> {
        let upsert = "INSERT INTO meta (key, value) VALUES ('abandoned', ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        sql.run(upsert, &[self.epoch().to_string().into()])
            .map(drop)
    }

    /// Writes the state.
    pub(crate) fn write<S: Sql>(&self, sql: &S) -> Result<(), SqlError> {
        let upsert = "INSERT INTO meta (key, value) VALUES ('collector', ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        sql.run(upsert, &[self.to_text().into()]).map(drop)
    }

    /// The row: decimal numbers, and the cursor's key in hexadecimal, separated by spaces.
    fn to_text(&self) -> String {
        let (phase, cursor) = self.phase.numbered();
        let numbers = [
            self.swept,
            self.is_filled.into(),
            self.not_before,
            self.is_wanted.into(),
            self.is_purge.into(),
            self.is_purging.into(),
            self.waits_until,
            self.ticks,
            self.ticked,
            self.applied,
            self.looked,
            phase,
            cursor.number,
        ];
        let numbers = numbers.map(|number| number.to_string()).join(" ");
        let key: Vec<_> = cursor
            .key
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{numbers} {}", key.concat())
    }

    fn parse(text: &str) -> Option<Self> {
        let (numbers, key) = text.rsplit_once(' ')?;
        let mut numbers = numbers.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let collector = Self {
            swept: next()?,
            abandoned: 0,
            is_filled: next()? != 0,
            not_before: next()?,
            is_wanted: next()? != 0,
            is_purge: next()? != 0,
            is_purging: next()? != 0,
            waits_until: next()?,
            ticks: next()?,
            ticked: next()?,
            applied: next()?,
            looked: next()?,
            phase: Phase::Idle,
        };
        let (phase, number) = (next()?, next()?);
        let key = key.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        let key = key.collect::<Option<_>>()?;
        let phase = Phase::of(phase, Cursor { key, number })?;
        Some(Self { phase, ..collector })
    }

    /// A collection is wanted: something was given up.
    pub(crate) fn wanting(self, purge: bool) -> Self {
        Self {
            is_wanted: true,
            is_purge: self.is_purge || purge,
            // What made a collection fail may be what is purged.
            waits_until: if purge { 0 } else { self.waits_until },
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
            Phase::Marking(..) => self.epoch(),
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
        if self.swept < self.abandoned {
            self.abandoned + 1
        } else {
            self.swept + 1
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_as_it_was_written() {
        let cursor = || Cursor {
            key: vec![0, 7, 255],
            number: 9,
        };
        let mut phases = vec![Phase::Idle];
        phases.extend(Phase::FILLING.map(|stage| Phase::Filling(stage, cursor())));
        phases.extend(Phase::MARKING.map(|stage| Phase::Marking(stage, cursor())));
        phases.extend(Phase::SWEEPING.map(|stage| Phase::Sweeping(stage, Cursor::default())));
        for phase in phases {
            let state = Collector {
                swept: 3,
                is_filled: true,
                is_purging: true,
                ticked: 1 << 52,
                looked: 8,
                phase,
                ..Collector::default()
            };
            assert_eq!(Collector::parse(&state.to_text()), Some(state));
        }
        for bad in [
            "",
            "1 2",
            "0 0 0 0 0 0 0 0 0 0 0 50 0 ",
            "0 0 0 0 0 0 0 0 0 0 0 10 0 xy",
        ] {
            assert_eq!(Collector::parse(bad), None, "{bad}");
        }
    }
}
