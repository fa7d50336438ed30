//! Which pages of other origins may talk to streams (the Fetch standard, "CORS protocol").

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer::{METHODS, bare, set};

/// The origins whose pages may read answers. Credentials of the browser are never part of it:
/// whoever has a token sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// All.
    #[default]
    Any,
    /// These, as a browser spells them: scheme, host, and port if it is not the scheme's own.
    These(Vec<String>),
}

impl Origins {
    /// Reads a list with commas; `*` is all of them.
    pub fn parse(list: &str) -> Self {
        let origins = list.split(',').map(str::trim);
        let origins: Vec<&str> = origins.filter(|origin| !origin.is_empty()).collect();
        if origins.contains(&"*") {
            return Self::Any;
        }
        Self::These(origins.into_iter().map(str::to_ascii_lowercase).collect())
    }

    /// Lets an answer be read where it may be.
    pub(super) fn admit(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        match self {
            Self::Any => {
                answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::These(known) => {
                // A cache must not give one origin the answer to another.
                answer.append(VARY, HeaderValue::from_static("origin"));
                let Some(origin) = asked.get(ORIGIN) else {
                    return;
                };
                let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
                if !known.contains(&text) {
                    return;
                }
                answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
        }
        let exposed = HeaderValue::from_static(EXPOSED);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The answer to a browser that asks whether it may ask.
pub(super) fn preflight() -> Response<Bytes> {
    let mut answer = bare(StatusCode::NO_CONTENT);
    set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    set(&mut answer, ACCESS_CONTROL_MAX_AGE, "86400");
    answer
}

/// What a page may send.
const ALLOWED: &str = "content-type, authorization, if-none-match, last-event-id, stream-seq, \
    stream-ttl, stream-expires-at, stream-closed, producer-id, producer-epoch, producer-seq, \
    stream-forked-from, stream-fork-offset, stream-fork-sub-offset, x-debug-timing";

/// What a page may read, beside what it may always.
const EXPOSED: &str = "stream-next-offset, stream-cursor, stream-up-to-date, stream-closed, \
    stream-ttl, stream-expires-at, stream-sse-data-encoding, producer-epoch, producer-seq, \
    producer-expected-seq, producer-received-seq, etag, location, retry-after, server-timing, \
    www-authenticate, ratelimit, ratelimit-policy";
