//! Response bodies: bytes in memory, or pieces of objects read as fast as the client takes them.
//!
//! The server announces the length of a body before it reads the first byte. If a read fails later,
//! the host breaks the connection, so that a client never takes a part for the whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use pmx_core::backend::{BackendError, ObjectKey};
use pmx_core::code::Code;
use pmx_core::codec::Decoder;
use pmx_core::problem::{PROBLEM_MEDIA, Problem};
use pmx_sync::serve::{Body, BodyRange, Open};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::any_body::{self, AnyBody};
use super::blocking::blocking;

/// Turns an answer of the server into one that hyper sends.
pub(crate) async fn sendable<B: Backing>(
    answer: Response<Body>,
    method: &Method,
    backing: &Arc<B>,
) -> Response<AnyBody> {
    let (mut head, body) = answer.into_parts();
    // An answer to HEAD has the length that GET would have.
    if method == Method::HEAD {
        return Response::from_parts(head, any_body::empty());
    }
    let body = match body {
        Body::Empty => any_body::empty(),
        Body::Bytes(bytes) => any_body::full(bytes),
        Body::Led(first, pieces) => {
            let bytes = first.len() as u64 + pieces.iter().map(sent).sum::<u64>();
            head.headers.insert(CONTENT_LENGTH, bytes.into());
            any_body::stream(Stream::new(first, pieces, Arc::clone(backing)))
        }
        Body::Pieces(pieces) => {
            let bytes: u64 = pieces.iter().map(sent).sum();
            let length = head.headers.entry(CONTENT_LENGTH);
            length.or_insert_with(|| HeaderValue::from(bytes));
            // The host reads a small body before it sends the head. So both share one packet, and a
            // failure still gets an error answer.
            if pieces.iter().map(cost).sum::<u64>() <= AT_ONCE_BYTES {
                match at_once(pieces, backing).await {
                    Ok(bytes) => any_body::full(bytes),
                    Err(error) => return problem(&failure(&error)),
                }
            } else {
                any_body::stream(Stream::new(Bytes::new(), pieces, Arc::clone(backing)))
            }
        }
    };
    Response::from_parts(head, body)
}

/// The response to a failure of the host itself, in the form of the server's problems.
pub(crate) fn problem(problem: &Problem) -> Response<AnyBody> {
    let body = serde_json::to_vec(problem).expect("a problem is text and numbers");
    let mut answer = Response::new(any_body::full(body));
    *answer.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    answer
}

/// The pieces of a small body. Only a near read may hold up an asynchronous thread.
async fn at_once<B: Backing>(pieces: Vec<BodyRange>, backing: &Arc<B>) -> io::Result<Bytes> {
    if backing.is_near() {
        return opened(&pieces, &**backing);
    }
    let backing = Arc::clone(backing);
    aside(backing, AT_ONCE_TIME, move |backing| {
        opened(&pieces, backing)
    })
    .await
}

/// Runs a read on a blocking thread. A far read waits for its turn, without a thread.
async fn aside<B: Backing>(
    backing: Arc<B>,
    wait: Duration,
    read: impl FnOnce(&B) -> io::Result<Bytes> + Send + 'static,
) -> io::Result<Bytes> {
    let turn = far_turn(&*backing, wait).await?;
    let work = move || {
        let read = blocking(|| read(&backing));
        drop(turn);
        read
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).flatten()
}

/// A turn for a far read; `None` for a near one. A store that never answers so holds up a part of
/// the threads only.
pub(super) async fn far_turn(
    backing: &impl Backing,
    wait: Duration,
) -> io::Result<Option<OwnedSemaphorePermit>> {
    let Some(turns) = backing.far_turns() else {
        return Ok(None);
    };
    let turn = timeout(wait, Arc::clone(turns).acquire_owned()).await;
    let late = |_| {
        let why = "all reads wait for the object store";
        io::Error::other(BackendError::new("reading an object", why).passing())
    };
    turn.map_err(late)?.map(Some).map_err(io::Error::other)
}

