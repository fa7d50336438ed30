//! Bodies of requests: read whole, within a limit and a time.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http_body::Body;
use pmx_sync::code::Code;
use pmx_sync::limits::BODY_BYTES_MAX;
use pmx_sync::wire::Problem;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the body is, if the client said so. A client that says it wrongly is refused by the
/// HTTP layer.
pub(crate) fn announced(head: &Parts) -> Option<u64> {
    head.headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Refuses a body that announces more than it may have.
pub(crate) fn check(announced: Option<u64>, limit: usize) -> Result<(), Problem> {
    match announced {
        Some(bytes) if bytes > limit as u64 => Err(too_large(bytes, limit)),
        Some(_) | None => Ok(()),
    }
}

/// Memory for a body, taken as its bytes arrive.
pub(crate) trait Budget {
    /// Takes what the body needs beyond what it holds, once it has `bytes`; or refuses.
    async fn grow(&mut self, bytes: usize) -> Result<(), Problem>;

    /// Whether others want what this body holds, so that it must come fast.
    fn is_scarce(&self) -> bool;
}

/// A budget that was taken before.
impl Budget for () {
    async fn grow(&mut self, _: usize) -> Result<(), Problem> {
        Ok(())
    }

    fn is_scarce(&self) -> bool {
        false
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn collect<B>(
    body: &mut B,
    announced: Option<u64>,
    limit: usize,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    collect_within(body, announced, limit, &mut ()).await
}

/// The same within a budget.
pub(crate) async fn collect_within<B>(
    body: &mut B,
    announced: Option<u64>,
    limit: usize,
    budget: &mut impl Budget,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    check(announced, limit)?;
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // What is announced need not come: memory follows the bytes.
    let begin = announced.map_or(0, |bytes| bytes.min(BEGIN_BYTES));
    let mut all = BytesMut::with_capacity(begin as usize);
    let mut pace = Pace::begin(Instant::now());
    loop {
        let scarce = budget.is_scarce();
        let Ok(chunk) = timeout_at(pace.deadline(scarce), next(body)).await else {
            if pace.goes_on(Instant::now(), all.len(), scarce) {
                continue;
            }
            return Err(too_slow(all.len()));
        };
        match chunk {
            None => return Ok(all.freeze()),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(chunk)) if all.len() + chunk.len() > limit => {
                return Err(too_large((all.len() + chunk.len()) as u64, limit));
            }
            Some(Ok(chunk)) => {
                budget.grow(all.len() + chunk.len()).await?;
                all.extend_from_slice(&chunk);
            }
        }
    }
}

/// Minimum rate of a body: in each window of time enough bytes have to come.
struct Pace {
    end: Instant,
    window: Instant,
    before: usize,
}

impl Pace {
    fn begin(now: Instant) -> Self {
        Self {
            end: now + WHOLE_TIME,
            window: now,
            before: 0,
        }
    }

    /// When the window ends.
    fn deadline(&self, scarce: bool) -> Instant {
        let (time, _) = window(scarce);
        self.end.min(self.window + time)
    }

    /// Begins the next window, unless too few bytes came in this one.
    fn goes_on(&mut self, now: Instant, received: usize, scarce: bool) -> bool {
        let (_, least) = window(scarce);
        let came = received.saturating_sub(self.before);
        (self.window, self.before) = (now, received);
        now < self.end && came >= least
    }
}

/// A window of time, and how many bytes have to come in it: little, so that a slow line may pause;
/// but 16 KiB a second while others want the memory that the body holds.
const fn window(scarce: bool) -> (Duration, usize) {
    if scarce {
        (Duration::from_secs(1), 16 * 1024)
    } else {
        (Duration::from_secs(30), 1024)
    }
}

/// Bytes that a body begins with, however many are announced.
const BEGIN_BYTES: u64 = 64 * 1024;

/// Reads on beside the answer and drops what comes, so that a client that is still sending gets
/// to read why it was refused, instead of a reset. Within bounds: then the connection breaks.
pub(crate) fn drain<B>(head: &Parts, mut body: B)
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    // Who asked first has not sent anything yet, and is told to by the first read.
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

/// How long a whole body may take: 12 MiB at a third of a megabit per second.
const WHOLE_TIME: Duration = Duration::from_mins(5);

/// How long and how much a refused client may go on sending.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// The next bytes; trailers are skipped.
async fn next<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame? {
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

fn broken(error: &dyn std::fmt::Display) -> Problem {
    let detail = format!("reading the body of the request: {error}");
    Problem::new(Code::RequestMalformed, detail)
}

#[cfg(test)]
mod tests {
    use super::super::ready::block_on;
    use super::*;

    async fn outcome(body: &'static [u8], announced: Option<u64>, limit: usize) -> String {
        let mut body = axum::body::Body::from(body);
        match collect(&mut body, announced, limit).await {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(problem) => format!("{} {}", problem.status, problem.detail),
        }
    }

    #[test]
    fn a_body_needs_a_minimum_rate() {
        // Bytes that come each second; when the client is sent away.
        for (bytes, scarce, seconds) in [
            (0, false, Some(30)),
            (30, false, Some(30)),
            (100, false, Some(300)),
            (100, true, Some(1)),
            (16 * 1024, true, Some(300)),
        ] {
            let begun = Instant::now();
            let mut pace = Pace::begin(begun);
            let sent_away = (1..=400).find(|second| {
                let now = begun + Duration::from_secs(*second);
                let is_over = pace.deadline(scarce) <= now;
                is_over && !pace.goes_on(now, bytes * *second as usize, scarce)
            });
            assert_eq!(sent_away, seconds, "{bytes} {scarce}");
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
