//! Deletion of a stream: immediate, or after its last fork ends.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::engine::Engine;
use super::job;
use super::record::StreamRecord;
use super::reply::Refusal;

/// Result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The name is free. Jobs delete its segments and release its source.
    Destroyed,
    /// Forks still need it, so the name stays taken.
    Kept,
}

impl<S: Sql> Engine<'_, S> {
    /// Deletes the stream, as far as its forks allow.
    pub fn delete(&self, now: Timestamp) -> Result<Deleted, Refusal> {
        let stream = self.live(now)?;
        Ok(self.end(stream, now)?)
    }

    /// Ends a stream: destroys it, or keeps its row for its forks.
    pub(super) fn end(
        &self,
        mut stream: StreamRecord,
        now: Timestamp,
    ) -> Result<Deleted, SqlError> {
        if stream.references == 0 {
            self.destroy(&stream, now)?;
            return Ok(Deleted::Destroyed);
        }
        // Forks have copies of the log. They need only the segments of this stream, and its
        // reference to its own source.
        self.clear(&["stream_log", "stream_producer", "stream_segment"])?;
        self.record_ended(&stream, now)?;
        stream.deleted = true;
        stream.hot = stream.tail;
        stream.hot_weight = stream.weight;
        stream.hot_rows = 0;
        self.save(&stream)?;
        Ok(Deleted::Kept)
    }

    /// Deletes all rows of a stream without forks, and queues jobs for the rest.
    pub(super) fn destroy(&self, stream: &StreamRecord, now: Timestamp) -> Result<(), SqlError> {
        if stream.cold {
            let what = stream.generation.to_string();
            self.enqueue(job::DELETE_SEGMENTS, &what, None, now)?;
        }
        if let Some(branch) = &stream.branch {
            let reference = stream.generation.to_string();
            self.enqueue(job::RELEASE, &reference, Some(&branch.source), now)?;
        }
        if !stream.deleted {
            self.record_ended(stream, now)?;
        }
        self.save_incarnation(stream, now)?;
        self.clear(&[
            "stream_log",
            "stream_producer",
            "stream_segment",
            "stream_edge",
            "stream",
        ])?;
        self.invalidate_row();
        Ok(())
    }

    fn clear(&self, tables: &[&str]) -> Result<(), SqlError> {
        tables.iter().try_for_each(|table| {
            let delete = format!("DELETE FROM {table} WHERE s = ?");
            self.run(&delete, []).map(drop)
        })
    }
}
