//! Deletion of a stream: at once, or after its last fork.

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::engine::Engine;
use super::job;
use super::record::Stream;
use super::reply::Refusal;

/// A stream was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Its name is free. What it had elsewhere is a job now.
    Destroyed,
    /// Forks still need it: its name stays taken.
    Kept,
}

impl<S: Sql> Engine<'_, S> {
    /// Deletes the stream.
    pub fn delete(&self, now: Timestamp) -> Result<Deleted, Refusal> {
        let stream = self.live(now)?;
        Ok(self.end(stream, now)?)
    }

    /// Ends a stream, as far as its forks allow.
    pub(super) fn end(&self, mut stream: Stream, now: Timestamp) -> Result<Deleted, SqlError> {
        if stream.references == 0 {
            self.destroy(&stream, now)?;
            return Ok(Deleted::Destroyed);
        }
        // The forks have copies of the log. Of this stream they need the objects only, and that it
        // goes on needing its own source's.
        self.clear(&["stream_log", "stream_producer", "stream_segment"])?;
        self.record_ended(&stream, now)?;
        stream.deleted = true;
        stream.hot = stream.tail;
        stream.hot_weight = stream.weight;
        stream.hot_rows = 0;
        self.save(&stream)?;
        Ok(Deleted::Kept)
    }

    /// Removes all rows of a stream that no one needs. What lies elsewhere becomes a job.
    pub(super) fn destroy(&self, stream: &Stream, now: Timestamp) -> Result<(), SqlError> {
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
