//! Long polls: one response, as soon as a page has messages or the stream is closed.

use bytes::Bytes;
use http::Response;
use pmx_core::time::Timestamp;

use super::answer;
use super::cursor::LiveCursor;
use super::request::Get;
use crate::{From, Offset, Page, Read, Refusal};

/// A long poll: a reader that waits for one response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    get: Get,
    seen: Option<WaitPosition>,
}

/// The tail at which the reader waits, and its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WaitPosition {
    tail: Offset,
    generation: String,
}

impl Poll {
    /// A new long poll.
    pub const fn new(get: Get) -> Self {
        Self { get, seen: None }
    }

    /// The next read.
    pub fn read(&self) -> Read {
        match &self.seen {
            Some(seen) => Read {
                from: From::At(seen.tail),
            },
            None => self.get.read,
        }
    }

    /// The response to a page, or `None` if the reader has to wait for the next.
    pub fn on_page(&mut self, page: &Page, now: Timestamp, random: u64) -> Option<Response<Bytes>> {
        let begun = self.seen.as_ref().map(|seen| &seen.generation);
        if begun.is_some_and(|begun| *begun != page.view.generation) {
            // The stream was deleted, and another one has its name.
            return Some(answer::refused(&Refusal::Unknown));
        }
        let cursor = self.cursor(now, random);
        if page.start != page.end {
            return Some(answer::page(&self.get, page, cursor));
        }
        if page.is_at_end() {
            return Some(answer::timed_out(page.end, true, cursor));
        }
        self.seen = Some(WaitPosition {
            tail: page.end,
            generation: page.view.generation.clone(),
        });
        None
    }

    /// The response when the wait times out.
    pub fn on_timeout(&self, now: Timestamp, random: u64) -> Response<Bytes> {
        let tail = self.seen.as_ref().map(|seen| seen.tail);
        let tail = tail.unwrap_or(Offset::ZERO);
        answer::timed_out(tail, false, self.cursor(now, random))
    }

    fn cursor(&self, now: Timestamp, random: u64) -> LiveCursor {
        LiveCursor::after(self.get.cursor, now, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{IfNoneMatch, LiveMode};
    use crate::{Expiry, MediaType, StreamProperties};

    fn page(generation: &str, start: u64, body: &'static str, closed: bool) -> Page {
        let end = Offset::at(start + body.len() as u64);
        Page {
            view: StreamProperties {
                media_type: MediaType::new("text/plain"),
                next: end,
                closed,
                expiry: Expiry::Never,
                expiry_text: None,
                generation: generation.to_owned(),
            },
            start: Offset::at(start),
            end,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn waiting() -> Poll {
        Poll::new(Get {
            read: Read { from: From::Now },
            live: LiveMode::LongPoll,
            cursor: None,
            known: IfNoneMatch::These(Vec::new()),
        })
    }

    fn rendered(poll: &mut Poll, page: &Page) -> Option<u16> {
        let rendered = poll.on_page(page, Timestamp::from_millis(0), 0);
        rendered.map(|answer| answer.status().as_u16())
    }

    #[test]
    fn poll_waits_only_at_the_tail_of_an_open_stream() {
        assert_eq!(
            rendered(&mut waiting(), &page("a", 5, "x", false)),
            Some(200)
        );
        assert_eq!(rendered(&mut waiting(), &page("a", 5, "", true)), Some(204));
        let mut poll = waiting();
        assert_eq!(rendered(&mut poll, &page("a", 5, "", false)), None);
        let from = From::At(Offset::at(5));
        assert_eq!(poll.read(), Read { from });
        let late = poll.on_timeout(Timestamp::from_millis(0), 0);
        assert_eq!(late.status(), 204);
        let next = late.headers()["stream-next-offset"].to_str();
        assert_eq!(next.unwrap(), Offset::at(5).to_string());
        assert_eq!(rendered(&mut poll, &page("b", 5, "x", false)), Some(404));
        assert_eq!(rendered(&mut poll, &page("a", 5, "x", true)), Some(200));
    }
}
