//! What is left to do after the answers: the alarm does it.
//!
//! Whatever has to happen outside of the database is written down in the turn that makes it
//! necessary, and crossed out in a turn after it happened. An intent is written down the same way,
//! for later than it can possibly take: if it is carried out its line is crossed out, and if not,
//! the line undoes what may be half done.
//!
//! The chores of one stream MUST NOT be done by two at once.

use std::time::Duration;

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::cold::SegmentKey;
use super::engine::Engine;
use super::generation::Generation;
use super::lifecycle::REPORT;
use super::name::StreamName;
use super::past::PAST;
use super::record::Stream;
use super::reply::Refusal;
use super::row::{Columns, odd};
use super::segment::Index;

/// Something to do outside of the database; afterwards [`Engine::chore_done`] or
/// [`Engine::chore_failed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// Write a segment.
    Write {
        /// Its key.
        key: SegmentKey,
        /// Its bytes.
        body: Bytes,
        /// What finds its messages.
        index: Index,
    },
    /// Delete a segment that nobody refers to.
    Sweep {
        /// Its key.
        key: SegmentKey,
    },
    /// Delete all segments of a generation that ended.
    Erase {
        /// The generation.
        generation: Generation,
    },
    /// Give a source back what it lent.
    GiveBack {
        /// The source.
        source: StreamName,
        /// The fork, as the source knows it.
        edge: Generation,
    },
}

pub(super) const ERASE: &str = "erase";
pub(super) const GIVE_BACK: &str = "give-back";
pub(super) const SWEEP: &str = "sweep";
/// Only says when to try again to write a segment.
pub(super) const ROTATE: &str = "rotate";

/// How long an intent stands before it counts as forgotten: longer than any effect takes.
const GRACE: Duration = Duration::from_mins(10);

/// The longest pause between two tries.
const PAUSE_SECONDS_MAX: u64 = 600;

