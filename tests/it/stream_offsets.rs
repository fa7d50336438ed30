//! Stream offsets and live readers: whole appends, earlier streams of a name, characters across two
//! appends, expiring streams.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::streaming::Home;
use crate::world::{Answer, Host, started_on_both_hosts};

started_on_both_hosts! {
    offset_inside_an_append_reads_all_of_it,
    offset_of_an_earlier_stream_is_gone,
    character_over_two_appends_reaches_readers_of_events,
    readers_of_an_expired_stream_end_at_once,
}

const TEXT: &str = "text/plain";

fn offset(position: u64) -> String {
    format!("{:016}_{position:016}", 0)
}

fn next(answer: &Answer) -> String {
    answer.header("stream-next-offset").unwrap().to_owned()
}

fn offset_inside_an_append_reads_all_of_it(host: Host) {
    for settings in [
        &[][..],
        &[
            ("PMX_STREAM_SEGMENT_MESSAGES", "1"),
            ("PMX_STREAM_COLD_READS", "1"),
        ],
    ] {
        let home = Home::new(host, settings);
        home.create("a", TEXT);
        for body in ["hello", "wide", "world"] {
            assert_eq!(home.append("a", TEXT, body.as_bytes()).status, 204);
        }
        for (position, expected) in [
            (0, "hellowideworld"),
            (1, "hellowideworld"),
            (5, "wideworld"),
            (6, "wideworld"),
            (8, "wideworld"),
            (9, "world"),
            (13, "world"),
            (14, ""),
            (15, ""),
            (99, ""),
        ] {
            let page = home.ask("GET", &format!("a?offset={}", offset(position)), &[], b"");
            assert_eq!(
                (page.status, page.text().as_str()),
                (200, expected),
                "{position}"
            );
            assert_eq!(next(&page), offset(14), "{position}");
        }
    }
}

fn offset_of_an_earlier_stream_is_gone(host: Host) {
    let home = Home::new(host, &[("STREAM_LONG_POLL_MS", "100")]);
    for round in 0..3 {
        home.create("a", TEXT);
        let before = next(&home.append("a", TEXT, b"hello"));
        let page = home.ask("GET", &format!("a?offset={before}"), &[], b"");
        assert_eq!((page.status, next(&page)), (200, before.clone()), "{round}");
        assert_eq!(home.ask("DELETE", "a", &[], b"").status, 204);
        home.create("a", TEXT);
        assert_eq!(home.append("a", TEXT, b"another hello").status, 204);
        for live in ["", "&live=long-poll", "&live=sse"] {
            let stale = home.ask("GET", &format!("a?offset={before}{live}"), &[], b"");
            assert_eq!(stale.status, 410, "{round} {live}: {stale:?}");
            assert_eq!(stale.json()["code"], "E_STREAM_ANEW");
        }
        let all = home.ask("GET", "a?offset=-1", &[], b"");
        assert_eq!(all.text(), "another hello");
        assert!(
            next(&all) > before,
            "offsets of a name sort by their streams"
        );
        let none = home.ask("GET", &format!("a?offset={}", next(&all)), &[], b"");
        assert_eq!((none.status, none.text().as_str()), (200, ""));
        assert_eq!(home.ask("DELETE", "a", &[], b"").status, 204);
    }
}

/// An event reader of a text stream, and the text so far.
struct Reader {
    socket: TcpStream,
    got: Vec<u8>,
}

impl Reader {
    fn of(home: &Home, name: &str) -> Self {
        let port = home.server.port;
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let limit = Some(Duration::from_secs(12));
        socket.set_read_timeout(limit).unwrap();
        let head = format!(
            "GET /v1/stream/{name}?live=sse&offset=-1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let got = Vec::new();
        Self { socket, got }
    }

    /// Reads until the response contains a text, or ends.
    fn until(&mut self, wanted: Option<&str>) -> String {
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.got).into_owned();
            if wanted.is_some_and(|wanted| text.contains(wanted)) {
                return text;
            }
            let read = self.socket.read(&mut chunk).expect("events come");
            // A chunk without bytes ends the response.
            if read == 0 || text.ends_with("\r\n0\r\n\r\n") {
                return text;
            }
            self.got.extend_from_slice(&chunk[..read]);
            if wanted.is_none() && self.got.ends_with(b"\r\n0\r\n\r\n") {
                return text;
            }
        }
    }
}

fn character_over_two_appends_reaches_readers_of_events(host: Host) {
    let home = Home::new(host, &[]);
    home.create("a", TEXT);
    let euro = "\u{20ac}".as_bytes();
    assert_eq!(
        home.append("a", TEXT, &[b"one ", &euro[..2]].concat())
            .status,
        204
    );
    let mut reader = Reader::of(&home, "a");
    let text = reader.until(Some("upToDate"));
    assert!(text.contains("data:one \n"), "{text}");
    assert!(text.contains("x-accel-buffering: no"), "{text}");
    let body = [&euro[2..], b" two"].concat();
    assert_eq!(home.append("a", TEXT, &body).status, 204);
    let text = reader.until(Some(" two\n"));
    assert!(text.contains("data:\u{20ac} two\n"), "{text}");
    assert!(!text.contains('\u{fffd}'), "{text}");
    // A reader resumes from the offset between the two appends.
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("id:"))
        .unwrap();
    let page = home.ask("GET", &format!("a?offset={id}"), &[], b"");
    assert_eq!(page.text(), "\u{20ac} two");
}

fn readers_of_an_expired_stream_end_at_once(host: Host) {
    let home = Home::new(host, &[]);
    let ttl = [("content-type", TEXT), ("stream-ttl", "1")];
    assert_eq!(home.ask("PUT", "a", &ttl, b"x").status, 201);
    let begun = Instant::now();
    let mut reader = Reader::of(&home, "a");
    reader.until(Some("upToDate"));
    reader.until(None);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(home.ask("GET", "a?offset=-1", &[], b"").status, 404);
}
