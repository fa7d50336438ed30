//! Edge cache: ranges of objects in the Cache API of this data centre, which all isolates share.
//!
//! It stores immutable data only: nodes of serving indices. A cache that fails or does not exist
//! (as on `workers.dev`) costs a read of R2. Writes wait until after
//! the answer, so that no reader pays for them.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use pmx_core::backend::ObjectKey;
use pmx_core::domain::Domain;
use worker::{Cache, Response, ResponseBuilder};

use crate::op_counts::{self, Kind};

/// Ranges that wait to be written: nodes of 64 KiB at most, as a rule.
const PENDING_MAX: usize = 64;

thread_local! {
    /// Addresses and bytes: no object of a request, so that any request may write them.
    static PENDING: RefCell<Vec<(String, Bytes)>> = const { RefCell::new(Vec::new()) };
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

/// Addresses of ranges, at a host of this Worker: the cache looks up any other host's name first.
/// No client reads there, since requests to the host run the Worker, which has no such route.
#[derive(Debug, Clone)]
pub(crate) struct EdgeCache {
    base: Rc<str>,
}

impl EdgeCache {
    /// In the cache of the Worker whose sites are under a domain.
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
        op_counts::note(Kind::CacheRead);
        let is_whole = bytes.len() as u64 == range.end.saturating_sub(range.start);
        is_whole.then(|| bytes.into())
    }

    /// Keeps a range after the answer. Those beyond the bound are read from R2 again.
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
