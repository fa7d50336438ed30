//! Registry: the stream that lists all streams.
//!
//! It is a JSON stream like any other, which anybody who may read may read. One message stands in
//! it for each stream that was made, and one for each that ended, in the shape of the State
//! Protocol: a client that applies them in their order knows what exists. No one writes to it but
//! the server.

use bytes::Bytes;
use pmx_core::time::{Timestamp, rfc3339};
use serde::Serialize;

use super::call::{Create, Expiry, MediaType};
use super::lifecycle::{LifecycleChange, StreamMetadata};
use super::name::StreamName;

/// Its name, as text.
pub const REGISTRY: &str = "__registry__";

/// Its name.
///
/// # Panics
///
/// Never: it is one.
pub fn name() -> StreamName {
    StreamName::parse(REGISTRY).expect("the registry has a name as streams have")
}

/// Whether a stream is the registry.
pub fn is_registry(name: &StreamName) -> bool {
    name.as_str() == REGISTRY
}

/// What makes it.
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

/// Its media type.
pub fn media_type() -> MediaType {
    MediaType::new("application/json")
}

/// What stands in it for something that happened to a stream. The registry does not speak of
/// itself.
pub fn message(name: &StreamName, what: &LifecycleChange, at: Timestamp) -> Option<String> {
    let (operation, value) = match what {
        LifecycleChange::Created(facts) => ("insert", Some(Value::of(name, facts, at))),
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
    // Text and numbers always have a form in JSON.
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
    /// Milliseconds.
    created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> Value<'a> {
    fn of(name: &'a StreamName, facts: &'a StreamMetadata, at: Timestamp) -> Self {
        let (ttl_seconds, expires_at) = match facts.expiry {
            Expiry::Never => (None, None),
            Expiry::Idle(seconds) => (Some(seconds), None),
            Expiry::At(end) => (None, Some(rfc3339(end))),
        };
        Self {
            path: name.as_str(),
            content_type: facts.media_type.as_str(),
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
    fn messages_of_the_state_protocol() {
        let at = Timestamp::from_millis(1_778_324_210_123);
        let made = |expiry| {
            let media_type = MediaType::new("text/plain; a=\"b\"");
            let facts = StreamMetadata { media_type, expiry };
            message(&name("a/b"), &LifecycleChange::Created(facts), at).unwrap()
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
