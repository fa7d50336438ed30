//! Operation counts: the operations that Cloudflare counts and bills.
//!
//! Each log line has the operations since the line before it. So the sum over all lines is the
//! isolate's total. Tests measure with it what a page view or a publish costs.

use std::cell::Cell;

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpKind {
    /// An object of R2 read, whole or in part (class B).
    R2Read,
    /// A check whether R2 has an object (class B).
    R2Head,
    /// A page of object names in R2 (class A).
    R2List,
    /// An object written to R2 (class A).
    R2Write,
    /// A call that deletes objects from R2 (free).
    R2Delete,
    /// A range found in the cache of the data centre (free).
    CacheRead,
    /// A pointer read from KV.
    KvRead,
    /// A page of pointer names in KV.
    KvList,
    /// A pointer written to KV.
    KvWrite,
    /// A call of a Durable Object.
    SpaceCall,
    /// A row read from SQLite.
    RowRead,
    /// A row written to SQLite, in a table or an index.
    RowWritten,
}

/// Counts an operation.
pub(crate) fn note(kind: OpKind) {
    add(kind, 1);
}

/// Counts several operations.
pub(crate) fn add(kind: OpKind, count: u64) {
    COUNTS.with(|counts| {
        if let Some((_, cell)) = counts.iter().find(|(known, _)| *known == kind) {
            cell.set(cell.get().saturating_add(count));
        }
    });
}

/// Takes the operations since the last call, by name. It omits those that did not occur.
pub(crate) fn take() -> serde_json::Map<String, serde_json::Value> {
    let taken = |(kind, cell): &(OpKind, Cell<u64>)| {
        let count = cell.replace(0);
        (count > 0).then(|| (name(*kind).to_owned(), count.into()))
    };
    COUNTS.with(|counts| counts.iter().filter_map(taken).collect())
}

/// Bytes of the module's memory. It only grows, so this is also its maximum.
pub(crate) fn memory() -> usize {
    #[cfg(target_arch = "wasm32")]
    {
        const PAGE_BYTES: usize = 65_536;
        core::arch::wasm32::memory_size(0) * PAGE_BYTES
    }
    #[cfg(not(target_arch = "wasm32"))]
    0
}

type Counts = [(OpKind, Cell<u64>); 12];

thread_local! {
    static COUNTS: Counts = const {
        [
            (OpKind::R2Read, Cell::new(0)),
            (OpKind::R2Head, Cell::new(0)),
            (OpKind::R2List, Cell::new(0)),
            (OpKind::R2Write, Cell::new(0)),
            (OpKind::R2Delete, Cell::new(0)),
            (OpKind::CacheRead, Cell::new(0)),
            (OpKind::KvRead, Cell::new(0)),
            (OpKind::KvList, Cell::new(0)),
            (OpKind::KvWrite, Cell::new(0)),
            (OpKind::SpaceCall, Cell::new(0)),
            (OpKind::RowRead, Cell::new(0)),
            (OpKind::RowWritten, Cell::new(0)),
        ]
    };
}

const fn name(kind: OpKind) -> &'static str {
    match kind {
        OpKind::R2Read => "r2_read",
        OpKind::R2Head => "r2_head",
        OpKind::R2List => "r2_list",
        OpKind::R2Write => "r2_write",
        OpKind::R2Delete => "r2_delete",
        OpKind::CacheRead => "cache_read",
        OpKind::KvRead => "kv_read",
        OpKind::KvList => "kv_list",
        OpKind::KvWrite => "kv_write",
        OpKind::SpaceCall => "space_call",
        OpKind::RowRead => "row_read",
        OpKind::RowWritten => "row_written",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op_counts_are_reset_when_taken() {
        note(OpKind::R2Read);
        add(OpKind::RowWritten, 3);
        let taken = serde_json::Value::from(take()).to_string();
        assert_eq!(taken, r#"{"r2_read":1,"row_written":3}"#);
        assert!(take().is_empty());
    }
}
