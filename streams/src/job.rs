//! Jobs: deferred work that the alarm runs, with retries.
//!
//! Whatever has to happen outside of the database is written down in the transaction that makes it
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
use super::incarnation::INCARNATION;
use super::lifecycle::REPORT;
use super::name::StreamName;
use super::record::Stream;
use super::reply::Refusal;
use super::row::{Columns, odd};
use super::segment::Index;

/// Something to do outside of the database; afterwards [`Engine::complete_job`] or
/// [`Engine::fail_job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Write a segment.
    WriteSegment {
        /// Its key.
        key: SegmentKey,
        /// Its bytes.
        body: Bytes,
        /// What finds its messages.
        index: Index,
    },
    /// Delete a segment that no one refers to.
    DeleteSegment {
        /// Its key.
        key: SegmentKey,
    },
    /// Delete all segments of a generation that ended.
    DeleteSegments {
        /// The generation.
        generation: Generation,
    },
    /// Give a source back what it lent.
    Release {
        /// The source.
        source: StreamName,
        /// The fork, as the source knows it.
        reference: Generation,
    },
}

pub(super) const DELETE_SEGMENTS: &str = "erase";
pub(super) const RELEASE: &str = "give-back";
pub(super) const DELETE_SEGMENT: &str = "sweep";
/// Only says when to try again to write a segment.
pub(super) const ROTATE: &str = "rotate";

/// How long an intent stands before it counts as forgotten: longer than any effect takes.
const GRACE: Duration = Duration::from_mins(10);

/// The longest pause between two tries.
const PAUSE_SECONDS_MAX: u64 = 600;

