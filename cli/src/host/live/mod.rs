//! Live event subscribers: long polls, event streams and sockets.
//!
//! A commit notifies the subscribers without waiting for them. Each reads the log at its own pace,
//! and subscribers at the same offset share one read.

mod log_reader;
mod notify;
mod socket;
mod waiting;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use pmx_core::channel::Channel;
use pmx_core::problem::Problem;
use pmx_streams::From;
use pmx_streams::http::{Get, Poll};
use pmx_sync::live::{
    DeliveryMode, EventQuery, EventReader, EventRequest, Session, add_event_headers, refused,
};
use tokio::time::{Instant, sleep_until};

use super::any_body::{self, AnyBody};
use super::state::AppState;
use super::streams::answer::jitter;
use super::streams::events;
use log_reader::{LogReader, ReadMode};
use notify::TopicKind;

pub(crate) use notify::notify;
pub(crate) use waiting::{LiveState, Notice};

/// Answers an event request.
pub(crate) async fn answer(
    state: &Arc<AppState>,
    head: &mut Parts,
    listener: Result<EventRequest, Response<Bytes>>,
) -> Response<AnyBody> {
    let listener = match listener {
        Ok(listener) => listener,
        Err(refusal) => return refusal.map(any_body::full),
    };
    match listen(state, head, listener).await {
        Ok(answer) => add_event_headers(answer),
        Err(problem) => refused(&problem).map(any_body::full),
    }
}

async fn listen(
    state: &Arc<AppState>,
    head: &mut Parts,
    listener: EventRequest,
) -> Result<Response<AnyBody>, Problem> {
    state.server.admit_listener(&listener, super::now()).await?;
    let EventRequest {
        channel,
        mode: listening,
        access: reader,
    } = listener;
    let kind = |query: &EventQuery| ReadMode {
        compact: query.compact,
        reader,
    };
    match listening {
        DeliveryMode::Socket(dialect) => {
            let session = Session::new(reader, dialect, super::now());
            socket::open(state, head, &channel, session, dialect).await
        }
        DeliveryMode::Poll(query) => poll(state, &channel, kind(&query), query.get).await,
        DeliveryMode::Events(query) => stream(state, &channel, kind(&query), &query.get).await,
    }
}

/// The topic whose subscribers share a reader's pages.
const fn topic_kind(kind: ReadMode) -> TopicKind {
    match (kind.reader, kind.compact) {
        (EventReader::Visitor, false) => TopicKind::Log,
        (EventReader::Visitor, true) => TopicKind::NetLog,
        (EventReader::Holder, false) => TopicKind::HeldLog,
        (EventReader::Holder, true) => TopicKind::HeldNetLog,
    }
}

/// Answers a long poll.
async fn poll(
    state: &Arc<AppState>,
    channel: &Channel,
    kind: ReadMode,
    get: Get,
) -> Result<Response<AnyBody>, Problem> {
    let live = &state.live;
    let mut changes = live.topics.subscribe(&topic_kind(kind).topic(channel)?);
    let mut stop = live.stop.clone();
    let end = Instant::now() + live.long_poll;
    let log = LogReader::new(state, channel, kind);
    let mut poll = Poll::new(get);
    loop {
        changes.mark();
        let read = poll.read();
        let at_tail = matches!(read.from, From::At(_)) && !kind.compact;
        let shared = if at_tail {
            changes.shared(read, log.shared(read)).await?
        } else {
            Arc::new(log.shared(read).await?)
        };
        if let Some(answer) = poll.on_page(&shared.page, super::now(), jitter()) {
            return Ok(answer.map(any_body::full));
        }
        tokio::select! {
            () = changes.changed() => {}
            () = sleep_until(end) => break,
            _ = stop.changed() => break,
        }
    }
    Ok(poll.on_timeout(super::now(), jitter()).map(any_body::full))
}

/// Begins an event stream.
async fn stream(
    state: &Arc<AppState>,
    channel: &Channel,
    kind: ReadMode,
    get: &Get,
) -> Result<Response<AnyBody>, Problem> {
    let live = &state.live;
    let changes = live.topics.subscribe(&topic_kind(kind).topic(channel)?);
    let log = LogReader::new(state, channel, kind);
    events::begin(log, changes, get, live.stop.clone()).await
}
