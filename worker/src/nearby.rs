//! Ranges of objects in the cache of this data centre, which its isolates share and restarts leave.
//!
//! Only what never changes lies in it: nodes of serving indices. It is an aid and no more: a cache
//! that fails, or that is none (as on `workers.dev`), costs a read of R2.

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

/// Keeps a range, if the cache likes.
pub(crate) async fn keep(key: ObjectKey, range: &Range<u64>, bytes: &Bytes) {
    if let Ok(response) = response(bytes) {
        // Whatever the cache says, the reader has the bytes.
        let _kept = Cache::default().put(address(key, range), response).await;
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
