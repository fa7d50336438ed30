//! Incarnation: the number of earlier streams of a name, which identifies their offsets.
//!
//! The stream's own row has the number. While there is no stream, a row among the jobs keeps it for
//! some days, until the alarm deletes it.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::engine::Engine;
use super::record::StreamRecord;
use super::row::Columns;

/// Kind of the job row that keeps the number until its time.
pub(super) const INCARNATION: &str = "past";

/// How long the incarnation is kept after a stream ended: longer than readers pause.
const RETENTION: Duration = Duration::from_hours(7 * 24);

impl<S: Sql> Engine<'_, S> {
    /// Keeps the next incarnation of the name when a stream ends.
    pub(super) fn save_incarnation(
        &self,
        stream: &StreamRecord,
        now: Timestamp,
    ) -> Result<(), SqlError> {
        let next = (stream.incarnation + 1).to_string();
        self.dequeue(INCARNATION, "")?;
        self.enqueue(INCARNATION, "", Some(&next), now.after(RETENTION))
    }

    /// Takes the incarnation for a new stream, whose row keeps it from now on.
    pub(super) fn take_incarnation(&self) -> Result<u64, SqlError> {
        let select = "SELECT whom FROM stream_chore WHERE s = ? AND kind = ?";
        let Some(row) = self.run(select, [INCARNATION.into()])?.into_iter().next() else {
            return Ok(0);
        };
        self.dequeue(INCARNATION, "")?;
        let next = Columns::of(row).text()?;
        Ok(next.parse().unwrap_or_default())
    }

    /// Deletes the number once its retention is over.
    pub(super) fn forget_incarnation(&self, now: Timestamp) -> Result<(), SqlError> {
        let delete = "DELETE FROM stream_chore WHERE s = ? AND kind = ? AND at <= ?";
        let params = [INCARNATION.into(), now.as_millis().into()];
        self.run(delete, params).map(drop)
    }
}
