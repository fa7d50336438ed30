//! Live event subscribers of a space, inside its object.
//!
//! Sockets hibernate: a socket's state is stored in its attachment, and the runtime itself answers
//! its pings. The object does not wait between its read of the log and its update of the
//! attachment. So no two requests send the same event.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Response as Answer;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::{From, Page, Read};
use pmx_sync::limits::LIVE_SOCKETS_MAX;
use pmx_sync::live::{
    ClientCommand, Closing, DeliveryMode, Dialect, EventBatch, EventQuery, EventReader,
    EventRequest, SUBPROTOCOL, Session, add_event_headers, refused,
};
use pmx_sync::serve::{Backend as _, Spaces};
use pmx_sync::site::CustomSite;
use pmx_sync::space::{Command, Reply, execute, name_of};
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::worker_sys::{DurableObjectState, WebSocketRequestResponsePair};
use worker::{
    Env, Request, Response, State, WebSocket, WebSocketIncomingMessage, WebSocketPair,
    console_error,
};

use super::edge::head;
use crate::http::now;
use crate::isolate::server;
use crate::js_error::problem;
use crate::sql::ObjectDatabase;
use crate::streams::answer::{AnswerBody, response};
use crate::streams::events;
use crate::streams::notify::Notify;
use crate::streams::settings::long_poll;
use crate::streams::source::{self, SharedPage, Source};

/// The subscribers of one space.
pub(crate) struct Subscribers {
    state: State,
    env: Env,
    ledger: ObjectDatabase,
    long_poll: Duration,
    changes: Notify,
    listeners: Cell<usize>,
    sockets: Sockets,
    tail: RefCell<Option<(Channel, Rc<SharedPage>)>>,
    /// The last batch for sockets, with its version of the notification: at the tail, and as one
    /// net message.
    sent: [RefCell<Option<SentBatch>>; 2],
}

type SentBatch = (u64, Channel, Read, Rc<EventBatch>);

impl Subscribers {
    /// Creates the subscribers. `state` is the object's.
    pub(crate) fn new(state: &State, env: &Env) -> Rc<Self> {
        let raw: &JsValue = state.as_raw().as_ref();
        let state = State::from(raw.clone().unchecked_into::<DurableObjectState>());
        Rc::new(Self {
            ledger: ObjectDatabase::new(state.storage()),
            state,
            env: env.clone(),
            long_poll: long_poll(env),
            changes: Notify::default(),
            listeners: Cell::default(),
            sockets: Sockets::default(),
            tail: RefCell::default(),
            sent: Default::default(),
        })
    }

    /// Answers an event request.
    pub(crate) async fn answer(self: &Rc<Self>, request: &Request) -> Result<Response, Problem> {
        let mut head = head(request.inner())?;
        let server = server(&self.env)?;
        if server.custom_host(&head).is_some()
            && let Some(space) = name_of(&self.ledger)?
        {
            // The edge found the space of this host: it sent the request here.
            head.extensions.insert(CustomSite(space));
        }
        let EventRequest {
            channel,
            mode: listening,
            access: reader,
        } = match server.listener(&head) {
            Some(Ok(listener)) => listener,
            Some(Err(refusal)) => return response(refusal.map(AnswerBody::Bytes), &head.method),
            None => return Err(Problem::new(Code::NotFound, "a space has no pages")),
        };
        let answered = match listening {
            DeliveryMode::Socket(dialect) => match self.open(&channel, reader, dialect) {
                Ok(answer) => return Ok(answer),
                Err(problem) => Err(problem),
            },
            DeliveryMode::Poll(query) => self.poll(channel, reader, query).await,
            DeliveryMode::Events(query) => self.events(channel, reader, query).await,
        };
        let answer = answered.unwrap_or_else(|problem| refused(&problem).map(AnswerBody::Bytes));
        response(add_event_headers(answer), &head.method)
    }

    async fn poll(
        self: &Rc<Self>,
        channel: Channel,
        reader: EventReader,
        query: EventQuery,
    ) -> Result<Answer<AnswerBody>, Problem> {
        let reading = self.reading(channel, reader, &query);
        let answer = source::poll(&reading, query.get, self.long_poll).await?;
        Ok(answer.map(AnswerBody::Bytes))
    }

    async fn events(
        self: &Rc<Self>,
        channel: Channel,
        reader: EventReader,
        query: EventQuery,
    ) -> Result<Answer<AnswerBody>, Problem> {
        let reading = self.reading(channel, reader, &query);
        events::begin(&reading, &query.get).await
    }

    fn reading(
        self: &Rc<Self>,
        channel: Channel,
        reader: EventReader,
        query: &EventQuery,
    ) -> Rc<ChannelLog> {
        Rc::new(ChannelLog {
            live: Rc::clone(self),
            channel,
            compact: query.compact,
            reader,
        })
    }

