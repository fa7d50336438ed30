//! Request handling: from a request's head and body to its answer.
//!
//! Asynchronous threads answer site reads, which take microseconds. The publish API hashes and
//! waits for the disk, so each of its requests gets a separate thread. A budget bounds the bytes of
//! all bodies, and a semaphore the requests in progress. So memory stays bounded however many packs
//! arrive at once. Readers that wait for events have a budget of their own.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, CONNECTION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use pmx_core::code::Code;
use pmx_core::incident::Audience;
use pmx_core::problem::Problem;
use pmx_streams::http::name_of;
use pmx_sync::serve::{Body, Nonce};

use super::any_body::{self, AnyBody};
use super::blocking::{block_on, blocking};
use super::budget::Reservation;
use super::compress::AppliedCoding;
use super::connections::{Connection, ConnectionPhase};
use super::incident;
use super::live::{self};
use super::panics::{guarded, panicked};
use super::request_body;
use super::response_body::{problem, sendable};
use super::state::AppState;
use super::tracked_body::TrackedBody;

pub(super) async fn answer(
    state: Arc<AppState>,
    request: Request<Incoming>,
    peer: IpAddr,
    connection: Arc<Connection>,
) -> Response<TrackedBody> {
    let (mut head, body) = request.into_parts();
    connection.enter(ConnectionPhase::Working);
    head.extensions.insert(Arc::clone(&connection));
    let entry = state.log.request(&head);
    let method = head.method.clone();
    let audience = if head.headers.contains_key(AUTHORIZATION) {
        state.server.audience(&head)
    } else {
        Audience::Stranger
    };
    let admitted = state.front.admit(&mut head, Some(peer));
    let is_stream = name_of(&head.uri).is_some() && state.server.is_api(&head);
    let waits =
        is_waiting_reader(&head).then(|| Arc::clone(&state.live.waiting).try_acquire_owned());
    if let Some(Ok(_)) = waits {
        connection.enter(ConnectionPhase::Waiting);
    }
    let answer = if let Err(refusal) = admitted {
        request_body::drain(&head, body);
        refused(&refusal)
    } else if let Some(Err(_)) = waits {
        let detail = "there are too many readers that wait for events";
        refused(&Problem::new(Code::TooMany, detail))
    } else if is_stream {
        if let Some(streams) = &state.streams {
            streams.answer(&head, body).await
        } else {
            request_body::drain(&head, body);
            problem(&Problem::new(Code::Storage, "the streams can't be opened"))
        }
    } else if let Some(listener) = state.server.listener(&head) {
        live::answer(&state, &mut head, listener).await
    } else {
        ordinary(&state, head, body).await
    };
    let (answer, id) = incident::mark(answer, &method, audience, state.log).await;
    if let Some(entry) = entry {
        entry.answered(&answer, answer.body(), id.as_deref());
    }
    let permit = waits.and_then(Result::ok);
    if permit.is_none() {
        connection.enter(ConnectionPhase::Sending);
    }
    answer.map(|body| TrackedBody::new(body, connection, permit))
}

/// Whether a request is that of a reader that waits for events, of a site or of a stream.
fn is_waiting_reader(head: &Parts) -> bool {
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    head.method == Method::GET && pairs.any(|pair| matches!(pair, "live=sse" | "live=long-poll"))
}

/// Answers a request of the publish API or to a site.
async fn ordinary(state: &Arc<AppState>, head: Parts, body: Incoming) -> Response<AnyBody> {
    let (method, coding) = (head.method.clone(), AppliedCoding::accepted(&head.headers));
    let answered = match respond(state, head, body).await {
        Ok(answer) => state.compressor.code(coding, &method, answer, state).await,
        Err(failure) => Err(failure),
    };
    match answered {
        Ok(answer) => sendable(answer, &method, state).await,
        Err(failure) if method == Method::HEAD => refused(&failure).map(|_| any_body::empty()),
        Err(failure) => refused(&failure),
    }
}

/// The server's answer; an `Err` is a refusal of the host.
async fn respond(
    state: &Arc<AppState>,
    head: Parts,
    mut body: Incoming,
) -> Result<Response<Body>, Problem> {
    let (admitted, heavy) = guarded(state.log, || {
        let server = &state.server;
        (server.admit(&head), server.is_heavy(&head))
    })?;
    let limit = match admitted {
        Ok(limit) => limit,
        Err(refusal) => {
            request_body::drain(&head, body);
            return Ok(refusal);
        }
    };
    let mut share = state.body_budget.share();
    if !state.server.is_api(&head) {
        // A site answers without the body that a client may have sent.
        request_body::drain(&head, body);
        return quickly(state, Request::from_parts(head, Bytes::new())).await;
    }
    let bytes = match request_body::receive(&head, &mut body, limit, &mut share).await {
        Ok(bytes) => bytes,
        Err(problem) => {
            request_body::drain(&head, body);
            return Err(problem);
        }
    };
    let request = Request::from_parts(head, bytes);
    if heavy {
        run_blocking(state, request, share).await
    } else {
        quickly(state, request).await
    }
}

/// Handles a request on a separate thread. It runs to its end even if the client leaves.
async fn run_blocking(
    state: &Arc<AppState>,
    request: Request<Bytes>,
    share: Reservation,
) -> Result<Response<Body>, Problem> {
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.enter(ConnectionPhase::Publishing);
    }
    let permit = Arc::clone(&state.permits).acquire_owned();
    let permit = permit.await.expect("the semaphore is never closed");
    let at_work = Arc::clone(state);
    let work = tokio::task::spawn_blocking(move || {
        let answer = blocking(|| handle(&at_work, request));
        drop((permit, share));
        answer
    });
    // The work catches panics itself, so this fails only while the runtime shuts down.
    work.await
        .unwrap_or_else(|error| Err(Problem::new(Code::Interrupted, error.to_string())))
}

fn handle(state: &AppState, request: Request<Bytes>) -> Result<Response<Body>, Problem> {
    let (now, nonce) = (super::now(), nonce()?);
    guarded(state.log, || {
        block_on(state.server.handle(request, None, now, nonce))
    })
}

/// Handles a request to a site on this thread. A request that needs a space waits for the space's
/// lock without a thread.
async fn quickly(state: &AppState, request: Request<Bytes>) -> Result<Response<Body>, Problem> {
    let (now, nonce) = (super::now(), nonce()?);
    let handling = state.server.handle(request, None, now, nonce);
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    handled.map_err(|panic| panicked(state.log, &*panic))
}

fn nonce() -> Result<Nonce, Problem> {
    let mut nonce = [0; 32];
    let drawn = getrandom::fill(&mut nonce);
    drawn.map_err(|error| Problem::new(Code::Storage, format!("drawing randomness: {error}")))?;
    Ok(Nonce(nonce))
}

/// The response of the host's own refusal, while the rest of the body may still arrive.
fn refused(failure: &Problem) -> Response<AnyBody> {
    let mut answer = problem(failure);
    if failure.code != Code::Storage {
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
