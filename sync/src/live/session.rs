//! Socket session: the offset, subscription and rate limit of one open WebSocket.
//!
//! A session is a value. The embedded host keeps it in the socket's task. A Durable Object writes
//! it into the socket's attachment, so that it survives the object's hibernation.

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::{From, Read};
use serde::{Deserialize, Serialize};

use super::event_request::{Dialect, EventReader};
use super::frame::EventBatch;
use super::key::Key;
use super::subscription::{ClientMessage, InvalidMessage, Subscription};
use crate::limits::{LIVE_MESSAGES_MAX, LIVE_MESSAGES_TIME};

/// An open socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    access: EventReader,
    stream: Option<Stream>,
    said: u32,
    since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stream {
    from: From,
    /// During catch-up: whether the client wants one net message.
    catching_up: Option<bool>,
    subscription: Subscription,
}

/// Command of a client, which the session has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCommand {
    /// Keep-alive: the reply is `pong`.
    Ping,
    /// A new subscription: the server may have events to send at once.
    Subscribe,
}

/// Why a socket is closed: a code of RFC 6455, section 7.4, and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The code.
    pub code: u16,
    /// The text, at most 123 bytes.
    pub reason: String,
}

impl Closing {
    fn new(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default().to_owned();
        Self { code, reason }
    }

    /// The server stops, or is overloaded.
    pub fn later() -> Self {
        Self::new(1001, "come again")
    }

    /// The reason why the log cannot be read for a socket. With 4410, the log no longer has the
    /// events that the client missed, so it should reconnect.
    pub fn of(problem: &Problem) -> Self {
        let code = match problem.code {
            Code::EventsGone | Code::StreamRequest => 4410,
            Code::EventsClosed => 4403,
            Code::NotFound => 4404,
            // From RFC 6455's registry: try again later.
            Code::SpaceBusy => 1013,
            _ => 1011,
        };
        Self::new(code, &problem.detail)
    }

    /// The client sent a message of an unknown kind.
    pub fn unread() -> Self {
        Self::new(1003, "messages are text")
    }
}

/// Most bytes of a reason in a close frame.
const REASON_BYTES_MAX: usize = 123;

impl Session {
    /// A new socket. A client of the pmx subprotocol receives nothing before it subscribes. Any
    /// other client receives raw events from the first read on, until it subscribes.
    pub const fn new(reader: EventReader, dialect: Dialect, now: Timestamp) -> Self {
        let listening = match dialect {
            Dialect::Pmx => None,
            Dialect::Raw => Some(Stream {
                from: From::Now,
                catching_up: None,
                subscription: Subscription::Raw,
            }),
        };
        Self {
            access: reader,
            stream: listening,
            said: 0,
            since: now,
        }
    }

    /// Applies a message of the client.
    pub fn on_message(&mut self, text: &str, now: Timestamp) -> Result<ClientCommand, Closing> {
        if now >= self.since.after(LIVE_MESSAGES_TIME) {
            (self.said, self.since) = (0, now);
        }
        self.said = self.said.saturating_add(1);
        if self.said > LIVE_MESSAGES_MAX {
            return Err(Closing::new(1008, "too many messages"));
        }
        if text == "ping" {
            return Ok(ClientCommand::Ping);
        }
        let message = ClientMessage::parse(text).map_err(|error| refused(&error))?;
        let ClientMessage {
            subscription,
            from,
            compact,
        } = message;
        self.stream = Some(Stream {
            from,
            catching_up: Some(compact),
            subscription,
        });
        Ok(ClientCommand::Subscribe)
    }

    /// The next read for this socket, and whether as one net message; `None` without subscription.
    pub fn next_read(&self) -> Option<(Read, bool)> {
        let listening = self.stream.as_ref()?;
        let from = listening.from;
        Some((Read { from }, listening.catching_up == Some(true)))
    }

    /// Turns a read into frames for this socket. The first read after a subscription gives at least
    /// one frame, so that the client learns its offset. The session closes for a visitor who
    /// subscribes to all paths of a closed site; one without a subscription receives nothing there.
    pub fn on_events(&mut self, batch: &EventBatch) -> Result<Vec<String>, Closing> {
        let Some(listening) = &mut self.stream else {
            return Ok(Vec::new());
        };
        let may_list = batch.is_open() || self.access == EventReader::Holder;
        let mut frames = match &listening.subscription {
            Subscription::All if !may_list => return Err(Closing::of(&events_closed())),
            Subscription::Raw if !may_list => Vec::new(),
            subscription => batch.frames(subscription),
        };
        listening.from = From::At(batch.end());
        if batch.is_up_to_date() && listening.catching_up.take().is_some() && frames.is_empty() {
            frames.push(batch.position_frame());
        }
        Ok(frames)
    }

