//! What is left to do after the answers: the alarm does it.

use bytes::Bytes;

use super::cold::SegmentKey;
use super::engine::Engine;
use super::generation::Generation;
use super::name::StreamName;
use crate::sql::{Sql, SqlError};
use crate::time::Timestamp;

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
    },
    /// Delete a segment that nobody refers to.
    Sweep {
        /// Its key.
        key: SegmentKey,
    },
    /// Delete all segments of a life that ended.
    Erase {
        /// The life.
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

impl<S: Sql> Engine<'_, S> {
    /// The next thing to do now. What needs no effect is done on the way.
    pub fn chore(&self, _now: Timestamp) -> Result<Option<Chore>, SqlError> {
        Ok(None)
    }

    /// The effect of a chore took place.
    pub fn chore_done(&self, _chore: &Chore, _now: Timestamp) -> Result<(), SqlError> {
        Ok(())
    }

    /// The effect of a chore failed: it is tried again, ever later.
    pub fn chore_failed(&self, _chore: &Chore, _now: Timestamp) -> Result<(), SqlError> {
        Ok(())
    }

    /// When the alarm should come next, if at all. Ask after every turn that wrote.
    pub fn due(&self, _now: Timestamp) -> Result<Option<Timestamp>, SqlError> {
        Ok(None)
    }

    /// Whether nothing at all is kept under this key any more: a host may forget it.
    pub fn is_void(&self) -> Result<bool, SqlError> {
        Ok(true)
    }
}
