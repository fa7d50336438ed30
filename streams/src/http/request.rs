//! Stream request parsing: turns the head of a request into a typed request.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;
use pmx_core::limits::{EXACT_INTEGER_MAX, URL_QUERY_BYTES_MAX};
use pmx_core::time::parse_rfc3339;

use super::cursor::LiveCursor;
use super::etag::IfNoneMatch;
use super::invalid::InvalidRequest;
use super::{STREAMS_PATH, headers};
use crate::limits::STREAM_APPEND_BYTES_MAX;
use crate::{Append, Create, Expiry, Fork, From, MediaType, Offset, Producer, Read, StreamName};

/// A request to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRequest {
    /// `PUT`
    Create(Create),
    /// `POST`
    Append(Append),
    /// `DELETE`
    Delete,
    /// `HEAD`
    Head,
    /// `GET`
    Get(Get),
}

/// A read, with the mode of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// The position to read from.
    pub read: Read,
    /// Whether the reader waits for more messages.
    pub live: LiveMode,
    /// The cursor of the previous response.
    pub cursor: Option<LiveCursor>,
    /// The representations that the reader has.
    pub known: IfNoneMatch,
}

/// Whether a reader waits for future messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveMode {
    /// It does not wait.
    CatchUp,
    /// It waits for one response.
    LongPoll,
    /// It gets events until it disconnects.
    Sse,
}

/// The stream's name in an address; `None` if the address is not below the base path.
pub fn name_of(uri: &Uri) -> Option<Result<StreamName, InvalidRequest>> {
    let name = uri.path().strip_prefix(STREAMS_PATH)?;
    Some(StreamName::parse(name).map_err(Into::into))
}

/// Whether a name is reserved for the protocol's own addresses: `__ds` and all below it.
pub fn is_reserved(name: &StreamName) -> bool {
    name.as_str().split('/').next() == Some("__ds")
}

/// The headers that the parser reads for a method, for platforms where each read costs.
pub fn headers_of(method: &Method) -> &'static [&'static str] {
    match *method {
        Method::PUT => &[
            "content-type",
            "stream-ttl",
            "stream-expires-at",
            "stream-closed",
            "stream-forked-from",
            "stream-fork-offset",
            "stream-fork-sub-offset",
        ],
        Method::POST => &[
            "content-type",
            "stream-closed",
            "stream-seq",
            "producer-id",
            "producer-epoch",
            "producer-seq",
        ],
        Method::GET => &["if-none-match", "last-event-id"],
        _ => &[],
    }
}

impl StreamRequest {
    /// Parses a request's head; [`with_body`](Self::with_body) adds the body.
    pub fn parse(head: &Parts) -> Result<Self, InvalidRequest> {
        match head.method {
            Method::PUT => create(&head.headers).map(Self::Create),
            Method::POST => append(&head.headers).map(Self::Append),
            Method::DELETE => Ok(Self::Delete),
            Method::HEAD => Ok(Self::Head),
            Method::GET => get(head).map(Self::Get),
            _ => Err(InvalidRequest::Method(head.method.clone())),
        }
    }

    /// Whether the request can create a stream. Every other request needs an existing one.
    pub const fn makes_stream(&self) -> bool {
        match self {
            Self::Create(_) => true,
            Self::Append(_) | Self::Delete | Self::Head | Self::Get(_) => false,
        }
    }

    /// Largest body in bytes.
    pub const fn body_bytes_max(&self) -> usize {
        match self {
            Self::Create(_) | Self::Append(_) => STREAM_APPEND_BYTES_MAX,
            Self::Delete | Self::Head | Self::Get(_) => 0,
        }
    }

    /// Adds the body.
    #[must_use]
    pub fn with_body(mut self, bytes: Bytes) -> Self {
        match &mut self {
            Self::Create(create) => create.body = bytes,
            Self::Append(append) => append.body = bytes,
            Self::Delete | Self::Head | Self::Get(_) => {}
        }
        self
    }
}