    /// Encodes the session as text, for storage.
    pub fn encode(&self) -> String {
        let kept = Kept {
            holder: self.access == EventReader::Holder,
            said: self.said,
            since: self.since,
            listening: self.stream.as_ref().map(KeptStream::of),
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Decodes the text of [`Session::encode`]; `None` for any other text.
    pub fn decode(text: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        let listening = kept.listening.map(KeptStream::open);
        let reader = if kept.holder {
            EventReader::Holder
        } else {
            EventReader::Visitor
        };
        Some(Self {
            access: reader,
            stream: listening.map_or(Some(None), |open| open.map(Some))?,
            said: kept.said,
            since: kept.since,
        })
    }
}

/// The problem of a visitor who asks for lists of paths at a site that did not opt in.
pub(crate) fn events_closed() -> Problem {
    let detail = "this site gives lists of changed paths to holders of its token only";
    Problem::new(Code::EventsClosed, detail)
}

fn refused(error: &InvalidMessage) -> Closing {
    let code = match error {
        InvalidMessage::TooLong | InvalidMessage::TooMany => 1009,
        InvalidMessage::Json(_) | InvalidMessage::Offset(_) => 1007,
    };
    Closing::new(code, &error.to_string())
}

#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    holder: bool,
    said: u32,
    since: Timestamp,
    listening: Option<KeptStream>,
}

#[derive(Serialize, Deserialize)]
struct KeptStream {
    from: From,
    catching_up: Option<bool>,
    /// Keys in hexadecimal, 16 digits each; `None` means all paths.
    keys: Option<String>,
    #[serde(default)]
    raw: bool,
}

impl KeptStream {
    fn of(listening: &Stream) -> Self {
        let keys = match &listening.subscription {
            Subscription::All | Subscription::Raw => None,
            Subscription::These(keys) => {
                let bytes: Vec<u8> = keys.iter().flat_map(|k| k.number().to_be_bytes()).collect();
                Some(data_encoding::HEXLOWER.encode(&bytes))
            }
        };
        Self {
            from: listening.from,
            catching_up: listening.catching_up,
            keys,
            raw: listening.subscription == Subscription::Raw,
        }
    }

    fn open(self) -> Option<Stream> {
        let subscription = match self.keys {
            None if self.raw => Subscription::Raw,
            None => Subscription::All,
            Some(digits) => {
                let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?;
                let keys = bytes.chunks_exact(8).filter_map(|key| key.first_chunk());
                Subscription::of(keys.map(|key| Key::from_number(u64::from_be_bytes(*key))))
            }
        };
        Some(Stream {
            from: self.from,
            catching_up: self.catching_up,
            subscription,
        })
    }
}

/// The size of a session in an attachment, whose limit is 16 KiB.
const _: () = assert!(crate::limits::LIVE_USES_MAX * 16 + 1_024 <= 16 * 1_024);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use pmx_streams::{Expiry, MediaType, Offset, Page, StreamProperties};

    use super::*;
    use crate::limits::LIVE_USES_MAX;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn fresh() -> Session {
        Session::new(EventReader::Visitor, Dialect::Pmx, NOW)
    }

    /// The log after `start`: one message per deploy, each with a change of one file.
    fn page(start: u64, files: &[&str], next: u64) -> Page {
        let messages = files.iter().zip(start + 1..).map(|(file, deploy)| {
            let message = json!({
                "deploy": deploy, "root": "00".repeat(32), "prev_root": "11".repeat(32),
                "kind": "publish", "at": 5,
                "events": [{"type": "artifacts-changed", "paths": [format!("/{file}")],
                    "added": [], "modified": [file], "removed": [], "truncated": false}],
            });
            message.to_string()
        });
        let body: Vec<String> = messages.collect();
        let end = start + files.len() as u64;
        Page {
            view: StreamProperties {
                media_type: MediaType::new("application/json"),
                next: Offset::at(next),
                closed: false,
                expiry: Expiry::Never,
                expiry_text: None,
                generation: "g".into(),
            },
            start: Offset::at(start),
            end: Offset::at(end),
            body: Bytes::from(body.join(",")),
        }
    }

    fn got(session: &mut Session, page: &Page) -> Vec<u64> {
        let token = |deploy| Some(format!("{deploy}.mac"));
        let frames = session
            .on_events(&EventBatch::of(page, true, token).unwrap())
            .unwrap();
        let deploys = frames.iter().map(|frame| {
            let frame: Value = serde_json::from_str(frame).unwrap();
            let deploy = frame["deploy"].as_u64().unwrap();
            assert_eq!(frame["offset"], Offset::at(deploy).to_string());
            assert_eq!(frame["know"], format!("{deploy}.mac"));
            deploy
        });
        deploys.collect()
    }