/// The answer to a failed read, with the code of the failure.
pub(super) fn failure(error: &io::Error) -> Problem {
    let inner = error.get_ref();
    let of_store = inner.and_then(|inner| inner.downcast_ref().map(BackendError::code));
    let of_problem = || inner?.downcast_ref().map(|problem: &Problem| problem.code);
    let code = of_store.or_else(of_problem).unwrap_or(Code::Storage);
    Problem::new(code, error.to_string())
}

/// The objects with the pieces of a body, and the verification before sending.
pub(crate) trait Backing: Send + Sync + 'static {
    /// Whether a read takes so little time that an asynchronous thread may wait for it.
    fn is_near(&self) -> bool {
        true
    }
    /// The turns of reads that take longer.
    fn far_turns(&self) -> Option<&Arc<Semaphore>> {
        None
    }
    /// Reads a range of an object; blocks.
    fn read(&self, key: ObjectKey, range: &Range<u64>) -> Result<Option<Bytes>, BackendError>;
    /// See `Server::verify`; blocks.
    fn verify(&self, piece: &BodyRange) -> Result<(), Problem>;
}

/// Bytes that the current thread reads and decodes: a switch of threads would cost more.
const AT_ONCE_BYTES: u64 = 64 * 1024;

/// How long a small body waits for its turn before the reader gets an error answer.
const AT_ONCE_TIME: Duration = Duration::from_secs(2);

/// How long a large body waits: its head is sent, so only a broken connection reports an error.
const STREAM_TIME: Duration = Duration::from_secs(30);

/// Bytes of one read of a file.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Bytes of one read of an object store: each read costs a request.
const FAR_CHUNK_BYTES: u64 = 1024 * 1024;

/// Bytes of the body that a piece becomes.
pub(super) fn sent(piece: &BodyRange) -> u64 {
    let range = match &piece.open {
        Open::AsIs => &piece.range,
        Open::Decode { keep, .. } => keep,
    };
    range.end.saturating_sub(range.start)
}

/// Bytes to read and decode for a piece.
fn cost(piece: &BodyRange) -> u64 {
    let stored = piece.range.end.saturating_sub(piece.range.start);
    match &piece.open {
        Open::AsIs => stored,
        Open::Decode { raw, .. } => stored.saturating_add(*raw),
    }
}

/// The bytes of decoded pieces; blocks.
pub(super) fn opened(pieces: &[BodyRange], backing: &impl Backing) -> io::Result<Bytes> {
    if let [piece] = pieces {
        return open(piece, backing);
    }
    let mut all = Vec::new();
    for piece in pieces {
        all.extend_from_slice(&open(piece, backing)?);
    }
    Ok(all.into())
}

fn open(piece: &BodyRange, backing: &impl Backing) -> io::Result<Bytes> {
    thread_local! {
        static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
    }
    backing.verify(piece).map_err(io::Error::other)?;
    let stored = backing
        .read(piece.key, &piece.range)
        .map_err(io::Error::other)?
        .ok_or_else(|| {
            let (start, end) = (piece.range.start, piece.range.end);
            corrupt(format!("bytes {start} to {end} of {} are gone", piece.key))
        })?;
    DECODER
        .with_borrow_mut(|decoder| piece.open(stored, decoder))
        .map_err(|error| corrupt(format!("opening a piece of {}: {error}", piece.key)))
}

fn corrupt(detail: String) -> io::Error {
    io::Error::other(Problem::new(Code::Corrupt, detail))
}

/// A read in progress.
type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// Pieces that are read in order, each after the client took the one before.
struct Stream<B> {
    /// Bytes to send before the pieces.
    first: Bytes,
    pieces: VecDeque<BodyRange>,
    reading: Option<Reading>,
    backing: Arc<B>,
}

