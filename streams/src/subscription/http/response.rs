//! Subscription responses over HTTP: status, headers and JSON bodies.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::policy::KEYS;
use crate::subscription::response::{SubscriptionRefusal, SubscriptionResponse};

/// Renders a response or a refusal.
pub fn respond(result: Result<SubscriptionResponse, SubscriptionRefusal>) -> Response<Bytes> {
    match result {
        Ok(SubscriptionResponse::Created(view)) => json(StatusCode::CREATED, &view),
        Ok(SubscriptionResponse::Shown(view)) => json(StatusCode::OK, &view),
        Ok(SubscriptionResponse::Done) => bare(StatusCode::NO_CONTENT),
        Ok(SubscriptionResponse::Claimed(claimed)) => json(StatusCode::OK, &claimed),
        Ok(SubscriptionResponse::Acked { next_wake }) => {
            let ok = true;
            json(StatusCode::OK, &AckedBody { ok, next_wake })
        }
        Ok(SubscriptionResponse::Keys(keys)) => {
            let mut response = json(StatusCode::OK, &keys);
            let headers = response.headers_mut();
            let media_type = HeaderValue::from_static("application/jwk-set+json");
            headers.insert(CONTENT_TYPE, media_type);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(KEYS));
            response
        }
        Err(refusal) => refused(&refusal),
    }
}

#[derive(Serialize)]
struct AckedBody {
    ok: bool,
    next_wake: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_holder: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

fn refused(refusal: &SubscriptionRefusal) -> Response<Bytes> {
    let (code, status) = code_and_status(refusal);
    let (current_holder, generation) = match refusal {
        SubscriptionRefusal::Taken { holder, generation } => (Some(&**holder), Some(*generation)),
        _ => (None, None),
    };
    let error = ErrorFields {
        code,
        message: refusal.to_string(),
        current_holder,
        generation,
    };
    let mut response = json(status, &ErrorBody { error });
    if let SubscriptionRefusal::Method(allow) = refusal {
        let allow = HeaderValue::from_static(allow);
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// The protocol's code and status of a refusal.
pub(super) fn code_and_status(refusal: &SubscriptionRefusal) -> (&'static str, StatusCode) {
    use SubscriptionRefusal as It;
    match refusal {
        It::Invalid(_) => ("INVALID_REQUEST", StatusCode::BAD_REQUEST),
        It::TooLarge { .. } => ("INVALID_REQUEST", StatusCode::PAYLOAD_TOO_LARGE),
        It::Method(_) => ("INVALID_REQUEST", StatusCode::METHOD_NOT_ALLOWED),
        It::Unknown | It::Nowhere => ("SUBSCRIPTION_NOT_FOUND", StatusCode::NOT_FOUND),
        It::Cycle(_) => ("CIRCULAR_FAN_OUT", StatusCode::CONFLICT),
        It::Exists => ("SUBSCRIPTION_ALREADY_EXISTS", StatusCode::CONFLICT),
        It::Url(_) => ("WEBHOOK_URL_REJECTED", StatusCode::BAD_REQUEST),
        It::Token => ("TOKEN_INVALID", StatusCode::UNAUTHORIZED),
        It::TokenExpired => ("TOKEN_EXPIRED", StatusCode::UNAUTHORIZED),
        It::Scope(_) => ("FORBIDDEN", StatusCode::FORBIDDEN),
        It::Fenced => ("FENCED", StatusCode::CONFLICT),
        It::Taken { .. } => ("ALREADY_CLAIMED", StatusCode::CONFLICT),
        It::Idle => ("NO_PENDING_WORK", StatusCode::CONFLICT),
        It::Offset(_) => ("INVALID_OFFSET", StatusCode::CONFLICT),
        It::Full { .. } => ("LIMIT_EXCEEDED", StatusCode::TOO_MANY_REQUESTS),
        It::Storage(_) => ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let Ok(body) = serde_json::to_vec(value) else {
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = bare(status);
    let media_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    *response.body_mut() = body.into();
    response
}

fn bare(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}
