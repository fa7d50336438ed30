//! Streams over sockets: killed readers, large appends, a killed server, tokens.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pmx_core::crossing::{Crosses, Crossing};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Answer, Host, Server, eventually, started_on_both_hosts, tcp, try_raw};

started_on_both_hosts! {
    readers_that_stop_or_leave_delay_no_other,
    event_source_resumes_at_the_last_event_id,
    long_polls_receive_an_append_a_close_and_a_deletion,
    large_appends_return_whole_and_larger_ones_are_refused,
    stream_secret_admits_its_holders_only,
    stream_rpc_is_closed_to_clients,
    acknowledged_appends_survive_every_kill_and_come_once,
}

/// A server of streams, and its data folder.
pub(crate) struct Home {
    pub(crate) temp: TempDir,
    pub(crate) server: Server,
    settings: Vec<(&'static str, &'static str)>,
}

impl Home {
    pub(crate) fn new(host: Host, settings: &[(&'static str, &'static str)]) -> Self {
        let temp = TempDir::new().unwrap();
        let data = temp.path().join("data");
        Self {
            server: Server::start_with(host, &data, 0, settings),
            temp,
            settings: settings.to_vec(),
        }
    }

    /// The server's log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.temp.path().join("data.log")).unwrap()
    }

    pub(crate) fn restart(&mut self) {
        let data = self.temp.path().join("data");
        let (host, port) = (self.server.host, self.server.port);
        self.server = Server::start_with(host, &data, port, &self.settings);
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        ask(self.server.port, method, path, headers, body).expect("the server answers")
    }

    pub(crate) fn create(&self, name: &str, media: &str) {
        let created = self.ask("PUT", name, &[("content-type", media)], b"");
        assert_eq!(created.status, 201, "{created:?}");
    }

    pub(crate) fn append(&self, name: &str, media: &str, body: &[u8]) -> Answer {
        self.ask("POST", name, &[("content-type", media)], body)
    }

    /// All pages of a stream.
    pub(crate) fn read_all(&self, name: &str) -> Vec<Answer> {
        let mut pages = Vec::new();
        let mut offset = "-1".to_owned();
        loop {
            let page = self.ask("GET", &format!("{name}?offset={offset}"), &[], b"");
            assert_eq!(page.status, 200, "{page:?}");
            let next = page.header("stream-next-offset").unwrap();
            next.clone_into(&mut offset);
            let is_last = page.header("stream-up-to-date") == Some("true");
            pages.push(page);
            if is_last {
                return pages;
            }
        }
    }

    /// Waits until `count` readers wait for a stream: the server has read their requests, and has
    /// answered a later one.
    fn readers_wait(&self, name: &str, count: usize) {
        tcp::all_read(self.server.port, count);
        assert_eq!(self.ask("HEAD", name, &[], b"").status, 200);
    }

    /// Requests events, and reads nothing yet.
    fn events(&self, name: &str, offset: &str, headers: &[(&str, &str)]) -> Events {
        let port = self.server.port;
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        let mut head = format!(
            "GET /v1/stream/{name}?live=sse&offset={offset} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        Events {
            socket,
            raw: Vec::new(),
            is_body: false,
            unread: String::new(),
        }
    }
}

pub(crate) fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut head = format!(
        "{method} /v1/stream/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    try_raw(port, &[head.as_bytes(), body].concat(), method == "HEAD")
}

/// An event reader of a JSON stream.
struct Events {
    socket: TcpStream,
    /// The received bytes: the head of the response, then chunks.
    raw: Vec<u8>,
    is_body: bool,
    unread: String,
}

