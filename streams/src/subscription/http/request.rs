//! Subscription requests over HTTP: parsing of method, path, headers and body.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use pmx_core::limits::TOKEN_BYTES_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::RequestContext;
use super::config::{RawConfig, is_too_long, stream_name, stream_names};
use crate::http::{STREAMS_PATH, StreamSettings};
use crate::limits::{
    SUBSCRIPTION_BODY_BYTES_MAX, SUBSCRIPTION_STREAMS_MAX, SUBSCRIPTION_TEXT_BYTES_MAX,
};
use crate::subscription::RESERVED;
use crate::subscription::base_url::BaseUrl;
use crate::subscription::id::SubscriptionId;
use crate::subscription::request::{Ack, SubscriptionRequest, WorkerReport};
use crate::subscription::response::SubscriptionRefusal;
use crate::subscription::view::is_object;

/// The URL of the streams: the operator's, or else the one at which the client reached the server.
pub fn base_url(
    head: &Parts,
    scheme: &str,
    operator: Option<&str>,
) -> Result<BaseUrl, SubscriptionRefusal> {
    let address = StreamSettings::address_of(head, scheme);
    let server = match operator {
        Some(url) => Some(url.trim_end_matches('/')),
        None => address.strip_suffix(head.uri.path()),
    };
    let url = server.and_then(|server| BaseUrl::parse(&format!("{server}{STREAMS_PATH}")));
    url.ok_or_else(|| SubscriptionRefusal::invalid(NO_BASE_URL))
}

const NO_BASE_URL: &str = "the Host of the request is none that webhooks could call back";

/// Parses a request. `path` is the request's path without the streams' base path.
pub fn parse(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Result<SubscriptionRequest, SubscriptionRefusal> {
    if body.len() > SUBSCRIPTION_BODY_BYTES_MAX {
        let (bytes, limit) = (body.len(), SUBSCRIPTION_BODY_BYTES_MAX);
        return Err(SubscriptionRefusal::TooLarge { bytes, limit });
    }
    let rest = path.trim_start_matches('/').strip_prefix(RESERVED);
    let rest = rest.and_then(|rest| rest.strip_prefix('/'));
    let rest = rest.ok_or(SubscriptionRefusal::Nowhere)?;
    if rest == "jwks.json" {
        return require_method(method, "GET").map(|()| SubscriptionRequest::Keys);
    }
    let rest = rest
        .strip_prefix("subscriptions/")
        .ok_or(SubscriptionRefusal::Nowhere)?;
    let (id, action) = match rest.split_once('/') {
        Some((id, action)) => (id, Some(action)),
        None => (rest, None),
    };
    let id = SubscriptionId::parse(&percent_decoded(id)?);
    let id = id.map_err(|_| SubscriptionRefusal::Nowhere)?;
    match action {
        Some(action) => parse_action(method, id, action, headers, body, context),
        None => parse_resource(method, id, body, context),
    }
}

/// Parses a request for a subscription as a whole.
fn parse_resource(
    method: &Method,
    id: SubscriptionId,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Result<SubscriptionRequest, SubscriptionRefusal> {
    match *method {
        Method::PUT => {
            let config = parse_body::<RawConfig>(body)?.validate(context)?;
            Ok(SubscriptionRequest::Create {
                id,
                config: Box::new(config),
                base_url: context.base_url.clone(),
            })
        }
        Method::GET => Ok(SubscriptionRequest::Show(id)),
        Method::DELETE => Ok(SubscriptionRequest::Delete(id)),
        _ => Err(SubscriptionRefusal::Method("GET, PUT, DELETE")),
    }
}

/// Parses a request for an address below a subscription.
fn parse_action(
    method: &Method,
    id: SubscriptionId,
    action: &str,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Result<SubscriptionRequest, SubscriptionRefusal> {
    let report = || parse_report(method, headers, body);
    match action {
        "streams" => {
            require_method(method, "POST")?;
            let Streams { streams } = parse_body(body)?;
            Ok(SubscriptionRequest::Link(id, stream_names(&streams)?))
        }
        "claim" => {
            require_method(method, "POST")?;
            let worker = parse_worker(body)?;
            let within = context.claimable.pattern().cloned();
            Ok(SubscriptionRequest::Claim { id, worker, within })
        }
        "callback" => Ok(SubscriptionRequest::Callback(id, report()?)),
        "ack" => Ok(SubscriptionRequest::Ack(id, report()?)),
        "release" => Ok(SubscriptionRequest::Release(id, report()?)),
        _ => {
            let path = action.strip_prefix("streams/");
            let path = path.ok_or(SubscriptionRefusal::Nowhere)?;
            require_method(method, "DELETE")?;
            let stream = stream_name(&percent_decoded(path)?)?;
            Ok(SubscriptionRequest::Unlink(id, stream))
        }
    }
}

#[derive(Deserialize)]
struct Streams {
    streams: Vec<String>,
}

#[derive(Deserialize)]
struct Worker {
    worker: String,
}

fn parse_worker(body: &[u8]) -> Result<String, SubscriptionRefusal> {
    let Worker { worker } = parse_body(body)?;
    if worker.is_empty() || is_too_long(&worker) {
        let why = format!("worker must have 1 to {SUBSCRIPTION_TEXT_BYTES_MAX} bytes");
        return Err(SubscriptionRefusal::Invalid(why));
    }
    Ok(worker)
}

#[derive(Deserialize)]
struct RawReport {
    wake_id: Option<String>,
    generation: Option<u64>,
    acks: Option<Vec<RawAck>>,
    done: Option<bool>,
}

#[derive(Deserialize)]
struct RawAck {
    #[serde(alias = "path", default)]
    stream: String,
    #[serde(default)]
    offset: String,
}

fn parse_report(
    method: &Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<WorkerReport, SubscriptionRefusal> {
    require_method(method, "POST")?;
    let token = bearer_token(headers).ok_or(SubscriptionRefusal::Token)?;
    let raw: RawReport = parse_body(body)?;
    let acks = raw.acks.unwrap_or_default();
    if acks.len() > SUBSCRIPTION_STREAMS_MAX {
        let why = "acks names more streams than a subscription can have";
        return Err(SubscriptionRefusal::invalid(why));
    }
    let ack = |raw: RawAck| Ack {
        stream: raw.stream,
        offset: raw.offset,
    };
    Ok(WorkerReport {
        token,
        wake_id: raw.wake_id,
        generation: raw.generation,
        acks: acks.into_iter().map(ack).collect(),
        done: raw.done.unwrap_or_default(),
    })
}

/// Parses a JSON object. An empty body counts as an empty object.
fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, SubscriptionRefusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    if !is_object(body) {
        let why = "the body must be a JSON object";
        return Err(SubscriptionRefusal::invalid(why));
    }
    serde_json::from_slice(body)
        .map_err(|error| SubscriptionRefusal::Invalid(format!("the body: {error}")))
}

fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    (scheme.eq_ignore_ascii_case("Bearer") && fits).then(|| token.to_owned())
}

fn percent_decoded(text: &str) -> Result<String, SubscriptionRefusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| SubscriptionRefusal::invalid("the address is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn require_method(method: &Method, required: &'static str) -> Result<(), SubscriptionRefusal> {
    (method.as_str() == required)
        .then_some(())
        .ok_or(SubscriptionRefusal::Method(required))
}
