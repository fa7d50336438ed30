//! Subscriptions as their clients see them.

use pmx_core::time::Timestamp;
use serde::Serialize;

use super::base_url::BaseUrl;
use super::id::SubscriptionId;
use crate::{Offset, StreamName};

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionView {
    /// Its id.
    pub id: SubscriptionId,
    /// Its id, once more, as every other body names it.
    pub subscription_id: SubscriptionId,
    /// `webhook`, `pull-wake` or `fan-out`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Streams by the shape of their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Its streams.
    pub streams: Vec<LinkView>,
    /// Where webhooks go, and how they are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookView>,
    /// Where wakes are announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_stream: Option<String>,
    /// Where messages are copied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_stream: Option<String>,
    /// How long a lease lasts.
    pub lease_ttl_ms: u64,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// `active`, or `failed` while no one can be woken or nothing copied.
    pub status: &'static str,
    /// Whether streams match that are too many to be followed.
    #[serde(skip_serializing_if = "is_complete")]
    pub truncated: bool,
    /// What people call it.
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
    /// Its name.
    pub path: StreamName,
    /// `explicit`, or `glob` if only the pattern brought it in.
    pub link_type: &'static str,
    /// All before is done.
    #[serde(serialize_with = "as_text")]
    pub acked_offset: Offset,
}

/// Where webhooks go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookView {
    /// The address.
    pub url: String,
    /// How to check that they come from here.
    pub signing: Signing,
}

/// How webhooks are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signing {
    /// `ed25519`.
    pub alg: &'static str,
    /// The key that signs now.
    pub kid: String,
    /// Where all keys are.
    pub jwks_url: String,
}

/// A stream of a wake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamView {
    /// Its name.
    pub path: StreamName,
    /// `explicit` or `glob`.
    pub link_type: &'static str,
    /// All before is done.
    #[serde(serialize_with = "as_text")]
    pub acked_offset: Offset,
    /// Where it ends.
    #[serde(serialize_with = "as_text")]
    pub tail_offset: Offset,
    /// Whether there is something in between.
    pub has_pending: bool,
}

/// Work that was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claimed {
    /// The wake.
    pub wake_id: String,
    /// Its generation.
    pub generation: u64,
    /// What to show with every report.
    pub token: String,
    /// The streams, those with work first.
    pub streams: Vec<StreamView>,
    /// How long to be silent at most.
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

/// The message in a wake stream.
#[derive(Debug, Serialize)]
pub(super) struct Announcement<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) subscription_id: &'a SubscriptionId,
    pub(super) stream: &'a StreamName,
    pub(super) generation: u64,
    pub(super) ts: Timestamp,
}

/// The address of the public keys.
pub(super) fn keys_url(root: &BaseUrl) -> String {
    format!("{}/{}/jwks.json", root.as_str(), super::RESERVED)
}

/// The address that a webhook's worker reports to.
pub(super) fn callback_url(root: &BaseUrl, id: &SubscriptionId) -> String {
    let (root, reserved) = (root.as_str(), super::RESERVED);
    format!("{root}/{reserved}/subscriptions/{}/callback", id.segment())
}

/// Whether a JSON text is an object; serde also reads the fields of a structure out of an array.
pub(super) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Whether a webhook's answer says that all is done.
pub(super) fn says_done(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        done: serde_json::Value,
    }
    let said: Result<Said, _> = serde_json::from_slice(body);
    is_object(body) && said.is_ok_and(|said| said.done == serde_json::Value::Bool(true))
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
    fn moments() {
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
    fn what_a_webhook_says() {
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