    #[test]
    fn session_receives_each_matching_deploy_once() {
        let mut session = fresh();
        assert_eq!(session.next_read(), None);
        let message = format!(r#"{{"page":"/a","offset":"{}"}}"#, Offset::at(3));
        assert_eq!(
            session.on_message(&message, NOW),
            Ok(ClientCommand::Subscribe)
        );
        let at = |place| Read {
            from: From::At(Offset::at(place)),
        };
        assert_eq!(session.next_read(), Some((at(3), true)));
        assert_eq!(
            got(&mut session, &page(3, &["b.html"], 4)),
            [4],
            "its place"
        );
        assert_eq!(session.next_read(), Some((at(4), false)));
        assert_eq!(got(&mut session, &page(4, &["b.html"], 5)), [0; 0]);
        let mut session = Session::decode(&session.encode()).unwrap();
        assert_eq!(got(&mut session, &page(5, &["b.css", "a.html"], 7)), [7]);
        assert_eq!(session.next_read(), Some((at(7), false)));
    }

    #[test]
    fn session_with_all_receives_all() {
        let mut session = fresh();
        let said = session.on_message(r#"{"all":true,"offset":"0_0","compact":false}"#, NOW);
        assert_eq!(said, Ok(ClientCommand::Subscribe));
        assert_eq!(got(&mut session, &page(0, &["a", "b"], 3)), [1, 2]);
        assert_eq!(session.next_read().map(|(_, net)| net), Some(false));
        assert_eq!(got(&mut session, &page(2, &["c"], 3)), [3]);
        assert_eq!(got(&mut session, &page(3, &[], 3)), [0; 0]);
    }

    fn frames(session: &mut Session, page: &Page, is_open: bool) -> Result<Vec<String>, u16> {
        let batch = EventBatch::of(page, is_open, |_| None).unwrap();
        session.on_events(&batch).map_err(|closing| closing.code)
    }

    #[test]
    fn silent_socket_of_another_dialect_gets_raw_events_of_open_sites() {
        let mut session = Session::new(EventReader::Visitor, Dialect::Raw, NOW);
        assert_eq!(session.next_read(), Some((Read { from: From::Now }, false)));
        assert_eq!(frames(&mut session, &page(3, &[], 3), true), Ok(vec![]));
        let mut session = Session::decode(&session.encode()).unwrap();
        assert_eq!(
            frames(&mut session, &page(3, &["a.html"], 4), true),
            Ok(vec![
                r#"{"type":"artifacts-changed","paths":["/a.html"]}"#.into()
            ])
        );
        assert_eq!(
            frames(&mut session, &page(4, &["b.html"], 5), false),
            Ok(vec![])
        );
        // An older live script names no subprotocol, but subscribes.
        session
            .on_message(r#"{"page":"/a","offset":"0_5"}"#, NOW)
            .unwrap();
        let received = frames(&mut session, &page(5, &["a.html"], 6), false).unwrap();
        assert_eq!(received.len(), 1);
        assert!(received[0].contains("\"deploy\":6"), "{received:?}");
    }

    #[test]
    fn lists_of_paths_are_for_holders_and_open_sites() {
        for (reader, is_open, expected) in [
            (EventReader::Visitor, true, Ok(1)),
            (EventReader::Visitor, false, Err(4403)),
            (EventReader::Holder, false, Ok(1)),
        ] {
            let mut session = Session::new(reader, Dialect::Pmx, NOW);
            session.on_message(r#"{"all":true}"#, NOW).unwrap();
            let mut session = Session::decode(&session.encode()).unwrap();
            let received = frames(&mut session, &page(3, &["a"], 4), is_open);
            assert_eq!(
                received.map(|frames| frames.len()),
                expected,
                "{reader:?} {is_open}"
            );
        }
    }

    #[test]
    fn session_closes_for_clients_that_send_too_much() {
        let mut session = fresh();
        for _ in 0..LIVE_MESSAGES_MAX {
            assert_eq!(session.on_message("ping", NOW), Ok(ClientCommand::Ping));
        }
        assert_eq!(session.on_message("ping", NOW).unwrap_err().code, 1008);
        let later = NOW.after(LIVE_MESSAGES_TIME);
        assert_eq!(session.on_message("ping", later), Ok(ClientCommand::Ping));
        assert_eq!(session.on_message("{", later).unwrap_err().code, 1007);
    }

    #[test]
    fn session_of_the_largest_size_fits_an_attachment() {
        let uses: Vec<String> = (0..LIVE_USES_MAX).map(|n| format!("/{n}.css")).collect();
        let message = json!({"page": "/", "uses": uses, "offset": "now"}).to_string();
        let mut session = fresh();
        session.on_message(&message, NOW).unwrap();
        let text = session.encode();
        assert!(text.len() < 16_000, "{}", text.len());
        assert_eq!(Session::decode(&text), Some(session));
        assert_eq!(Session::decode("x"), None);
    }

    #[test]
    fn reasons_fit_a_close_frame() {
        let problem = Problem::new(Code::EventsGone, "\u{fc}".repeat(100));
        let closing = Closing::of(&problem);
        assert_eq!((closing.code, closing.reason.len()), (4410, 122));
    }
}
