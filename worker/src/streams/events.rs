//! Readers of server-sent events: each has a task of its own and goes at its own pace.
//!
//! A reader who is slow falls behind and gets more at once when there is room again; one who has
//! left ends its task. Neither holds up anybody else. After about a minute a reader is sent away
//! and comes again, so that what lies between may change.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Response as Answer;
use pmx_streams::Refusal;
use pmx_streams::http::Get;
use pmx_streams::http::sse::{self, Session, Then};
use worker::Delay;
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen_futures::spawn_local;

use super::answer::Body;
use super::body_stream::{BodyStream, ROOM_PAUSE};
use super::notify::{Either, select};
use super::server_timing;
use super::source::{Listening, Seen, Source};
use crate::http::{chance, now};
use crate::js_error::words;

/// Begins to answer a reader.
pub(crate) async fn begin<S: Source>(source: &Rc<S>, get: &Get) -> Result<Answer<Body>, S::Failure>
where
    S::Failure: From<Refusal>,
{
    let session = Session::new(get);
    let seen = source.look(session.read()).await?;
    let (pipe, body) = BodyStream::new().map_err(|thrown| Refusal::Storage {
        why: format!("making a stream: {}", words(thrown)),
    })?;
    let head = sse::head(&seen.page.view.media_type);
    let reader = Reader::new(Rc::clone(source), session, pipe);
    spawn_local(reader.run(seen));
    Ok(head.map(|_| Body::Stream(body)))
}

/// How often a reader hears that nothing came.
const TICK: Duration = Duration::from_secs(12);

/// By how much ticks differ between readers, so that not all come again at once.
const TICK_JITTER_MS: u64 = 4_000;

/// Ticks of a session.
const TICKS: u32 = 4;

/// Pieces of the event of a tick: more than there are places between an object and its reader.
const PIECES: usize = 5;

/// The pause after each.
const PIECE_PAUSE: Duration = Duration::from_millis(10);

struct Reader<S> {
    source: Rc<S>,
    session: Session,
    pipe: BodyStream,
    pace: Duration,
    tick: Pin<Box<Delay>>,
    ticks: u32,
    /// Whether a tick is due to the reader, which shows whether it is there.
    is_probed: bool,
    /// Bytes that the reader was given.
    sent: u64,
}

/// Why a reader no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Rung,
    Tick,
    Left,
}

impl<S: Source> Reader<S> {
    fn new(source: Rc<S>, session: Session, pipe: BodyStream) -> Self {
        let pace = TICK + Duration::from_millis(chance() % TICK_JITTER_MS);
        Self {
            source,
            session,
            pipe,
            pace,
            tick: Box::pin(Delay::from(pace)),
            ticks: 0,
            is_probed: false,
            sent: 0,
        }
    }

    async fn run(mut self, first: Rc<Seen>) {
        let begun = now();
        self.follow(first).await;
        let millis = server_timing::since(begun).as_millis() as u64;
        self.source.served(self.sent, millis);
    }

    async fn follow(&mut self, begun: Rc<Seen>) {
        let _listening = Listening::to(&self.source);
        let mut next = Some(begun);
        while let Some(seen) = next.filter(|seen| self.session.knows(&seen.page)) {
            let given = if std::mem::take(&mut self.is_probed) {
                self.give_in_pieces(&seen).await
            } else {
                self.give(&seen)
            };
            let Ok(then) = given else {
                return;
            };
            next = match then {
                Then::More => self.more().await,
                Then::Wait => self.news(seen.version).await,
                Then::End => None,
            };
        }
        self.pipe.close();
    }

    /// Gives the reader what all get, or a chunk of its own if its cursor is ahead of that.
    fn give(&mut self, seen: &Seen) -> Result<Then, JsValue> {
        let common = seen.common();
        if self.session.takes(common.cursor) {
            self.pipe.send(&common.chunk)?;
            self.sent += common.event.bytes.len() as u64;
            self.session.got(&seen.page, &common.event);
            return Ok(common.event.then);
        }
        let cursor = self.session.cursor(now(), chance());
        let event = sse::event(&seen.page, cursor);
        self.pipe.send(&Uint8Array::from(&*event.bytes))?;
        self.sent += event.bytes.len() as u64;
        self.session.got(&seen.page, &event);
        Ok(event.then)
    }

    /// Gives the reader an event of its own, piece by piece. The runtime does not say that a reader
    /// has left. It takes one more piece at each of the places between, until it finds out, and
    /// then no more, which the next tick sees.
    async fn give_in_pieces(&mut self, seen: &Seen) -> Result<Then, JsValue> {
        let cursor = self.session.cursor(now(), chance());
        let event = sse::event(&seen.page, cursor);
        let size = event.bytes.len().div_ceil(PIECES).max(1);
        for piece in event.bytes.chunks(size) {
            self.pipe.send(&Uint8Array::from(piece))?;
            Delay::from(PIECE_PAUSE).await;
        }
        self.sent += event.bytes.len() as u64;
        self.session.got(&seen.page, &event);
        // What was taken until now does not count at the next look.
        let _stuck = self.pipe.is_stuck();
        Ok(event.then)
    }

    /// The next page, which is there already. Nothing if it is over.
    async fn more(&mut self) -> Option<Rc<Seen>> {
        self.room().await?;
        self.source.look(self.session.read()).await.ok()
    }

    /// The next page that has something new, or says after a while that nothing is.
    async fn news(&mut self, mut heard: u64) -> Option<Rc<Seen>> {
        loop {
            let woken = self.woken(heard).await;
            match woken {
                Woken::Rung => {}
                Woken::Tick => self.ticked()?,
                Woken::Left => return None,
            }
            let seen = self.more().await?;
            if woken == Woken::Tick || !sse::is_silent(&seen.page) {
                return Some(seen);
            }
            heard = seen.version;
        }
    }

    async fn woken(&mut self, heard: u64) -> Woken {
        let mut version = pin!(self.source.changes().notified(heard));
        let mut left = pin!(self.pipe.left());
        let tick = &mut self.tick;
        poll_fn(|context| {
            if version.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Rung);
            }
            if left.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Left);
            }
            tick.as_mut().poll(context).map(|()| Woken::Tick)
        })
        .await
    }

    /// Begins the next tick; nothing if it was the last, or the reader took nothing since the one
    /// before it.
    fn ticked(&mut self) -> Option<()> {
        if self.pipe.is_stuck() {
            return None;
        }
        self.ticks += 1;
        self.is_probed = true;
        self.tick = Box::pin(Delay::from(self.pace));
        (self.ticks < TICKS).then_some(())
    }

    /// Waits until the reader keeps up. Nothing if it has left, or for too long does not.
    async fn room(&mut self) -> Option<()> {
        let mut pauses = 0;
        while !self.pipe.has_room() {
            pauses += 1;
            if pauses > PAUSES_MAX {
                return None;
            }
            let mut left = pin!(self.pipe.left());
            match select(Delay::from(ROOM_PAUSE), left.as_mut()).await {
                Either::Left => {}
                Either::Right => return None,
            }
        }
        Some(())
    }
}

/// Pauses after which a reader that takes nothing is given up: a minute.
const PAUSES_MAX: u32 = 3_000;
