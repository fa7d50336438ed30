//! The addresses under `__ds`, as HTTP has them: requests become [`Call`]s, answers become
//! responses, and refusals become errors with the protocol's codes.
//!
//! [`turned_away`] checks who may call, by the head of a request: the holder of the secret, for
//! `claim` also the holder of a token with that scope, and everybody where [`is_open`] says so.
//! Answers leave through [`add_common_headers`](crate::http::Settings::add_common_headers), as
//! those of streams do.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use pmx_core::domain::Domain;
use pmx_core::limits::TOKEN_BYTES_MAX;
use pmx_core::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::RESERVED;
use super::base_url::BaseUrl;
use super::call::{Ack, Answer, Call, Refusal, Report};
use super::config::{Config, Delivery};
use super::engine::OWN_STREAM;
use super::id::SubscriptionId;
use super::pattern::{Pattern, is_reserved};
use super::ssrf::{WebhookPolicy, WebhookUrl};
use super::view::is_object;
use crate::StreamName;
use crate::http::{self as streams, STREAMS_PATH, Settings};
use crate::limits::{
    SUBSCRIPTION_BODY_BYTES_MAX, SUBSCRIPTION_STREAMS_MAX, SUBSCRIPTION_TEXT_BYTES_MAX,
    WAKE_LEASE_DEFAULT, WAKE_LEASE_MAX, WAKE_LEASE_MIN,
};
use crate::policy::{Claimable, KEYS};
use crate::registry::is_registry;

/// What a request is read with.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// Where the server's streams are reached, as the client did.
    pub root: &'a BaseUrl,
    /// Where webhooks may go.
    pub policy: WebhookPolicy,
    /// The domain whose hosts the server can't call, if there is one.
    pub own: Option<&'a Domain>,
    /// The streams whose work the sender may claim: what [`claimable`] says.
    pub claimable: &'a Claimable,
}

/// Whether an address, taken from behind the root of the streams, is none of a stream.
pub fn is_control(path: &str) -> bool {
    path.split('/').find(|segment| !segment.is_empty()) == Some(RESERVED)
}

/// Whether the address is not for the server's own secret to open: the keys are public, and a
/// worker reports with the token of its wake.
pub fn is_open(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        [RESERVED, "jwks.json"]
        | [RESERVED, "subscriptions", _, "callback" | "ack" | "release"] => true,
        [..] => false,
    }
}

/// The answer to a request that needs none of the subscriptions: a browser asks whether it may ask,
/// or the sender has no token that will do.
pub fn turned_away(
    settings: &Settings,
    head: &Parts,
    path: &str,
    now: Timestamp,
) -> Option<Response<Bytes>> {
    let preflight = settings.preflight(head);
    if preflight.is_some() || is_open(path) {
        return preflight;
    }
    let refused = if is_claim(path) {
        settings.access.claim(head, now).err()
    } else {
        settings.authorise(head, now).err()
    };
    refused.map(|problem| streams::answer::problem(&problem))
}

/// Which streams' work the sender of a request may claim.
pub fn claimable(
    settings: &Settings,
    head: &Parts,
    path: &str,
    now: Timestamp,
) -> Result<Claimable, Refusal> {
    if !is_claim(path) {
        return Ok(Claimable::All);
    }
    let claimable = settings.access.claim(head, now);
    claimable.map_err(|_| Refusal::Token)
}

fn is_claim(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    matches!(segments.as_slice(), [RESERVED, "subscriptions", _, "claim"])
}

/// Where the streams are reached: where the operator says, or where the client did.
pub fn root(head: &Parts, scheme: &str, operator: Option<&str>) -> Result<BaseUrl, Refusal> {
    let address = Settings::address_of(head, scheme);
    let server = match operator {
        Some(url) => Some(url.trim_end_matches('/')),
        None => address.strip_suffix(head.uri.path()),
    };
    let root = server.and_then(|server| BaseUrl::parse(&format!("{server}{STREAMS_PATH}")));
    root.ok_or_else(|| invalid(NO_ROOT))
}

