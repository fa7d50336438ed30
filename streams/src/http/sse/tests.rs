use pmx_core::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{Expiry, StreamProperties};

fn page(media_type: &str, tail: (u64, bool), start: u64, end: u64, body: &[u8]) -> Page {
    Page {
        view: StreamProperties {
            media_type: MediaType::new(media_type),
            next: Offset::at(tail.0),
            closed: tail.1,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: "9a".repeat(16),
        },
        start: Offset::at(start),
        end: Offset::at(end),
        body: Bytes::copy_from_slice(body),
    }
}

fn cursor() -> LiveCursor {
    LiveCursor::at(Timestamp::from_millis(1_728_432_000_000 + 140_000))
}

fn text(event: &SseChunk) -> &str {
    std::str::from_utf8(&event.bytes).unwrap()
}

/// Data and control of each event, as a browser reads them (the HTML standard, section 9.2.6).
fn parsed(text: &str) -> Vec<(String, String, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut kind, mut data, mut id) = (String::new(), Vec::new(), String::new());
    for line in text.split('\n') {
        match line.split_once(':') {
            Some(("event", value)) => value.trim_start().clone_into(&mut kind),
            Some(("data", value)) => {
                data.push(value.strip_prefix(' ').unwrap_or(value).to_owned());
            }
            Some(("id", value)) => value.clone_into(&mut id),
            Some(other) => panic!("{other:?}"),
            None if line.is_empty() && !data.is_empty() => {
                events.push((std::mem::take(&mut kind), data.join("\n"), id.clone()));
                data.clear();
            }
            None => assert_eq!(line, ""),
        }
    }
    events
}