impl<S: Sql> Engine<'_, S> {
    /// The next thing to do now. What needs no effect is done on the way.
    pub fn next_job(&self, now: Timestamp) -> Result<Option<Job>, SqlError> {
        if let Some(job) = self.due_job(now)? {
            return Ok(Some(job));
        }
        self.forget_incarnation(now)?;
        match self.load()? {
            Some(stream) if stream.is_expired(now) && !stream.deleted => {
                self.end(stream, now)?;
                self.due_job(now)
            }
            Some(stream) if self.rotates_at(&stream, now)?.is_some_and(|at| at <= now) => {
                self.rotate(stream, now).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The effect of a job took place.
    pub fn complete_job(&self, job: &Job, now: Timestamp) -> Result<(), SqlError> {
        if let Job::WriteSegment { key, index, .. } = job
            && !self.rotated(key, index)?
        {
            // The stream ended in the meantime, or another was faster: no one refers to the
            // segment.
            return self.reschedule(DELETE_SEGMENT, &key.to_string(), now, 0);
        }
        let (kind, what) = job.key();
        self.dequeue(kind, &what)
    }

    /// The effect of a job failed: it is tried again, ever later.
    pub fn fail_job(&self, job: &Job, now: Timestamp) -> Result<(), SqlError> {
        let (kind, what) = match job {
            Job::WriteSegment { .. } => (ROTATE, String::new()),
            Job::DeleteSegment { .. } | Job::DeleteSegments { .. } | Job::Release { .. } => {
                job.key()
            }
        };
        match job {
            Job::WriteSegment { .. } => self.retry_later(kind, &what, now),
            // Unless another transaction did it in the meantime.
            Job::DeleteSegment { .. } | Job::DeleteSegments { .. } | Job::Release { .. } => {
                match self.tries(kind, &what)? {
                    Some(_) => self.retry_later(kind, &what, now),
                    None => Ok(()),
                }
            }
        }
    }

    /// Puts off what failed, for longer each time.
    pub(super) fn retry_later(
        &self,
        kind: &str,
        what: &str,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let known = self.tries(kind, what)?;
        if known.is_none() {
            self.enqueue(kind, what, None, now)?;
        }
        let tries = known.unwrap_or(0);
        let pause = (1 << tries.min(16)).min(PAUSE_SECONDS_MAX);
        let at = now.after(Duration::from_secs(pause));
        self.reschedule(kind, what, at, tries + 1)
    }

    /// When the alarm should come next, if at all. Ask after every turn that wrote.
    pub fn due(&self, now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        let select = "SELECT min(at) FROM stream_chore WHERE s = ? AND kind <> ?";
        let row = self.run(select, [ROTATE.into()])?.into_iter().next();
        let due_job = Columns::of(row.unwrap_or_default()).maybe_integer()?;
        let due_job = due_job.map(Timestamp::from_millis);
        let stream = self.load()?;
        let tells = self.reports_at(stream.as_ref(), now)?;
        let Some(stream) = stream else {
            return Ok([due_job, tells].into_iter().flatten().min());
        };
        let ends = stream.ends().filter(|_| !stream.deleted);
        let rotates = self.rotates_at(&stream, now)?;
        Ok([due_job, tells, ends, rotates].into_iter().flatten().min())
    }

    /// Whether nothing at all is kept under this key any more: a host may forget it.
    pub fn has_no_rows(&self) -> Result<bool, SqlError> {
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
        let heavy = bytes >= self.config.segment_bytes.max(1);
        let long = stream.hot_rows >= self.config.segment_messages.max(1);
        if stream.deleted || !(heavy || long) {
            return Ok(None);
        }
        let select = "SELECT at FROM stream_chore WHERE s = ? AND kind = ?";
        let row = self.run(select, [ROTATE.into()])?.into_iter().next();
        let later = row.map(|row| Columns::of(row).integer()).transpose()?;
        Ok(Some(later.map_or(now, Timestamp::from_millis)))
    }

    /// What was written down and is to be done now.
    fn due_job(&self, now: Timestamp) -> Result<Option<Job>, SqlError> {
        let select = "SELECT kind, what, whom FROM stream_chore \
             WHERE s = ? AND kind NOT IN (?, ?, ?) AND at <= ? ORDER BY at, kind, what LIMIT 1";
        let params = [
            ROTATE.into(),
            REPORT.into(),
            INCARNATION.into(),
            now.as_millis().into(),
        ];
        let rows = self.run(select, params)?;
        rows.into_iter().next().map(read).transpose()
    }

    /// Writes down what is to be done at a time.
    pub(super) fn enqueue(
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
    pub(super) fn dequeue(&self, kind: &str, what: &str) -> Result<(), SqlError> {
        let delete = "DELETE FROM stream_chore WHERE s = ? AND kind = ? AND what = ?";
        self.run(delete, [kind.into(), what.into()]).map(drop)
    }

    fn reschedule(
        &self,
        kind: &str,
        what: &str,
        at: Timestamp,
        tries: u64,
    ) -> Result<(), SqlError> {
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
    pub(super) fn enqueue_segment_cleanup(
        &self,
        key: &SegmentKey,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        self.enqueue(DELETE_SEGMENT, &key.to_string(), None, now.after(GRACE))
    }

    /// Writes down that a source is about to lend.
    pub(super) fn enqueue_release(
        &self,
        source: &StreamName,
        reference: Generation,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let whom = Some(source.as_str());
        self.enqueue(RELEASE, &reference.to_string(), whom, now.after(GRACE))
    }

    /// Whether that is still written down.
    pub(super) fn is_release_queued(&self, reference: Generation) -> Result<bool, SqlError> {
        Ok(self.tries(RELEASE, &reference.to_string())?.is_some())
    }

    /// Gives up a fork that was begun: what the source may have lent is a job now.
    pub fn abandon_fork(&self, reference: Generation, now: Timestamp) -> Result<(), Refusal> {
        Ok(self.reschedule(RELEASE, &reference.to_string(), now, 0)?)
    }
}

impl Job {
    /// Where it is written down.
    fn key(&self) -> (&'static str, String) {
        match self {
            Self::WriteSegment { key, .. } | Self::DeleteSegment { key } => {
                (DELETE_SEGMENT, key.to_string())
            }
            Self::DeleteSegments { generation } => (DELETE_SEGMENTS, generation.to_string()),
            Self::Release { reference, .. } => (RELEASE, reference.to_string()),
        }
    }
}

fn read(row: SqlRow) -> Result<Job, SqlError> {
    let mut row = Columns::of(row);
    let (kind, what, whom) = (row.text()?, row.text()?, row.maybe_text()?);
    let job = match (kind.as_str(), whom) {
        (DELETE_SEGMENTS, None) => {
            Generation::from_hex(&what).map(|generation| Job::DeleteSegments { generation })
        }
        (DELETE_SEGMENT, None) => SegmentKey::parse(&what).map(|key| Job::DeleteSegment { key }),
        (RELEASE, Some(whom)) => StreamName::parse(&whom)
            .ok()
            .zip(Generation::from_hex(&what))
            .map(|(source, reference)| Job::Release { source, reference }),
        (_, _) => None,
    };
    job.ok_or_else(|| odd("a job"))
}