fn create(headers: &HeaderMap) -> Result<Create, InvalidRequest> {
    let (expiry, expiry_text) = expiry(headers)?;
    let fork = fork(headers)?;
    // An invalid media type counts as none.
    let media_type = media_type(headers)?.filter(|text| is_media_type(text.as_str()));
    Ok(Create {
        media_type,
        expiry,
        expiry_text,
        closed: headers::flag(headers, &headers::CLOSED)?,
        body: Bytes::new(),
        fork,
    })
}

fn append(headers: &HeaderMap) -> Result<Append, InvalidRequest> {
    Ok(Append {
        media_type: media_type(headers)?,
        body: Bytes::new(),
        seq: headers::one(headers, &headers::SEQ)?,
        producer: producer(headers)?,
        close: headers::flag(headers, &headers::CLOSED)?,
    })
}

fn get(head: &Parts) -> Result<Get, InvalidRequest> {
    let query = Query::of(&head.uri)?;
    let live = match query.one("live")?.as_deref() {
        None => LiveMode::CatchUp,
        Some("long-poll") => LiveMode::LongPoll,
        Some("sse") => LiveMode::Sse,
        Some(_) => return Err(Query::refused("live", "it is neither long-poll nor sse")),
    };
    let from = match (query.one("offset")?, live) {
        (Some(text), _) => position(&text)?,
        (None, LiveMode::CatchUp) => From::Start,
        (None, LiveMode::LongPoll | LiveMode::Sse) => {
            return Err(Query::refused("offset", "a live reader has to say one"));
        }
    };
    // A browser that reconnects sends the same address, with its offset in this header.
    let seen = match live {
        LiveMode::Sse => headers::one(&head.headers, &headers::LAST_EVENT_ID)?,
        LiveMode::CatchUp | LiveMode::LongPoll => None,
    };
    let seen = seen.and_then(|text| Offset::parse(&text).ok());
    Ok(Get {
        read: Read {
            from: seen.map_or(from, From::At),
        },
        live,
        cursor: query.one("cursor")?.as_deref().and_then(LiveCursor::parse),
        known: IfNoneMatch::of(&head.headers),
    })
}

fn position(text: &str) -> Result<From, InvalidRequest> {
    match text {
        "-1" => Ok(From::Start),
        "now" => Ok(From::Now),
        text => match Offset::parse(text) {
            Ok(offset) => Ok(From::At(offset)),
            Err(_) => Err(Query::refused("offset", "it is none of this server's")),
        },
    }
}

fn media_type(headers: &HeaderMap) -> Result<Option<MediaType>, InvalidRequest> {
    let text = headers::one(headers, &CONTENT_TYPE)?;
    let text = text.filter(|text| !text.trim().is_empty());
    Ok(text.map(MediaType::new))
}