impl<S: Sql> Engine<'_, S> {
    /// The next thing to do now. What needs no effect is done on the way.
    pub fn chore(&self, now: Timestamp) -> Result<Option<Chore>, SqlError> {
        if let Some(chore) = self.noted(now)? {
            return Ok(Some(chore));
        }
        self.forget_past(now)?;
        match self.load()? {
            Some(stream) if stream.has_lapsed(now) && !stream.deleted => {
                self.end(stream, now)?;
                self.noted(now)
            }
            Some(stream) if self.rotates_at(&stream, now)?.is_some_and(|at| at <= now) => {
                self.rotate(stream, now).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The effect of a chore took place.
    pub fn chore_done(&self, chore: &Chore, now: Timestamp) -> Result<(), SqlError> {
        if let Chore::Write { key, index, .. } = chore
            && !self.rotated(key, index)?
        {
            // The stream ended meanwhile, or another was faster: nobody refers to the segment.
            return self.put_off(SWEEP, &key.to_string(), now, 0);
        }
        let (kind, what) = chore.line();
        self.cross_out(kind, &what)
    }

    /// The effect of a chore failed: it is tried again, ever later.
    pub fn chore_failed(&self, chore: &Chore, now: Timestamp) -> Result<(), SqlError> {
        let (kind, what) = match chore {
            Chore::Write { .. } => (ROTATE, String::new()),
            Chore::Sweep { .. } | Chore::Erase { .. } | Chore::GiveBack { .. } => chore.line(),
        };
        match chore {
            Chore::Write { .. } => self.try_later(kind, &what, now),
            // Unless somebody did it meanwhile.
            Chore::Sweep { .. } | Chore::Erase { .. } | Chore::GiveBack { .. } => {
                match self.tries(kind, &what)? {
                    Some(_) => self.try_later(kind, &what, now),
                    None => Ok(()),
                }
            }
        }
    }

    /// Puts off what failed, for longer each time.
    pub(super) fn try_later(&self, kind: &str, what: &str, now: Timestamp) -> Result<(), SqlError> {
        let known = self.tries(kind, what)?;
        if known.is_none() {
            self.note(kind, what, None, now)?;
        }
        let tries = known.unwrap_or(0);
        let pause = (1 << tries.min(16)).min(PAUSE_SECONDS_MAX);
        let at = now.after(Duration::from_secs(pause));
        self.put_off(kind, what, at, tries + 1)
    }

    /// When the alarm should come next, if at all. Ask after every turn that wrote.
    pub fn due(&self, now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        let select = "SELECT min(at) FROM stream_chore WHERE s = ? AND kind <> ?";
        let row = self.run(select, [ROTATE.into()])?.into_iter().next();
        let noted = Columns::of(row.unwrap_or_default()).maybe_integer()?;
        let noted = noted.map(Timestamp::from_millis);
        let stream = self.load()?;
        let tells = self.reports_at(stream.as_ref(), now)?;
        let Some(stream) = stream else {
            return Ok([noted, tells].into_iter().flatten().min());
        };
        let ends = stream.ends().filter(|_| !stream.deleted);
        let rotates = self.rotates_at(&stream, now)?;
        Ok([noted, tells, ends, rotates].into_iter().flatten().min())
    }

    /// Whether nothing at all is kept under this key any more: a host may forget it.
    pub fn is_void(&self) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM stream_chore WHERE s = ? LIMIT 1";
        let is_idle = self.run(select, [])?.is_empty() && !self.has_lifecycle_events()?;
        Ok(is_idle && self.load()?.is_none())
    }

    /// When the log should become shorter, if it should.
    pub(super) fn rotates_at(
        &self,
        stream: &Stream,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, SqlError> {
        let bytes = stream.weight.saturating_sub(stream.hot_weight);
        let heavy = bytes >= self.shape.segment_bytes.max(1);
        let long = stream.hot_rows >= self.shape.segment_messages.max(1);
        if stream.deleted || !(heavy || long) {
            return Ok(None);
        }
        let select = "SELECT at FROM stream_chore WHERE s = ? AND kind = ?";
        let row = self.run(select, [ROTATE.into()])?.into_iter().next();
        let later = row.map(|row| Columns::of(row).integer()).transpose()?;
        Ok(Some(later.map_or(now, Timestamp::from_millis)))
    }

    /// What was written down and is to be done now.
    fn noted(&self, now: Timestamp) -> Result<Option<Chore>, SqlError> {
        let select = "SELECT kind, what, whom FROM stream_chore \
             WHERE s = ? AND kind NOT IN (?, ?, ?) AND at <= ? ORDER BY at, kind, what LIMIT 1";
        let params = [
            ROTATE.into(),
            REPORT.into(),
            PAST.into(),
            now.as_millis().into(),
        ];
        let rows = self.run(select, params)?;
        rows.into_iter().next().map(read).transpose()
    }

    /// Writes down what is to be done at a time.
    pub(super) fn note(
        &self,
        kind: &str,
        what: &str,
        whom: Option<&str>,
        at: Timestamp,
    ) -> Result<(), SqlError> {
        let upsert = "INSERT INTO stream_chore (s, kind, what, whom, at, tries) \
             VALUES (?, ?, ?, ?, ?, 0) \
             ON CONFLICT (s, kind, what) DO UPDATE SET at = excluded.at";
        let at = at.as_millis().into();
        self.run(upsert, [kind.into(), what.into(), whom.into(), at])
            .map(drop)
    }

    /// Crosses out what was done.
    pub(super) fn cross_out(&self, kind: &str, what: &str) -> Result<(), SqlError> {
        let delete = "DELETE FROM stream_chore WHERE s = ? AND kind = ? AND what = ?";
        self.run(delete, [kind.into(), what.into()]).map(drop)
    }

    fn put_off(&self, kind: &str, what: &str, at: Timestamp, tries: u64) -> Result<(), SqlError> {
        let update = "UPDATE stream_chore SET at = ?, tries = ? \
             WHERE s = ? AND kind = ? AND what = ?";
        let key = Value::Integer(self.key);
        let at = at.as_millis().into();
        let params = [at, tries.into(), key, kind.into(), what.into()];
        self.sql.run(update, &params).map(drop)
    }

    pub(super) fn tries(&self, kind: &str, what: &str) -> Result<Option<u64>, SqlError> {
        let select = "SELECT tries FROM stream_chore WHERE s = ? AND kind = ? AND what = ?";
        let row = self
            .run(select, [kind.into(), what.into()])?
            .into_iter()
            .next();
        row.map(|row| Columns::of(row).integer()).transpose()
    }

    /// Writes down that a segment may be about to be written.
    pub(super) fn intend_segment(&self, key: &SegmentKey, now: Timestamp) -> Result<(), SqlError> {
        self.note(SWEEP, &key.to_string(), None, now.after(GRACE))
    }

    /// Writes down that a source is about to lend.
    pub(super) fn intend_fork(
        &self,
        source: &StreamName,
        edge: Generation,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let whom = Some(source.as_str());
        self.note(GIVE_BACK, &edge.to_string(), whom, now.after(GRACE))
    }

    /// Whether that is still written down.
    pub(super) fn intends_fork(&self, edge: Generation) -> Result<bool, SqlError> {
        Ok(self.tries(GIVE_BACK, &edge.to_string())?.is_some())
    }

    /// Gives up a fork that was begun: what the source may have lent is a chore now.
    pub fn abandon_fork(&self, edge: Generation, now: Timestamp) -> Result<(), Refusal> {
        Ok(self.put_off(GIVE_BACK, &edge.to_string(), now, 0)?)
    }
}

impl Chore {
    /// Where it is written down.
    fn line(&self) -> (&'static str, String) {
        match self {
            Self::Write { key, .. } | Self::Sweep { key } => (SWEEP, key.to_string()),
            Self::Erase { generation } => (ERASE, generation.to_string()),
            Self::GiveBack { edge, .. } => (GIVE_BACK, edge.to_string()),
        }
    }
}

fn read(row: SqlRow) -> Result<Chore, SqlError> {
    let mut row = Columns::of(row);
    let (kind, what, whom) = (row.text()?, row.text()?, row.maybe_text()?);
    let chore = match (kind.as_str(), whom) {
        (ERASE, None) => Generation::from_hex(&what).map(|generation| Chore::Erase { generation }),
        (SWEEP, None) => SegmentKey::parse(&what).map(|key| Chore::Sweep { key }),
        (GIVE_BACK, Some(whom)) => StreamName::parse(&whom)
            .ok()
            .zip(Generation::from_hex(&what))
            .map(|(source, edge)| Chore::GiveBack { source, edge }),
        (_, _) => None,
    };
    chore.ok_or_else(|| odd("a chore"))
}
