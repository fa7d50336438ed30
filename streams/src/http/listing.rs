//! Stream listing for operators: `GET` of the streams' base path.

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
use super::settings::StreamSettings;
use crate::limits::{STREAM_LISTED_MAX, STREAM_NAME_BYTES_MAX};
use crate::{StreamName, StreamProperties};

/// A request for a page of streams, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Prefix of the names.
    pub prefix: String,
    /// The name after which the page begins.
    pub after: String,
    /// Most streams of the page.
    pub limit: usize,
}

/// Default length of a page.
const DEFAULT_LIMIT: usize = 100;

impl ListRequest {
    /// Whether a request is a listing.
    pub fn is_requested(head: &Parts) -> bool {
        head.uri.path() == STREAMS_PATH
    }

    /// Admits and parses a listing, or returns the response to another client or to a bad request.
    #[allow(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal; it is small on 32 bits"
    )]
    pub fn admitted(
        settings: &StreamSettings,
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

    /// Parses the query: `prefix`, `after` (`next` of the previous page), `limit`.
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
            None => DEFAULT_LIMIT,
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

/// A stream of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedStream {
    name: StreamName,
    content_type: String,
    next_offset: String,
    closed: bool,
}

impl ListedStream {
    /// The entry of a stream.
    pub fn new(name: StreamName, view: &StreamProperties) -> Self {
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
    streams: &'a [ListedStream],
    next: Option<&'a StreamName>,
}

/// The response with a page, and the name after which the next page begins, if there is one.
pub fn listed(streams: &[ListedStream], next: Option<&StreamName>) -> Response<Bytes> {
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

    fn parsed(method: &str, address: &str) -> Option<Result<ListRequest, String>> {
        let request = http::Request::builder().method(method).uri(address);
        let (head, ()) = request.body(()).unwrap().into_parts();
        ListRequest::is_requested(&head)
            .then(|| ListRequest::parse(&head).map_err(|error| error.to_string()))
    }

    #[test]
    fn parse_reads_prefix_after_and_limit() {
        let listing = |prefix: &str, after: &str, limit| {
            let (prefix, after) = (prefix.to_owned(), after.to_owned());
            Some(Ok(ListRequest {
                prefix,
                after,
                limit,
            }))
        };
        assert_eq!(parsed("GET", "/v1/stream/"), listing("", "", 100));
        let address = "/v1/stream/?prefix=a%2Fb&after=a%2Fb%2Fc&limit=7";
        assert_eq!(parsed("GET", address), listing("a/b", "a/b/c", 7));
        assert_eq!(parsed("GET", "/v1/stream/a"), None);
        let long = format!("?prefix={}", "x".repeat(1_025));
        for query in [
            "?limit=0",
            "?limit=1001",
            "?limit=x",
            "?after=a&after=b",
            &long,
        ] {
            let parsed = parsed("GET", &format!("/v1/stream/{query}"));
            assert!(matches!(parsed, Some(Err(_))), "{query}");
        }
        assert!(matches!(parsed("PUT", "/v1/stream/"), Some(Err(_))));
    }

    #[test]
    fn listed_renders_a_page_in_json() {
        let view = StreamProperties {
            media_type: MediaType::new("text/plain"),
            next: Offset::at(5),
            closed: true,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: "9a".repeat(16),
        };
        let name = StreamName::parse("a/b").unwrap();
        let answer = listed(&[ListedStream::new(name.clone(), &view)], Some(&name));
        let expected = concat!(
            r#"{"streams":[{"name":"a/b","content_type":"text/plain","#,
            r#""next_offset":"0000000000000000_0000000000000005","closed":true}],"next":"a/b"}"#
        );
        assert_eq!(answer.body(), expected);
        assert_eq!(listed(&[], None).body(), r#"{"streams":[],"next":null}"#);
    }
}
