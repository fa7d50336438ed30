//! Those who wait for what a site's deploys change: long polls, events, sockets.
//!
//! A commit rings a bell and goes on. Whoever heard it reads the log at their own pace, and
//! what one read gives is there for all who stand at the same place.

mod reading;
mod ring;
mod socket;
mod waiting;

use std::sync::Arc;

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use pmx_core::channel::Channel;
use pmx_core::problem::Problem;
use pmx_streams::From;
use pmx_streams::http::{Get, Poll};
use pmx_sync::live::{Heard, Listener, Listening, Reader, Session, dress, refused};
use tokio::time::{Instant, sleep_until};

use super::state::Counter;
use super::streams::answer::jitter;
use super::streams::events;
use reading::{Kind, Reading};
use ring::Place;

pub(crate) use ring::ring;
pub(crate) use waiting::{Live, Notice};

/// Answers somebody who waits.
pub(crate) async fn answer(
    counter: &Arc<Counter>,
    head: &mut Parts,
    listener: Result<Listener, Response<Bytes>>,
) -> Response<AnyBody> {
    let listener = match listener {
        Ok(listener) => listener,
        Err(refusal) => return refusal.map(AnyBody::from),
    };
    match listen(counter, head, listener).await {
        Ok(answer) => dress(answer),
        Err(problem) => refused(&problem).map(AnyBody::from),
    }
}

async fn listen(
    counter: &Arc<Counter>,
    head: &mut Parts,
    listener: Listener,
) -> Result<Response<AnyBody>, Problem> {
    counter
        .server
        .admit_listener(&listener, super::now())
        .await?;
    let Listener {
        channel,
        listening,
        reader,
    } = listener;
    let kind = |heard: &Heard| Kind {
        compact: heard.compact,
        reader,
    };
    match listening {
        Listening::Socket(dialect) => {
            let session = Session::new(reader, dialect, super::now());
            socket::open(counter, head, &channel, session, dialect).await
        }
        Listening::Poll(heard) => poll(counter, &channel, kind(&heard), heard.get).await,
        Listening::Events(heard) => stream(counter, &channel, kind(&heard), &heard.get).await,
    }
}

/// With whom a reader shares what is read.
const fn place(kind: Kind) -> Place {
    match (kind.reader, kind.compact) {
        (Reader::Visitor, false) => Place::Log,
        (Reader::Visitor, true) => Place::NetLog,
        (Reader::Holder, false) => Place::HeldLog,
        (Reader::Holder, true) => Place::HeldNetLog,
    }
}

/// Waits for one answer.
async fn poll(
    counter: &Arc<Counter>,
    channel: &Channel,
    kind: Kind,
    get: Get,
) -> Result<Response<AnyBody>, Problem> {
    let live = &counter.live;
    let mut changes = live.topics.subscribe(&place(kind).topic(channel)?);
    let mut stop = live.stop.clone();
    let end = Instant::now() + live.long_poll;
    let reading = Reading::new(counter, channel, kind);
    let mut poll = Poll::new(get);
    loop {
        changes.mark();
        let read = poll.read();
        let at_tail = matches!(read.from, From::At(_)) && !kind.compact;
        let shared = if at_tail {
            changes.shared(read, reading.shared(read)).await?
        } else {
            Arc::new(reading.shared(read).await?)
        };
        if let Some(answer) = poll.got(&shared.page, super::now(), jitter()) {
            return Ok(answer.map(AnyBody::from));
        }
        tokio::select! {
            () = changes.changed() => {}
            () = sleep_until(end) => break,
            _ = stop.changed() => break,
        }
    }
    Ok(poll.late(super::now(), jitter()).map(AnyBody::from))
}

/// Begins to answer a reader of events.
async fn stream(
    counter: &Arc<Counter>,
    channel: &Channel,
    kind: Kind,
    get: &Get,
) -> Result<Response<AnyBody>, Problem> {
    let live = &counter.live;
    let changes = live.topics.subscribe(&place(kind).topic(channel)?);
    let reading = Reading::new(counter, channel, kind);
    events::begin(reading, changes, get, live.stop.clone()).await
}
