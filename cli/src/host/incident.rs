//! Error incidents: each error answer gets an id, and the log has its cause under that id.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Collected};
use pmx_core::incident::{Audience, ERROR_BODY_BYTES_MAX, identify, incident_id};

use super::access_log::Log;
use super::any_body::{self, AnyBody};

/// Adds an id to an error answer, and returns the id.
pub(crate) async fn mark(
    answer: Response<AnyBody>,
    method: &Method,
    audience: Audience,
    log: Log,
) -> (Response<AnyBody>, Option<String>) {
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return (answer, None);
    }
    let id = new_id();
    let json = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|media| media.to_str().ok());
    let is_json = json.is_some_and(|media| media.contains("json"));
    let size = answer.body().size_hint().exact().unwrap_or(u64::MAX);
    if !is_json || method == Method::HEAD || size > ERROR_BODY_BYTES_MAX as u64 {
        return (answer, Some(id));
    }
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await;
    let bytes = body.map(Collected::to_bytes).unwrap_or_default();
    let bytes = match identify(status.as_u16(), &bytes, &id, audience) {
        Some(incident) => {
            if let Some(cause) = incident.cause {
                log.incident(&id, &cause);
            }
            Bytes::from(incident.body)
        }
        None => bytes,
    };
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    (Response::from_parts(head, any_body::full(bytes)), Some(id))
}

/// An id; without randomness all are equal, and the time in the log distinguishes them.
fn new_id() -> String {
    let mut random = [0; 8];
    let _ = getrandom::fill(&mut random);
    incident_id(random)
}
