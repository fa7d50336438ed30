//! Server-sent events (the HTML standard, section 9.2): pages as they come, each with the place
//! where it ends.
//!
//! A page is one chunk: a `data` event, unless there is nothing in it, and a `control` event right
//! behind. They never travel apart, so that a client that has the data knows where to go on. The
//! chunk is the same for all readers who stand at the same place: it is made once. The control
//! event carries an `id`, so that a browser which reconnects automatically says how far it got.

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Response, StatusCode};
use serde::Serialize;

use super::answer::{bare, body, set};
use super::cursor::Cursor;
use super::headers;
use super::request::Get;
use crate::policy::AS_IT_COMES;
use crate::{From, MediaType, Offset, Page, Read};

/// The head of the answer to a reader of events.
pub fn head(media_type: &MediaType) -> Response<Bytes> {
    let mut answer = bare(StatusCode::OK);
    set(&mut answer, CONTENT_TYPE, "text/event-stream");
    set(&mut answer, CACHE_CONTROL, AS_IT_COMES);
    // What lies between must not wait until it has enough to compress.
    set(&mut answer, CONTENT_ENCODING, "identity");
    set(&mut answer, headers::ACCEL_BUFFERING, "no");
    if Coding::of(media_type) == Coding::Base64 {
        set(&mut answer, headers::SSE_ENCODING, "base64");
    }
    answer
}

/// One chunk for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The bytes.
    pub bytes: Bytes,
    /// Where the reader stands after it.
    pub end: Offset,
    /// What follows.
    pub then: Then,
}

/// What follows a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next page is there already.
    More,
    /// Nothing, until something is appended.
    Wait,
    /// Nothing any more.
    End,
}

/// Makes a chunk of a page.
pub fn event(page: &Page, cursor: Cursor) -> Event {
    let coding = Coding::of(&page.view.media_type);
    let (data, end) = match coding {
        Coding::Text => whole_characters(page),
        Coding::Json => (body(page), page.end),
        Coding::Base64 => (BASE64.encode(&page.body).into(), page.end),
    };
    let mut bytes = Vec::with_capacity(data.len() + data.len() / 32 + 256);
    if end.position() != page.start.position() {
        bytes.extend_from_slice(b"event: data\n");
        write_lines(&mut bytes, &data);
        bytes.push(b'\n');
    }
    let then = match (page.is_up_to_date(), page.is_at_end()) {
        (_, true) => Then::End,
        (true, false) => Then::Wait,
        (false, false) => Then::More,
    };
    write_control(&mut bytes, end, then, cursor);
    let bytes = bytes.into();
    Event { bytes, end, then }
}

/// Whether a page has nothing for a reader of events: it is empty, or all of it waits for the rest
/// of a character.
pub fn is_silent(page: &Page) -> bool {
    if page.is_at_end() {
        return false;
    }
    let is_withheld = || {
        let is_text = Coding::of(&page.view.media_type) == Coding::Text;
        is_text && whole_characters(page).0.is_empty()
    };
    page.start == page.end || is_withheld()
}

/// A reader of events, between two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    from: From,
    generation: Option<String>,
    cursor: Option<Cursor>,
}

impl Session {
    /// A reader who has just come.
    pub fn new(get: &Get) -> Self {
        Self {
            from: get.read.from,
            generation: None,
            cursor: get.cursor,
        }
    }

    /// What to read for them.
    pub const fn read(&self) -> Read {
        Read { from: self.from }
    }

    /// Whether a page belongs to the stream that they began to read. If it was deleted since, a
    /// stream of the same name is another one.
    pub fn knows(&self, page: &Page) -> bool {
        let begun = self.generation.as_ref();
        begun.is_none_or(|begun| *begun == page.view.generation)
    }

    /// Whether the chunk that all get is good for them: their own cursor is not ahead of it.
    pub fn takes(&self, cursor: Cursor) -> bool {
        self.cursor.is_none_or(|own| own < cursor)
    }

    /// The cursor for a chunk of their own.
    pub fn cursor(&self, now: pmx_core::time::Timestamp, random: u64) -> Cursor {
        Cursor::after(self.cursor, now, random)
    }

    /// Notes that they got a chunk.
    pub fn got(&mut self, page: &Page, event: &Event) {
        self.from = From::At(event.end);
        if self.generation.is_none() {
            self.generation = Some(page.view.generation.clone());
        }
    }
}

/// How bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Text,
    Json,
    Base64,
}

impl Coding {
    fn of(media_type: &MediaType) -> Self {
        if media_type.is_json() {
            Self::Json
        } else if media_type.essence().starts_with("text/") {
            Self::Text
        } else {
            Self::Base64
        }
    }
}

/// A page of a text without the character that it cuts in two, if the rest of it may come with the
/// next page or the next append.
fn whole_characters(page: &Page) -> (Bytes, Offset) {
    let all = (page.body.clone(), page.end);
    if page.is_at_end() {
        return all;
    }
    // A character has four bytes at most; before the last three, nothing can be cut.
    let tail = page.body.len().saturating_sub(3);
    let cut = (tail..page.body.len()).find(|&at| {
        let rest = page.body.get(at..).unwrap_or_default();
        std::str::from_utf8(rest).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
    });
    match cut {
        Some(cut) if cut > 0 || page.is_up_to_date() => {
            let withheld = (page.body.len() - cut) as u64;
            let end = page.end.position().saturating_sub(withheld);
            (page.body.slice(..cut), page.end.moved_to(end).inside())
        }
        Some(_) | None => all,
    }
}

/// Writes `data:` lines. Each of CR, LF and CRLF ends a line: none can be let through, or a
/// message could pass for an event. A client takes one space behind the colon away: it gets one to
/// take where the line has its own.
fn write_lines(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let colon: &[u8] = if text.starts_with(b" ") {
            b"data: "
        } else {
            b"data:"
        };
        out.extend_from_slice(colon);
        let end = text.iter().position(|&byte| byte == b'\n' || byte == b'\r');
        let Some((line, rest)) = end.and_then(|end| text.split_at_checked(end)) else {
            out.extend_from_slice(text);
            out.push(b'\n');
            return;
        };
        out.extend_from_slice(line);
        out.push(b'\n');
        let breaks = if rest.starts_with(b"\r\n") { 2 } else { 1 };
        text = rest.get(breaks..).unwrap_or_default();
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Control {
    stream_next_offset: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to_date: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_closed: Option<bool>,
}

fn write_control(out: &mut Vec<u8>, end: Offset, then: Then, cursor: Cursor) {
    let control = Control {
        stream_next_offset: end.to_string(),
        stream_cursor: (then != Then::End).then(|| cursor.number().to_string()),
        up_to_date: (then == Then::Wait).then_some(true),
        stream_closed: (then == Then::End).then_some(true),
    };
    out.extend_from_slice(b"event: control\ndata:");
    out.extend_from_slice(&serde_json::to_vec(&control).unwrap_or_default());
    out.extend_from_slice(format!("\nid:{end}\n\n").as_bytes());
}

#[cfg(test)]
mod tests;
