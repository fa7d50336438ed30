//! Incarnations: how many streams had a name before, so that an offset of an earlier one is known
//! as such.
//!
//! The number stands in the stream's own row. While there is no stream, a line among the chores
//! keeps it for a while, and the alarm forgets it.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::engine::Engine;
use super::record::Stream;
use super::row::Columns;

/// The kind of the line, which says when the number may be forgotten.
pub(super) const INCARNATION: &str = "past";

/// How long a name's incarnation is known after its stream ended: longer than readers stay away.
const MEMORY: Duration = Duration::from_hours(7 * 24);

impl<S: Sql> Engine<'_, S> {
    /// Notes that a stream ended: the next one of the name is another incarnation.
    pub(super) fn save_incarnation(&self, stream: &Stream, now: Timestamp) -> Result<(), SqlError> {
        let next = (stream.incarnation + 1).to_string();
        self.dequeue(INCARNATION, "")?;
        self.enqueue(INCARNATION, "", Some(&next), now.after(MEMORY))
    }

    /// The incarnation of a new stream, whose row keeps it from now on.
    pub(super) fn take_incarnation(&self) -> Result<u64, SqlError> {
        let select = "SELECT whom FROM stream_chore WHERE s = ? AND kind = ?";
        let Some(row) = self.run(select, [INCARNATION.into()])?.into_iter().next() else {
            return Ok(0);
        };
        self.dequeue(INCARNATION, "")?;
        let next = Columns::of(row).text()?;
        Ok(next.parse().unwrap_or_default())
    }

    /// Forgets the number when its time has come.
    pub(super) fn forget_incarnation(&self, now: Timestamp) -> Result<(), SqlError> {
        let delete = "DELETE FROM stream_chore WHERE s = ? AND kind = ? AND at <= ?";
        let params = [INCARNATION.into(), now.as_millis().into()];
        self.run(delete, params).map(drop)
    }
}
