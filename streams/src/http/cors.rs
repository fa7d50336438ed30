//! CORS (the Fetch standard): the origins whose pages may read responses of streams.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::answer::{METHODS, bare, set};
use super::request::name_of;
use crate::policy::{Access, AccessMode};

/// The origins whose pages may read responses. The browser's credentials are never allowed: a page
/// sends its token itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// The operator named none. Then all origins are allowed for open and public streams, and in
    /// local mode those of the server's own sites.
    #[default]
    Unset,
    /// All origins (`*`).
    Any,
    /// These, in the form of the `Origin` header: scheme, host, and port if it is not the default.
    These(Vec<String>),
}

impl CorsOrigins {
    /// Parses a comma-separated list; `*` means all origins.
    pub fn parse(list: &str) -> Self {
        let origins = list.split(',').map(str::trim);
        let origins: Vec<&str> = origins.filter(|origin| !origin.is_empty()).collect();
        if origins.contains(&"*") {
            return Self::Any;
        }
        Self::These(origins.into_iter().map(str::to_ascii_lowercase).collect())
    }

    /// Adds the headers that let a page read the response, if its origin is allowed.
    pub(super) fn admit(&self, asked: &Parts, access: &Access, answer: &mut HeaderMap) {
        let admits = match self {
            Self::Any => true,
            Self::Unset => is_open_to_pages(asked, access),
            Self::These(_) => false,
        };
        if admits {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else if !self.admit_one(asked, access, answer) {
            return;
        }
        let exposed = HeaderValue::from_static(EXPOSED);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }

    /// Allows only the origin of the request, if it is admitted.
    fn admit_one(&self, asked: &Parts, access: &Access, answer: &mut HeaderMap) -> bool {
        // A cache must not give one origin the response for another.
        answer.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = asked.headers.get(ORIGIN) else {
            return false;
        };
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let admitted = match self {
            Self::These(known) => known.contains(&text),
            Self::Unset => access.access_mode() == AccessMode::Local && is_own(&text, asked),
            Self::Any => true,
        };
        if admitted {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        admitted
    }
}

/// Whether every client may send the request, or the one that a preflight announces.
fn is_open_to_pages(asked: &Parts, access: &Access) -> bool {
    let reads = |method: &[u8]| method == b"GET" || method == b"HEAD";
    let is_read = match asked.headers.get(ACCESS_CONTROL_REQUEST_METHOD) {
        Some(method) if asked.method == Method::OPTIONS => reads(method.as_bytes()),
        Some(_) | None => reads(asked.method.as_str().as_bytes()),
    };
    let is_public = || match name_of(&asked.uri) {
        Some(Ok(name)) => access.is_public(&name),
        Some(Err(_)) | None => false,
    };
    access.access_mode() == AccessMode::Open || is_read && is_public()
}

/// Whether an origin is one of the server's own sites in local mode: under `localhost`, with the
/// same port.
fn is_own(origin: &str, asked: &Parts) -> bool {
    let host = asked.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = |text: &str| text.parse::<Authority>().ok();
    let asked_port = host.and_then(authority).and_then(|host| host.port_u16());
    let own = origin.strip_prefix("http://").and_then(authority);
    own.is_some_and(|own| {
        let is_local = own.host() == "localhost" || own.host().ends_with(".localhost");
        is_local && own.port_u16() == asked_port
    })
}

/// The response to a preflight.
pub(super) fn preflight() -> Response<Bytes> {
    let mut answer = bare(StatusCode::NO_CONTENT);
    set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    set(&mut answer, ACCESS_CONTROL_MAX_AGE, "86400");
    answer
}

/// Request headers that a page may send.
const ALLOWED: &str = "content-type, authorization, if-none-match, last-event-id, stream-seq, \
    stream-ttl, stream-expires-at, stream-closed, producer-id, producer-epoch, producer-seq, \
    stream-forked-from, stream-fork-offset, stream-fork-sub-offset, x-debug-timing";

/// Response headers that a page may read, beside the safelisted ones.
const EXPOSED: &str = "stream-next-offset, stream-cursor, stream-up-to-date, stream-closed, \
    stream-ttl, stream-expires-at, stream-sse-data-encoding, producer-epoch, producer-seq, \
    producer-expected-seq, producer-received-seq, etag, location, retry-after, server-timing, \
    www-authenticate, ratelimit, ratelimit-policy";
