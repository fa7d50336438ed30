//! Stream responses: replies and refusals of a stream as HTTP responses.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use pmx_core::code::Code;
use pmx_core::problem::{PROBLEM_MEDIA, Problem};

use super::cursor::LiveCursor;
use super::invalid::InvalidRequest;
use super::request::{Get, LiveMode};
use super::{etag, headers};
use crate::policy::{Counted, Per, REVALIDATED, whole_seconds};
use crate::{Appended, Created, Expiry, Offset, Page, Refusal, StreamProperties};

/// The response to a create. `address` is the stream's URL.
pub fn created(created: &Created, address: &str) -> Response<Bytes> {
    let status = if created.fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let view = &created.view;
    let mut answer = bare(status);
    set_text(&mut answer, CONTENT_TYPE, view.media_type.as_str());
    set_tail(&mut answer, view.next, view.closed);
    if created.fresh {
        set_text(&mut answer, LOCATION, address);
    }
    answer
}

/// The response to an append of `bytes` bytes.
pub fn appended(appended: &Appended, bytes: usize) -> Response<Bytes> {
    // A producer learns from the status whether its bytes were new.
    let is_new = appended.producer.is_some() && !appended.repeated && bytes > 0;
    let mut answer = bare(if is_new {
        StatusCode::OK
    } else {
        StatusCode::NO_CONTENT
    });
    set_tail(&mut answer, appended.next, appended.closed);
    if let Some((epoch, seq)) = appended.producer {
        set_number(&mut answer, headers::PRODUCER_EPOCH, epoch);
        set_number(&mut answer, headers::PRODUCER_SEQ, seq);
    }
    answer
}

/// The response to a deletion.
pub fn deleted() -> Response<Bytes> {
    bare(StatusCode::NO_CONTENT)
}

/// The response to HEAD: the stream's properties.
pub fn view(view: &StreamProperties) -> Response<Bytes> {
    let mut answer = bare(StatusCode::OK);
    set_text(&mut answer, CONTENT_TYPE, view.media_type.as_str());
    set_tail(&mut answer, view.next, view.closed);
    set_text(&mut answer, ETAG, &etag::of_view(view));
    match view.expiry {
        Expiry::Never => {}
        Expiry::Idle(seconds) => set_number(&mut answer, headers::TTL, seconds),
        Expiry::At(_) => {
            let text = view.expiry_text.as_deref().unwrap_or_default();
            set_text(&mut answer, headers::EXPIRES_AT, text);
        }
    }
    answer
}

/// The response with a page, or 304 if the reader has it.
pub fn page(get: &Get, page: &Page, cursor: LiveCursor) -> Response<Bytes> {
    page_tagged(get, page, cursor, &etag::of_page(page))
}

/// The same with the entity tag of another representation.
pub(super) fn page_tagged(
    get: &Get,
    page: &Page,
    cursor: LiveCursor,
    tag: &str,
) -> Response<Bytes> {
    use crate::From;
    let mut answer = bare(StatusCode::OK);
    set_tail(&mut answer, page.end, page.is_at_end());
    if page.is_up_to_date() {
        set(&mut answer, headers::UP_TO_DATE, "true");
    }
    // A read of the current tail must not come from a cache.
    let is_cacheable = get.live != LiveMode::CatchUp || get.read.from != From::Now;
    if is_cacheable {
        set(&mut answer, CACHE_CONTROL, REVALIDATED);
        set_text(&mut answer, ETAG, tag);
        if get.known.has(tag) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
    }
    if get.live == LiveMode::LongPoll {
        set_number(&mut answer, headers::CURSOR, cursor.number());
    }
    if answer.status() == StatusCode::OK {
        set_text(&mut answer, CONTENT_TYPE, page.view.media_type.as_str());
        *answer.body_mut() = body(page);
    }
    answer
}

/// The response to a long poll that got no message at `tail`.
pub fn timed_out(tail: Offset, closed: bool, cursor: LiveCursor) -> Response<Bytes> {
    let mut answer = bare(StatusCode::NO_CONTENT);
    set_tail(&mut answer, tail, closed);
    set(&mut answer, headers::UP_TO_DATE, "true");
    set_number(&mut answer, headers::CURSOR, cursor.number());
    answer
}

