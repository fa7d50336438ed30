//! HTTP client of one server: it counts, bounds, times and repeats requests.
//!
//! Every call of the publish API is idempotent, so the client repeats a request that breaks. It
//! refuses redirects: a token must not follow one, and the protocol needs none. It reports an
//! answer that is not of the protocol as such.

mod counted_body;
mod domains;
pub mod download;
mod events;
mod exchange;
mod fault;
mod history;
mod intermediary;
mod lifecycle;
mod socket;
mod spaces;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use pmx_core::id::{BlobId, PackId};
use pmx_core::name::SpaceName;
use pmx_sync::wire::{
    BeginReply, ENVELOPE_MEDIA, PartHead, PreviewsReply, ResumeHead, ResumeReply, RollbackHead,
    RollbackReply,
};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::fault::TransportError;
use self::intermediary::ForeignAnswer;
use super::retry;
use crate::config::SiteConfig;
use crate::error::Failure;
use crate::http_client::{self, HttpClient, Versions};
use crate::interrupt::Interrupt;
use crate::server::{LinkSecurity, ServerUrl};
use crate::token::Token;
use crate::trust::Trust;

pub use counted_body::BodyProgress;
use counted_body::CountedBody;
pub use history::LiveDeploy;
pub use transfer::{Activity, Traffic, Transfer};

/// Bytes of an answer. The longest valid one reports every second of 2,000,000 files as missing, in
/// runs of one.
const ANSWER_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Bytes of an error.
const PROBLEM_BYTES_MAX: u64 = 1024 * 1024;

const PACK_MEDIA: &str = "application/octet-stream";
const JSON_MEDIA: &str = "application/json";

/// Time limit for looking up a name and connecting.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A server.
#[derive(Debug)]
pub struct Client {
    http: Result<HttpClient, Failure>,
    /// Whether the user wants to stop: requests then end at once.
    stopping: watch::Receiver<bool>,
    server: ServerUrl,
    token: Option<Token>,
    interrupt: Interrupt,
    transfer: Arc<Transfer>,
    /// Whether the server has ever answered. If not, a refused connection means that no server is
    /// there.
    answered: AtomicBool,
}

/// The answer of `GET /healthz`.
#[derive(Debug, Clone, Deserialize)]
pub struct Health {
    /// The server's version.
    pub version: String,
}

/// One request, including its repetitions.
struct ApiRequest<'a> {
    method: Method,
    path: &'a str,
    media: &'static str,
    body: &'a [u8],
    /// The progress that the body represents.
    share: Option<&'a BodyProgress<'a>>,
}

impl Client {
    /// A client of a site's server. It does not connect yet.
    pub fn of(site: &SiteConfig, interrupt: Interrupt) -> Self {
        let SiteConfig { server, token, .. } = site;
        Self::new(server.clone(), token.clone(), &site.trust, interrupt)
    }

