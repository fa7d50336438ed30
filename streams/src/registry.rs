//! Registry: the stream that lists all streams.
//!
//! It is a JSON stream that clients read like any other, and only the server appends to it. It has
//! a message of the State Protocol for each creation and each end of a stream. A client that
//! applies them in order knows which streams exist.

use bytes::Bytes;
use pmx_core::time::{Timestamp, rfc3339};
use serde::Serialize;

use super::call::{Create, Expiry, MediaType};
use super::lifecycle::{LifecycleChange, StreamMetadata};
use super::name::StreamName;

/// Name of the registry, as text.
pub const REGISTRY: &str = "__registry__";

/// Name of the registry.
///
/// # Panics
///
/// Never: the name is valid.
pub fn name() -> StreamName {
    StreamName::parse(REGISTRY).expect("the registry has a name as streams have")
}

/// Whether a stream is the registry.
pub fn is_registry(name: &StreamName) -> bool {
    name.as_str() == REGISTRY
}

/// The call that creates the registry.
pub fn create() -> Create {
    Create {
        media_type: Some(media_type()),
        expiry: None,
        expiry_text: None,
        closed: false,
        body: Bytes::new(),
        fork: None,
    }
}

/// Media type of the registry.
pub fn media_type() -> MediaType {
    MediaType::new("application/json")
}

/// The message for a change of a stream's lifecycle. The registry has none about itself.
pub fn message(name: &StreamName, what: &LifecycleChange, at: Timestamp) -> Option<String> {
    let (operation, value) = match what {
        LifecycleChange::Created(metadata) => ("insert", Some(Value::of(name, metadata, at))),
        LifecycleChange::Ended => ("delete", None),
    };
    let entry = Entry {
        kind: "stream",
        key: name.as_str(),
        value,
        headers: Headers {
            operation,
            timestamp: rfc3339(at),
        },
    };
    // Text and numbers always serialise.
    serde_json::to_string(&entry)
        .ok()
        .filter(|_| !is_registry(name))
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value<'a>>,
    headers: Headers,
}

#[derive(Serialize)]
struct Headers {
    operation: &'static str,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Value<'a> {
    path: &'a str,
    content_type: &'a str,
    /// Milliseconds since the Unix epoch.
    created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> Value<'a> {
    fn of(name: &'a StreamName, metadata: &'a StreamMetadata, at: Timestamp) -> Self {
        let (ttl_seconds, expires_at) = match metadata.expiry {
            Expiry::Never => (None, None),
            Expiry::Idle(seconds) => (Some(seconds), None),
            Expiry::At(end) => (None, Some(rfc3339(end))),
        };
        Self {
            path: name.as_str(),
            content_type: metadata.media_type.as_str(),
            created_at: at.as_millis(),
            ttl_seconds,
            expires_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).unwrap()
    }

    #[test]
    fn message_follows_the_state_protocol() {
        let at = Timestamp::from_millis(1_778_324_210_123);
        let made = |expiry| {
            let media_type = MediaType::new("text/plain; a=\"b\"");
            let metadata = StreamMetadata { media_type, expiry };
            message(&name("a/b"), &LifecycleChange::Created(metadata), at).unwrap()
        };
        let time = "2026-05-09T10:56:50.123Z";
        let inserted = |more: &str| {
            format!(
                "{{\"type\":\"stream\",\"key\":\"a/b\",\"value\":{{\"path\":\"a/b\",\
                 \"contentType\":\"text/plain; a=\\\"b\\\"\",\"createdAt\":1778324210123{more}}},\
                 \"headers\":{{\"operation\":\"insert\",\"timestamp\":\"{time}\"}}}}"
            )
        };
        let until = format!(",\"expiresAt\":\"{time}\"");
        assert_eq!(made(Expiry::Never), inserted(""));
        assert_eq!(made(Expiry::Idle(60)), inserted(",\"ttlSeconds\":60"));
        assert_eq!(made(Expiry::At(at)), inserted(&until));
        assert_eq!(
            message(&name("a/b"), &LifecycleChange::Ended, at).unwrap(),
            format!(
                "{{\"type\":\"stream\",\"key\":\"a/b\",\
                 \"headers\":{{\"operation\":\"delete\",\"timestamp\":\"{time}\"}}}}"
            )
        );
        assert_eq!(message(&name(REGISTRY), &LifecycleChange::Ended, at), None);
    }
}
