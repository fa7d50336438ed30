//! Appending to a stream and closing it.

use super::call::Append;
use super::engine::Engine;
use super::reply::{Appended, Refusal};
use crate::sql::Sql;
use crate::time::Timestamp;

impl<S: Sql> Engine<'_, S> {
    /// Appends, closes, or both. Slides the time to live.
    pub fn append(&self, _call: &Append, _now: Timestamp) -> Result<Appended, Refusal> {
        Err(Refusal::Unknown)
    }
}