    /// A client of one server. It does not connect yet.
    pub fn new(
        server: ServerUrl,
        token: Option<Token>,
        trust: &Trust,
        interrupt: Interrupt,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        interrupt.on_raise(move || {
            // The client may have been dropped.
            let _ = stop.send(true);
        });
        Self {
            http: connections(&server, trust),
            stopping,
            server,
            token,
            interrupt,
            transfer: Arc::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// The counts of this client, which change as it sends and receives.
    pub const fn transfer(&self) -> &Arc<Transfer> {
        &self.transfer
    }

    /// The traffic so far.
    pub fn traffic(&self) -> Traffic {
        self.transfer.traffic()
    }

    fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// `POST /api/publish/begin`, with an envelope.
    pub fn begin(&self, envelope: &[u8]) -> Result<BeginReply, Failure> {
        self.json(&ApiRequest::post(
            "/api/publish/begin",
            ENVELOPE_MEDIA,
            envelope,
        ))
    }

    /// `POST /api/publish/commit`, with an envelope.
    pub fn commit(&self, envelope: &[u8]) -> Result<BeginReply, Failure> {
        self.json(&ApiRequest::post(
            "/api/publish/commit",
            ENVELOPE_MEDIA,
            envelope,
        ))
    }

    /// `PUT /api/publish/packs/<id>`.
    pub fn pack(
        &self,
        space: &SpaceName,
        id: PackId,
        pack: &[u8],
        share: &BodyProgress<'_>,
    ) -> Result<(), Failure> {
        let path = format!("/api/publish/packs/{id}?space={space}");
        self.send(&ApiRequest::put(&path, pack, share)).map(drop)
    }

    /// `PUT /api/publish/blobs/<id>/<part>`.
    pub fn part(
        &self,
        head: &PartHead,
        blob: BlobId,
        number: u64,
        body: &[u8],
        share: &BodyProgress<'_>,
    ) -> Result<(), Failure> {
        let PartHead { space, size } = head;
        let path = format!("/api/publish/blobs/{blob}/{number}?space={space}&size={size}");
        self.send(&ApiRequest::put(&path, body, share)).map(drop)
    }

    /// `POST /api/publish/rollback`.
    pub fn rollback(&self, head: &RollbackHead) -> Result<RollbackReply, Failure> {
        let body = serde_json::to_vec(head).map_err(|error| Failure::usage(error.to_string()))?;
        self.json(&ApiRequest::post(
            "/api/publish/rollback",
            JSON_MEDIA,
            &body,
        ))
    }

    /// `GET /api/aliases`.
    pub fn previews(&self, space: &SpaceName) -> Result<PreviewsReply, Failure> {
        self.json(&ApiRequest::get(&format!("/api/aliases?space={space}")))
    }

    /// `POST /api/publish/resume`.
    pub fn resume(&self, head: &ResumeHead) -> Result<ResumeReply, Failure> {
        let body = serde_json::to_vec(head).map_err(|error| Failure::usage(error.to_string()))?;
        self.json(&ApiRequest::post("/api/publish/resume", JSON_MEDIA, &body))
    }

    /// `GET /healthz`.
    pub fn health(&self) -> Result<Health, Failure> {
        self.json(&ApiRequest::get("/healthz"))
    }

    fn json<T: DeserializeOwned>(&self, call: &ApiRequest<'_>) -> Result<T, Failure> {
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

    /// Sends until there is a successful answer.
    fn send(&self, call: &ApiRequest<'_>) -> Result<ApiResponse, Failure> {
        self.repeated(|| self.once(call))
    }

    /// Repeats an exchange until it succeeds or no retry may help.
    fn repeated<T>(&self, mut once: impl FnMut() -> Result<T, Broken>) -> Result<T, Failure> {
        let mut attempt = 0;
        loop {
            self.interrupt.check()?;
            let (failure, after) = match once() {
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
            let _retrying = self.transfer.retry(&failure.message, wait);
            self.interrupt.sleep(wait)?;
            attempt += 1;
        }
    }

    fn once(&self, call: &ApiRequest<'_>) -> Result<ApiResponse, Broken> {
        let http = self.http.as_ref().map_err(|it| Broken::Final(it.clone()))?;
        let limit = |status| match status {
            200 => ANSWER_BYTES_MAX,
            _ => PROBLEM_BYTES_MAX,
        };
        let request = self.request(http, call);
        let mut body = CountedBody::new(&self.transfer, call.body, call.share);
        let exchanged = self.wait(http, self.exchange(http, request, &mut body, limit));
        drop(body);
        let (answer, is_whole) = exchanged.map_err(|fault| self.broken(&fault))?;
        let media = media(&answer.headers);
        let seen = answer.seen(&media);
        if !is_whole {
            let why = format!("it is longer than {} bytes", limit(answer.status));
            return Err(Broken::Final(self.no_answer(call, &why, &seen)));
        }
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(self.refused(call, &seen))
    }

    /// A refusal, and whether a retry may help.
    fn refused(&self, call: &ApiRequest<'_>, seen: &ForeignAnswer<'_>) -> Broken {
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

    /// A request of the API, without its body.
    fn request(&self, http: &HttpClient, call: &ApiRequest<'_>) -> RequestBuilder {
        let url = self.server.url(call.path);
        let mut request = http.client().request(call.method.clone(), url);
        if let Some(host) = self.server.api_host() {
            request = request.header(HOST, host);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        if call.method == Method::POST || call.method == Method::PUT {
            request = request.header(CONTENT_TYPE, call.media);
            request = request.header(CONTENT_LENGTH, call.body.len());
        }
        request
    }

    /// Sends a request and reads its answer. The body is empty if it is too long.
    async fn exchange(
        &self,
        http: &HttpClient,
        request: RequestBuilder,
        body: &mut CountedBody<'_>,
        limit: impl Fn(u16) -> u64,
    ) -> Result<(ApiResponse, bool), TransportError> {
        let request = request.build().map_err(TransportError::Http)?;
        let sent = exchange::send(http.client(), request, body).await;
        body.answered(sent.is_ok());
        let mut response = sent?;
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status().as_u16();
        let read = exchange::read(&mut response, limit(status)).await?;
        let is_whole = read.is_some();
        let bytes = read.unwrap_or_default();
        self.transfer.received(bytes.len() as u64);
        let headers = std::mem::take(response.headers_mut());
        let answer = ApiResponse {
            status,
            headers,
            bytes,
        };
        Ok((answer, is_whole))
    }

    /// Waits for an exchange, unless the user wants to stop.
    fn wait<T>(
        &self,
        http: &HttpClient,
        exchange: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        let mut stopping = self.stopping.clone();
        http.wait(async move {
            tokio::select! {
                biased;
                // Without a sender, nothing can stop this client any more.
                Ok(_) = stopping.wait_for(|is_stopping| *is_stopping) => {
                    Err(TransportError::Interrupted)
                }
                exchanged = exchange => exchanged,
            }
        })
    }
}

/// An answer with its whole body.
#[derive(Debug)]
struct ApiResponse {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl ApiResponse {
    fn seen<'a>(&'a self, media: &'a str) -> ForeignAnswer<'a> {
        ForeignAnswer {
            status: self.status,
            headers: &self.headers,
            media,
            bytes: &self.bytes,
        }
    }
}

/// The connections to a server.
fn connections(server: &ServerUrl, trust: &Trust) -> Result<HttpClient, Failure> {
    let versions = match server.reach() {
        // The API's host differs from the address's host here, and HTTP/2 has no field for a second
        // one.
        LinkSecurity::Loopback => Versions::Http1,
        LinkSecurity::Encrypted | LinkSecurity::Plain => Versions::Http2,
    };
    let builder = http_client::builder(trust, versions)?
        .connect_timeout(CONNECT_TIME)
        .pool_max_idle_per_host(16)
        .connector_layer(socket::SocketOptions)
        .user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION")));
    HttpClient::new(match server.reach() {
        // Servers on this machine are not reached through a proxy.
        LinkSecurity::Loopback => builder,
        LinkSecurity::Encrypted | LinkSecurity::Plain => http_client::with_proxies(builder),
    })
}

impl<'a> ApiRequest<'a> {
    const fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            media: "",
            body: &[],
            share: None,
        }
    }

    fn delete(path: &'a str) -> Self {
        Self {
            method: Method::DELETE,
            ..Self::get(path)
        }
    }

    const fn post(path: &'a str, media: &'static str, body: &'a [u8]) -> Self {
        Self {
            method: Method::POST,
            path,
            media,
            body,
            share: None,
        }
    }

    const fn put(path: &'a str, body: &'a [u8], share: &'a BodyProgress<'a>) -> Self {
        Self {
            method: Method::PUT,
            path,
            media: PACK_MEDIA,
            body,
            share: Some(share),
        }
    }

    fn put_json(path: &'a str, body: &'a [u8]) -> Self {
        Self {
            method: Method::PUT,
            ..Self::post(path, JSON_MEDIA, body)
        }
    }
}

/// Why an attempt failed.
enum Broken {
    /// A retry would fail in the same way.
    Final(Failure),
    /// A retry may succeed.
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
