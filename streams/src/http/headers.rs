//! Headers of the protocol, and their parsing.

use http::{HeaderMap, HeaderName};

use super::invalid::InvalidRequest;
use crate::limits::STREAM_TOKEN_BYTES_MAX;

pub(super) const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
pub(super) const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
pub(super) const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
pub(super) const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
pub(super) const TTL: HeaderName = HeaderName::from_static("stream-ttl");
pub(super) const EXPIRES_AT: HeaderName = HeaderName::from_static("stream-expires-at");
pub(super) const SEQ: HeaderName = HeaderName::from_static("stream-seq");
pub(super) const FORKED_FROM: HeaderName = HeaderName::from_static("stream-forked-from");
pub(super) const FORK_OFFSET: HeaderName = HeaderName::from_static("stream-fork-offset");
pub(super) const FORK_SUB_OFFSET: HeaderName = HeaderName::from_static("stream-fork-sub-offset");
pub(super) const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
pub(super) const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
pub(super) const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
pub(super) const PRODUCER_EXPECTED: HeaderName = HeaderName::from_static("producer-expected-seq");
pub(super) const PRODUCER_RECEIVED: HeaderName = HeaderName::from_static("producer-received-seq");
pub(super) const SSE_ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies of the nginx family not to buffer the response.
pub(super) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
pub(super) const RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// The value of a header that may occur once.
pub(super) fn one(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<String>, InvalidRequest> {
    let refused = |why| Err(InvalidRequest::header(name, why));
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return refused("it is there twice");
    }
    if value.len() > STREAM_TOKEN_BYTES_MAX {
        return refused("it is too long");
    }
    // Ids of producers may be any text, not only ASCII.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => refused("it is no text"),
    }
}

/// The value of a boolean header: only `true` sets it.
pub(super) fn flag(headers: &HeaderMap, name: &HeaderName) -> Result<bool, InvalidRequest> {
    Ok(one(headers, name)?.is_some_and(|value| value == "true"))
}
