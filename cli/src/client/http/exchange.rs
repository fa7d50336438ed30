//! HTTP exchange: sends a request whose body is counted, and reads its answer. Each has a limit of
//! silence.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::{Client, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::counted_body::CountedBody;
use super::fault::TransportError;

/// How long a server may take no bytes of a body.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// How long a server may send no bytes.
const READ_TIME: Duration = Duration::from_mins(3);

/// Bytes of a body that the connection gets at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Pieces of a body that a connection holds before its socket takes them.
const PIECES_MAX: usize = 2;

/// Sends a request, and its body as the connection takes it. Returns the head of the answer, which
/// may arrive before the end of the body: a server that refuses a body does so at once.
pub(super) async fn send(
    client: &Client,
    mut request: Request,
    body: &mut CountedBody<'_>,
) -> Result<Response, TransportError> {
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let mut outlet = Outlet::new(pieces);
    if body.len() > 0 {
        let left = body.len();
        *request.body_mut() = Some(reqwest::Body::wrap(ChunkedBody { taken, left }));
    }
    let mut answered = std::pin::pin!(client.execute(request));
    loop {
        let is_sending = !body.is_handed_out();
        let (patience, what) = if is_sending {
            (WRITE_TIME, "send body")
        } else {
            (READ_TIME, "receive response")
        };
        tokio::select! {
            biased;
            response = &mut answered => return response.map_err(TransportError::Http),
            permit = outlet.room(), if is_sending => outlet.hand_out(body, permit),
            () = sleep(patience) => return Err(TransportError::Silent(what)),
        }
    }
}

/// Reads the body of an answer. `None` if it is longer than the limit.
pub(super) async fn read(
    response: &mut Response,
    limit: u64,
) -> Result<Option<Vec<u8>>, TransportError> {
    let mut bytes = Vec::new();
    loop {
        let chunk = timeout(READ_TIME, response.chunk()).await;
        let chunk = chunk.map_err(|_| TransportError::Silent("receive body"))?;
        let Some(chunk) = chunk.map_err(TransportError::Http)? else {
            return Ok(Some(bytes));
        };
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// Hands on the body of an answer as it arrives, until `take` refuses a piece.
pub(super) async fn hand_on(
    response: &mut Response,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), TransportError> {
    loop {
        let chunk = timeout(READ_TIME, response.chunk()).await;
        let chunk = chunk.map_err(|_| TransportError::Silent("receive body"))?;
        let Some(chunk) = chunk.map_err(TransportError::Http)? else {
            return Ok(());
        };
        if !take(&chunk) {
            return Ok(());
        }
    }
}

/// Sends pieces of a body to the connection, each when there is room for it.
struct Outlet {
    pieces: mpsc::Sender<Bytes>,
    room: Arc<Semaphore>,
    /// Bytes that the connection holds.
    held: Arc<AtomicUsize>,
}

impl Outlet {
    fn new(pieces: mpsc::Sender<Bytes>) -> Self {
        Self {
            pieces,
            room: Arc::new(Semaphore::new(PIECES_MAX)),
            held: Arc::default(),
        }
    }

    /// Waits until the connection has room for one more piece.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Counts the bytes that the socket took, and hands out the next piece.
    fn hand_out(&mut self, body: &mut CountedBody<'_>, room: Option<OwnedSemaphorePermit>) {
        body.taken(self.held.load(Ordering::Acquire));
        let bytes = body.next(PIECE_BYTES).to_vec();
        self.held.fetch_add(bytes.len(), Ordering::AcqRel);
        let piece = BodyChunk {
            bytes,
            held: Arc::clone(&self.held),
            _room: room,
        };
        // Each piece has room. A closed connection drops its pieces, and the answer gives the
        // reason.
        let _ = self.pieces.try_send(Bytes::from_owner(piece));
    }
}

/// A piece of a body, which the connection drops once its socket has taken it.
struct BodyChunk {
    bytes: Vec<u8>,
    held: Arc<AtomicUsize>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for BodyChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyChunk {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::AcqRel);
    }
}

/// A request's body, as the connection reads it.
struct ChunkedBody {
    taken: mpsc::Receiver<Bytes>,
    left: usize,
}

impl Body for ChunkedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(self.taken.poll_recv(context));
        Poll::Ready(piece.map(|piece| {
            self.left = self.left.saturating_sub(piece.len());
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