/// Whether a text has a type and a subtype.
fn is_media_type(text: &str) -> bool {
    let starts = |part: &str| {
        let first = part.bytes().next();
        first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let essence = text.split(';').next().unwrap_or_default();
    match essence.split_once('/') {
        Some((kind, subtype)) => starts(kind) && starts(subtype) && text.is_ascii(),
        None => false,
    }
}

/// The expiry, and the text of the header that set it.
fn expiry(headers: &HeaderMap) -> Result<(Option<Expiry>, Option<String>), InvalidRequest> {
    let ttl = headers::one(headers, &headers::TTL)?;
    let expires_at = headers::one(headers, &headers::EXPIRES_AT)?;
    match (ttl, expires_at) {
        (Some(_), Some(_)) => {
            let why = "a stream has this or Stream-Expires-At, not both";
            Err(InvalidRequest::header(&headers::TTL, why))
        }
        (Some(text), None) => {
            let seconds = number(&headers::TTL, &text)?;
            Ok((Some(Expiry::Idle(seconds)), Some(text)))
        }
        (None, Some(text)) => {
            let why = "it is no date and time of RFC 3339";
            let end = parse_rfc3339(&text)
                .ok_or_else(|| InvalidRequest::header(&headers::EXPIRES_AT, why))?;
            Ok((Some(Expiry::At(end)), Some(text)))
        }
        (None, None) => Ok((None, None)),
    }
}

fn fork(headers: &HeaderMap) -> Result<Option<Fork>, InvalidRequest> {
    let source = headers::one(headers, &headers::FORKED_FROM)?;
    let at = headers::one(headers, &headers::FORK_OFFSET)?;
    let beyond = headers::one(headers, &headers::FORK_SUB_OFFSET)?;
    let Some(source) = source else {
        let alone = if beyond.is_some() {
            &headers::FORK_SUB_OFFSET
        } else {
            &headers::FORK_OFFSET
        };
        return match at.or(beyond) {
            None => Ok(None),
            Some(_) => Err(InvalidRequest::header(
                alone,
                "it says where to fork, but Stream-Forked-From does not say from what",
            )),
        };
    };
    let at = at.map(|text| {
        let why = "it is no offset of this server's";
        Offset::parse(&text).map_err(|_| InvalidRequest::header(&headers::FORK_OFFSET, why))
    });
    let beyond = beyond.map(|text| number(&headers::FORK_SUB_OFFSET, &text));
    Ok(Some(Fork {
        source: source_name(&source)?,
        at: at.transpose()?,
        beyond: beyond.transpose()?.unwrap_or(0),
    }))
}

/// The source of a fork, if the request names a valid one.
pub(crate) fn forked_from(headers: &HeaderMap) -> Option<StreamName> {
    let source = headers::one(headers, &headers::FORKED_FROM).ok()??;
    source_name(&source).ok()
}

/// Parses the path of a source.
fn source_name(text: &str) -> Result<StreamName, InvalidRequest> {
    let name = text.strip_prefix(STREAMS_PATH);
    name.and_then(|name| StreamName::parse(name).ok())
        .ok_or_else(|| {
            let why = "it is not the path of a stream";
            InvalidRequest::header(&headers::FORKED_FROM, why)
        })
}

fn producer(headers: &HeaderMap) -> Result<Option<Producer>, InvalidRequest> {
    let id = headers::one(headers, &headers::PRODUCER_ID)?;
    let epoch = headers::one(headers, &headers::PRODUCER_EPOCH)?;
    let seq = headers::one(headers, &headers::PRODUCER_SEQ)?;
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
        (_, _, _) => {
            let why = "Producer-Id, Producer-Epoch and Producer-Seq belong together";
            return Err(InvalidRequest::header(&headers::PRODUCER_ID, why));
        }
    };
    if id.is_empty() {
        return Err(InvalidRequest::header(&headers::PRODUCER_ID, "it is empty"));
    }
    let (epoch, seq) = (
        exact(&headers::PRODUCER_EPOCH, &epoch)?,
        exact(&headers::PRODUCER_SEQ, &seq)?,
    );
    Ok(Some(Producer { id, epoch, seq }))
}

/// Parses a number without leading zeros.
fn number(name: &HeaderName, text: &str) -> Result<u64, InvalidRequest> {
    if text.len() > 1 && text.starts_with('0') {
        return Err(InvalidRequest::header(name, "it begins with a zero"));
    }
    exact(name, text)
}

/// Parses a number that JavaScript can represent exactly.
fn exact(name: &HeaderName, text: &str) -> Result<u64, InvalidRequest> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u64> = plain.then(|| text.parse().ok()).flatten();
    let number = number.filter(|&number| number <= EXACT_INTEGER_MAX);
    number.ok_or_else(|| InvalidRequest::header(name, "it is no whole number below 2^53"))
}

/// The parameters of a query.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Result<Self, InvalidRequest> {
        let query = uri.query().unwrap_or_default();
        if query.len() > URL_QUERY_BYTES_MAX {
            return Err(Self::refused("offset", "the query is too long"));
        }
        let pairs = query.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Ok(Self(pairs.collect()))
    }

    /// The value of a parameter that may occur once.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<String>, InvalidRequest> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Self::refused(name, "it is there twice")),
            (found, _) => Ok(found.map(|(_, value)| value.clone())),
        }
    }

    pub(super) const fn refused(name: &'static str, why: &'static str) -> InvalidRequest {
        InvalidRequest::Query { name, why }
    }
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