impl<B> Stream<B> {
    fn new(first: Bytes, pieces: Vec<BodyRange>, backing: Arc<B>) -> Self {
        Self {
            first,
            pieces: pieces.into(),
            reading: None,
            backing,
        }
    }

    /// The next piece, or the next chunk of a piece that is sent unchanged.
    fn next_step(&mut self, chunk_bytes: u64) -> Option<BodyRange> {
        let first = self.pieces.front_mut()?;
        let (start, end) = (first.range.start, first.range.end);
        if first.open != Open::AsIs || end.saturating_sub(start) <= chunk_bytes {
            return self.pieces.pop_front();
        }
        let step = BodyRange {
            range: start..start + chunk_bytes,
            ..first.clone()
        };
        first.range.start += chunk_bytes;
        // The first step verifies the whole piece.
        first.check = None;
        Some(step)
    }
}

impl<B: Backing> http_body::Body for Stream<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if !this.first.is_empty() {
            let first = std::mem::take(&mut this.first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            if let Some(reading) = &mut this.reading {
                let bytes = std::task::ready!(reading.as_mut().poll(context));
                this.reading = None;
                return Poll::Ready(Some(bytes.map(Frame::data)));
            }
            let is_near = this.backing.is_near();
            let chunk_bytes = if is_near {
                CHUNK_BYTES
            } else {
                FAR_CHUNK_BYTES
            };
            let Some(step) = this.next_step(chunk_bytes) else {
                return Poll::Ready(None);
            };
            if is_near && step.check.is_none() && cost(&step) <= AT_ONCE_BYTES {
                return Poll::Ready(Some(open(&step, &*this.backing).map(Frame::data)));
            }
            let backing = Arc::clone(&this.backing);
            let read = move |backing: &B| open(&step, backing);
            this.reading = Some(Box::pin(aside(backing, STREAM_TIME, read)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.pieces.is_empty() && self.reading.is_none()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Collected};
    use pmx_core::backend::Blobs as _;
    use pmx_core::codec::{Encoder, Level};
    use pmx_core::id::{ObjectId, SpaceId};

    use super::super::blobs::ObjectFolder;
    use super::super::blocking::block_on;
    use super::*;

    impl Backing for ObjectFolder {
        fn read(&self, key: ObjectKey, range: &Range<u64>) -> Result<Option<Bytes>, BackendError> {
            self.read_now(key, range)
        }

        fn verify(&self, _piece: &BodyRange) -> Result<(), Problem> {
            Ok(())
        }
    }

    const KEY: ObjectKey = ObjectKey {
        space: SpaceId::from_bytes([1; 16]),
        object: ObjectId::from_bytes([2; 16]),
    };

    fn piece(range: std::ops::Range<u64>, open: Open) -> BodyRange {
        BodyRange {
            key: KEY,
            range,
            open,
            check: None,
        }
    }

    /// The body as a client gets it, and its Content-Length.
    fn received(object: Vec<u8>, pieces: Vec<BodyRange>) -> (Result<Bytes, String>, u64) {
        let home = tempfile::tempdir().unwrap();
        let blobs = Arc::new(ObjectFolder::open(home.path()).unwrap());
        block_on(blobs.write(KEY, object.into())).unwrap();
        let answer = Response::new(Body::Pieces(pieces));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let answer = sendable(answer, &Method::GET, &blobs).await;
            let length = &answer.headers().get(CONTENT_LENGTH);
            let length = length.map_or(0, |length| length.to_str().unwrap().parse().unwrap());
            if answer.status() != StatusCode::OK {
                return (Err(answer.status().to_string()), length);
            }
            let body = answer.into_body().collect().await;
            let bytes = body.map(Collected::to_bytes);
            (bytes.map_err(|error| error.to_string()), length)
        })
    }

