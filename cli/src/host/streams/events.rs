//! Server-sent events: the response body of a live reader.
//!
//! hyper polls the body for its next chunk once it has sent the one before. So each reader has the
//! pace of its client, and all readers that keep up share the same bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use pmx_streams::http::sse::{self, SseSession, Then};
use pmx_streams::http::{Get, LiveCursor};
use pmx_streams::{Page, Read};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::super::any_body::{self, AnyBody};
use super::answer::{jitter, up_to};
use super::broadcast::{Shared, TopicReader};

/// The log that readers read.
pub(crate) trait Source: Send + Sync + 'static {
    /// Error of a read.
    type Failure: Send;

    /// Reads a page.
    fn read(&self, read: Read) -> impl Future<Output = Result<Page, Self::Failure>> + Send;
}

/// Begins the response to a reader.
pub(crate) async fn begin<S: Source>(
    source: S,
    changes: TopicReader,
    get: &Get,
    stop: watch::Receiver<bool>,
) -> Result<Response<AnyBody>, S::Failure> {
    let session = SseSession::new(get);
    let first = source.read(session.read()).await?;
    let head = sse::head(&first.view.media_type);
    let reader = Reader {
        source,
        changes,
        session,
        stop,
        end: Instant::now() + SESSION_TIME + up_to(SESSION_JITTER),
        keep_alive: Instant::now() + KEEP_ALIVE_TIME,
        then: Then::More,
        first: Some(first),
    };
    let body = Events(Some(Box::pin(reader.next())));
    Ok(head.map(|_| any_body::stream(body)))
}

/// How long a session lasts until the client has to reconnect: proxies in between may change.
const SESSION_TIME: Duration = Duration::from_secs(55);

/// Spreads the reconnects of readers.
const SESSION_JITTER: Duration = Duration::from_secs(10);

/// Silence after which a reader gets a keep-alive.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(15);

struct Reader<S> {
    source: S,
    changes: TopicReader,
    session: SseSession,
    stop: watch::Receiver<bool>,
    end: Instant,
    keep_alive: Instant,
    then: Then,
    first: Option<Page>,
}

/// Why a reader is no longer idle.
enum WakeReason {
    Changed,
    KeepAlive,
    End,
}

impl<S: Source> Reader<S> {
    /// The next chunk and the reader after it, or `None` at the end of the session.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            let reason = match self.then {
                Then::More => WakeReason::Changed,
                Then::Wait => self.wait().await,
                Then::End => WakeReason::End,
            };
            let shared = match reason {
                WakeReason::Changed | WakeReason::KeepAlive => self.page().await?,
                WakeReason::End => return None,
            };
            let page = &shared.page;
            if !self.session.knows(page) {
                return None;
            }
            // The first chunk has the reader's offset, even if there is no message.
            let silent = sse::is_silent(page);
            if silent && self.then == Then::Wait && matches!(reason, WakeReason::Changed) {
                continue;
            }
            let bytes = self.take(&shared);
            return Some((bytes, self));
        }
    }

    async fn wait(&mut self) -> WakeReason {
        tokio::select! {
            () = self.changes.changed() => WakeReason::Changed,
            () = sleep_until(self.keep_alive.min(self.end)) => {
                if Instant::now() >= self.end { WakeReason::End } else { WakeReason::KeepAlive }
            }
            _ = self.stop.changed() => WakeReason::End,
        }
    }

    /// The page at the reader's offset, or `None` if the session is over.
    async fn page(&mut self) -> Option<Arc<Shared>> {
        let read = self.session.read();
        if let Some(first) = self.first.take() {
            return Some(Arc::new(Shared::new(read, first)));
        }
        self.changes.mark();
        let reading = self.source.read(read);
        match self.then {
            // A reader that catches up is alone at its offset, and must not delay the others.
            Then::More => {
                let page = reading.await.ok()?;
                Some(Arc::new(Shared::new(read, page)))
            }
            Then::Wait | Then::End => {
                let reading = async { Ok(Shared::new(read, reading.await?)) };
                let shared: Result<_, S::Failure> = self.changes.shared(read, reading).await;
                shared.ok()
            }
        }
    }

    /// Takes the shared chunk, or encodes a separate one if the reader's cursor is ahead of it.
    fn take(&mut self, shared: &Shared) -> Bytes {
        let now = crate::host::now();
        let (cursor, event) = shared.event(LiveCursor::at(now));
        let own;
        let event = if self.session.takes(*cursor) {
            event
        } else {
            own = sse::event(&shared.page, self.session.cursor(now, jitter()));
            &own
        };
        self.session.got(&shared.page, event);
        self.then = event.then;
        self.keep_alive = Instant::now() + KEEP_ALIVE_TIME;
        event.bytes.clone()
    }
}

/// The future of the next chunk.
type Next<S> = Pin<Box<dyn Future<Output = Option<(Bytes, Reader<S>)>> + Send>>;

/// The body: one chunk after the other.
struct Events<S>(Option<Next<S>>);

impl<S: Source> http_body::Body for Events<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(next) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let (bytes, rest) = match ready!(next.as_mut().poll(context)) {
            Some((bytes, reader)) => {
                let rest: Next<S> = Box::pin(reader.next());
                (Some(bytes), Some(rest))
            }
            None => (None, None),
        };
        self.0 = rest;
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
