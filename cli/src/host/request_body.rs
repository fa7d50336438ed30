//! Request bodies: received whole, within a limit, a time and a memory budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_sync::limits::BODY_BYTES_MAX;
use tokio::time::{Instant, timeout, timeout_at};

use super::budget::Reservation;
use super::connections::{Connection, ConnectionPhase};

/// The length that the client announces. The HTTP layer refuses a body of another length.
pub(crate) fn announced(head: &Parts) -> Option<u64> {
    head.headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Refuses a body that announces more than the limit.
pub(crate) fn check(announced: Option<u64>, limit: usize) -> Result<(), Problem> {
    match announced {
        Some(bytes) if bytes > limit as u64 => Err(too_large(bytes, limit)),
        Some(_) | None => Ok(()),
    }
}

/// Receives the body of a request, of at most `limit` bytes. It marks the connection as receiving
/// until then, and takes each byte from the share's budget on arrival.
pub(crate) async fn receive(
    head: &Parts,
    body: &mut Incoming,
    limit: usize,
    share: &mut Reservation,
) -> Result<Bytes, Problem> {
    let connection = head.extensions.get::<Arc<Connection>>();
    if let Some(connection) = connection {
        connection.enter(ConnectionPhase::Receiving);
    }
    let received = collect(body, announced(head), limit, share).await;
    if let Some(connection) = connection {
        connection.enter(ConnectionPhase::Working);
    }
    received
}

async fn collect<B>(
    body: &mut B,
    announced: Option<u64>,
    limit: usize,
    share: &mut Reservation,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    check(announced, limit)?;
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let begun = Instant::now();
    let expected = announced.map_or(0, |bytes| bytes as usize);
    let mut all = BytesMut::with_capacity(expected.min(FIRST_BYTES));
    loop {
        let fair = Duration::from_secs(all.len() as u64 / RATE_MIN);
        let end = begun + WHOLE_TIME.min(GRACE_TIME + fair);
        let chunk = tokio::select! {
            chunk = timeout_at(end, next(body)) => chunk,
            () = share.given_up() => return Err(given_up()),
        };
        let Ok(chunk) = chunk else {
            return Err(too_slow(all.len()));
        };
        match chunk {
            None => {
                share.settle();
                return Ok(all.freeze());
            }
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(chunk)) if all.len() + chunk.len() > limit => {
                return Err(too_large((all.len() + chunk.len()) as u64, limit));
            }
            Some(Ok(chunk)) => {
                share.grow(chunk.len()).await.map_err(|_| given_up())?;
                all.extend_from_slice(&chunk);
            }
        }
    }
}

/// Most bytes that the host allocates for an announcement alone.
const FIRST_BYTES: usize = 64 * 1024;

/// Reads and drops the rest of a body during the answer. So a client that still sends can read the
/// refusal instead of a reset. Beyond the bounds, the connection breaks.
pub(crate) fn drain<B>(head: &Parts, mut body: B)
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    // A client that expects `100 Continue` sends nothing before the first read.
    let asked_first = head.headers.contains_key(EXPECT);
    if asked_first || body.is_end_stream() {
        return;
    }
    tokio::spawn(timeout(DRAIN_TIME, async move {
        let mut room = DRAIN_BYTES_MAX;
        while let Some(Ok(chunk)) = next(&mut body).await {
            let Some(rest) = room.checked_sub(chunk.len()) else {
                return;
            };
            room = rest;
        }
    }));
}

/// Additional time of a body, beside the time of its bytes at the minimum rate.
const GRACE_TIME: Duration = Duration::from_secs(10);

/// Bytes per second that a client has to send: less than the slowest mobile network carries.
const RATE_MIN: u64 = 4 * 1024;

/// How long a whole body may take: 12 MiB at a third of a megabit per second.
const WHOLE_TIME: Duration = Duration::from_mins(5);

/// How long a refused client may keep sending.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// The next bytes; trailers are skipped.
async fn next<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn too_large(bytes: u64, limit: usize) -> Problem {
    let detail = format!("a body of {bytes} bytes or more, where {limit} are allowed");
    Problem::new(Code::TooLarge, detail)
}

fn too_slow(received: usize) -> Problem {
    let detail = format!("the body stopped coming after {received} bytes");
    let mut problem = Problem::new(Code::Network, detail);
    problem.status = StatusCode::REQUEST_TIMEOUT.as_u16();
    problem
}

fn given_up() -> Problem {
    let detail = "there are too many bodies at once, and this one came most slowly";
    Problem::new(Code::TooMany, detail)
}

fn broken(error: &dyn std::fmt::Display) -> Problem {
    let detail = format!("reading the body of the request: {error}");
    Problem::new(Code::RequestMalformed, detail)
}

#[cfg(test)]
mod tests {
    use super::super::blocking::block_on;
    use super::super::budget::Budget;
    use super::*;

    async fn outcome(body: &'static [u8], announced: Option<u64>, limit: usize) -> String {
        let mut body = http_body_util::Full::new(Bytes::from_static(body));
        let mut share = Budget::new(1_000).share();
        match collect(&mut body, announced, limit, &mut share).await {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(problem) => format!("{} {}", problem.status, problem.detail),
        }
    }

    #[test]
    fn limits_hold_for_what_is_announced_and_for_what_comes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        for (body, announced, limit, expected) in [
            (&b"12345"[..], Some(5), 5, "5 bytes"),
            (b"12345", None, 5, "5 bytes"),
            (b"", None, 0, "0 bytes"),
            (b"", Some(0), 0, "0 bytes"),
            (
                b"12345",
                Some(5),
                4,
                "413 a body of 5 bytes or more, where 4 are allowed",
            ),
            (
                b"12345",
                None,
                4,
                "413 a body of 5 bytes or more, where 4 are allowed",
            ),
            (
                b"1",
                Some(u64::MAX),
                9,
                &format!(
                    "413 a body of {} bytes or more, where 9 are allowed",
                    u64::MAX
                ),
            ),
        ] {
            assert_eq!(block_on(outcome(body, announced, limit)), expected);
        }
    }
}
