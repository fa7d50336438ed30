//! Request handling: from a request's head and body to its answer.
//!
//! Site reads take microseconds and are answered on an asynchronous thread. The publish API hashes
//! and waits for the disk, so each of its requests gets a thread of its own. A budget bounds the
//! bytes of all bodies, and a semaphore the requests at work: memory stays bounded however many
//! packs arrive at once. Readers that wait for events have a budget of their own.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body as AnyBody;
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

use super::budget::Share;
use super::compress::Coding;
use super::connections::{Connection, Phase};
use super::held::Held;
use super::inbound;
use super::incident;
use super::live::{self};
use super::outbound::{problem, sendable};
use super::panics::{guarded, panicked};
use super::ready::{block_on, blocking};
use super::state::Counter;

pub(super) async fn answer(
    counter: Arc<Counter>,
    request: Request<Incoming>,
    peer: IpAddr,
    connection: Arc<Connection>,
) -> Response<AnyBody> {
    let (mut head, body) = request.into_parts();
    connection.enter(Phase::Working);
    head.extensions.insert(Arc::clone(&connection));
    let entry = counter.log.request(&head);
    let method = head.method.clone();
    let audience = if head.headers.contains_key(AUTHORIZATION) {
        counter.server.audience(&head)
    } else {
        Audience::Stranger
    };
    let admitted = counter.front.admit(&mut head, Some(peer));
    let is_stream = name_of(&head.uri).is_some() && counter.server.is_api(&head);
    let waits =
        is_waiting_reader(&head).then(|| Arc::clone(&counter.live.waiting).try_acquire_owned());
    if let Some(Ok(_)) = waits {
        connection.enter(Phase::Waiting);
    }
    let answer = if let Err(refusal) = admitted {
        inbound::drain(&head, body);
        refused(&refusal)
    } else if let Some(Err(_)) = waits {
        let detail = "there are too many readers that wait for events";
        refused(&Problem::new(Code::TooMany, detail))
    } else if is_stream {
        if let Some(streams) = &counter.streams {
            streams.answer(&head, body).await
        } else {
            inbound::drain(&head, body);
            problem(&Problem::new(Code::Storage, "the streams can't be opened"))
        }
    } else if let Some(listener) = counter.server.listener(&head) {
        live::answer(&counter, &mut head, listener).await
    } else {
        ordinary(&counter, head, body).await
    };
    let (answer, id) = incident::mark(answer, &method, audience, counter.log).await;
    if let Some(entry) = entry {
        entry.answered(&answer, answer.body(), id.as_deref());
    }
    let permit = waits.and_then(Result::ok);
    if permit.is_none() {
        connection.enter(Phase::Sending);
    }
    answer.map(|body| AnyBody::new(Held::new(body, connection, permit)))
}

/// Whether a request is one of a reader that waits for events, of a site or of a stream.
fn is_waiting_reader(head: &Parts) -> bool {
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    head.method == Method::GET && pairs.any(|pair| matches!(pair, "live=sse" | "live=long-poll"))
}

/// Answers a request of the publish API or to a site.
async fn ordinary(counter: &Arc<Counter>, head: Parts, body: Incoming) -> Response<AnyBody> {
    let (method, coding) = (head.method.clone(), Coding::accepted(&head.headers));
    let answered = match respond(counter, head, body).await {
        Ok(answer) => Ok(counter
            .compressor
            .code(coding, &method, answer, counter)
            .await),
        Err(failure) => Err(failure),
    };
    match answered {
        Ok(answer) => sendable(answer, &method, counter),
        Err(failure) if method == Method::HEAD => refused(&failure).map(|_| AnyBody::empty()),
        Err(failure) => refused(&failure),
    }
}

/// The answer of the server; an `Err` is the host's own.
async fn respond(
    counter: &Arc<Counter>,
    head: Parts,
    mut body: Incoming,
) -> Result<Response<Body>, Problem> {
    let (admitted, heavy) = guarded(counter.log, || {
        let server = &counter.server;
        (server.admit(&head), server.is_heavy(&head))
    })?;
    let limit = match admitted {
        Ok(limit) => limit,
        Err(refusal) => {
            inbound::drain(&head, body);
            return Ok(refusal);
        }
    };
    let mut share = counter.room.share();
    let bytes = match inbound::receive(&head, &mut body, limit, &mut share).await {
        Ok(bytes) => bytes,
        Err(problem) => {
            inbound::drain(&head, body);
            return Err(problem);
        }
    };
    let request = Request::from_parts(head, bytes);
    if heavy {
        beside(counter, request, share).await
    } else {
        quickly(counter, request).await
    }
}

/// Handles a request on a thread of its own. It runs to its end even if the client leaves.
async fn beside(
    counter: &Arc<Counter>,
    request: Request<Bytes>,
    share: Share,
) -> Result<Response<Body>, Problem> {
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.enter(Phase::Publishing);
    }
    let turn = Arc::clone(&counter.turns).acquire_owned();
    let turn = turn.await.expect("the semaphore is never closed");
    let at_work = Arc::clone(counter);
    let work = tokio::task::spawn_blocking(move || {
        let answer = blocking(|| handle(&at_work, request));
        drop((turn, share));
        answer
    });
    // Panics are caught inside; what remains is a runtime that shuts down.
    work.await
        .unwrap_or_else(|error| Err(Problem::new(Code::Interrupted, error.to_string())))
}

fn handle(counter: &Counter, request: Request<Bytes>) -> Result<Response<Body>, Problem> {
    let (now, nonce) = (super::now(), nonce()?);
    guarded(counter.log, || {
        block_on(counter.server.handle(request, None, now, nonce))
    })
}

/// Handles a request to a site on this thread. Where a space has to be asked, the request waits for
/// the space's turn without a thread.
async fn quickly(counter: &Counter, request: Request<Bytes>) -> Result<Response<Body>, Problem> {
    let (now, nonce) = (super::now(), nonce()?);
    let handling = counter.server.handle(request, None, now, nonce);
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    handled.map_err(|panic| panicked(counter.log, &*panic))
}

fn nonce() -> Result<Nonce, Problem> {
    let mut nonce = [0; 32];
    let drawn = getrandom::fill(&mut nonce);
    drawn.map_err(|error| Problem::new(Code::Storage, format!("drawing randomness: {error}")))?;
    Ok(Nonce(nonce))
}

/// Where the host refuses a request itself, the rest of its body may still be on the way.
fn refused(failure: &Problem) -> Response<AnyBody> {
    let mut answer = problem(failure);
    if failure.code != Code::Storage {
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
