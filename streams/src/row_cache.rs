//! Row cache: keeps a stream's own row between transactions.
//!
//! Each transaction begins with that row, and reading it costs as much as half of an append. Where
//! no other process writes the database, as in a Durable Object, the cached row is current.

use std::cell::RefCell;

use super::record::StreamRecord;

/// The row as last read or written, or nothing if it has to be read. It belongs to one key of one
/// database, and all transactions of that key have to use it.
#[derive(Debug, Default)]
pub struct RowCache(RefCell<Option<StreamRecord>>);

impl RowCache {
    pub(super) fn get(&self) -> Option<StreamRecord> {
        self.0.borrow().clone()
    }

    pub(super) fn set(&self, stream: Option<StreamRecord>) {
        self.0.replace(stream);
    }
}