    /// Wakes all readers of a channel that may have a new deploy. No request waits for them, and
    /// the sockets of other channels keep hibernating.
    pub(crate) fn changed(self: &Rc<Self>, channel: &Channel) {
        let live = Rc::clone(self);
        let tag = channel.to_string();
        self.state.wait_until(async move {
            let sockets = live.state.get_websockets_with_tag(&tag);
            if live.listeners.get() > 0 || !sockets.is_empty() {
                // The runtime delays responses until the write is on disk, but not events.
                if let Err(thrown) = live.ledger.storage().sync().await {
                    console_error!("waiting for the disk: {thrown}");
                }
            }
            live.changes.notify_all();
            for socket in &sockets {
                live.send_events(socket, session_of(socket));
            }
        });
    }

    /// Opens a socket, which is tagged with its channel.
    fn open(
        &self,
        channel: &Channel,
        reader: EventReader,
        dialect: Dialect,
    ) -> Result<Response, Problem> {
        // Fails if the site does not exist. A socket without an offset gets the events after this
        // read.
        let tail = self.batch(channel, Read { from: From::Now }, false)?;
        let mut session = Session::new(reader, dialect, now());
        let _nothing_follows_the_tail = session.on_events(&tail);
        if !self.sockets.has_room(|| self.state.get_websockets().len()) {
            return Err(Problem::new(Code::TooMany, "there are too many sockets"));
        }
        let doing = "opening a socket";
        let pair = WebSocketPair::new().map_err(problem(doing))?;
        let pong = WebSocketRequestResponsePair::new("ping", "pong")
            .map_err(|thrown| problem::<String>(doing)(crate::js_error::words(thrown)))?;
        self.state.set_websocket_auto_response(&pong);
        let tag = channel.to_string();
        self.state.accept_websocket_with_tags(&pair.server, &[&tag]);
        self.sockets.opened();
        keep(&pair.server, &session);
        let mut response = Response::from_websocket(pair.client).map_err(problem(doing))?;
        if dialect == Dialect::Pmx {
            let named = response
                .headers_mut()
                .set(SEC_WEBSOCKET_PROTOCOL.as_str(), SUBPROTOCOL);
            named.map_err(problem(doing))?;
        }
        Ok(response)
    }

    /// Records that a socket is closed.
    pub(crate) fn closed(&self) {
        self.sockets.closed();
    }

    /// Handles a message of a page.
    pub(crate) fn on_message(&self, socket: &WebSocket, message: &WebSocketIncomingMessage) {
        let mut session = session_of(socket);
        let said = match message {
            WebSocketIncomingMessage::String(text) => session.on_message(text, now()),
            WebSocketIncomingMessage::Binary(_) => Err(Closing::unread()),
        };
        match said {
            Ok(ClientCommand::Ping) => {
                keep(socket, &session);
                // The runtime answers pings itself, unless the object is awake for another reason.
                let _sent = socket.send_with_str("pong");
            }
            Ok(ClientCommand::Subscribe) => self.send_events(socket, session),
            Err(closing) => close(socket, &closing),
        }
    }

    /// Sends a socket the events after its offset, and records the new offset. A closed socket does
    /// not affect the others.
    fn send_events(&self, socket: &WebSocket, mut session: Session) {
        let tags = self.state.get_tags(socket);
        let Some(channel) = tags.first().and_then(|tag| Channel::of_label(tag)) else {
            return close(socket, &Closing::later());
        };
        while let Some((read, compact)) = session.next_read() {
            let batch = match self.batch(&channel, read, compact) {
                Ok(batch) => batch,
                Err(problem) => return close(socket, &Closing::of(&problem)),
            };
            let frames = match session.on_events(&batch) {
                Ok(frames) => frames,
                Err(closing) => return close(socket, &closing),
            };
            for frame in frames {
                if socket.send_with_str(&frame).is_err() {
                    return close(socket, &Closing::later());
                }
            }
            if batch.is_up_to_date() {
                break;
            }
        }
        keep(socket, &session);
    }

    fn batch(
        &self,
        channel: &Channel,
        read: Read,
        compact: bool,
    ) -> Result<Rc<EventBatch>, Problem> {
        let version = self.changes.version();
        let [tail, net] = &self.sent;
        let kept = if compact { net } else { tail };
        let known = kept.borrow().clone();
        let is_it = |sent: &SentBatch| (sent.0, &sent.1, sent.2) == (version, channel, read);
        if let Some((.., batch)) = known.filter(is_it) {
            return Ok(batch);
        }
        let server = server(&self.env)?;
        let own = Own { live: self };
        let (_, batch) = at_once(server.event_batch(&own, channel, read, compact, now()))?;
        let batch = Rc::new(batch);
        let sent = (version, channel.clone(), read, Rc::clone(&batch));
        kept.replace(Some(sent));
        Ok(batch)
    }

