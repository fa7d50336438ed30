//! What the host tells its operator: one JSON object a line, on stderr.
//!
//! Nothing secret may reach it, so headers other than Host and the query of a URL never do.

use std::io::Write as _;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderMap, Response};
use serde_json::json;

/// What the host tells its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Requests and faults, as lines of JSON on stderr.
    Json,
    /// Nothing.
    Quiet,
}

impl Log {
    /// Notes a request as it comes in.
    pub(crate) fn request(self, head: &Parts) -> Option<Entry> {
        match self {
            Self::Quiet => None,
            Self::Json => Some(Entry {
                method: head.method.to_string(),
                host: cut(text_of(&head.headers, &HOST)),
                path: cut(head.uri.path()),
                started: Instant::now(),
            }),
        }
    }

    /// Tells of a failure that no client hears of.
    pub(crate) fn fault(self, doing: &str, why: &dyn std::fmt::Display) {
        if self == Self::Json {
            let why = why.to_string();
            tell(&json!({"type": "fault", "v": 1, "doing": doing, "why": why}));
        }
    }
}

/// A request under way.
pub(crate) struct Entry {
    method: String,
    host: String,
    path: String,
    started: Instant,
}

impl Entry {
    /// Tells how it was answered; bytes are those of the announced body.
    pub(crate) fn answered<B>(&self, answer: &Response<B>, body: &impl http_body::Body) {
        let announced = text_of(answer.headers(), &CONTENT_LENGTH).parse().ok();
        let bytes: Option<u64> = announced.or(body.size_hint().exact());
        let ms = self.started.elapsed().as_secs_f64() * 1e3;
        tell(&json!({
            "type": "request", "v": 1, "method": self.method, "host": self.host,
            "path": self.path, "status": answer.status().as_u16(),
            "ms": (ms * 100.0).round() / 100.0, "bytes": bytes,
        }));
    }
}

/// Characters of a host or a path that are told.
const TOLD_MAX: usize = 512;

fn cut(text: &str) -> String {
    text.chars().take(TOLD_MAX).collect()
}

fn text_of<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// One write a line, so that lines of two threads do not mix.
fn tell(line: &serde_json::Value) {
    // If nobody reads stderr, there is nobody to tell that.
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}