impl Events {
    /// Reads until the stream ends or `enough` messages arrived. Returns the messages and the last
    /// id.
    fn read(&mut self, enough: usize) -> (Vec<Value>, String) {
        let (mut messages, mut id) = (Vec::new(), String::new());
        let mut chunk = vec![0; 256 * 1024];
        loop {
            while let Some(end) = self.unread.find('\n') {
                let rest = self.unread.split_off(end + 1);
                let line = std::mem::replace(&mut self.unread, rest);
                let line = line.trim_end_matches('\n');
                if let Some(array) = line.strip_prefix("data:[") {
                    let array: Vec<Value> = serde_json::from_str(&format!("[{array}")).unwrap();
                    messages.extend(array);
                    // The control event has the offset after them.
                    id.clear();
                }
                if let Some(place) = line.strip_prefix("id:") {
                    place.clone_into(&mut id);
                }
                if messages.len() >= enough && !id.is_empty() && line.is_empty() {
                    return (messages, id);
                }
            }
            let read = self.socket.read(&mut chunk).expect("events come");
            assert_ne!(
                read,
                0,
                "the reader is let go after {} messages",
                messages.len()
            );
            self.raw.extend_from_slice(&chunk[..read]);
            self.unchunk();
        }
    }

    /// Removes the chunk framing from the text; an intermediary may split chunks at any byte.
    fn unchunk(&mut self) {
        if !self.is_body {
            let Some(end) = self.raw.windows(4).position(|it| it == b"\r\n\r\n") else {
                return;
            };
            self.raw.drain(..end + 4);
            self.is_body = true;
        }
        while let Some(line) = self.raw.windows(2).position(|it| it == b"\r\n") {
            let length = std::str::from_utf8(&self.raw[..line]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            let (start, end) = (line + 2, line + 2 + length);
            if self.raw.len() < end + 2 {
                return;
            }
            let text = std::str::from_utf8(&self.raw[start..end]).unwrap();
            self.unread.push_str(text);
            self.raw.drain(..end + 2);
        }
    }
}

/// Events that are appended while some readers do not read.
const EVENTS: usize = 96;

fn readers_that_stop_or_leave_delay_no_other(host: Host) {
    let home = Home::new(host, &[]);
    home.create("e", "application/json");
    // These readers request events and never read; the next ones disconnect.
    let stopped: Vec<Events> = (0..3).map(|_| home.events("e", "-1", &[])).collect();
    drop(
        (0..3)
            .map(|_| home.events("e", "now", &[]))
            .collect::<Vec<_>>(),
    );
    let live = (0..3).map(|_| {
        let mut events = home.events("e", "-1", &[]);
        // Once the first event arrived, the reader is subscribed.
        assert_eq!(events.read(0).0, [] as [Value; 0]);
        thread::spawn(move || events.read(EVENTS).0)
    });
    let live: Vec<_> = live.collect();
    // In total more bytes than sockets buffer.
    let filling = "x".repeat(100_000);
    for number in 0..EVENTS {
        let event = format!("{{\"number\":{number},\"filling\":\"{filling}\"}}");
        let appended = home.append("e", "application/json", event.as_bytes());
        assert_eq!(appended.status, 204);
    }
    for reader in live {
        let numbers = reader.join().unwrap();
        let numbers = numbers
            .iter()
            .map(|event| event["number"].as_u64().unwrap());
        assert!(numbers.eq(0..EVENTS as u64), "each event once and in order");
    }
    // Stopped readers have missed no message.
    for mut late in stopped {
        let numbers = late.read(EVENTS).0;
        let numbers = numbers
            .iter()
            .map(|event| event["number"].as_u64().unwrap());
        assert!(numbers.eq(0..EVENTS as u64), "each event once and in order");
    }
}

fn event_source_resumes_at_the_last_event_id(host: Host) {
    let home = Home::new(host, &[]);
    home.create("e", "application/json");
    home.append("e", "application/json", b"[1,2]");
    let (first, id) = home.events("e", "-1", &[]).read(2);
    home.append("e", "application/json", b"[3,4]");
    // The reader requests the same address again, with its offset.
    let (second, _) = home.events("e", "-1", &[("Last-Event-ID", &id)]).read(2);
    assert_eq!([first, second].concat(), [1, 2, 3, 4]);
}

fn long_polls_receive_an_append_a_close_and_a_deletion(host: Host) {
    let home = Home::new(host, &[("STREAM_LONG_POLL_MS", "60000")]);
    home.create("a", "application/json");
    let port = home.server.port;
    let poll = |offset: &str| {
        let path = format!("a?live=long-poll&offset={offset}");
        thread::spawn(move || ask(port, "GET", &path, &[], b"").unwrap())
    };
    let zero = "0000000000000000_0000000000000000";
    let waiting: Vec<_> = (0..4).map(|_| poll(zero)).collect();
    home.readers_wait("a", 4);
    home.append("a", "application/json", b"{\"n\":1}");
    for poll in waiting {
        let answer = poll.join().unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "[{\"n\":1}]")
        );
        assert!(answer.header("stream-cursor").is_some());
    }
    let waiting = poll("now");
    home.readers_wait("a", 1);
    let closed = home.ask("POST", "a", &[("stream-closed", "true")], b"");
    assert_eq!(closed.status, 204);
    let answer = waiting.join().unwrap();
    assert_eq!(
        (answer.status, answer.header("stream-closed")),
        (204, Some("true"))
    );
    home.create("b", "application/json");
    let path = "b?live=long-poll&offset=now";
    let waiting = thread::spawn(move || ask(port, "GET", path, &[], b"").unwrap());
    home.readers_wait("b", 1);
    assert_eq!(home.ask("DELETE", "b", &[], b"").status, 204);
    assert_eq!(waiting.join().unwrap().status, 404);
}

