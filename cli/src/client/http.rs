//! One server over HTTP: requests that are counted, bounded, timed and repeated.
//!
//! Every call of the publish API may be repeated, so whatever breaks on the way is sent again.
//! Redirects are refused, because a token must not follow one, and nothing in the protocol needs
//! them. Whatever is not an answer of the protocol is said to be none.

mod events;
mod history;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use pmx_sync::code::Code;
use pmx_sync::id::{BlobId, PackId};
use pmx_sync::name::SpaceName;
use pmx_sync::wire::{
    BeginReply, ENVELOPE_MEDIA, PROBLEM_MEDIA, PartHead, Problem, RollbackHead, RollbackReply,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::{Agent, Body};

use super::retry;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::server::{Reach, Server};
use crate::token::Token;

/// Bytes of an answer: the longest honest one says of every other of 2,000,000 files, in runs of
/// one, that it is missing.
const ANSWER_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Bytes of an error.
const PROBLEM_BYTES_MAX: u64 = 1024 * 1024;

/// Characters that are shown of an answer that was not understood.
const EXCERPT_CHARS: usize = 120;

const PACK_MEDIA: &str = "application/octet-stream";
const JSON_MEDIA: &str = "application/json";

/// A server.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    server: Server,
    token: Option<Token>,
    interrupt: Interrupt,
    counts: Counts,
    /// Whether the server ever answered: if not, one that refuses to talk is not there.
    answered: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What went over the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, repeated ones included.
    pub requests: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of the bodies of answers.
    pub received: u64,
}

/// The answer of `GET /healthz`.
#[derive(Debug, Clone, Deserialize)]
pub struct Health {
    /// The server's version.
    pub version: String,
}

