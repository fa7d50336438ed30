//! Access to subscriptions, decided by the head of a request.
//!
//! The holder of the secret may send every request. The holder of a token with the scope `claim`
//! may also send claims, and every client may send the requests that [`is_open`] names.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use pmx_core::time::Timestamp;

use crate::http::{self as streams, StreamSettings};
use crate::policy::Claimable;
use crate::subscription::RESERVED;
use crate::subscription::response::SubscriptionRefusal;

/// Whether an address, without the streams' base path, is reserved and names no stream.
pub fn is_control(path: &str) -> bool {
    path.split('/').find(|segment| !segment.is_empty()) == Some(RESERVED)
}

/// Whether an address needs no credential of the server: the keys are public, and a worker reports
/// with the token of its wake.
pub fn is_open(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        [RESERVED, "jwks.json"]
        | [RESERVED, "subscriptions", _, "callback" | "ack" | "release"] => true,
        [..] => false,
    }
}

/// The response to a request that needs no subscription: a preflight, or one without a sufficient
/// credential.
pub fn early_response(
    settings: &StreamSettings,
    head: &Parts,
    path: &str,
    now: Timestamp,
) -> Option<Response<Bytes>> {
    let preflight = settings.preflight(head);
    if preflight.is_some() || is_open(path) {
        return preflight;
    }
    let refused = if is_claim(path) {
        settings.access.claim(head, now).err()
    } else {
        settings.authorise(head, now).err()
    };
    refused.map(|problem| streams::answer::problem(&problem))
}

/// The streams whose work the client may claim.
pub fn claimable(
    settings: &StreamSettings,
    head: &Parts,
    path: &str,
    now: Timestamp,
) -> Result<Claimable, SubscriptionRefusal> {
    if !is_claim(path) {
        return Ok(Claimable::All);
    }
    let claimable = settings.access.claim(head, now);
    claimable.map_err(|_| SubscriptionRefusal::Token)
}

fn is_claim(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    matches!(segments.as_slice(), [RESERVED, "subscriptions", _, "claim"])
}