fn large_appends_return_whole_and_larger_ones_are_refused(host: Host) {
    let home = Home::new(host, &[]);
    let sizes = [1_000_000u32, 2_000_001, 5_000_000, 16 * 1024 * 1024];
    home.create("b", "application/octet-stream");
    let mut all = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let body: Vec<u8> = (0..size).map(|n| (n >> (number * 3)) as u8).collect();
        let appended = home.append("b", "application/octet-stream", &body);
        assert_eq!(appended.status, 204, "{size} bytes");
        all.extend_from_slice(&body);
    }
    let large = vec![7; 16 * 1024 * 1024 + 1];
    let refused = home.append("b", "application/octet-stream", &large);
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json()["code"], "E_TOO_LARGE");
    let read: Vec<u8> = home
        .read_all("b")
        .into_iter()
        .flat_map(|page| page.body)
        .collect();
    assert!(read == all, "{} bytes of {}", read.len(), all.len());
    // One message is longer than a page.
    home.create("j", "application/json");
    let long = format!("\"{}\"", "y".repeat(9_000_000));
    assert_eq!(
        home.append("j", "application/json", long.as_bytes()).status,
        204
    );
    assert_eq!(home.read_all("j")[0].text(), format!("[{long}]"));
}

fn stream_secret_admits_its_holders_only(host: Host) {
    let page = ("STREAM_ORIGINS", "https://a.example");
    let home = Home::new(host, &[("STREAM_SECRET", "s3cret"), page]);
    let (token, other) = (
        ("authorization", "Bearer s3cret"),
        ("authorization", "Bearer x"),
    );
    let media = ("content-type", "text/plain");
    assert_eq!(home.ask("PUT", "a", &[media], b"x").status, 401);
    assert_eq!(home.ask("PUT", "a", &[media, other], b"x").status, 401);
    assert_eq!(home.ask("PUT", "a", &[media, token], b"x").status, 201);
    assert_eq!(
        home.ask("GET", "a?offset=-1&live=sse", &[], b"").status,
        401
    );
    let page = home.ask("GET", "a", &[token], b"");
    assert_eq!((page.status, page.text().as_str()), (200, "x"));
    assert_eq!(
        page.header("cache-control"),
        Some("private, max-age=0, must-revalidate")
    );
    // A browser sends no token with a preflight.
    let origin = ("origin", "https://a.example");
    let preflight = home.ask("OPTIONS", "a", &[origin], b"");
    assert_eq!(preflight.status, 204);
    let allowed = preflight.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://a.example"));
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    assert!(
        allowed.contains("authorization") && allowed.contains("if-none-match"),
        "{allowed}"
    );
}

