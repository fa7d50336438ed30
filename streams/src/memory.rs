//! A stream's own row, kept between turns.
//!
//! Each turn begins with that row, and reading it costs as much as half of an append. Where no
//! other process writes the database, as in a Durable Object, the row written last is stored.

use std::cell::RefCell;

use pmx_core::sql::Sql;

use super::engine::Engine;
use super::ledger::Stream;

/// The row as it was read or written last; nothing where it has to be read. It belongs to one key
/// of one database, and all turns of that have to know of it.
#[derive(Debug, Default)]
pub struct Memory(RefCell<Option<Stream>>);

impl Memory {
    pub(super) fn recall(&self) -> Option<Stream> {
        self.0.borrow().clone()
    }
}

impl<S: Sql> Engine<'_, S> {
    /// Takes note of the row as it lies in the database from now on.
    pub(super) fn remember(&self, stream: &Stream) {
        if let Some(memory) = self.memory {
            memory.0.replace(Some(stream.clone()));
        }
    }

    /// Has the next turn read the row.
    pub(super) fn forget(&self) {
        if let Some(memory) = self.memory {
            memory.0.replace(None);
        }
    }
}
