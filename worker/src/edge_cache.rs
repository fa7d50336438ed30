//! Edge cache: ranges of objects in the Cache API of this data centre, which all isolates share.
//!
//! It stores immutable data only: nodes of serving indices. If the cache fails or does not exist
//! (as on `workers.dev`), the isolate reads R2. It writes to the cache after the response, so that
//! no reader waits for a write.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use pmx_core::backend::ObjectKey;
use pmx_core::domain::Domain;
use worker::{Cache, Response, ResponseBuilder};

use crate::op_counts::{self, OpKind};

/// Ranges that wait to be written: usually nodes of at most 64 KiB.
const PENDING_MAX: usize = 64;

thread_local! {
    /// Addresses and bytes. They are no objects of a request, so any request may write them.
    static PENDING: RefCell<Vec<(String, Bytes)>> = const { RefCell::new(Vec::new()) };
}

/// Whether a range waits to be written.
pub(crate) fn is_pending() -> bool {
    PENDING.with_borrow(|pending| !pending.is_empty())
}

/// Writes the waiting ranges, if the cache accepts them.
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

/// Addresses of ranges, at a host of this Worker: the cache looks up any other host's name first.
/// No client reads them: a request to the host runs the Worker, which has no such route.
#[derive(Debug, Clone)]
pub(crate) struct EdgeCache {
    base: Rc<str>,
}

impl EdgeCache {
    /// The cache of the Worker that serves the sites of a domain.
    pub(crate) fn new(domain: &Domain) -> Self {
        let base = format!("https://api.{domain}/_objects").into();
        Self { base }
    }

    fn address(&self, key: ObjectKey, range: &Range<u64>) -> String {
        format!("{}/{key}?{}-{}", self.base, range.start, range.end)
    }

    /// The cached bytes of a range.
    pub(crate) async fn find(&self, key: ObjectKey, range: &Range<u64>) -> Option<Bytes> {
        let found = Cache::default().get(self.address(key, range), false).await;
        let bytes = found.ok()??.bytes().await.ok()?;
        op_counts::note(OpKind::CacheRead);
        let is_whole = bytes.len() as u64 == range.end.saturating_sub(range.start);
        is_whole.then(|| bytes.into())
    }

    /// Queues a range for writing after the response. The isolate reads ranges beyond the bound
    /// from R2 again.
    pub(crate) fn keep(&self, key: ObjectKey, range: &Range<u64>, bytes: &Bytes) {
        PENDING.with_borrow_mut(|pending| {
            if pending.len() < PENDING_MAX {
                pending.push((self.address(key, range), bytes.clone()));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::exposure::Exposure;
    use pmx_core::id::{ObjectId, SpaceId};
    use pmx_sync::site::{Addressed, Hosts};

    use super::*;

    #[test]
    fn addresses_are_at_the_host_of_the_api() {
        let domain = Domain::parse("path.app").unwrap();
        let key = ObjectKey {
            space: SpaceId::from_bytes([1; 16]),
            object: ObjectId::from_bytes([2; 16]),
        };
        let address = EdgeCache::new(&domain).address(key, &(3..9));
        let address: http::Uri = address.parse().unwrap();
        let host = address.host().unwrap();
        let addressed = Hosts::new(domain).resolve(host, Exposure::Public);
        assert_eq!(addressed, Addressed::Api);
        assert_eq!(address.path(), format!("/_objects/{key}"));
        assert_eq!(address.query(), Some("3-9"));
    }
}