/// A request that the Worker's hub sends to a stream. The stream answers it with a description.
#[derive(Serialize, Deserialize)]
struct RpcRequest {
    #[serde(rename = "Turn")]
    step: String,
}

impl Crosses for RpcRequest {}

/// On the Worker, streams and the hub send each other requests.
fn stream_rpc_is_closed_to_clients(host: Host) {
    let home = Home::new(host, &[]);
    home.create("a", "text/plain");
    let step = "Look".to_owned();
    let ask = &*Crossing::of(RpcRequest { step }).unwrap().to_bytes();
    for path in [
        "../../peers",
        "%2e%2e/%2e%2e/peers",
        "../../peers?/v1/stream/a",
    ] {
        let refused = home.ask("POST", path, &[], ask);
        assert!((400..500).contains(&refused.status), "{path}: {refused:?}");
    }
    let head = format!(
        "POST https://stream/peers HTTP/1.1\r\nHost: stream\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        ask.len()
    );
    // workerd itself refuses an absolute address, with 500.
    let refused = try_raw(home.server.port, &[head.as_bytes(), ask].concat(), false).unwrap();
    assert!(refused.status >= 400, "{refused:?}");
}

fn acknowledged_appends_survive_every_kill_and_come_once(host: Host) {
    let settings = [
        ("PMX_STREAM_SEGMENT_MESSAGES", "8"),
        ("PMX_STREAM_CHUNK_BYTES", "4096"),
    ];
    let mut home = Home::new(host, &settings);
    home.create("k", "application/json");
    let port = home.server.port;
    let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
    let producers = (0..4).map(|producer: u64| {
        let (over, acknowledged) = (Arc::clone(&over), Arc::clone(&acknowledged));
        thread::spawn(move || produce(port, producer, &over, &acknowledged))
    });
    let producers: Vec<_> = producers.collect();
    let counts = || -> BTreeMap<u64, u64> { acknowledged.lock().unwrap().clone() };
    let each_goes_on = |more: u64| {
        let before = counts();
        eventually("each producer goes on", || {
            let now = counts();
            (0..4).all(|it| now.get(&it) >= Some(&(before.get(&it).unwrap_or(&0) + more)))
        });
    };
    for more in [1, 3, 8, 20, 40, 5] {
        each_goes_on(more);
        home.server.kill();
        home.restart();
    }
    each_goes_on(2);
    over.store(true, Ordering::Relaxed);
    for producer in producers {
        producer.join().unwrap();
    }
    let mut kept: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for page in home.read_all("k") {
        for message in page.json().as_array().unwrap() {
            let number = |name| message[name].as_u64().unwrap();
            kept.entry(number("producer"))
                .or_default()
                .push(number("seq"));
        }
    }
    for (producer, count) in counts() {
        assert_eq!(
            kept[&producer],
            (0..count).collect::<Vec<_>>(),
            "producer {producer}"
        );
    }
}

/// Appends one message after the other, waits for each acknowledgement, and counts those.
fn produce(port: u16, producer: u64, over: &AtomicBool, counts: &Mutex<BTreeMap<u64, u64>>) {
    let name = format!("p{producer}");
    for seq in 0.. {
        let message = format!("{{\"producer\":{producer},\"seq\":{seq}}}");
        let number = seq.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("producer-id", name.as_str()),
            ("producer-epoch", "0"),
            ("producer-seq", number.as_str()),
        ];
        loop {
            match ask(port, "POST", "k", &headers, message.as_bytes()) {
                Some(answer) if answer.status == 200 || answer.status == 204 => break,
                Some(answer) => panic!("{answer:?}"),
                // The server was killed: the test can't know whether it stored the append.
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        counts.lock().unwrap().insert(producer, seq + 1);
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}