#[test]
fn event_encodes_data_and_control() {
    let event_at = event(
        &page("application/json", (2, false), 0, 2, b"{\"a\":1},2"),
        cursor(),
    );
    insta::assert_snapshot!(text(&event_at), @r#"
    event: data
    data:[{"a":1},2]

    event: control
    data:{"streamNextOffset":"0000000000000000_0000000000000002","streamCursor":"7","upToDate":true}
    id:0000000000000000_0000000000000002
    "#);
    assert_eq!((event_at.end, event_at.then), (Offset::at(2), Then::Wait));
    let more = event(&page("application/x", (9, true), 0, 2, b"\0\xff"), cursor());
    insta::assert_snapshot!(text(&more), @r#"
    event: data
    data:AP8=

    event: control
    data:{"streamNextOffset":"0000000000000000_0000000000000002","streamCursor":"7"}
    id:0000000000000000_0000000000000002
    "#);
    assert_eq!(more.then, Then::More);
    let last = event(&page("text/plain", (9, true), 9, 9, b""), cursor());
    insta::assert_snapshot!(text(&last), @r#"
    event: control
    data:{"streamNextOffset":"0000000000000000_0000000000000009","streamClosed":true}
    id:0000000000000000_0000000000000009
    "#);
    assert_eq!(last.then, Then::End);
}

#[test]
fn head_names_the_encoding_of_bytes() {
    for (media_type, coded) in [
        ("text/plain", false),
        ("TEXT/html; charset=utf-8", false),
        ("application/json", false),
        ("application/octet-stream", true),
        ("application/x-ndjson", true),
    ] {
        let answer = head(&MediaType::new(media_type));
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-cache, no-store");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        let coding = answer.headers().get("stream-sse-data-encoding");
        assert_eq!(coding.is_some(), coded, "{media_type}");
    }
}

#[test]
fn event_escapes_line_breaks_of_messages() {
    for message in [
        "a\n\nevent: control\ndata:{}\n\n",
        "a\r\revent: control\rdata:{}\r\r",
        "a\r\n\r\nevent: control\r\ndata:{}",
        " leading",
        "\n",
        ":",
    ] {
        let bytes = message.as_bytes();
        let end = bytes.len() as u64;
        let event = event(&page("text/plain", (end, false), 0, end, bytes), cursor());
        let events = parsed(text(&event));
        let kinds: Vec<&str> = events.iter().map(|(kind, ..)| kind.as_str()).collect();
        assert_eq!(kinds, ["data", "control"], "{message:?}");
        let expected = message.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(events[0].1, expected);
        // Only the control event has the offset, after the data.
        assert_eq!((events[0].2.as_str(), events[1].2.is_empty()), ("", false));
    }
}

#[test]
fn event_withholds_a_partial_character() {
    let check = |body: &[u8], tail: u64, expected: usize| {
        let end = body.len() as u64;
        let event = event(&page("text/plain", (tail, false), 0, end, body), cursor());
        assert_eq!(event.end.position(), expected as u64, "{body:?}");
        assert_eq!(event.end.is_inside(), expected < body.len(), "{body:?}");
        assert_eq!(event.then == Then::Wait, end == tail);
    };
    let face = "\u{1f600}".as_bytes();
    for cut in 1..4 {
        check(&[b"ab", &face[..cut]].concat(), 9, 2);
        // A page without a whole character is sent unchanged.
        check(&face[..cut], 9, cut);
        // The next append may complete it.
        check(&[b"ab", &face[..cut]].concat(), 2 + cut as u64, 2);
        let rest = page(
            "text/plain",
            (cut as u64, false),
            0,
            cut as u64,
            &face[..cut],
        );
        assert!(is_silent(&rest) && event(&rest, cursor()).then == Then::Wait);
        // A closed stream has no next append.
        let end = cut as u64;
        let last = page("text/plain", (end, true), 0, end, &face[..cut]);
        assert_eq!(event(&last, cursor()).end, Offset::at(end));
        assert!(!is_silent(&last));
    }
    check(&[b"ab", face].concat(), 9, 6);
    check(b"ab\xff", 9, 3);
    check(b"ab\x80\x80\x80", 9, 5);
}

#[test]
fn session_resumes_from_the_last_event() {
    let request = http::Request::get("/v1/stream/a?live=sse&offset=-1&cursor=7").body(());
    let parsed = super::super::StreamRequest::parse(&request.unwrap().into_parts().0);
    let Ok(super::super::StreamRequest::Get(get)) = parsed else {
        panic!("{parsed:?}")
    };
    let mut session = SseSession::new(&get);
    assert_eq!(session.read().from, From::Start);
    let first = page("text/plain", (5, false), 0, 3, b"abc");
    assert!(session.knows(&first));
    session.got(&first, &event(&first, cursor()));
    assert_eq!(session.read().from, From::At(Offset::at(3)));
    let mut other = first.clone();
    other.view.generation = "77".repeat(16);
    assert!(session.knows(&first) && !session.knows(&other));
    // The reader has the current cursor, so it gets a later one.
    assert!(!session.takes(cursor()));
    let now = Timestamp::from_millis(1_728_432_000_000 + 140_000);
    assert!(session.cursor(now, 3) > cursor());
    assert!(session.takes(LiveCursor::parse("8").unwrap()));
}

proptest! {
    #[test]
    fn events_of_any_pages_join_to_the_text(
        messages in proptest::collection::vec("[a-z\u{fc}\u{20ac}\u{1f600} :]{0,9}", 1..9),
        budget in 4usize..20,
    ) {
        let all = messages.concat();
        let (bytes, tail) = (all.as_bytes(), all.len() as u64);
        let (mut at, mut arrived) = (0usize, String::new());
        while at < bytes.len() {
            let end = (at + budget).min(bytes.len());
            let body = &bytes[at..end];
            let page = page("text/plain", (tail, false), at as u64, end as u64, body);
            let event = event(&page, cursor());
            for (kind, data, _) in parsed(text(&event)) {
                if kind == "data" {
                    arrived.push_str(&data);
                }
            }
            at = event.end.position() as usize;
        }
        prop_assert_eq!(arrived, all);
    }
}
