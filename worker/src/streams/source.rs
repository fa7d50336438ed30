//! Sources of live readers: streams, and the events of a site.

use std::cell::{Cell, OnceCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use pmx_streams::http::sse::{self, Event};
use pmx_streams::http::{Cursor, Get, Poll};
use pmx_streams::{From, Page, Read};
use worker::Delay;
use worker::js_sys::Uint8Array;

use super::notify::{Either, Notify, select};
use crate::http::{chance, now};

/// What live readers read.
pub(crate) trait Source: 'static {
    /// Why it can't be read.
    type Failure;

    /// What rings when there may be more.
    fn changes(&self) -> &Notify;

    /// How many listen.
    fn listeners(&self) -> &Cell<usize>;

    /// Notes that a reader of events was sent so many bytes in so long.
    fn served(&self, _sent: u64, _millis: u64) {}

    /// Reads for those who wait: all who stand at the same place share what one of them reads.
    fn look(&self, read: Read) -> impl Future<Output = Result<Rc<Seen>, Self::Failure>>;
}

/// Answers a reader who waits for one answer.
pub(crate) async fn poll<S: Source>(
    source: &Rc<S>,
    get: Get,
    long_poll: Duration,
) -> Result<Response<Bytes>, S::Failure> {
    let mut late = pin!(Delay::from(long_poll));
    let mut poll = Poll::new(get);
    loop {
        let seen = source.look(poll.read()).await?;
        if let Some(answer) = poll.got(&seen.page, now(), chance()) {
            return Ok(answer);
        }
        match select(source.changes().notified(seen.version), late.as_mut()).await {
            Either::Left => {}
            Either::Right => return Ok(poll.late(now(), chance())),
        }
    }
}

/// A page, and what all who read it get.
pub(crate) struct Seen {
    pub(crate) version: u64,
    from: From,
    pub(crate) page: Page,
    common: OnceCell<Common>,
}

/// An event as all get it.
pub(super) struct Common {
    pub(super) cursor: Cursor,
    pub(super) event: Event,
    pub(super) chunk: Uint8Array,
}

impl Seen {
    /// A page that was read when the bell had rung so often.
    pub(crate) fn new(version: u64, read: Read, page: Page) -> Self {
        Self {
            version,
            from: read.from,
            page,
            common: OnceCell::new(),
        }
    }

    /// Whether it is what a reader would get.
    pub(crate) fn is_of(&self, version: u64, read: Read) -> bool {
        self.version == version && self.from == read.from
    }

    /// The event, made once.
    pub(super) fn common(&self) -> &Common {
        self.common.get_or_init(|| {
            let cursor = Cursor::at(now());
            let event = sse::event(&self.page, cursor);
            let chunk = Uint8Array::from(&*event.bytes);
            Common {
                cursor,
                event,
                chunk,
            }
        })
    }
}

/// Notes that a client listens, for as long as it lives.
pub(super) struct Listening<S: Source>(Rc<S>);

impl<S: Source> Listening<S> {
    pub(super) fn to(source: &Rc<S>) -> Self {
        let listeners = source.listeners();
        listeners.set(listeners.get().saturating_add(1));
        Self(Rc::clone(source))
    }
}

impl<S: Source> Drop for Listening<S> {
    fn drop(&mut self) {
        let listeners = self.0.listeners();
        listeners.set(listeners.get().saturating_sub(1));
    }
}