    #[test]
    fn pieces_become_the_body() {
        let noise: Vec<u8> = (0..3_000_000u32)
            .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8)
            .collect();
        let frame = Encoder::new().frame(&noise[..1_000_000], Level::STORED);
        let (raw, framed) = (noise.len() as u64, (noise.len() + frame.len()) as u64);
        let object = [&noise[..], &frame].concat();
        let decode = |keep| Open::Decode {
            raw: 1_000_000,
            keep,
        };
        let check = |pieces: Vec<BodyRange>, expected: &[u8]| {
            let (body, length) = received(object.clone(), pieces);
            assert!(body.unwrap() == expected);
            assert_eq!(length, expected.len() as u64);
        };
        check(vec![], b"");
        check(vec![piece(5..9, Open::AsIs)], &noise[5..9]);
        check(
            vec![piece(5..9, Open::AsIs), piece(0..2, Open::AsIs)],
            &[&noise[5..9], &noise[..2]].concat(),
        );
        check(vec![piece(0..raw, Open::AsIs)], &noise);
        check(
            vec![piece(raw..framed, decode(7..999_999))],
            &noise[7..999_999],
        );
        check(
            vec![
                piece(1..CHUNK_BYTES + 2, Open::AsIs),
                piece(raw..framed, decode(0..1_000_000)),
                piece(3..4, Open::AsIs),
            ],
            &[
                &noise[1..CHUNK_BYTES as usize + 2],
                &noise[..1_000_000],
                &noise[3..4],
            ]
            .concat(),
        );
    }

    #[test]
    fn small_body_that_is_gone_is_an_error_and_a_large_one_breaks_off() {
        let (small, _) = received(vec![0; 10], vec![piece(5..11, Open::AsIs)]);
        assert_eq!(small.unwrap_err(), "500 Internal Server Error");
        let (large, length) = received(vec![0; 300_000], vec![piece(0..400_000, Open::AsIs)]);
        assert!(large.unwrap_err().contains("are gone"));
        assert_eq!(length, 400_000);
        let garbage = Open::Decode {
            raw: 1_000_000,
            keep: 0..5,
        };
        let (garbled, _) = received(vec![0; 300_000], vec![piece(0..300_000, garbage)]);
        assert!(garbled.unwrap_err().contains("opening a piece"));
    }

    /// A store far away, which refuses every read.
    struct Refusing {
        turns: Arc<Semaphore>,
    }

    impl Backing for Refusing {
        fn is_near(&self) -> bool {
            false
        }

        fn far_turns(&self) -> Option<&Arc<Semaphore>> {
            Some(&self.turns)
        }

        fn read(&self, _: ObjectKey, _: &Range<u64>) -> Result<Option<Bytes>, BackendError> {
            Err(BackendError::new("reading an object", "403 AccessDenied"))
        }

        fn verify(&self, _piece: &BodyRange) -> Result<(), Problem> {
            Ok(())
        }
    }

    #[test]
    fn far_failure_keeps_its_code_and_a_stalled_store_is_unavailable() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for (turns, expected) in [(1, Code::Storage), (0, Code::Unavailable)] {
            let turns = Arc::new(Semaphore::new(turns));
            let backing = Arc::new(Refusing { turns });
            let answer = Response::new(Body::Pieces(vec![piece(0..9, Open::AsIs)]));
            let answer = runtime.block_on(sendable(answer, &Method::GET, &backing));
            assert_eq!(answer.status().as_u16(), expected.status());
            let body = runtime.block_on(answer.into_body().collect()).unwrap();
            let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            assert!(text.contains(expected.as_str()), "{text}");
        }
    }

    #[test]
    fn head_keeps_the_length_without_a_read() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Arc::new(ObjectFolder::open(home.path()).unwrap());
        let mut answer = Response::new(Body::Pieces(vec![piece(0..9, Open::AsIs)]));
        answer
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(9));
        let sent = block_on(sendable(answer, &Method::HEAD, &blobs));
        assert_eq!(sent.status(), StatusCode::OK);
        assert_eq!(sent.headers()[CONTENT_LENGTH], "9");
        assert!(http_body::Body::is_end_stream(sent.body()));
    }
}
