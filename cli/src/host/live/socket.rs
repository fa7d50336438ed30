//! Live socket: one open page, with a task of its own.
//!
//! A socket sends the log from its offset on, each time its client has taken the bytes before. So
//! the host queues nothing for it. A client that takes nothing loses its socket, without any effect
//! on others.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_streams::{From, Read};
use pmx_sync::limits::LIVE_MESSAGE_BYTES_MAX;
use pmx_sync::live::{ClientCommand, Closing, Dialect, EventReader, SUBPROTOCOL, Session};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::super::any_body::{self, AnyBody};
use super::log_reader::{LogReader, ReadMode};
use super::notify::TopicKind;
use super::waiting::Notice;
use crate::host::state::AppState;
use crate::host::streams::broadcast::TopicReader;

/// Answers a request for a socket. All later messages use the socket.
pub(super) async fn open(
    state: &Arc<AppState>,
    head: &mut Parts,
    channel: &Channel,
    session: Session,
    dialect: Dialect,
) -> Result<Response<AnyBody>, Problem> {
    let Ok(permit) = Arc::clone(&state.live.waiting).try_acquire_owned() else {
        return Err(Problem::new(Code::TooMany, "there are too many sockets"));
    };
    let Some(accept) = accepted(head) else {
        return Ok(upgrade_required());
    };
    let Some(upgrade) = head.extensions.remove::<OnUpgrade>() else {
        let detail = "the connection can't become a WebSocket";
        return Err(Problem::new(Code::RequestMalformed, detail));
    };
    let topics = &state.live.topics;
    // Each session filters the batches that its socket reads, so sockets share them.
    let kind = |compact| ReadMode {
        compact,
        reader: EventReader::Visitor,
    };
    let mut socket = Socket {
        changes: topics.subscribe(&TopicKind::Sockets.topic(channel)?),
        nets: topics.subscribe(&TopicKind::Net.topic(channel)?),
        log: LogReader::new(state, channel, kind(false)),
        net: LogReader::new(state, channel, kind(true)),
        session,
        stop: state.live.stop.clone(),
        notice: state.live.notice.clone(),
        space: channel.space.clone(),
        is_page: false,
    };
    // Fails if the site does not exist. A socket without an offset gets the events after this read.
    let tail = Read { from: From::Now };
    let shared = socket.changes.shared(tail, socket.log.batch(tail));
    if let Some(batch) = &shared.await?.batch {
        let _nothing_follows_the_tail = socket.session.on_events(batch);
    }
    tokio::spawn(async move {
        // Only the client depends on the outcome.
        if let Ok(Ok(upgraded)) = timeout(UPGRADE_TIME, upgrade).await {
            socket.run(upgraded, permit).await;
        }
    });
    Ok(switching(&accept, dialect))
}

