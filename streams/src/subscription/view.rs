//! Subscription views: the JSON bodies that clients and workers read.

use pmx_core::time::Timestamp;
use serde::Serialize;

use super::base_url::BaseUrl;
use super::id::SubscriptionId;
use crate::{Offset, StreamName};

/// A subscription as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionView {
    /// The id that the client chose.
    pub id: SubscriptionId,
    /// The same, under the name that every other body uses.
    pub subscription_id: SubscriptionId,
    /// `webhook`, `pull-wake` or `fan-out`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Matches the names of streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The linked streams.
    pub streams: Vec<LinkView>,
    /// The webhook's URL and signing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookView>,
    /// The stream that the server announces wakes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_stream: Option<String>,
    /// The stream that the server copies messages into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_stream: Option<String>,
    /// How long a lease lasts.
    pub lease_ttl_ms: u64,
    /// Time of creation (RFC 3339).
    pub created_at: String,
    /// `active`, or `failed` while deliveries fail.
    pub status: &'static str,
    /// Whether more streams match than a subscription can follow.
    #[serde(skip_serializing_if = "is_complete")]
    pub truncated: bool,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_complete(truncated: &bool) -> bool {
    !truncated
}

/// A stream of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkView {
    /// The stream's name.
    pub path: StreamName,
    /// `explicit`, or `glob` if only the pattern matches it.
    pub link_type: &'static str,
    /// Workers have processed everything before this offset.
    #[serde(serialize_with = "as_text")]
    pub acked_offset: Offset,
}

/// A subscription's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookView {
    /// The URL that the server posts to.
    pub url: String,
    /// How a receiver verifies the signature.
    pub signing: Signing,
}

/// How webhooks are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signing {
    /// `ed25519`.
    pub alg: &'static str,
    /// Id of the current signing key.
    pub kid: String,
    /// URL of the key set.
    pub jwks_url: String,
}

/// A stream of a wake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamView {
    /// The stream's name.
    pub path: StreamName,
    /// `explicit` or `glob`.
    pub link_type: &'static str,
    /// Workers have processed everything before this offset.
    #[serde(serialize_with = "as_text")]
    pub acked_offset: Offset,
    /// The stream's tail.
    #[serde(serialize_with = "as_text")]
    pub tail_offset: Offset,
    /// Whether there are messages in between.
    pub has_pending: bool,
}

/// Claimed work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claimed {
    /// Id of the wake.
    pub wake_id: String,
    /// Generation of the wake.
    pub generation: u64,
    /// The bearer token of every report.
    pub token: String,
    /// The streams, those with pending work first.
    pub streams: Vec<StreamView>,
    /// How long the lease lasts without a report.
    pub lease_ttl_ms: u64,
}

/// The body of a webhook.
#[derive(Debug, Serialize)]
pub(super) struct Notification<'a> {
    pub(super) subscription_id: &'a SubscriptionId,
    pub(super) wake_id: String,
    pub(super) generation: u64,
    pub(super) streams: Vec<StreamView>,
    pub(super) callback_url: String,
    pub(super) callback_token: String,
}

/// A message in a wake stream.
#[derive(Debug, Serialize)]
pub(super) struct Announcement<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) subscription_id: &'a SubscriptionId,
    pub(super) stream: &'a StreamName,
    pub(super) generation: u64,
    pub(super) ts: Timestamp,
}

/// The URL of the public keys.
pub(super) fn keys_url(root: &BaseUrl) -> String {
    format!("{}/{}/jwks.json", root.as_str(), super::RESERVED)
}

/// The URL that a webhook's worker reports to.
pub(super) fn callback_url(root: &BaseUrl, id: &SubscriptionId) -> String {
    let (root, reserved) = (root.as_str(), super::RESERVED);
    format!("{root}/{reserved}/subscriptions/{}/callback", id.segment())
}

/// Whether a JSON text is an object: serde would also read a structure from an array.
pub(super) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Whether a worker's response to a webhook says that all work is done.
pub(super) fn says_done(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct WorkerResponse {
        #[serde(default)]
        done: serde_json::Value,
    }
    let response: Result<WorkerResponse, _> = serde_json::from_slice(body);
    is_object(body) && response.is_ok_and(|it| it.done == serde_json::Value::Bool(true))
}

pub(crate) use pmx_core::time::rfc3339;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_text<S: serde::Serializer>(offset: &Offset, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_renders_milliseconds() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_778_324_210_123, "2026-05-09T10:56:50.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), text);
        }
    }

    #[test]
    fn says_done_is_true_for_an_object_with_done_true() {
        for (body, done) in [
            (r#"{"done":true}"#, true),
            (r#" { "x": [], "done" : true } "#, true),
            (r#"{"done":false}"#, false),
            (r#"{"done":"true"}"#, false),
            (r#"{"done":null}"#, false),
            ("{}", false),
            ("[true]", false),
            ("ok", false),
            ("", false),
        ] {
            assert_eq!(says_done(body.as_bytes()), done, "{body}");
        }
    }
}
