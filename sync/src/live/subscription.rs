//! Event filter: the subscription of an open page.

use pmx_streams::{From, InvalidOffset, Offset};
use serde::Deserialize;
use thiserror::Error;

use super::key::Key;
use super::message::{ChangeMessage, Event};
use crate::limits::{LIVE_MESSAGE_BYTES_MAX, LIVE_USES_MAX};

/// A message of a client over its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    /// The filter for its events.
    pub subscription: Subscription,
    /// The offset after which it needs events.
    pub from: From,
    /// Whether the client wants all missed messages as one.
    pub compact: bool,
}

/// The reason why the server refuses a client's message.
#[derive(Debug, Error)]
pub enum InvalidMessage {
    /// The message is too long.
    #[error("a message may have {LIVE_MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// The message is no JSON, or lacks required fields.
    #[error("reading the message: {0}")]
    Json(#[from] serde_json::Error),
    /// The message names too many paths.
    #[error("a page may name {LIVE_USES_MAX} addresses")]
    TooMany,
    /// The offset is invalid.
    #[error("reading the offset: {0}")]
    Offset(#[from] InvalidOffset),
}

#[derive(Deserialize)]
struct RawClientMessage {
    page: Option<String>,
    #[serde(default)]
    uses: Vec<String>,
    offset: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default = "yes")]
    compact: bool,
}

const fn yes() -> bool {
    true
}

impl ClientMessage {
    /// Reads a client's message.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        if text.len() > LIVE_MESSAGE_BYTES_MAX {
            return Err(InvalidMessage::TooLong);
        }
        let spelt: RawClientMessage = serde_json::from_str(text)?;
        if spelt.uses.len() > LIVE_USES_MAX {
            return Err(InvalidMessage::TooMany);
        }
        let from = match spelt.offset.as_deref() {
            None | Some("now") => From::Now,
            Some("-1") => From::Start,
            Some(offset) => From::At(Offset::parse(offset)?),
        };
        let addresses = spelt.page.iter().chain(&spelt.uses);
        let subscription = if spelt.all {
            Subscription::All
        } else {
            Subscription::of(addresses.map(|address| Key::of_address(address)))
        };
        Ok(Self {
            subscription,
            from,
            compact: spelt.compact,
        })
    }
}

/// Event filter of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// All events.
    All,
    /// All events, as bare events: for clients of the protocol that never subscribe.
    Raw,
    /// Events for these keys, which are sorted.
    These(Vec<Key>),
}

impl Subscription {
    /// A subscription to these keys.
    pub fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Self::These(keys)
    }

    /// Whether the subscription names no paths, and so receives lists of all changed ones.
    pub const fn is_list(&self) -> bool {
        match self {
            Self::All | Self::Raw => true,
            Self::These(_) => false,
        }
    }

    /// The part of a message that matches the subscription; `None` if no part does. A truncated
    /// message matches every subscription.
    pub fn cut(&self, message: &ChangeMessage) -> Option<ChangeMessage> {
        let keys = match self {
            Self::All | Self::Raw => return Some(message.clone()),
            Self::These(keys) => keys,
        };
        let events = message.events.iter().map(|event| cut(event, keys));
        let events: Vec<Event> = events.filter(|event| !event.is_empty()).collect();
        (!events.is_empty()).then(|| ChangeMessage {
            events,
            ..message.clone()
        })
    }
}

fn cut(event: &Event, keys: &[Key]) -> Event {
    let has = |key: Key| keys.binary_search(&key).is_ok();
    let files = |files: &[String]| {
        let kept = files.iter().filter(|file| has(Key::of_file(file)));
        kept.cloned().collect()
    };
    let paths = event.paths.iter();
    let paths = paths.filter(|path| has(Key::of_address(path)));
    Event {
        paths: paths.cloned().collect(),
        added: files(&event.added),
        modified: files(&event.modified),
        removed: files(&event.removed),
        truncated: event.truncated,
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::id::NodeId;
    use pmx_core::time::Timestamp;

    use super::*;
    use crate::wire::DeployKind;

    fn message(files: &[&str], truncated: bool) -> ChangeMessage {
        let modified: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let paths = modified.iter().map(|file| format!("/{file}")).collect();
        let event = Event {
            paths,
            modified,
            truncated,
            ..Event::default()
        };
        ChangeMessage {
            deploy: 2,
            alias: None,
            root: NodeId::of(b"new"),
            prev_root: Some(NodeId::of(b"old")),
            since: None,
            kind: DeployKind::Publish,
            at: Timestamp::from_millis(1),
            events: vec![event],
            know: None,
        }
    }

    fn received(wish: &str, message: &ChangeMessage) -> Option<Vec<String>> {
        let wish = ClientMessage::parse(wish).unwrap();
        let cut = wish.subscription.cut(message)?;
        Some(cut.events.into_iter().flat_map(|e| e.modified).collect())
    }

    #[test]
    fn subscription_passes_events_for_its_page_only() {
        let sent = message(&["a.html", "b.html", "style.css", "c/index.html"], false);
        for (wish, expected) in [
            (r#"{"page":"/a"}"#, Some(&["a.html"][..])),
            (r#"{"page":"/c/"}"#, Some(&["c/index.html"])),
            (r#"{"page":"/x","uses":["/y.css"]}"#, None),
            (
                r#"{"page":"/a","uses":["/style.css","/none.js"]}"#,
                Some(&["a.html", "style.css"]),
            ),
            (
                r#"{"all":true}"#,
                Some(&["a.html", "b.html", "style.css", "c/index.html"]),
            ),
            ("{}", None),
        ] {
            let expected = expected.map(|files| files.iter().map(|f| (*f).to_owned()).collect());
            assert_eq!(received(wish, &sent), expected, "{wish}");
        }
    }

    #[test]
    fn subscription_passes_truncated_events_to_all() {
        assert_eq!(
            received(r#"{"page":"/x"}"#, &message(&[], true)),
            Some(vec![])
        );
    }

    #[test]
    fn client_message_parse_refuses_invalid_messages() {
        let many = vec!["\"/a\""; LIVE_USES_MAX + 1].join(",");
        let long = "x".repeat(LIVE_MESSAGE_BYTES_MAX);
        for (text, fits) in [
            ("{}".to_owned(), true),
            (r#"{"page":"/","offset":"now","new":1}"#.into(), true),
            (r#"{"offset":"0_7"}"#.into(), true),
            (r#"{"offset":"7"}"#.into(), false),
            (r#"{"page":7}"#.into(), false),
            ("[]".into(), false),
            (String::new(), false),
            (format!("{{\"uses\":[{many}]}}"), false),
            (format!("{{\"page\":\"{long}\"}}"), false),
        ] {
            let name: String = text.chars().take(40).collect();
            assert_eq!(ClientMessage::parse(&text).is_ok(), fits, "{name}");
        }
    }
}