/// One request, as often as it has to be sent.
struct Call<'a> {
    method: Method,
    path: &'a str,
    media: &'static str,
    body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Client {
    /// A client of one server. Nothing is sent yet.
    pub fn new(server: Server, token: Option<Token>, interrupt: Interrupt) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_per_write(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_mins(3)))
            .timeout_per_read(Some(Duration::from_mins(3)))
            .max_idle_connections_per_host(16)
            .user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION")));
        // What runs on this machine is not reached through a proxy.
        let config = match server.reach() {
            Reach::Loopback => config.proxy(None),
            Reach::Encrypted | Reach::Plain => config,
        };
        Self {
            agent: config.build().new_agent(),
            server,
            token,
            interrupt,
            counts: Counts::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// What went over the line so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.counts.requests.load(Ordering::Relaxed),
            sent: self.counts.sent.load(Ordering::Relaxed),
            received: self.counts.received.load(Ordering::Relaxed),
        }
    }

    /// `POST /api/publish/begin`, with an envelope.
    pub fn begin(&self, envelope: &[u8]) -> Result<BeginReply, Failure> {
        self.json(&Call::post("/api/publish/begin", ENVELOPE_MEDIA, envelope))
    }

    /// `POST /api/publish/commit`, with an envelope.
    pub fn commit(&self, envelope: &[u8]) -> Result<BeginReply, Failure> {
        self.json(&Call::post("/api/publish/commit", ENVELOPE_MEDIA, envelope))
    }

    /// `PUT /api/publish/packs/<id>`.
    pub fn pack(&self, space: &SpaceName, id: PackId, pack: &[u8]) -> Result<(), Failure> {
        let path = format!("/api/publish/packs/{id}?space={space}");
        self.send(&Call::put(&path, pack)).map(drop)
    }

    /// `PUT /api/publish/blobs/<id>/<part>`.
    pub fn part(
        &self,
        head: &PartHead,
        blob: BlobId,
        number: u64,
        body: &[u8],
    ) -> Result<(), Failure> {
        let PartHead { space, size } = head;
        let path = format!("/api/publish/blobs/{blob}/{number}?space={space}&size={size}");
        self.send(&Call::put(&path, body)).map(drop)
    }

    /// `POST /api/publish/rollback`.
    pub fn rollback(&self, head: &RollbackHead) -> Result<RollbackReply, Failure> {
        let body = serde_json::to_vec(head).map_err(|error| Failure::usage(error.to_string()))?;
        self.json(&Call::post("/api/publish/rollback", JSON_MEDIA, &body))
    }

    /// `GET /healthz`.
    pub fn health(&self) -> Result<Health, Failure> {
        self.json(&Call::get("/healthz"))
    }

    fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Failure> {
        let (media, bytes) = self.send(call)?;
        if media != JSON_MEDIA {
            return Err(self.no_answer(call, &format!("it is {media:?}, not JSON"), &bytes));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| self.no_answer(call, &error.to_string(), &bytes))
    }

    /// Sends until there is an answer. Returns the media type and the body of a good one.
    fn send(&self, call: &Call<'_>) -> Result<(String, Vec<u8>), Failure> {
        let mut attempt = 0;
        loop {
            self.interrupt.check()?;
            let (failure, after) = match self.once(call) {
                Ok(answer) => return Ok(answer),
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Passing {
                    failure,
                    after,
                    attempts_max,
                }) => {
                    if attempt + 1 >= attempts_max {
                        return Err(failure);
                    }
                    (failure, after)
                }
            };
            drop(failure);
            self.interrupt
                .sleep(retry::wait(attempt, after, retry::jitter()))?;
            attempt += 1;
        }
    }

    fn once(&self, call: &Call<'_>) -> Result<(String, Vec<u8>), Broken> {
        let (counts, bytes) = (&self.counts, call.body.len() as u64);
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.sent.fetch_add(bytes, Ordering::Relaxed);
        let mut response = self
            .exchange(call)
            .map_err(|error| self.broken(call, &error))?;
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status().as_u16();
        let after = retry::retry_after(header(&response, "retry-after"));
        let media = media(&response);
        let limit = if status == 200 {
            ANSWER_BYTES_MAX
        } else {
            PROBLEM_BYTES_MAX
        };
        let read = response.body_mut().with_config().limit(limit).read_to_vec();
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                let why = format!("it is longer than {limit} bytes");
                return Err(Broken::Final(self.no_answer(call, &why, &[])));
            }
            Err(error) => return Err(self.broken(call, &error)),
        };
        let received = bytes.len() as u64;
        counts.received.fetch_add(received, Ordering::Relaxed);
        if (200..300).contains(&status) {
            return Ok((media, bytes));
        }
        let failure = self.refusal(call, status, &media, &bytes);
        if retry::is_passing(status) && failure.code != Code::NotConfigured {
            Err(Broken::Passing {
                failure,
                after,
                attempts_max: retry::ATTEMPTS_MAX,
            })
        } else {
            Err(Broken::Final(failure))
        }
    }

    fn exchange(&self, call: &Call<'_>) -> Result<Response<Body>, ureq::Error> {
        let url = self.server.url(call.path);
        let bearer = self
            .token
            .as_ref()
            .map(|token| format!("Bearer {}", token.reveal()));
        match call.method {
            Method::Get | Method::Delete => {
                let mut request = match call.method {
                    Method::Delete => self.agent.delete(url),
                    Method::Get | Method::Post | Method::Put => self.agent.get(url),
                };
                if let Some(host) = self.server.api_host() {
                    request = request.header("host", host);
                }
                if let Some(bearer) = bearer {
                    request = request.header("authorization", bearer);
                }
                request.call()
            }
            Method::Post | Method::Put => {
                let request = match call.method {
                    Method::Put => self.agent.put(url),
                    Method::Get | Method::Post | Method::Delete => self.agent.post(url),
                };
                let mut request = request.content_type(call.media);
                if let Some(host) = self.server.api_host() {
                    request = request.header("host", host);
                }
                if let Some(bearer) = bearer {
                    request = request.header("authorization", bearer);
                }
                request.send(call.body)
            }
        }
    }

    /// The failure that a server reports, or the finding that this is no server of ours.
    fn refusal(&self, call: &Call<'_>, status: u16, media: &str, bytes: &[u8]) -> Failure {
        if media == PROBLEM_MEDIA
            && let Ok(problem) = serde_json::from_slice::<Problem>(bytes)
        {
            return problem.into();
        }
        if retry::is_passing(status) {
            let message = format!("{} answers with HTTP {status}", self.server);
            return Failure::new(Code::Network, message);
        }
        self.no_answer(call, &format!("HTTP {status}"), bytes)
    }

    fn no_answer(&self, call: &Call<'_>, why: &str, bytes: &[u8]) -> Failure {
        let path = call.path.split('?').next().unwrap_or_default();
        let mut message = format!(
            "the answer of {}{path} is not of this protocol: {why}",
            self.server
        );
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * EXCERPT_CHARS)]);
        let words: Vec<_> = text.split_whitespace().collect();
        if !words.is_empty() {
            let excerpt: String = words.join(" ").chars().take(EXCERPT_CHARS).collect();
            message = format!("{message}: {excerpt}");
        }
        Failure::new(Code::Protocol, message)
    }

    fn broken(&self, call: &Call<'_>, error: &ureq::Error) -> Broken {
        let message = format!("can't reach {}: {}", self.server, sentence(error));
        let failure = Failure::new(Code::Network, message);
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_) => {
                let attempts_max = match self.answered.load(Ordering::Relaxed) {
                    true => retry::ATTEMPTS_MAX,
                    false if is_absent(error) => 2,
                    false => retry::ATTEMPTS_MAX - 2,
                };
                Broken::Passing {
                    failure,
                    after: None,
                    attempts_max,
                }
            }
            ureq::Error::LargeResponseHeader(..) | ureq::Error::Http(_) => {
                Broken::Final(self.no_answer(call, &error.to_string(), &[]))
            }
            _ => Broken::Final(failure),
        }
    }
}

