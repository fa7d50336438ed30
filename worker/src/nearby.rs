//! Ranges of objects in the cache of this data centre, which its isolates share and restarts leave.
//!
//! Only what never changes lies in it: nodes of serving indices. It is an aid and no more: a cache
//! that fails, or that is none (as on `workers.dev`), costs a read of R2. Writes wait until after
//! the answer, so that no reader pays for them.

use std::cell::RefCell;
use std::ops::Range;

use bytes::Bytes;
use pmx_sync::serve::ObjectKey;
use worker::{Cache, Response, ResponseBuilder};

use crate::tally::{self, Kind};

/// What was kept of a range.
pub(crate) async fn find(key: ObjectKey, range: &Range<u64>) -> Option<Bytes> {
    let found = Cache::default().get(address(key, range), false).await;
    let bytes = found.ok()??.bytes().await.ok()?;
    tally::note(Kind::CacheRead);
    let is_whole = bytes.len() as u64 == range.end.saturating_sub(range.start);
    is_whole.then(|| bytes.into())
}

/// Ranges that wait to be written: nodes of 64 KiB at most, as a rule.
const PENDING_MAX: usize = 64;

thread_local! {
    /// Addresses and bytes: no object of a request, so that any request may write them.
    static PENDING: RefCell<Vec<(String, Bytes)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a range after the answer. Those beyond the bound are read from R2 again.
pub(crate) fn keep(key: ObjectKey, range: &Range<u64>, bytes: &Bytes) {
    PENDING.with_borrow_mut(|pending| {
        if pending.len() < PENDING_MAX {
            pending.push((address(key, range), bytes.clone()));
        }
    });
}

/// Whether a range waits to be written.
pub(crate) fn is_pending() -> bool {
    PENDING.with_borrow(|pending| !pending.is_empty())
}

/// Writes what waits, if the cache takes it.
pub(crate) async fn flush() {
    for (address, bytes) in PENDING.take() {
        if let Ok(response) = response(&bytes) {
            // The reader has the bytes already.
            let _kept = Cache::default().put(address, response).await;
        }
    }
}

fn response(bytes: &Bytes) -> worker::Result<Response> {
    ResponseBuilder::new()
        .with_header("cache-control", "public, max-age=31536000, immutable")?
        .from_bytes(bytes.to_vec())
}

/// An address that nobody can ask for from outside.
fn address(key: ObjectKey, range: &Range<u64>) -> String {
    format!(
        "https://objects.invalid/{key}?{}-{}",
        range.start, range.end
    )
}
