//! Event request: a request that waits for a site's events, and its delivery mode.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_streams::http::{Get, LiveMode, StreamRequest, answer};

/// A request for events that the log does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRequest {
    /// The site, or the preview, whose events are read.
    pub channel: Channel,
    /// How the events are delivered.
    pub mode: DeliveryMode,
    /// Access level of the reader.
    pub access: EventReader,
}

/// Access level of a reader of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventReader {
    /// A client without the secret: receives events for paths that it names, and lists of paths
    /// from sites that opted in.
    Visitor,
    /// A client with the publish secret.
    Holder,
}

/// Delivery mode of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Over a WebSocket.
    Socket(Dialect),
    /// Long-poll: one response.
    Poll(EventQuery),
    /// Server-sent events: a response that stays open.
    Events(EventQuery),
}

/// Dialect of a WebSocket's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The client named [`SUBPROTOCOL`]: it receives nothing before it subscribes.
    Pmx,
    /// The client named no known subprotocol: it receives raw events until it subscribes.
    Raw,
}

/// The subprotocol (RFC 6455, section 1.9) of the live script and of other clients of this server.
pub const SUBPROTOCOL: &str = "pmx.v1";

/// The read of the log that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// The read, with the mode of its response.
    pub get: Get,
    /// Whether the reader wants all missed messages as one net message.
    pub compact: bool,
}

/// Parses a request for the events of `channel`; `None` if the request does not wait.
pub(crate) fn parse(
    head: &Parts,
    channel: &Channel,
    reader: EventReader,
) -> Option<Result<EventRequest, Response<Bytes>>> {
    let found = |listening| {
        let channel = channel.clone();
        Some(Ok(EventRequest {
            channel,
            mode: listening,
            access: reader,
        }))
    };
    if head.method != Method::GET {
        return None;
    }
    if is_upgrade(head) {
        if is_own_origin(head) {
            return found(DeliveryMode::Socket(dialect(head)));
        }
        let detail = "only the site's own pages may open a socket to it";
        return Some(Err(refused(&Problem::new(Code::Origin, detail))));
    }
    let Ok(StreamRequest::Get(get)) = StreamRequest::parse(head) else {
        return None;
    };
    let compact = is_compact(head);
    match get.live {
        LiveMode::CatchUp => None,
        LiveMode::LongPoll => found(DeliveryMode::Poll(EventQuery { get, compact })),
        LiveMode::Sse => found(DeliveryMode::Events(EventQuery { get, compact })),
    }
}

/// Whether a reader wants one net message instead of all missed ones.
pub(crate) fn is_compact(head: &Parts) -> bool {
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| pair == "compact=1")
}

/// Adds the headers of all event responses. Pages of other sites may not read them.
pub fn add_event_headers<B>(mut answer: Response<B>) -> Response<B> {
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    let caching = headers.entry(CACHE_CONTROL);
    caching.or_insert(HeaderValue::from_static("no-store"));
    answer
}

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A response with a problem.
pub fn refused(problem: &Problem) -> Response<Bytes> {
    add_event_headers(answer::problem(problem))
}

fn dialect(head: &Parts) -> Dialect {
    if has_token(head, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        Dialect::Pmx
    } else {
        Dialect::Raw
    }
}

fn has_token(head: &Parts, name: HeaderName, token: &str) -> bool {
    let values = head.headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut tokens = texts.flat_map(|text| text.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

fn is_upgrade(head: &Parts) -> bool {
    let names = |name, token| has_token(head, name, token);
    // Cloudflare's edge removes the `Connection` header.
    let connection = !head.headers.contains_key(CONNECTION) || names(CONNECTION, "upgrade");
    names(UPGRADE, "websocket") && connection
}

/// Whether a socket comes from a page of the same host, from a page of this machine, or from a
/// client that is no browser. Browsers send no cookies that count here, but one site's events are
/// not for another site's pages.
fn is_own_origin(head: &Parts) -> bool {
    let mut origins = head.headers.get_all(ORIGIN).iter();
    let (origin, other) = (origins.next(), origins.next());
    let Some(origin) = origin else {
        return true;
    };
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or(head.uri.authority().map(http::uri::Authority::as_str));
    let (Ok(origin), Some(host), None) = (origin.to_str(), host, other) else {
        return false;
    };
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let name = authority
        .rsplit_once(':')
        .map_or(authority, |(name, _)| name);
    let is_here = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    is_web && (authority.eq_ignore_ascii_case(host) || is_here)
}

#[cfg(test)]
mod tests {
    use pmx_core::name::SpaceName;

    use super::*;

    fn outcome(headers: &[(&str, &str)], address: &str) -> String {
        let mut request = http::Request::get(address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let channel = SpaceName::parse("docs").unwrap().into();
        match parse(&head, &channel, EventReader::Visitor) {
            None => "none".into(),
            Some(Err(answer)) => answer.status().as_u16().to_string(),
            Some(Ok(listener)) => match listener.mode {
                DeliveryMode::Socket(Dialect::Raw) => "socket".into(),
                DeliveryMode::Socket(Dialect::Pmx) => "pmx socket".into(),
                DeliveryMode::Poll(query) => format!("poll {}", query.compact),
                DeliveryMode::Events(query) => format!("events {}", query.compact),
            },
        }
    }

    #[test]
    fn event_request_distinguishes_readers() {
        for (query, expected) in [
            ("", "none"),
            ("?offset=now", "none"),
            ("?offset=now&live=long-poll", "poll false"),
            ("?offset=0_3&live=long-poll&compact=1", "poll true"),
            ("?offset=-1&live=sse&compact=0", "events false"),
            ("?live=sse", "none"),
            ("?offset=-1&live=soon", "none"),
        ] {
            assert_eq!(outcome(&[], &format!("/_events{query}")), expected);
        }
    }

    #[test]
    fn sockets_are_for_the_sites_own_pages() {
        let host = ("host", "docs.path.app");
        let upgrade = [host, ("upgrade", "WebSocket"), ("connection", "x, Upgrade")];
        for (origin, expected) in [
            (None, "socket"),
            (Some("https://docs.path.app"), "socket"),
            (Some("http://DOCS.path.app"), "socket"),
            (Some("http://localhost:5173"), "socket"),
            (Some("http://127.0.0.1"), "socket"),
            (Some("https://other.path.app"), "403"),
            (Some("https://docs.path.app:444"), "403"),
            (Some("https://docs.path.app.evil.example"), "403"),
            (Some("https://localhost.evil.example"), "403"),
            (Some("file://docs.path.app"), "403"),
            (Some("null"), "403"),
        ] {
            let mut headers = upgrade.to_vec();
            headers.extend(origin.map(|origin| ("origin", origin)));
            assert_eq!(outcome(&headers, "/_events"), expected, "{origin:?}");
        }
        for (protocols, expected) in [
            ("pmx.v1", "pmx socket"),
            ("other, pmx.v1", "pmx socket"),
            ("pmx.v2", "socket"),
        ] {
            let mut headers = upgrade.to_vec();
            headers.push(("sec-websocket-protocol", protocols));
            assert_eq!(outcome(&headers, "/_events"), expected, "{protocols}");
        }
        let halves = [host, ("upgrade", "websocket"), ("connection", "close")];
        assert_eq!(outcome(&halves, "/_events"), "none");
        let other = [host, ("upgrade", "h2c"), ("connection", "upgrade")];
        assert_eq!(outcome(&other, "/_events"), "none");
    }
}
