//! Server-sent events: each reader has a task of its own, at its own pace.
//!
//! A slow reader falls behind, and gets a larger page once its queue is free; the task of a reader
//! that has left ends. Neither delays other readers. A session ends after about a minute, and the
//! client reconnects, so that proxies in between may change.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::Response as Answer;
use pmx_streams::Refusal;
use pmx_streams::http::Get;
use pmx_streams::http::sse::{self, SseChunk, SseSession, Then};
use worker::Delay;
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen_futures::spawn_local;

use super::answer::AnswerBody;
use super::body_stream::{BodyStream, ROOM_PAUSE};
use super::server_timing;
use super::source::{ListenerGuard, SharedPage, Source};
use crate::http::{chance, now};
use crate::js_error::words;

/// Begins the response to a reader.
pub(crate) async fn begin<S: Source>(
    source: &Rc<S>,
    get: &Get,
) -> Result<Answer<AnswerBody>, S::Failure>
where
    S::Failure: From<Refusal>,
{
    let session = SseSession::new(get);
    let first = source.read_shared(session.read()).await?;
    let (sender, body) = BodyStream::new().map_err(|thrown| Refusal::Storage {
        why: format!("making a stream: {}", words(thrown)),
    })?;
    let head = sse::head(&first.page.view.media_type);
    let reader = Reader::new(Rc::clone(source), session, sender);
    spawn_local(reader.run(first));
    Ok(head.map(|_| AnswerBody::Stream(body)))
}

/// Interval of keep-alive events.
const TICK: Duration = Duration::from_secs(12);

/// Jitter of the interval, which spreads the reconnects of readers.
const TICK_JITTER_MS: u64 = 4_000;

/// Keep-alives of a session.
const TICKS: u32 = 4;

/// Pieces of a keep-alive event: more than there are buffers between an object and its reader.
const PIECES: usize = 5;

/// The pause after each piece.
const PIECE_PAUSE: Duration = Duration::from_millis(10);

struct Reader<S> {
    source: Rc<S>,
    session: SseSession,
    body: BodyStream,
    pace: Duration,
    tick: Pin<Box<Delay>>,
    ticks: u32,
    /// Whether the next event is a keep-alive, which probes whether the reader is connected.
    is_probed: bool,
    /// Bytes sent to the reader.
    sent: u64,
}

/// Why a reader no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WakeReason {
    Changed,
    Tick,
    Left,
}

impl<S: Source> Reader<S> {
    fn new(source: Rc<S>, session: SseSession, body: BodyStream) -> Self {
        let pace = TICK + Duration::from_millis(chance() % TICK_JITTER_MS);
        Self {
            source,
            session,
            body,
            pace,
            tick: Box::pin(Delay::from(pace)),
            ticks: 0,
            is_probed: false,
            sent: 0,
        }
    }

    async fn run(mut self, first: Rc<SharedPage>) {
        let begun = now();
        self.send_pages(first).await;
        let millis = server_timing::since(begun).as_millis() as u64;
        self.source.served(self.sent, millis);
    }

    async fn send_pages(&mut self, first: Rc<SharedPage>) {
        let _listener = ListenerGuard::new(&self.source);
        let mut next = Some(first);
        while let Some(shared) = next.filter(|it| self.session.knows(&it.page)) {
            let sent = if std::mem::take(&mut self.is_probed) {
                self.send_in_pieces(&shared).await
            } else {
                self.send(&shared)
            };
            let Ok(then) = sent else {
                return;
            };
            next = match then {
                Then::More => self.more().await,
                Then::Wait => self.next_change(shared.version).await,
                Then::End => None,
            };
        }
        self.body.close();
    }