const NO_ROOT: &str = "the Host of the request is none that webhooks could call back";

/// Reads a request. `path` is taken from behind the root of the streams, as it was sent.
pub fn parse(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Result<Call, Refusal> {
    if body.len() > SUBSCRIPTION_BODY_BYTES_MAX {
        let (bytes, limit) = (body.len(), SUBSCRIPTION_BODY_BYTES_MAX);
        return Err(Refusal::TooLarge { bytes, limit });
    }
    let rest = path.trim_start_matches('/').strip_prefix(RESERVED);
    match rest.and_then(|rest| rest.strip_prefix('/')) {
        Some("jwks.json") => allowed(method, "GET").map(|()| Call::Keys),
        Some(rest) => {
            let rest = rest
                .strip_prefix("subscriptions/")
                .ok_or(Refusal::Nowhere)?;
            let (id, action) = match rest.split_once('/') {
                Some((id, action)) => (id, Some(action)),
                None => (rest, None),
            };
            let id = SubscriptionId::parse(&decoded(id)?).map_err(|_| Refusal::Nowhere)?;
            call(method, id, action, headers, body, context)
        }
        None => Err(Refusal::Nowhere),
    }
}

/// Writes an answer.
pub fn answer(answer: Result<Answer, Refusal>) -> Response<Bytes> {
    match answer {
        Ok(Answer::Created(view)) => json(StatusCode::CREATED, &view),
        Ok(Answer::Shown(view)) => json(StatusCode::OK, &view),
        Ok(Answer::Done) => response(StatusCode::NO_CONTENT, None, Bytes::new()),
        Ok(Answer::Claimed(claimed)) => json(StatusCode::OK, &claimed),
        Ok(Answer::Acked { next_wake }) => json(
            StatusCode::OK,
            &Acked {
                ok: true,
                next_wake,
            },
        ),
        Ok(Answer::Keys(keys)) => {
            let mut response = json(StatusCode::OK, &keys);
            let headers = response.headers_mut();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/jwk-set+json"),
            );
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(KEYS));
            response
        }
        Err(refusal) => refused(&refusal),
    }
}

