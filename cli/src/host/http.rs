//! The sockets: connections with time limits, requests read within bounds, answers sent.
//!
//! Site reads take microseconds and are answered on the thread at hand. The publish API hashes and
//! waits for the disk, so each of its requests gets a thread of its own, and its body and its turn
//! are granted by two semaphores: memory stays bounded however many packs arrive at once.

use std::any::Any;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pmx_sync::code::Code;
use pmx_sync::serve::{Body, Nonce, Piece, Server};
use pmx_sync::stream::http::name_of;
use pmx_sync::wire::Problem;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::blobs::Folder;
use super::front::Front;
use super::inbound;
use super::journal::Log;
use super::live::{self, Live};
use super::local::Local;
use super::outbound::{Backing, problem, sendable};
use super::patience::Patient;
use super::ready::block_on;
use super::streams::Streams;

/// All that answering a request takes.
pub(crate) struct Counter {
    pub(crate) server: Server<Local>,
    pub(crate) front: Front,
    pub(crate) log: Log,
    pub(crate) live: Live,
    streams: Arc<Streams>,
    /// KiB for bodies of the publish API.
    room: Arc<Semaphore>,
    /// Requests of the publish API at work.
    turns: Arc<Semaphore>,
}

impl Counter {
    pub(crate) fn new(
        front: Front,
        server: Server<Local>,
        streams: Arc<Streams>,
        live: Live,
        log: Log,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            front,
            server,
            log,
            live,
            streams,
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
            turns: Arc::new(Semaphore::new((cores + 1).min(TURNS_MAX))),
        }
    }
}

impl Backing for Counter {
    fn blobs(&self) -> &Folder {
        &self.server.backend().blobs
    }

    fn verify(&self, piece: &Piece) -> Result<(), Problem> {
        let verified = block_on(self.server.verify(piece, super::now()));
        if let Err(problem) = &verified {
            // The head of the answer may be sent already, so no status says why the body ends.
            self.log.fault("reading the body of an answer", problem);
        }
        verified
    }
}

/// Serves until `stop` changes, then lets the connections finish what they are at.
pub(crate) async fn serve(
    listener: TcpListener,
    counter: Arc<Counter>,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    loop {
        let permit = Arc::clone(&connections).acquire_owned();
        let accepted = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            _ = stop.changed() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, Arc::clone(&counter), stop.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of files, mostly: some will be closed soon.
                counter.log.fault("accepting a connection", &error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = connections.acquire_many(CONNECTIONS_MAX);
    let _ = tokio::time::timeout(GRACE_TIME, all).await;
}

/// How long the head of a request may take, and a connection be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How long a client may leave an answer unread.
const UNREAD_TIME: Duration = Duration::from_mins(1);

/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long requests may go on after the host was told to stop.
const GRACE_TIME: Duration = Duration::from_secs(5);

/// Connections at once: below the 1,024 files that most systems give a process.
const CONNECTIONS_MAX: u32 = 512;

/// KiB of request bodies in memory at once: three of the largest.
const ROOM_KIB: u32 = 36 * 1024;

/// Requests of the publish API at work at once. Each may hold a pack raw and as frames, beside its
/// body and the server's caches, and the host is to stay under 256 MiB.
const TURNS_MAX: usize = 3;

async fn connection(stream: TcpStream, counter: Arc<Counter>, stop: watch::Receiver<bool>) {
    let peer = stream.peer_addr().ok().map(|peer| peer.ip());
    let answering = move |request| answer(Arc::clone(&counter), request, peer);
    converse(stream, answering, stop).await;
}

/// Answers the requests of one connection.
async fn converse<A, F>(stream: TcpStream, answering: A, mut stop: watch::Receiver<bool>)
where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<AnyBody>> + Send + 'static,
{
    // Only latency is lost without it.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = answering(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX);
    let io = TokioIo::new(Patient::new(stream, UNREAD_TIME));
    let mut connection = pin!(http.serve_connection(io, service).with_upgrades());
    // How a connection ends is the client's affair: there is nobody left to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    counter: Arc<Counter>,
    request: Request<Incoming>,
    peer: Option<IpAddr>,
) -> Response<AnyBody> {
    let (mut head, body) = request.into_parts();
    let entry = counter.log.request(&head);
    let admitted = counter.front.admit(&mut head, peer);
    let is_stream = name_of(&head.uri).is_some() && counter.server.is_api(&head);
    let answer = if let Err(refusal) = admitted {
        inbound::drain(&head, body);
        refused(&refusal)
    } else if is_stream {
        counter.streams.answer(&head, body).await
    } else if let Some(listener) = counter.server.listener(&head) {
        live::answer(&counter, &mut head, listener).await
    } else {
        ordinary(&counter, head, body).await
    };
    if let Some(entry) = entry {
        entry.answered(&answer, answer.body());
    }
    answer
}

/// Answers a request of the publish API or to a site.
async fn ordinary(counter: &Arc<Counter>, head: Parts, body: Incoming) -> Response<AnyBody> {
    let method = head.method.clone();
    match respond(counter, head, body).await {
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
    let announced = inbound::announced(&head);
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
    let room = match inbound::check(announced, limit) {
        Ok(()) if heavy => Some(room(counter, announced, limit).await),
        Ok(()) => None,
        Err(problem) => {
            inbound::drain(&head, body);
            return Err(problem);
        }
    };
    let bytes = match inbound::collect(&mut body, announced, limit).await {
        Ok(bytes) => bytes,
        Err(problem) => {
            inbound::drain(&head, body);
            return Err(problem);
        }
    };
    let request = Request::from_parts(head, bytes);
    match room {
        None => handle(counter, request),
        Some(room) => beside(counter, request, room).await,
    }
}

/// Room in memory for a body of the publish API, before it is read.
async fn room(counter: &Counter, announced: Option<u64>, limit: usize) -> OwnedSemaphorePermit {
    let bytes = announced.unwrap_or(limit as u64);
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(ROOM_KIB);
    let room = Arc::clone(&counter.room).acquire_many_owned(kib.min(ROOM_KIB));
    room.await.expect("the semaphore is never closed")
}

/// Handles a request on a thread of its own. It runs to its end even if the client leaves.
async fn beside(
    counter: &Arc<Counter>,
    request: Request<Bytes>,
    room: OwnedSemaphorePermit,
) -> Result<Response<Body>, Problem> {
    let turn = Arc::clone(&counter.turns).acquire_owned();
    let turn = turn.await.expect("the semaphore is never closed");
    let at_work = Arc::clone(counter);
    let work = tokio::task::spawn_blocking(move || {
        let answer = handle(&at_work, request);
        drop((turn, room));
        answer
    });
    // Panics are caught inside; what remains is a runtime that shuts down.
    work.await
        .unwrap_or_else(|error| Err(Problem::new(Code::Interrupted, error.to_string())))
}

fn handle(counter: &Counter, request: Request<Bytes>) -> Result<Response<Body>, Problem> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)
        .map_err(|error| Problem::new(Code::Storage, format!("drawing randomness: {error}")))?;
    let (now, nonce) = (super::now(), Nonce(nonce));
    guarded(counter.log, || {
        block_on(counter.server.handle(request, None, now, nonce))
    })
}

/// Turns a panic into an answer: it ends the request, not the host.
pub(crate) fn guarded<T>(log: Log, work: impl FnOnce() -> T) -> Result<T, Problem> {
    // What a panic could leave half done is behind locks that notice it, or undone by SQLite.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        log.fault("answering a request", &said(&*panic));
        Problem::new(Code::Storage, "the server failed at this request")
    })
}

pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of unknown kind"))
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

#[cfg(test)]
mod tests {
    use pmx_sync::id::{ObjectId, SpaceId};
    use pmx_sync::serve::{Blobs as _, ObjectKey, Open};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_panic_becomes_an_answer() {
        assert_eq!(guarded(Log::Quiet, || 7).unwrap(), 7);
        let failed = guarded(Log::Quiet, || panic!("on purpose")).unwrap_err();
        let answer = problem(&failed);
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(!failed.detail.contains("purpose"));
    }

    /// What comes over a socket for a body of `bytes` bytes, of which one million are there:
    /// head and body.
    async fn sent(method: &str, bytes: u64) -> (String, usize) {
        let home = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Folder::open(home.path()).unwrap());
        let key = ObjectKey {
            space: SpaceId::from_bytes([1; 16]),
            object: ObjectId::from_bytes([2; 16]),
        };
        blobs
            .write(key, vec![b'x'; 1_000_000].into())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        let answering = move |request: Request<Incoming>| {
            let piece = Piece {
                key,
                range: 0..bytes,
                open: Open::AsIs,
                check: None,
            };
            let mut answer = Response::new(Body::Pieces(vec![piece]));
            answer
                .headers_mut()
                .insert("content-length", HeaderValue::from(bytes));
            std::future::ready(sendable(answer, request.method(), &blobs))
        };
        let conversation = tokio::spawn(converse(stream, answering, stopped));
        let request = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // A connection that breaks off may do so by a reset.
        let _ = client.read_to_end(&mut received).await;
        conversation.await.unwrap();
        let received = String::from_utf8(received).unwrap();
        let (head, body) = received.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.len())
    }

    #[tokio::test]
    async fn the_length_on_the_socket() {
        for (method, bytes, expected) in [
            ("GET", 1_000_000, 1_000_000),
            ("GET", 10, 10),
            ("HEAD", 1_000_000, 0),
            ("HEAD", 10, 0),
        ] {
            let (head, received) = sent(method, bytes).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert!(
                head.contains(&format!("content-length: {bytes}\r\n")),
                "{head}"
            );
            assert_eq!(received, expected, "{method} {bytes}");
        }
    }

    #[tokio::test]
    async fn a_part_is_not_taken_for_the_whole() {
        let (head, received) = sent("GET", 1_000_001).await;
        assert!(head.contains("content-length: 1000001\r\n"), "{head}");
        assert!(received < 1_000_001);
    }
}
