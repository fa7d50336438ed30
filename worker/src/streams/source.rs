//! Source of live readers: a stream, or the events of a site.

use std::cell::{Cell, OnceCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::Response;
use pmx_streams::http::sse::{self, SseChunk};
use pmx_streams::http::{Get, LiveCursor, Poll};
use pmx_streams::{From, Page, Read};
use worker::Delay;
use worker::js_sys::Uint8Array;

use super::notify::Notify;
use crate::http::{chance, now};

/// A log that live readers read.
pub(crate) trait Source: 'static {
    /// Error of a read.
    type Failure;

    /// Notifies readers of changes.
    fn changes(&self) -> &Notify;

    /// The number of connected readers.
    fn listeners(&self) -> &Cell<usize>;

    /// Records the bytes and the duration of a reader's session.
    fn served(&self, _sent: u64, _millis: u64) {}

    /// Reads a page for a live reader. Readers at one offset share a page.
    fn read_shared(
        &self,
        read: Read,
    ) -> impl Future<Output = Result<Rc<SharedPage>, Self::Failure>>;
}

/// Answers a long poll.
pub(crate) async fn poll<S: Source>(
    source: &Rc<S>,
    get: Get,
    long_poll: Duration,
) -> Result<Response<Bytes>, S::Failure> {
    let mut late = pin!(Delay::from(long_poll));
    let mut poll = Poll::new(get);
    loop {
        let shared = source.read_shared(poll.read()).await?;
        if let Some(answer) = poll.on_page(&shared.page, now(), chance()) {
            return Ok(answer);
        }
        let changed = pin!(source.changes().notified(shared.version));
        match select(changed, late.as_mut()).await {
            Either::Left(_) => {}
            Either::Right(_) => return Ok(poll.on_timeout(now(), chance())),
        }
    }
}

/// A page that readers at one offset share.
pub(crate) struct SharedPage {
    pub(crate) version: u64,
    from: From,
    pub(crate) page: Page,
    common: OnceCell<SharedEvent>,
}

/// The page's event, encoded once.
pub(super) struct SharedEvent {
    pub(super) cursor: LiveCursor,
    pub(super) event: SseChunk,
    pub(super) chunk: Uint8Array,
}

impl SharedPage {
    /// Wraps a page that was read at a version of the source.
    pub(crate) fn new(version: u64, read: Read, page: Page) -> Self {
        Self {
            version,
            from: read.from,
            page,
            common: OnceCell::new(),
        }
    }

    /// Whether it is the page of this version and read.
    pub(crate) fn is_of(&self, version: u64, read: Read) -> bool {
        self.version == version && self.from == read.from
    }

    /// The event for all readers whose cursor is not ahead.
    pub(super) fn common(&self) -> &SharedEvent {
        self.common.get_or_init(|| {
            let cursor = LiveCursor::at(now());
            let event = sse::event(&self.page, cursor);
            let chunk = Uint8Array::from(&*event.bytes);
            SharedEvent {
                cursor,
                event,
                chunk,
            }
        })
    }
}

/// Counts a connected reader until it is dropped.
pub(super) struct ListenerGuard<S: Source>(Rc<S>);

impl<S: Source> ListenerGuard<S> {
    pub(super) fn new(source: &Rc<S>) -> Self {
        let listeners = source.listeners();
        listeners.set(listeners.get().saturating_add(1));
        Self(Rc::clone(source))
    }
}

impl<S: Source> Drop for ListenerGuard<S> {
    fn drop(&mut self) {
        let listeners = self.0.listeners();
        listeners.set(listeners.get().saturating_sub(1));
    }
}