fn call(
    method: &Method,
    id: SubscriptionId,
    action: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Result<Call, Refusal> {
    let Some(action) = action else {
        return match *method {
            Method::PUT => {
                let config = Box::new(config(read(body)?, context)?);
                let root = context.root.clone();
                Ok(Call::Create { id, config, root })
            }
            Method::GET => Ok(Call::Show(id)),
            Method::DELETE => Ok(Call::Delete(id)),
            _ => Err(Refusal::Method("GET, PUT, DELETE")),
        };
    };
    match action {
        "streams" => {
            allowed(method, "POST")?;
            let Streams { streams } = read(body)?;
            Ok(Call::Link(id, names(&streams)?))
        }
        "claim" => {
            allowed(method, "POST")?;
            let Worker { worker } = read(body)?;
            let worker = bounded("worker", worker)?;
            let within = context.claimable.pattern().cloned();
            Ok(Call::Claim { id, worker, within })
        }
        "callback" => Ok(Call::Callback(id, report(method, headers, body)?)),
        "ack" => Ok(Call::Ack(id, report(method, headers, body)?)),
        "release" => Ok(Call::Release(id, report(method, headers, body)?)),
        _ => {
            let path = action.strip_prefix("streams/").ok_or(Refusal::Nowhere)?;
            allowed(method, "DELETE")?;
            Ok(Call::Unlink(id, name(&decoded(path)?)?))
        }
    }
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(rename = "type")]
    kind: Option<String>,
    pattern: Option<String>,
    streams: Option<Vec<String>>,
    webhook: Option<Webhook>,
    wake_stream: Option<String>,
    target_stream: Option<String>,
    lease_ttl_ms: Option<u64>,
    description: Option<String>,
    filter: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Webhook {
    url: Option<String>,
}

#[derive(Deserialize)]
struct Streams {
    streams: Vec<String>,
}

#[derive(Deserialize)]
struct Worker {
    worker: String,
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

#[derive(Serialize)]
struct Acked {
    ok: bool,
    next_wake: bool,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Told4xx<'a>,
}

#[derive(Serialize)]
struct Told4xx<'a> {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_holder: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

fn config(raw: RawConfig, context: &RequestContext<'_>) -> Result<Config, Refusal> {
    if raw.filter.is_some() {
        return Err(invalid("filter is not supported"));
    }
    let pattern = raw.pattern.filter(|text| !text.is_empty());
    let pattern = pattern.map(|text| Pattern::parse(&text)).transpose();
    let pattern = pattern.map_err(|error| invalid(&error.to_string()))?;
    let streams = names(&raw.streams.unwrap_or_default())?;
    if pattern.is_none() && streams.is_empty() {
        return Err(invalid("at least one of pattern and streams is required"));
    }
    let delivery = match raw.kind.as_deref() {
        Some("webhook") => {
            let url = raw.webhook.and_then(|webhook| webhook.url);
            let url = url.ok_or_else(|| invalid("a webhook subscription needs webhook.url"))?;
            let url = WebhookUrl::parse(&url, context.policy)?;
            let outside = context.own.map(|own| url.clone().outside(own));
            Delivery::Webhook(outside.transpose()?.unwrap_or(url))
        }
        Some("pull-wake") => {
            let stream = raw.wake_stream.unwrap_or_default();
            if stream.is_empty() {
                return Err(invalid("a pull-wake subscription needs wake_stream"));
            }
            Delivery::PullWake(written(&stream)?)
        }
        Some("fan-out") => {
            let stream = raw.target_stream.unwrap_or_default();
            if stream.is_empty() {
                return Err(invalid("a fan-out subscription needs target_stream"));
            }
            Delivery::FanOut(written(&stream)?)
        }
        Some(_) | None => {
            return Err(invalid(
                "type must be \"webhook\", \"pull-wake\" or \"fan-out\"",
            ));
        }
    };
    if delivery.own().is_some_and(|own| streams.contains(own)) {
        return Err(invalid(OWN_STREAM));
    }
    let lease = raw
        .lease_ttl_ms
        .map_or(WAKE_LEASE_DEFAULT, Duration::from_millis);
    if !(WAKE_LEASE_MIN..=WAKE_LEASE_MAX).contains(&lease) {
        return Err(invalid(
            "lease_ttl_ms must be an integer from 1000 to 600000",
        ));
    }
    let description = raw.description;
    if description
        .as_ref()
        .is_some_and(|it| it.len() > SUBSCRIPTION_TEXT_BYTES_MAX)
    {
        return Err(invalid("description is too long"));
    }
    Ok(Config {
        pattern,
        streams: streams.into_iter().collect(),
        delivery,
        lease,
        description,
    })
}

fn report(method: &Method, headers: &HeaderMap, body: &[u8]) -> Result<Report, Refusal> {
    allowed(method, "POST")?;
    let token = bearer(headers).ok_or(Refusal::Token)?;
    let raw: RawReport = read(body)?;
    let acks = raw.acks.unwrap_or_default();
    if acks.len() > SUBSCRIPTION_STREAMS_MAX {
        return Err(invalid(
            "acks names more streams than a subscription can have",
        ));
    }
    let ack = |raw: RawAck| Ack {
        stream: raw.stream,
        offset: raw.offset,
    };
    Ok(Report {
        token,
        wake_id: raw.wake_id,
        generation: raw.generation,
        acks: acks.into_iter().map(ack).collect(),
        done: raw.done.unwrap_or_default(),
    })
}

fn names(texts: &[String]) -> Result<Vec<StreamName>, Refusal> {
    if texts.len() > SUBSCRIPTION_STREAMS_MAX {
        return Err(invalid(
            "streams has more names than a subscription can have",
        ));
    }
    texts.iter().map(|text| name(text)).collect()
}

fn name(text: &str) -> Result<StreamName, Refusal> {
    let name = StreamName::parse(text.trim_matches('/'));
    let name = name.map_err(|error| invalid(&error.to_string()))?;
    if is_reserved(&name) {
        return Err(invalid("the segment __ds is reserved: no stream is there"));
    }
    Ok(name)
}

/// A stream that the server is to write to.
fn written(text: &str) -> Result<StreamName, Refusal> {
    let name = name(text)?;
    if is_registry(&name) {
        return Err(invalid("the registry takes nothing but its own entries"));
    }
    Ok(name)
}

fn bounded(what: &str, text: String) -> Result<String, Refusal> {
    let fits = !text.is_empty() && text.len() <= SUBSCRIPTION_TEXT_BYTES_MAX;
    if fits {
        Ok(text)
    } else {
        Err(Refusal::Invalid(format!(
            "{what} must have 1 to {SUBSCRIPTION_TEXT_BYTES_MAX} bytes"
        )))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    if !is_object(body) {
        return Err(invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::Invalid(format!("the body: {error}")))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    (scheme.eq_ignore_ascii_case("Bearer") && fits).then(|| token.to_owned())
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| invalid("the address is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn allowed(method: &Method, allowed: &'static str) -> Result<(), Refusal> {
    (method.as_str() == allowed)
        .then_some(())
        .ok_or(Refusal::Method(allowed))
}

fn invalid(why: &str) -> Refusal {
    Refusal::Invalid(why.to_owned())
}

/// The protocol's code and status of a refusal.
fn code(refusal: &Refusal) -> (&'static str, StatusCode) {
    match refusal {
        Refusal::Invalid(_) => ("INVALID_REQUEST", StatusCode::BAD_REQUEST),
        Refusal::TooLarge { .. } => ("INVALID_REQUEST", StatusCode::PAYLOAD_TOO_LARGE),
        Refusal::Method(_) => ("INVALID_REQUEST", StatusCode::METHOD_NOT_ALLOWED),
        Refusal::Unknown | Refusal::Nowhere => ("SUBSCRIPTION_NOT_FOUND", StatusCode::NOT_FOUND),
        Refusal::Cycle(_) => ("CIRCULAR_FAN_OUT", StatusCode::CONFLICT),
        Refusal::Exists => ("SUBSCRIPTION_ALREADY_EXISTS", StatusCode::CONFLICT),
        Refusal::Url(_) => ("WEBHOOK_URL_REJECTED", StatusCode::BAD_REQUEST),
        Refusal::Token => ("TOKEN_INVALID", StatusCode::UNAUTHORIZED),
        Refusal::TokenExpired => ("TOKEN_EXPIRED", StatusCode::UNAUTHORIZED),
        Refusal::Scope(_) => ("FORBIDDEN", StatusCode::FORBIDDEN),
        Refusal::Fenced => ("FENCED", StatusCode::CONFLICT),
        Refusal::Taken { .. } => ("ALREADY_CLAIMED", StatusCode::CONFLICT),
        Refusal::Idle => ("NO_PENDING_WORK", StatusCode::CONFLICT),
        Refusal::Offset(_) => ("INVALID_OFFSET", StatusCode::CONFLICT),
        Refusal::Full { .. } => ("LIMIT_EXCEEDED", StatusCode::TOO_MANY_REQUESTS),
        Refusal::Storage(_) => ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn refused(refusal: &Refusal) -> Response<Bytes> {
    let (code, status) = code(refusal);
    let (current_holder, generation) = match refusal {
        Refusal::Taken { holder, generation } => (Some(holder.as_str()), Some(*generation)),
        _ => (None, None),
    };
    let error = Told4xx {
        code,
        message: refusal.to_string(),
        current_holder,
        generation,
    };
    let mut response = json(status, &Envelope { error });
    if let Refusal::Method(allow) = refusal {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    match serde_json::to_vec(value) {
        Ok(body) => response(status, Some("application/json"), body.into()),
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, None, Bytes::new()),
    }
}

fn response(status: StatusCode, media: Option<&'static str>, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(media) = media {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    }
    response
}

#[cfg(test)]
mod tests;
