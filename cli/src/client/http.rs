//! One server over HTTP: requests that are counted, bounded, timed and repeated.
//!
//! Every call of the publish API may be repeated, so whatever breaks on the way is sent again.
//! Redirects are refused, because a token must not follow one, and nothing in the protocol needs
//! them. Whatever is not an answer of the protocol is said to be none.

mod events;
mod fault;
mod history;
mod line;
mod socket;
mod stranger;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, Response};
use pmx_core::id::{BlobId, PackId};
use pmx_core::name::SpaceName;
use pmx_sync::wire::{
    BeginReply, ENVELOPE_MEDIA, PartHead, ResumeHead, ResumeReply, RollbackHead, RollbackReply,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, SendBody};

use self::stranger::Seen;
use super::retry;
use crate::config::Site;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::server::{Reach, Server};
use crate::token::Token;
use crate::trust::{self, Trust};

pub use line::{Doing, Line, Share, Traffic};

/// Bytes of an answer: the longest honest one says of every other of 2,000,000 files, in runs of
/// one, that it is missing.
const ANSWER_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Bytes of an error.
const PROBLEM_BYTES_MAX: u64 = 1024 * 1024;

const PACK_MEDIA: &str = "application/octet-stream";
const JSON_MEDIA: &str = "application/json";

/// Bytes that are handed to a socket at once: progress is counted in steps of it.
const WRITE_BYTES: usize = 16 * 1024;