    fn read(
        &self,
        channel: &Channel,
        read: Read,
        compact: bool,
        reader: EventReader,
    ) -> Result<Page, Problem> {
        let server = server(&self.env)?;
        let own = Own { live: self };
        at_once(server.log_of(&own, channel, read, compact, reader, now()))
    }
}

/// Count of sockets. The runtime builds a list of all sockets for each query. After a new release
/// of the Worker, when all reconnect at once, each would cost such a list.
#[derive(Default)]
struct Sockets(Cell<Option<usize>>);

impl Sockets {
    /// Whether another socket may open. `all` counts the sockets: after the object wakes, and
    /// before it refuses one.
    fn has_room(&self, all: impl Fn() -> usize) -> bool {
        let is_full = |count: &usize| *count >= LIVE_SOCKETS_MAX;
        let count = self.0.get().filter(|count| !is_full(count));
        let count = count.unwrap_or_else(all);
        self.0.set(Some(count));
        !is_full(&count)
    }

    fn opened(&self) {
        self.0.set(self.0.get().map(|count| count + 1));
    }

    fn closed(&self) {
        self.0
            .set(self.0.get().map(|count| count.saturating_sub(1)));
    }
}

/// The space of this object, called without a request to itself.
struct Own<'a> {
    live: &'a Subscribers,
}

impl Spaces for Own<'_> {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let server = server(&self.live.env)?;
        let blobs = server.backend().blobs();
        execute(&self.live.ledger, blobs, space, command, now).await
    }
}

/// The result of a read, which never waits: the ledger holds all of its data.
fn at_once<T>(reading: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => Err(Problem::new(Code::Storage, "reading events took a wait")),
    }
}

/// The log of a channel, for one reader.
struct ChannelLog {
    live: Rc<Subscribers>,
    channel: Channel,
    compact: bool,
    reader: EventReader,
}

impl Source for ChannelLog {
    type Failure = Problem;

    fn changes(&self) -> &Notify {
        &self.live.changes
    }

    fn listeners(&self) -> &Cell<usize> {
        &self.live.listeners
    }

    async fn read_shared(&self, read: Read) -> Result<Rc<SharedPage>, Problem> {
        let (live, version) = (&self.live, self.live.changes.version());
        let known = live.tail.borrow().clone();
        // Visitors must not get a page that a token holder read: the site may be closed.
        let is_shared = !self.compact && self.reader == EventReader::Visitor;
        let known = known.filter(|(channel, _)| is_shared && *channel == self.channel);
        if let Some((_, seen)) = known.filter(|(_, seen)| seen.is_of(version, read)) {
            return Ok(seen);
        }
        let page = live.read(&self.channel, read, self.compact, self.reader)?;
        let seen = Rc::new(SharedPage::new(version, read, page));
        // A reader that catches up has an offset of its own.
        if seen.page.is_up_to_date() && is_shared {
            let tail = (self.channel.clone(), Rc::clone(&seen));
            live.tail.replace(Some(tail));
        }
        Ok(seen)
    }
}

fn session_of(socket: &WebSocket) -> Session {
    let kept = socket.deserialize_attachment::<String>().ok().flatten();
    let session = kept.and_then(|kept| Session::decode(&kept));
    session.unwrap_or_else(|| Session::new(EventReader::Visitor, Dialect::Pmx, now()))
}

fn keep(socket: &WebSocket, session: &Session) {
    if let Err(thrown) = socket.serialize_attachment(session.encode()) {
        console_error!("keeping a socket's place: {thrown}");
        close(socket, &Closing::later());
    }
}

fn close(socket: &WebSocket, closing: &Closing) {
    // The socket may be closed already.
    let _closed = socket.close(Some(closing.code), Some(&closing.reason));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_listed_once_however_many_come() {
        let (sockets, lists) = (Sockets::default(), Cell::new(0));
        let open = Cell::new(3);
        let has_room = || {
            sockets.has_room(|| {
                lists.set(lists.get() + 1);
                open.get()
            })
        };
        for _ in 0..100 {
            assert!(has_room());
            sockets.opened();
            open.set(open.get() + 1);
        }
        assert_eq!(lists.get(), 1, "after the object woke");
        while open.get() < LIVE_SOCKETS_MAX {
            sockets.opened();
            open.set(open.get() + 1);
        }
        assert!(!has_room());
        assert_eq!(lists.get(), 2, "before one is refused");
        sockets.closed();
        assert!(has_room());
        assert_eq!(lists.get(), 2);
    }
}
