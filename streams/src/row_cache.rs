//! Row cache: keeps a stream's own row between transactions.
//!
//! Each turn begins with that row, and reading it costs as much as half of an append. Where no
//! other process writes the database, as in a Durable Object, the row written last is stored.

use std::cell::RefCell;

use super::record::Stream;

/// The row as it was read or written last; nothing where it has to be read. It belongs to one key
/// of one database, and all turns of that have to know of it.
#[derive(Debug, Default)]
pub struct RowCache(RefCell<Option<Stream>>);

impl RowCache {
    pub(super) fn get(&self) -> Option<Stream> {
        self.0.borrow().clone()
    }

    pub(super) fn set(&self, stream: Option<Stream>) {
        self.0.replace(stream);
    }
}
