//! Server-sent events (the HTML standard, section 9.2): encoding of pages, each with its end
//! offset.
//!
//! A page is one chunk: a `data` event, unless the page is empty, then a `control` event. They stay
//! together, so that a client that has the data knows its next offset. All readers at one offset
//! share a chunk. The control event has an `id`, which a browser sends when it reconnects.

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Response, StatusCode};
use serde::Serialize;

use super::answer::{bare, body, set};
use super::cursor::LiveCursor;
use super::headers;
use super::request::Get;
use crate::policy::EVENT_STREAM;
use crate::{From, MediaType, Offset, Page, Read};

/// The head of the response to a reader of events.
pub fn head(media_type: &MediaType) -> Response<Bytes> {
    let mut answer = bare(StatusCode::OK);
    set(&mut answer, CONTENT_TYPE, "text/event-stream");
    set(&mut answer, CACHE_CONTROL, EVENT_STREAM);
    // Proxies must not buffer events to compress them.
    set(&mut answer, CONTENT_ENCODING, "identity");
    set(&mut answer, headers::ACCEL_BUFFERING, "no");
    if Coding::of(media_type) == Coding::Base64 {
        set(&mut answer, headers::SSE_ENCODING, "base64");
    }
    answer
}

/// A chunk for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseChunk {
    /// The bytes.
    pub bytes: Bytes,
    /// The reader's offset after it.
    pub end: Offset,
    /// What follows the chunk.
    pub then: Then,
}

/// What follows a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next page, which exists already.
    More,
    /// Nothing until the next append.
    Wait,
    /// The end of the stream.
    End,
}

/// Encodes a page as a chunk.
pub fn event(page: &Page, cursor: LiveCursor) -> SseChunk {
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
    SseChunk { bytes, end, then }
}

/// Whether a page has no data for a reader of events: it is empty, or it is a part of a character.
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

/// The state of an event reader between two chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseSession {
    from: From,
    generation: Option<String>,
    cursor: Option<LiveCursor>,
}

impl SseSession {
    /// A new reader.
    pub fn new(get: &Get) -> Self {
        Self {
            from: get.read.from,
            generation: None,
            cursor: get.cursor,
        }
    }

    /// The next read.
    pub const fn read(&self) -> Read {
        Read { from: self.from }
    }

    /// Whether a page belongs to the stream that the session began with, and not to a later one of
    /// the name.
    pub fn knows(&self, page: &Page) -> bool {
        let begun = self.generation.as_ref();
        begun.is_none_or(|begun| *begun == page.view.generation)
    }

    /// Whether the reader can take the shared chunk: its own cursor is not ahead of the chunk's.
    pub fn takes(&self, cursor: LiveCursor) -> bool {
        self.cursor.is_none_or(|own| own < cursor)
    }

    /// The cursor for an own chunk.
    pub fn cursor(&self, now: pmx_core::time::Timestamp, random: u64) -> LiveCursor {
        LiveCursor::after(self.cursor, now, random)
    }

    /// Records that the reader got a chunk.
    pub fn got(&mut self, page: &Page, event: &SseChunk) {
        self.from = From::At(event.end);
        if self.generation.is_none() {
            self.generation = Some(page.view.generation.clone());
        }
    }
}

/// The coding of a page as text.
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

/// The bytes of a page of text. They exclude a partial character at the end, if the next page or
/// the next append may complete it.
fn whole_characters(page: &Page) -> (Bytes, Offset) {
    let all = (page.body.clone(), page.end);
    if page.is_at_end() {
        return all;
    }
    // A character has at most four bytes, so a partial one begins in the last three.
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

/// Writes `data:` lines. CR, LF and CRLF each begin a new line, so that a message cannot forge an
/// event. A client removes one space after the colon, so a line that begins with a space gets
/// another.
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

fn write_control(out: &mut Vec<u8>, end: Offset, then: Then, cursor: LiveCursor) {
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
