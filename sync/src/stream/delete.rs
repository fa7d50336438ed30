//! Deleting a stream.

use super::engine::Engine;
use super::reply::Refusal;
use crate::sql::Sql;
use crate::time::Timestamp;

/// A stream was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Its name is free. What it had elsewhere is a chore now.
    Destroyed,
    /// Forks still need it: its name stays taken.
    Kept,
}

impl<S: Sql> Engine<'_, S> {
    /// Deletes the stream.
    pub fn delete(&self, _now: Timestamp) -> Result<Deleted, Refusal> {
        Err(Refusal::Unknown)
    }
}