/// A server.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    /// For a system that has no certificates of its own.
    bundled: Agent,
    is_storeless: AtomicBool,
    server: Server,
    token: Option<Token>,
    interrupt: Interrupt,
    line: Arc<Line>,
    /// Whether the server ever answered: if not, one that refuses to talk is not there.
    answered: AtomicBool,
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
    /// The progress that the body stands for.
    share: Option<&'a Share<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl Client {
    /// A client of the server of a site. Nothing is sent yet.
    pub fn of(site: &Site, interrupt: Interrupt) -> Self {
        let Site { server, token, .. } = site;
        Self::new(server.clone(), token.clone(), &site.trust, interrupt)
    }

    /// A client of one server. Nothing is sent yet.
    pub fn new(server: Server, token: Option<Token>, trust: &Trust, interrupt: Interrupt) -> Self {
        let agent = self::agent(&server, trust);
        let bundled = self::agent(&server, &Trust::bundled());
        // A socket that is shut down ends whatever waits for it.
        for agent in [&agent, &bundled] {
            let agent = agent.clone();
            interrupt.on_raise(move || agent.shutdown());
        }
        Self {
            agent,
            bundled,
            is_storeless: AtomicBool::new(false),
            server,
            token,
            interrupt,
            line: Arc::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// What happens on the line, as it happens.
    pub const fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// What went over the line so far.
    pub fn traffic(&self) -> Traffic {
        self.line.traffic()
    }

    fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn agent(&self) -> &Agent {
        if self.is_storeless.load(Ordering::Relaxed) {
            &self.bundled
        } else {
            &self.agent
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
    pub fn pack(
        &self,
        space: &SpaceName,
        id: PackId,
        pack: &[u8],
        share: &Share<'_>,
    ) -> Result<(), Failure> {
        let path = format!("/api/publish/packs/{id}?space={space}");
        self.send(&Call::put(&path, pack, share)).map(drop)
    }

    /// `PUT /api/publish/blobs/<id>/<part>`.
    pub fn part(
        &self,
        head: &PartHead,
        blob: BlobId,
        number: u64,
        body: &[u8],
        share: &Share<'_>,
    ) -> Result<(), Failure> {
        let PartHead { space, size } = head;
        let path = format!("/api/publish/blobs/{blob}/{number}?space={space}&size={size}");
        self.send(&Call::put(&path, body, share)).map(drop)
    }

    /// `POST /api/publish/rollback`.
    pub fn rollback(&self, head: &RollbackHead) -> Result<RollbackReply, Failure> {
        let body = serde_json::to_vec(head).map_err(|error| Failure::usage(error.to_string()))?;
        self.json(&Call::post("/api/publish/rollback", JSON_MEDIA, &body))
    }

    /// `POST /api/publish/resume`.
    pub fn resume(&self, head: &ResumeHead) -> Result<ResumeReply, Failure> {
        let body = serde_json::to_vec(head).map_err(|error| Failure::usage(error.to_string()))?;
        self.json(&Call::post("/api/publish/resume", JSON_MEDIA, &body))
    }

    /// `GET /healthz`.
    pub fn health(&self) -> Result<Health, Failure> {
        self.json(&Call::get("/healthz"))
    }

    fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Failure> {
        let answer = self.send(call)?;
        let media = media(&answer.headers);
        let seen = answer.seen(&media);
        if media != JSON_MEDIA {
            let why = match &*media {
                "" => "it has no media type".to_owned(),
                media => format!("it is {media:?}, not JSON"),
            };
            return Err(self.no_answer(call, &why, &seen));
        }
        serde_json::from_slice(&answer.bytes)
            .map_err(|error| self.no_answer(call, &error.to_string(), &seen))
    }

    /// Sends until there is a good answer.
    fn send(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let mut attempt = 0;
        loop {
            self.interrupt.check()?;
            let (failure, after) = match self.once(call, attempt) {
                Ok(answer) => return Ok(answer),
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Passing {
                    failure,
                    after,
                    attempts_max,
                }) => {
                    self.interrupt.check()?;
                    if attempt + 1 >= attempts_max {
                        return Err(failure);
                    }
                    (failure, after)
                }
            };
            let wait = retry::wait(attempt, after, retry::jitter());
            let Some(wait) = wait else {
                return Err(retry::too_long(failure, after));
            };
            let _retrying = self.line.retry(&failure.message, wait);
            self.interrupt.sleep(wait)?;
            attempt += 1;
        }
    }

    fn once(&self, call: &Call<'_>, attempt: u32) -> Result<Answer, Broken> {
        let mut response = self
            .exchange(call, attempt)
            .map_err(|error| self.broken(&error))?;
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status().as_u16();
        let limit = if status == 200 {
            ANSWER_BYTES_MAX
        } else {
            PROBLEM_BYTES_MAX
        };
        let read = response.body_mut().with_config().limit(limit).read_to_vec();
        let headers = response.headers().clone();
        let (bytes, is_whole) = match read {
            Ok(bytes) => (bytes, true),
            Err(ureq::Error::BodyExceedsLimit(_)) => (Vec::new(), false),
            Err(error) => return Err(self.broken(&error)),
        };
        self.line.received(bytes.len() as u64);
        let answer = Answer {
            status,
            headers,
            bytes,
        };
        let media = media(&answer.headers);
        let seen = answer.seen(&media);
        if !is_whole {
            let why = format!("it is longer than {limit} bytes");
            return Err(Broken::Final(self.no_answer(call, &why, &seen)));
        }
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        Err(self.refused(call, &seen))
    }

    /// A refusal, and whether it may pass.
    fn refused(&self, call: &Call<'_>, seen: &Seen<'_>) -> Broken {
        let failure = self.refusal(call, seen);
        let code = failure.problem.as_ref().map(|problem| problem.code);
        if retry::may_pass(seen.status, code) {
            Broken::Passing {
                failure,
                after: retry::retry_after(seen.headers),
                attempts_max: retry::attempts_max(code),
            }
        } else {
            Broken::Final(failure)
        }
    }

    /// One request and the head of its answer.
    fn exchange(&self, call: &Call<'_>, attempt: u32) -> Result<Response<Body>, ureq::Error> {
        let sent = self.exchange_by(self.agent(), call, attempt);
        match &sent {
            Err(error) if fault::tls_error(error).is_some_and(trust::is_storeless) => {
                self.is_storeless.store(true, Ordering::Relaxed);
                self.exchange_by(self.agent(), call, attempt)
            }
            _ => sent,
        }
    }

    fn exchange_by(
        &self,
        agent: &Agent,
        call: &Call<'_>,
        attempt: u32,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut body = self.line.body(call.body, call.share);
        let mut request = http::Request::builder()
            .method(call.method.as_str())
            .uri(self.server.url(call.path));
        if let Some(host) = self.server.api_host() {
            request = request.header("host", host);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let response = match call.method {
            Method::Get | Method::Delete => agent.run(request.body(())?),
            Method::Post | Method::Put => {
                let mut request = request
                    .header("content-type", call.media)
                    .header("content-length", call.body.len());
                // Who refused a body in the middle can say why before it comes again.
                if attempt > 0 && call.body.len() > WRITE_BYTES {
                    request = request.header("expect", "100-continue");
                }
                agent.run(request.body(SendBody::from_reader(&mut body))?)
            }
        };
        body.answered(response.is_ok());
        response
    }
}

/// An answer with its whole body.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn seen<'a>(&'a self, media: &'a str) -> Seen<'a> {
        Seen {
            status: self.status,
            headers: &self.headers,
            media,
            bytes: &self.bytes,
        }
    }
}

fn agent(server: &Server, trust: &Trust) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_per_write(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_mins(3)))
        .timeout_per_read(Some(Duration::from_mins(3)))
        .max_idle_connections_per_host(16)
        .output_buffer_size(WRITE_BYTES)
        .tls_config(trust.config())
        .user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION")));
    // What runs on this machine is not reached through a proxy.
    let config = match server.reach() {
        Reach::Loopback => config.proxy(None),
        Reach::Encrypted | Reach::Plain => config,
    };
    Agent::with_parts(
        config.build(),
        socket::connector(),
        DefaultResolver::default(),
    )
}

impl<'a> Call<'a> {
    const fn get(path: &'a str) -> Self {
        Self {
            method: Method::Get,
            path,
            media: "",
            body: &[],
            share: None,
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
            share: None,
        }
    }

    const fn put(path: &'a str, body: &'a [u8], share: &'a Share<'a>) -> Self {
        Self {
            method: Method::Put,
            path,
            media: PACK_MEDIA,
            body,
            share: Some(share),
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

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The media type of an answer, without parameters.
fn media(headers: &HeaderMap) -> String {
    let value = header(headers, "content-type").unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
