//! `GET` of the root of the streams: their names, for operators.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Response, StatusCode};
use pmx_core::time::Timestamp;
use serde::Serialize;

use super::STREAMS_PATH;
use super::answer::{self, bare, set};
use super::invalid::InvalidRequest;
use super::request::Query;
use super::settings::Settings;
use crate::limits::{STREAM_LISTED_MAX, STREAM_NAME_BYTES_MAX};
use crate::{StreamName, View};

/// Which streams are to be listed, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Those whose names begin so.
    pub prefix: String,
    /// Those behind this name.
    pub after: String,
    /// So many at most.
    pub limit: usize,
}

/// Streams in an answer unless it is said otherwise.
const LISTED: usize = 100;

impl Listing {
    /// Whether a request is about the root.
    pub fn is_asked(head: &Parts) -> bool {
        head.uri.path() == STREAMS_PATH
    }

    /// What an operator asks for; or the answer that they, or any other client, get without.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    pub fn admitted(
        settings: &Settings,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Self, Response<Bytes>> {
        if let Some(preflight) = settings.preflight(head) {
            return Err(preflight);
        }
        let allowed = settings.authorise(head, now);
        allowed.map_err(|problem| answer::problem(&problem))?;
        Self::parse(head).map_err(|error| answer::invalid(&error))
    }

    /// Reads a request: `prefix`, `after` (the `next` of the answer before), `limit`.
    fn parse(head: &Parts) -> Result<Self, InvalidRequest> {
        if head.method != http::Method::GET {
            return Err(InvalidRequest::Method(head.method.clone()));
        }
        let query = Query::of(&head.uri)?;
        let text = |name| {
            let text = query.one(name)?.unwrap_or_default();
            if text.len() > STREAM_NAME_BYTES_MAX {
                return Err(Query::refused(name, "it is longer than a name"));
            }
            Ok(text)
        };
        let limit = match query.one("limit")? {
            None => LISTED,
            Some(text) => {
                let limit = text.parse().ok();
                let limit = limit.filter(|limit| (1..=STREAM_LISTED_MAX).contains(limit));
                let why = "it is no number from 1 to 1000";
                limit.ok_or_else(|| Query::refused("limit", why))?
            }
        };
        Ok(Self {
            prefix: text("prefix")?,
            after: text("after")?,
            limit,
        })
    }
}

/// A stream of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    name: StreamName,
    content_type: String,
    next_offset: String,
    closed: bool,
}

impl Listed {
    /// What is notified of a stream.
    pub fn new(name: StreamName, view: &View) -> Self {
        Self {
            name,
            content_type: view.media_type.as_str().to_owned(),
            next_offset: view.next.to_string(),
            closed: view.closed,
        }
    }
}

#[derive(Serialize)]
struct List<'a> {
    streams: &'a [Listed],
    next: Option<&'a StreamName>,
}

/// The list, and the name behind which it goes on, if it does.
pub fn listed(streams: &[Listed], next: Option<&StreamName>) -> Response<Bytes> {
    let mut answer = bare(StatusCode::OK);
    set(&mut answer, CONTENT_TYPE, "application/json");
    let list = List { streams, next };
    *answer.body_mut() = serde_json::to_vec(&list).unwrap_or_default().into();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expiry, MediaType, Offset};

    fn asked(method: &str, address: &str) -> Option<Result<Listing, String>> {
        let request = http::Request::builder().method(method).uri(address);
        let (head, ()) = request.body(()).unwrap().into_parts();
        Listing::is_asked(&head).then(|| Listing::parse(&head).map_err(|error| error.to_string()))
    }

    #[test]
    fn requests() {
        let listing = |prefix: &str, after: &str, limit| {
            let (prefix, after) = (prefix.to_owned(), after.to_owned());
            Some(Ok(Listing {
                prefix,
                after,
                limit,
            }))
        };
        assert_eq!(asked("GET", "/v1/stream/"), listing("", "", 100));
        let address = "/v1/stream/?prefix=a%2Fb&after=a%2Fb%2Fc&limit=7";
        assert_eq!(asked("GET", address), listing("a/b", "a/b/c", 7));
        assert_eq!(asked("GET", "/v1/stream/a"), None);
        let long = format!("?prefix={}", "x".repeat(1_025));
        for query in [
            "?limit=0",
            "?limit=1001",
            "?limit=x",
            "?after=a&after=b",
            &long,
        ] {
            let asked = asked("GET", &format!("/v1/stream/{query}"));
            assert!(matches!(asked, Some(Err(_))), "{query}");
        }
        assert!(matches!(asked("PUT", "/v1/stream/"), Some(Err(_))));
    }

    #[test]
    fn answers() {
        let view = View {
            media_type: MediaType::new("text/plain"),
            next: Offset::at(5),
            closed: true,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: "9a".repeat(16),
        };
        let name = StreamName::parse("a/b").unwrap();
        let answer = listed(&[Listed::new(name.clone(), &view)], Some(&name));
        let expected = concat!(
            r#"{"streams":[{"name":"a/b","content_type":"text/plain","#,
            r#""next_offset":"0000000000000000_0000000000000005","closed":true}],"next":"a/b"}"#
        );
        assert_eq!(answer.body(), expected);
        assert_eq!(listed(&[], None).body(), r#"{"streams":[],"next":null}"#);
    }
}