/// How long a connection may take to become a socket.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// The proof that the server understood the handshake (RFC 6455, section 4.2.2). `None` if the
/// request is no handshake.
fn accepted(head: &Parts) -> Option<HeaderValue> {
    let version = head.headers.get(SEC_WEBSOCKET_VERSION)?;
    let key = head.headers.get(SEC_WEBSOCKET_KEY)?;
    if version != "13" || key.len() != KEY_BYTES {
        return None;
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// Sixteen bytes in base64.
const KEY_BYTES: usize = 24;

fn switching(accept: &HeaderValue, dialect: Dialect) -> Response<AnyBody> {
    let mut answer = Response::new(any_body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
    if dialect == Dialect::Pmx {
        let spoken = HeaderValue::from_static(SUBPROTOCOL);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, spoken);
    }
    answer
}

fn upgrade_required() -> Response<AnyBody> {
    let mut answer = Response::new(any_body::empty());
    *answer.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = answer.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}

type Wire = WebSocketStream<TokioIo<Upgraded>>;

struct Socket {
    changes: TopicReader,
    nets: TopicReader,
    log: LogReader,
    net: LogReader,
    session: Session,
    stop: watch::Receiver<bool>,
    notice: watch::Receiver<Notice>,
    space: SpaceName,
    /// Whether the client is a page: it has named the paths that it shows.
    is_page: bool,
}

/// The socket ends without a closing message.
struct Gone;

/// How long a client may take none of the sent bytes.
const SEND_TIME: Duration = Duration::from_secs(30);

/// Silence after which the host pings a client. After a second one, it closes the socket.
const SILENCE_TIME: Duration = Duration::from_secs(45);

impl Socket {
    async fn run(mut self, upgraded: Upgraded, permit: OwnedSemaphorePermit) {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(16 * 1024 * 1024)
            .max_message_size(Some(LIVE_MESSAGE_BYTES_MAX + 1))
            .max_frame_size(Some(LIVE_MESSAGE_BYTES_MAX + 1));
        let io = TokioIo::new(upgraded);
        let mut wire = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        if let Ok(closing) = self.exchange_messages(&mut wire).await {
            let frame = CloseFrame {
                code: closing.code.into(),
                reason: closing.reason.into(),
            };
            let _ = timeout(SEND_TIME, wire.close(Some(frame))).await;
        }
        drop(permit);
    }

    /// Exchanges messages until one side ends the session.
    async fn exchange_messages(&mut self, wire: &mut Wire) -> Result<Closing, Gone> {
        let mut asked = false;
        let mut silent = Instant::now() + SILENCE_TIME;
        loop {
            tokio::select! {
                next = wire.next() => {
                    (asked, silent) = (false, Instant::now() + SILENCE_TIME);
                    let Some(Ok(message)) = next else { return Err(Gone) };
                    if let Err(closing) = self.on_message(message, wire).await? {
                        return Ok(closing);
                    }
                }
                () = self.changes.changed() => {
                    if let Err(closing) = self.send_events(wire).await? {
                        return Ok(closing);
                    }
                }
                Ok(()) = self.notice.changed() => self.notify(wire).await?,
                () = sleep_until(silent) => {
                    if asked {
                        return Err(Gone);
                    }
                    (asked, silent) = (true, Instant::now() + SILENCE_TIME);
                    send(wire, Message::Ping(Bytes::new())).await?;
                }
                _ = self.stop.changed() => return Ok(Closing::later()),
            }
        }
    }

    async fn on_message(
        &mut self,
        message: Message,
        wire: &mut Wire,
    ) -> Result<Result<(), Closing>, Gone> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Ok(Err(Closing::unread())),
            Message::Close(_) => return Err(Gone),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(Ok(())),
        };
        match self.session.on_message(&text, crate::host::now()) {
            Ok(ClientCommand::Ping) => send(wire, Message::text("pong")).await.map(Ok),
            Ok(ClientCommand::Subscribe) => {
                let sent = self.send_events(wire).await?;
                if !std::mem::replace(&mut self.is_page, true) {
                    let stands = !self.notice.borrow().lines.is_empty();
                    if stands {
                        self.notify(wire).await?;
                    }
                }
                Ok(sent)
            }
            Err(closing) => Ok(Err(closing)),
        }
    }

    /// Sends the site's notice to a page.
    async fn notify(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        let notice = self.notice.borrow_and_update().clone();
        if !self.is_page || notice.space.as_ref() != Some(&self.space) {
            return Ok(());
        }
        let frame = serde_json::json!({ "notice": notice.lines });
        send(wire, Message::text(frame.to_string())).await
    }

    /// Sends the events after the socket's offset.
    async fn send_events(&mut self, wire: &mut Wire) -> Result<Result<(), Closing>, Gone> {
        while let Some((read, compact)) = self.session.next_read() {
            self.changes.mark();
            let shared = if compact {
                self.nets.shared(read, self.net.batch(read)).await
            } else {
                self.changes.shared(read, self.log.batch(read)).await
            };
            let shared = match shared {
                Ok(shared) => shared,
                Err(problem) => return Ok(Err(Closing::of(&problem))),
            };
            let Some(batch) = &shared.batch else {
                break;
            };
            let frames = match self.session.on_events(batch) {
                Ok(frames) => frames,
                Err(closing) => return Ok(Err(closing)),
            };
            for frame in frames {
                send(wire, Message::text(frame)).await?;
            }
            if batch.is_up_to_date() {
                break;
            }
        }
        Ok(Ok(()))
    }
}

/// Sends a message. Fails if the client is gone.
async fn send(wire: &mut Wire, message: Message) -> Result<(), Gone> {
    match timeout(SEND_TIME, wire.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}