/// The response for a refusal.
pub fn refused(refusal: &Refusal) -> Response<Bytes> {
    let mut answer = problem(&Problem::new(refusal.code(), refusal.to_string()));
    match refusal {
        Refusal::Closed { next } => set_tail(&mut answer, *next, true),
        Refusal::Fenced { epoch } => set_number(&mut answer, headers::PRODUCER_EPOCH, *epoch),
        Refusal::Gap { expected, received } => {
            set_number(&mut answer, headers::PRODUCER_EXPECTED, *expected);
            set_number(&mut answer, headers::PRODUCER_RECEIVED, *received);
        }
        Refusal::Unknown
        | Refusal::Gone
        | Refusal::Anew
        | Refusal::Exists { .. }
        | Refusal::Taken
        | Refusal::NoSource
        | Refusal::SourceGone
        | Refusal::SourceType
        | Refusal::NoSuchPlace
        | Refusal::Beyond
        | Refusal::Empty
        | Refusal::Json { .. }
        | Refusal::NoType
        | Refusal::OtherType
        | Refusal::Seq
        | Refusal::EpochStart
        | Refusal::TooLarge { .. }
        | Refusal::Storage { .. }
        | Refusal::Unavailable { .. } => {}
    }
    answer
}

/// The response to an invalid request.
pub fn invalid(error: &InvalidRequest) -> Response<Bytes> {
    let code = match error {
        InvalidRequest::Method(_) => Code::MethodNotAllowed,
        InvalidRequest::Name(_) | InvalidRequest::Header { .. } | InvalidRequest::Query { .. } => {
            Code::StreamRequest
        }
    };
    let mut answer = problem(&Problem::new(code, error.to_string()));
    if code == Code::MethodNotAllowed {
        set(&mut answer, ALLOW, METHODS);
    }
    answer
}

/// The response to a request that exceeds a rate; `None` if it does not.
pub fn limited(counted: &Counted) -> Option<Response<Bytes>> {
    let (per, after) = counted.refused()?;
    let whose = match per {
        Per::Client => "of this client",
        Per::Stream => "to this stream",
    };
    let seconds = whole_seconds(after);
    let detail = format!("too many requests {whose}; the next is taken in {seconds} s");
    let mut answer = problem(&Problem::new(Code::TooMany, detail));
    set_number(&mut answer, RETRY_AFTER, seconds);
    counted.write_headers(answer.headers_mut());
    Some(answer)
}

/// The response for a problem.
pub fn problem(problem: &Problem) -> Response<Bytes> {
    let status = StatusCode::from_u16(problem.status);
    let mut answer = bare(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    set(&mut answer, CONTENT_TYPE, PROBLEM_MEDIA);
    if let Some(seconds) = problem.code.retry_after() {
        set(&mut answer, RETRY_AFTER, seconds);
    }
    // RFC 6750, section 3.
    let known = CHALLENGES.iter().find(|(code, _)| *code == problem.code);
    if let Some((_, challenge)) = known {
        set(&mut answer, WWW_AUTHENTICATE, challenge);
    }
    *answer.body_mut() = serde_json::to_vec(problem).unwrap_or_default().into();
    answer
}

/// The `WWW-Authenticate` challenges, by error code.
const CHALLENGES: [(Code, &str); 3] = [
    (Code::Unauthorised, "Bearer"),
    (Code::TokenExpired, "Bearer error=\"invalid_token\""),
    (Code::Forbidden, "Bearer error=\"insufficient_scope\""),
];

/// The methods of a stream.
pub(super) const METHODS: &str = "GET, POST, PUT, DELETE, HEAD, OPTIONS";

/// The body of a page: messages of a JSON stream become an array.
pub(super) fn body(page: &Page) -> Bytes {
    if !page.view.media_type.is_json() {
        return page.body.clone();
    }
    let mut array = Vec::with_capacity(page.body.len() + 2);
    array.push(b'[');
    array.extend_from_slice(&page.body);
    array.push(b']');
    array.into()
}

pub(super) fn bare(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

pub(super) fn set(answer: &mut Response<Bytes>, name: HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    answer.headers_mut().insert(name, value);
}

/// Sets a header to a text that came from a header, and so is valid.
fn set_text(answer: &mut Response<Bytes>, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        answer.headers_mut().insert(name, value);
    }
}

fn set_number(answer: &mut Response<Bytes>, name: HeaderName, number: u64) {
    answer.headers_mut().insert(name, number.into());
}

fn set_tail(answer: &mut Response<Bytes>, next: Offset, closed: bool) {
    set_text(answer, headers::NEXT_OFFSET, &next.to_string());
    if closed {
        set(answer, headers::CLOSED, "true");
    }
}

#[cfg(test)]
mod tests;
