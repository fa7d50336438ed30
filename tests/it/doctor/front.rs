//! Front with one fault: a proxy before a server, in the place of an edge.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::scripted_servers::{ScriptedServer, http};
use crate::world::http::content_length;

/// FrontFault of a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrontFault {
    None,
    /// None: the front only adds the header of its edge.
    AddsRay,
    /// The front rewrites e-mail addresses in open pages.
    RewritesHtml,
    DropsTags,
    IgnoresTags,
    WrongLength,
    /// The front reports a new preview as missing for too long.
    LatePreview,
    /// The front reports the second deploy's asset as missing, once.
    MissingAsset,
    RefusesPacks,
    RefusesSockets,
    ClosesSockets,
    /// The apex domain leads elsewhere.
    NoApex,
}

pub(super) struct Front {
    pub(super) port: u16,
}

/// The state that a front keeps between requests.
struct State {
    upstream: u16,
    fault: FrontFault,
    previews: AtomicU32,
    assets: AtomicU32,
    sockets: AtomicU32,
}

impl Front {
    pub(super) fn plain(upstream: u16, fault: FrontFault) -> Self {
        let state = Arc::new(State::new(upstream, fault));
        let server = ScriptedServer::handling(move |stream| {
            let tcp = stream.try_clone().unwrap();
            state.serve(stream, &tcp);
        });
        Self { port: server.port }
    }

    pub(super) fn encrypted(upstream: u16, tls: Arc<ServerConfig>, fault: FrontFault) -> Self {
        let state = Arc::new(State::new(upstream, fault));
        let server = ScriptedServer::handling(move |stream| {
            let tcp = stream.try_clone().unwrap();
            let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
            state.serve(StreamOwned::new(connection, stream), &tcp);
        });
        Self { port: server.port }
    }
}

impl State {
    fn new(upstream: u16, fault: FrontFault) -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            upstream,
            fault,
            previews: zero(),
            assets: zero(),
            sockets: zero(),
        }
    }

    /// Serves one request. Client and server may disconnect.
    fn serve(&self, mut client: impl Read + Write, tcp: &TcpStream) {
        let Some((head, body)) = request(&mut client) else {
            return;
        };
        if let Some(answer) = self.instead(&head) {
            let _gone = client.write_all(&answer).and_then(|()| client.flush());
            return;
        }
        let is_socket = head.to_ascii_lowercase().contains("upgrade: websocket");
        let mut server = TcpStream::connect(("127.0.0.1", self.upstream)).unwrap();
        let sent = self.sent(&head, is_socket);
        let _gone = server.write_all(&[sent.as_bytes(), &body].concat());
        if is_socket {
            return self.pump(client, tcp, server);
        }
        let mut answer = Vec::new();
        let _ended = server.read_to_end(&mut answer);
        let answer = self.edited(&head, answer);
        let _gone = client.write_all(&answer).and_then(|()| client.flush());
    }

    /// The front's own response instead of the server's.
    fn instead(&self, head: &str) -> Option<Vec<u8>> {
        let lower = head.to_ascii_lowercase();
        let host = lower.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.unwrap_or_default();
        let count = |counter: &AtomicU32| counter.fetch_add(1, Ordering::SeqCst);
        let refused = |is: bool, status: &str| is.then(|| http(status, "no"));
        match self.fault {
            // One request before the publish, and then more than five seconds of them.
            FrontFault::LatePreview if host.starts_with('d') && host.contains("--") => {
                refused(count(&self.previews) < 32, "404 Not Found")
            }
            FrontFault::MissingAsset if head.starts_with("GET /app-") => {
                refused(count(&self.assets) == 1, "404 Not Found")
            }
            FrontFault::RefusesPacks if head.starts_with("PUT /api/publish/packs") => refused(
                content_length(head) > Some(500_000),
                "413 Content Too Large",
            ),
            FrontFault::RefusesSockets if lower.contains("upgrade: websocket") => {
                refused(count(&self.sockets) >= 3, "503 Service Unavailable")
            }
            FrontFault::NoApex => refused(host.starts_with("localhost"), "404 Not Found"),
            _ => None,
        }
    }

    /// The head of a request, as the front forwards it.
    fn sent(&self, head: &str, is_socket: bool) -> String {
        let ends = |line: &&str| is_socket || !line.to_ascii_lowercase().starts_with("connection:");
        let tag = |line: &&str| {
            let is_tag = line.to_ascii_lowercase().starts_with("if-none-match:");
            !(is_tag && self.fault == FrontFault::IgnoresTags)
        };
        let lines = head.trim_end().lines().filter(ends).filter(tag);
        let mut head = lines.collect::<Vec<_>>().join("\r\n");
        if !is_socket {
            head.push_str("\r\nConnection: close");
        }
        head + "\r\n\r\n"
    }

    fn edited(&self, asked: &str, answer: Vec<u8>) -> Vec<u8> {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            return answer;
        };
        let (head, body) = answer.split_at(end + 4);
        let head = String::from_utf8_lossy(head).into_owned();
        let is_page = head.contains("text/html");
        match self.fault {
            FrontFault::AddsRay => {
                let head =
                    head.replacen("\r\n", "\r\ncf-ray: 8f1-FRA\r\nserver: cloudflare\r\n", 1);
                [head.as_bytes(), body].concat()
            }
            FrontFault::DropsTags if is_page => {
                let keep = |line: &&str| !line.to_ascii_lowercase().starts_with("etag:");
                let head: Vec<_> = head.trim_end().lines().filter(keep).collect();
                [(head.join("\r\n") + "\r\n\r\n").as_bytes(), body].concat()
            }
            FrontFault::WrongLength if asked.starts_with("HEAD ") => {
                let head = head.replace("content-length: ", "content-length: 1");
                [head.as_bytes(), body].concat()
            }
            FrontFault::RewritesHtml if is_page => {
                let from = b"doctor@example.com";
                let mut body = body.to_vec();
                let found = body.windows(from.len()).position(|it| it == from);
                if let Some(at) = found {
                    body[at..at + from.len()].copy_from_slice(b"[email  protected]");
                }
                [head.as_bytes(), &body].concat()
            }
            _ => answer,
        }
    }

    /// Copies bytes in both directions until one side closes.
    fn pump(&self, mut client: impl Read + Write, tcp: &TcpStream, mut server: TcpStream) {
        let tick = Some(Duration::from_millis(5));
        tcp.set_read_timeout(tick).unwrap();
        server.set_read_timeout(tick).unwrap();
        let mut chunk = [0; 4096];
        let mut frames = 0;
        loop {
            match client.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    if server.write_all(&chunk[..read]).is_err() {
                        return;
                    }
                }
                Err(error) if is_tick(&error) => {}
                Err(_) => return,
            }
            match server.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    let sent = client.write_all(&chunk[..read]);
                    if sent.and_then(|()| client.flush()).is_err() {
                        return;
                    }
                    frames += 1;
                    // After the head and the first frame.
                    if self.fault == FrontFault::ClosesSockets && frames == 2 {
                        return;
                    }
                }
                Err(error) if is_tick(&error) => {}
                Err(_) => return,
            }
        }
    }
}

fn is_tick(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A request's head and body.
fn request(client: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).ok()?;
    let mut body = vec![0; content_length(&head).unwrap_or(0)];
    client.read_exact(&mut body).ok()?;
    Some((head, body))
}