    /// Sends the shared chunk, or a separate one if the reader's cursor is ahead of it.
    fn send(&mut self, shared: &SharedPage) -> Result<Then, JsValue> {
        let common = shared.common();
        if self.session.takes(common.cursor) {
            self.body.send(&common.chunk)?;
            self.sent += common.event.bytes.len() as u64;
            self.session.got(&shared.page, &common.event);
            return Ok(common.event.then);
        }
        let event = self.own_event(shared);
        self.body.send(&Uint8Array::from(&*event.bytes))?;
        Ok(self.record_sent(shared, &event))
    }

    /// Sends a separate event in pieces. The runtime may not signal that a reader has left. Then
    /// each buffer in between takes one more piece and no further one. The next keep-alive notices
    /// that.
    async fn send_in_pieces(&mut self, shared: &SharedPage) -> Result<Then, JsValue> {
        let event = self.own_event(shared);
        let size = event.bytes.len().div_ceil(PIECES).max(1);
        for piece in event.bytes.chunks(size) {
            self.body.send(&Uint8Array::from(piece))?;
            Delay::from(PIECE_PAUSE).await;
        }
        // The next check counts only what the reader takes from here on.
        let _stuck = self.body.is_stuck();
        Ok(self.record_sent(shared, &event))
    }

    fn own_event(&self, shared: &SharedPage) -> SseChunk {
        let cursor = self.session.cursor(now(), chance());
        sse::event(&shared.page, cursor)
    }

    fn record_sent(&mut self, shared: &SharedPage, event: &SseChunk) -> Then {
        self.sent += event.bytes.len() as u64;
        self.session.got(&shared.page, event);
        event.then
    }

    /// The next page, without waiting for a change. `None` if the session is over.
    async fn more(&mut self) -> Option<Rc<SharedPage>> {
        self.wait_for_room().await?;
        self.source.read_shared(self.session.read()).await.ok()
    }

    /// The next page with a change, or a keep-alive. `None` if the session is over.
    async fn next_change(&mut self, mut seen: u64) -> Option<Rc<SharedPage>> {
        loop {
            let reason = self.wait(seen).await;
            match reason {
                WakeReason::Changed => {}
                WakeReason::Tick => self.tick()?,
                WakeReason::Left => return None,
            }
            let shared = self.more().await?;
            if reason == WakeReason::Tick || !sse::is_silent(&shared.page) {
                return Some(shared);
            }
            seen = shared.version;
        }
    }

    /// Waits until the version differs from `seen`, the reader leaves, or a keep-alive is due.
    async fn wait(&mut self, seen: u64) -> WakeReason {
        let mut changed = pin!(self.source.changes().notified(seen));
        let mut left = pin!(self.body.left());
        let tick = &mut self.tick;
        poll_fn(|context| {
            if changed.as_mut().poll(context).is_ready() {
                return Poll::Ready(WakeReason::Changed);
            }
            if left.as_mut().poll(context).is_ready() {
                return Poll::Ready(WakeReason::Left);
            }
            tick.as_mut().poll(context).map(|()| WakeReason::Tick)
        })
        .await
    }

    /// Begins a keep-alive. `None` if it is the last, or the reader took nothing since the one
    /// before.
    fn tick(&mut self) -> Option<()> {
        if self.body.is_stuck() {
            return None;
        }
        self.ticks += 1;
        self.is_probed = true;
        self.tick = Box::pin(Delay::from(self.pace));
        (self.ticks < TICKS).then_some(())
    }

    /// Waits until the reader's queue has room. `None` if the reader has left or takes too long.
    async fn wait_for_room(&mut self) -> Option<()> {
        let mut pauses = 0;
        while !self.body.has_room() {
            pauses += 1;
            if pauses > PAUSES_MAX {
                return None;
            }
            let mut left = pin!(self.body.left());
            match select(pin!(Delay::from(ROOM_PAUSE)), left.as_mut()).await {
                Either::Left(_) => {}
                Either::Right(_) => return None,
            }
        }
        Some(())
    }
}

/// Pauses after which a reader that takes nothing is disconnected: a minute.
const PAUSES_MAX: u32 = 3_000;
