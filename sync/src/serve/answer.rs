//! API responses: JSON, and problem details.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use pmx_core::code::Code;
use pmx_core::problem::{PROBLEM_MEDIA, Problem};
use serde::Serialize;

use super::body::Body;

/// A success response with a JSON body.
pub(crate) fn json(value: &impl Serialize) -> Result<Response<Body>, Problem> {
    let body = serde_json::to_vec(value)
        .map_err(|e| Problem::new(Code::Storage, format!("writing an answer: {e}")))?;
    Ok(answer(StatusCode::OK, "application/json", body))
}

/// A success response with a body of bytes.
pub(crate) fn octets(body: Vec<u8>) -> Response<Body> {
    answer(StatusCode::OK, "application/octet-stream", body)
}

/// An error response: problem details (RFC 9457).
pub(crate) fn problem(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = answer(status, PROBLEM_MEDIA, body);
    let headers = response.headers_mut();
    if problem.code == Code::MethodNotAllowed
        && let Some(Ok(allow)) = problem
            .items
            .first()
            .map(|text| HeaderValue::from_str(text))
    {
        headers.insert(ALLOW, allow);
    }
    if let Some(seconds) = problem.code.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// A response that no cache stores.
pub(super) fn answer(status: StatusCode, media: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Bytes(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
