//! Jobs: deferred work that the alarm runs, with retries.
//!
//! The transaction that makes an effect necessary queues a job for it, and a later transaction
//! removes the job once the effect happened. An intent is a job as well, due later than the effect
//! can possibly take. If the effect completes, its transaction removes the job. If not, the job
//! undoes what may be half done.
//!
//! Two drivers MUST NOT run the jobs of one stream at the same time.

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
use super::record::StreamRecord;
use super::reply::Refusal;
use super::row::{Columns, invalid_column};
use super::segment::SegmentIndex;

/// An effect outside of the database. Afterwards, the driver calls [`Engine::complete_job`] or
/// [`Engine::fail_job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamJob {
    /// Write a segment.
    WriteSegment {
        /// The segment's key.
        key: SegmentKey,
        /// The segment's bytes.
        body: Bytes,
        /// The segment's index.
        index: SegmentIndex,
    },
    /// Delete a segment without references.
    DeleteSegment {
        /// The segment's key.
        key: SegmentKey,
    },
    /// Delete all segments of a generation that ended.
    DeleteSegments {
        /// The generation.
        generation: Generation,
    },
    /// Release the reference of a fork to its source.
    Release {
        /// The source.
        source: StreamName,
        /// The fork's generation.
        reference: Generation,
    },
}

pub(super) const DELETE_SEGMENTS: &str = "erase";
pub(super) const RELEASE: &str = "give-back";
pub(super) const DELETE_SEGMENT: &str = "sweep";
/// Not a job of its own: keeps the time of the next try to write a segment.
pub(super) const ROTATE: &str = "rotate";

/// When an intent counts as abandoned: later than any effect takes.
const GRACE: Duration = Duration::from_mins(10);

/// Longest delay between two tries.
const BACKOFF_MAX: Duration = Duration::from_mins(10);

/// Delay before the next try: doubles from a second with each try, up to `most`.
pub(super) fn backoff(tries: u64, most: Duration) -> Duration {
    Duration::from_secs(1 << tries.min(16)).min(most)
}

impl<S: Sql> Engine<'_, S> {
    /// The next due job. Expiry needs no effect and happens within this call.
    pub fn next_job(&self, now: Timestamp) -> Result<Option<StreamJob>, SqlError> {
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

    /// Records that the effect of a job happened.
    pub fn complete_job(&self, job: &StreamJob, now: Timestamp) -> Result<(), SqlError> {
        if let StreamJob::WriteSegment { key, index, .. } = job
            && !self.rotated(key, index)?
        {
            // The stream has ended or rotated otherwise: nothing references the segment.
            return self.reschedule(DELETE_SEGMENT, &key.to_string(), now, 0);
        }
        let (kind, what) = job.key();
        self.dequeue(kind, &what)
    }

    /// Records that the effect of a job failed, and schedules a retry with backoff.
    pub fn fail_job(&self, job: &StreamJob, now: Timestamp) -> Result<(), SqlError> {
        let (kind, what) = match job {
            StreamJob::WriteSegment { .. } => (ROTATE, String::new()),
            StreamJob::DeleteSegment { .. }
            | StreamJob::DeleteSegments { .. }
            | StreamJob::Release { .. } => job.key(),
        };
        match job {
            StreamJob::WriteSegment { .. } => self.retry_later(kind, &what, now),
            // Another transaction may have completed it.
            StreamJob::DeleteSegment { .. }
            | StreamJob::DeleteSegments { .. }
            | StreamJob::Release { .. } => match self.tries(kind, &what)? {
                Some(_) => self.retry_later(kind, &what, now),
                None => Ok(()),
            },
        }
    }

    /// Reschedules a failed job, with exponential backoff.
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
        let at = now.after(backoff(tries, BACKOFF_MAX));
        self.reschedule(kind, what, at, tries + 1)
    }

    /// When the alarm has to run next. The platform asks after every transaction that wrote.
    pub fn due(&self, now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        let select = "SELECT min(at) FROM stream_chore WHERE s = ? AND kind <> ?";
        let row = self.run(select, [ROTATE.into()])?.into_iter().next();
        let due_job = Columns::of(row.unwrap_or_default()).optional_integer()?;
        let due_job = due_job.map(Timestamp::from_millis);
        let stream = self.load()?;
        let reports = self.reports_at(stream.as_ref(), now)?;
        let Some(stream) = stream else {
            return Ok([due_job, reports].into_iter().flatten().min());
        };
        let ends = stream.ends().filter(|_| !stream.deleted);
        let rotates = self.rotates_at(&stream, now)?;
        let all = [due_job, reports, ends, rotates];
        Ok(all.into_iter().flatten().min())
    }

    /// Whether the database has no row with this key, so that a host may forget the key.
    pub fn has_no_rows(&self) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM stream_chore WHERE s = ? LIMIT 1";
        let is_idle = self.run(select, [])?.is_empty() && !self.has_lifecycle_events()?;
        Ok(is_idle && self.load()?.is_none())
    }

    /// When the log has to be rotated, if it is long enough.
    pub(super) fn rotates_at(
        &self,
        stream: &StreamRecord,
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

    /// The first queued job that is due.
    fn due_job(&self, now: Timestamp) -> Result<Option<StreamJob>, SqlError> {
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

    /// Queues a job for a time.
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

    /// Removes a job.
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

    /// Queues the deletion of a segment that is about to be written, in case that fails.
    pub(super) fn enqueue_segment_cleanup(
        &self,
        key: &SegmentKey,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        self.enqueue(DELETE_SEGMENT, &key.to_string(), None, now.after(GRACE))
    }

    /// Queues the release of a snapshot that a source is about to retain, in case the fork fails.
    pub(super) fn enqueue_release(
        &self,
        source: &StreamName,
        reference: Generation,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let whom = Some(source.as_str());
        self.enqueue(RELEASE, &reference.to_string(), whom, now.after(GRACE))
    }

    /// Whether that job is still queued.
    pub(super) fn is_release_queued(&self, reference: Generation) -> Result<bool, SqlError> {
        Ok(self.tries(RELEASE, &reference.to_string())?.is_some())
    }

    /// Abandons a fork: the job that releases its source becomes due.
    pub fn abandon_fork(&self, reference: Generation, now: Timestamp) -> Result<(), Refusal> {
        Ok(self.reschedule(RELEASE, &reference.to_string(), now, 0)?)
    }
}

impl StreamJob {
    /// Kind and argument of the job's row.
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

fn read(row: SqlRow) -> Result<StreamJob, SqlError> {
    let mut row = Columns::of(row);
    let (kind, what, whom) = (row.text()?, row.text()?, row.optional_text()?);
    let job = match (kind.as_str(), whom) {
        (DELETE_SEGMENTS, None) => {
            Generation::from_hex(&what).map(|generation| StreamJob::DeleteSegments { generation })
        }
        (DELETE_SEGMENT, None) => {
            SegmentKey::parse(&what).map(|key| StreamJob::DeleteSegment { key })
        }
        (RELEASE, Some(whom)) => StreamName::parse(&whom)
            .ok()
            .zip(Generation::from_hex(&what))
            .map(|(source, reference)| StreamJob::Release { source, reference }),
        (_, _) => None,
    };
    job.ok_or_else(|| invalid_column("a job"))
}