impl<'a> Call<'a> {
    const fn get(path: &'a str) -> Self {
        Self {
            method: Method::Get,
            path,
            media: "",
            body: &[],
        }
    }

    const fn delete(path: &'a str) -> Self {
        Self {
            method: Method::Delete,
            ..Self::get(path)
        }
    }

    const fn post(path: &'a str, media: &'static str, body: &'a [u8]) -> Self {
        Self {
            method: Method::Post,
            path,
            media,
            body,
        }
    }

    const fn put(path: &'a str, body: &'a [u8]) -> Self {
        Self {
            method: Method::Put,
            path,
            media: PACK_MEDIA,
            body,
        }
    }
}

/// Why an attempt gave nothing.
enum Broken {
    /// Asking again would give the same.
    Final(Failure),
    /// Asking again may help.
    Passing {
        failure: Failure,
        after: Option<Duration>,
        attempts_max: u32,
    },
}

/// Whether nobody is there, as opposed to somebody who is gone for a moment.
fn is_absent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        ureq::Error::HostNotFound => true,
        _ => false,
    }
}

fn sentence(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there".into()
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "there is no such host".into(),
        ureq::Error::ConnectionFailed => "no connection can be made".into(),
        ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
        other => other.to_string(),
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The media type of an answer, without parameters.
fn media(response: &Response<Body>) -> String {
    let value = header(response, "content-type").unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A server that gives the next of these answers to each request, and tells what it was asked.
    fn serving(answers: Vec<Vec<u8>>) -> (Server, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let (asked, requests) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut len) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let start = head.len();
                    reader.read_line(&mut head).unwrap();
                    let line = head[start..].to_ascii_lowercase();
                    len = line
                        .strip_prefix("content-length: ")
                        .map_or(len, |n| n.trim().parse().unwrap());
                }
                reader.read_exact(&mut vec![0; len]).unwrap();
                asked.send(head).unwrap();
                // The client may hang up in the middle of a long one.
                let _ = stream.write_all(&answer);
            }
        });
        (server, requests)
    }

    fn answer(head: &str, body: &str) -> Vec<u8> {
        let len = body.len();
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}")
            .into()
    }

    fn client(server: Server) -> Client {
        Client::new(
            server,
            Some(Token::parse("s3cret").unwrap()),
            Interrupt::default(),
        )
    }

    const OK: &str = "200 OK\r\nContent-Type: application/json";

    #[test]
    fn what_is_no_answer_of_the_protocol_is_said_to_be_none() {
        let long = "9".repeat(PROBLEM_BYTES_MAX as usize + 1);
        for (head, body, said) in [
            ("302 Found\r\nLocation: http://127.0.0.1:1/", "", "HTTP 302"),
            (
                "200 OK\r\nContent-Type: text/html",
                "<h1>Log\nin</h1>",
                "<h1>Log in</h1>",
            ),
            (OK, "{\"version\":", "EOF"),
            (OK, "[]", "invalid"),
            (
                "404 Not Found\r\nContent-Type: text/html",
                &long,
                "longer than",
            ),
            (
                "418 Teapot\r\nContent-Type: application/problem+json",
                "{}",
                "HTTP 418",
            ),
        ] {
            let (server, requests) = serving(vec![answer(head, body)]);
            let failure = client(server).health().unwrap_err();
            assert_eq!(
                (failure.code, failure.exit()),
                (Code::Protocol, 5),
                "{head}: {failure}"
            );
            assert!(failure.message.contains(said), "{head}: {failure}");
            assert!(!failure.message.contains("s3cret"));
            assert_eq!(
                requests.iter().count(),
                1,
                "{head}: sent once, and followed nowhere"
            );
        }
    }

    #[test]
    fn an_endless_answer_is_not_read_to_its_end() {
        let mut endless = answer(OK, "");
        let head = String::from_utf8(endless.clone()).unwrap();
        endless = head.replace("Content-Length: 0", "X: y").into_bytes();
        endless.resize(ANSWER_BYTES_MAX as usize + 1024 * 1024, b'[');
        let (server, _requests) = serving(vec![endless]);
        let failure = client(server).health().unwrap_err();
        assert!(
            failure.code == Code::Protocol && failure.message.contains("longer"),
            "{failure}"
        );
    }

    #[test]
    fn a_refusal_keeps_its_code_and_is_not_repeated() {
        let problem = serde_json::to_string(&Problem::new(Code::Unauthorised, "no")).unwrap();
        let head = "401 Unauthorized\r\nContent-Type: application/problem+json; charset=utf-8";
        let (server, requests) = serving(vec![answer(head, &problem)]);
        let failure = client(server).health().unwrap_err();
        assert_eq!((failure.code, failure.exit()), (Code::Unauthorised, 4));
        assert!(failure.problem.is_some());
        let asked = requests.recv().unwrap().to_ascii_lowercase();
        assert!(asked.contains("authorization: bearer s3cret"), "{asked}");
    }

    #[test]
    fn what_passes_is_sent_again_and_counted() {
        let busy = answer("503 Busy\r\nRetry-After: 0", "later");
        let good = answer(OK, r#"{"version":"1"}"#);
        let (server, requests) = serving(vec![busy, Vec::new(), good]);
        let client = client(server);
        assert_eq!(client.health().unwrap().version, "1");
        assert_eq!(requests.iter().count(), 3);
        assert_eq!(
            client.traffic(),
            Traffic {
                requests: 3,
                sent: 0,
                received: 20
            }
        );
    }

    #[test]
    fn nobody_there_is_a_network_failure_that_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        drop(listener);
        let client = client(server.clone());
        let failure = client.health().unwrap_err();
        assert_eq!((failure.code, failure.exit()), (Code::Network, 5));
        assert!(failure.message.contains(server.as_str()), "{failure}");
        assert_eq!(client.traffic().requests, 2);
    }

    #[test]
    fn an_interrupt_ends_the_waiting() {
        let (server, _requests) = serving(vec![answer("503 Busy\r\nRetry-After: 25", "")]);
        let interrupt = Interrupt::default();
        let client = Client::new(server, None, interrupt.clone());
        let waiting = std::thread::spawn(move || client.health().map(drop));
        std::thread::sleep(Duration::from_millis(20));
        interrupt.raise();
        assert_eq!(
            waiting.join().unwrap().map_err(|failure| failure.exit()),
            Err(130)
        );
    }
}
