//! From request to answer.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{Method, Request, Response};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Domain;
use pmx_core::exposure::Exposure;
use pmx_core::id::{BlobId, SpaceId};
use pmx_core::incident::Audience;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer;
use super::auth::authorise;
use super::backend::{Backend, Pointer};
use super::body::Body;
use super::claims::Claims;
use super::codecs::Codecs;
use super::difference::Differences;
use super::events::{channel, is_events};
use super::fresh::known_deploy;
use super::marks::Marks;
use super::newest::Newest;
use super::nonce::Nonce;
use super::questions::Questions;
use super::route::{Query, Route};
use super::site::{Asked, bodiless};
use super::stored::{Bodies, Verdicts};
use super::token::DeployTokens;
use crate::index::{Cache, Index};
use crate::live::{Message, SCRIPT_PATH, script};
use crate::site::{Addressed, Hosts, Nature, SiteRequest, absent};

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hosts of the API and of sites.
    pub hosts: Hosts,
    /// The token that may publish; without one the publish API is closed.
    pub publish_secret: Option<String>,
    /// How to spell the address of a site.
    pub urls: SiteUrls,
    /// Which pages hear of changes.
    pub live: LivePages,
    /// Whether differences to what browsers kept get to them.
    pub dictionaries: Dictionaries,
    /// How long uploads wait for their commit.
    pub lease: Duration,
    /// Files of a site that the platform's memory has room for.
    pub files_max: u64,
    /// Raw bytes of a patch or of nodes in one request that it has room for.
    pub section_raw_bytes_max: usize,
}

/// What becomes of Compression Dictionary Transport (RFC 9842) between the server and browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dictionaries {
    /// Whatever lies between passes its headers and its coding on.
    Passed,
    /// It does not, or nobody knows.
    Stopped,
}

/// Which pages get the live script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivePages {
    /// Those of deploys that were published so.
    Chosen,
    /// All.
    All,
}

/// How to spell the address of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteUrls {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The port, if it is not the scheme's own.
    pub port: Option<u16>,
}

/// The server of all spaces of one platform.
pub struct Server<B> {
    backend: B,
    settings: Settings,
    index: Index,
    bodies: Bodies,
    verdicts: Verdicts,
    marks: Marks,
    differences: Differences,
    pinned: Pinned,
    unnumbered: Unnumbered,
    newest: Newest,
    nets: Nets,
    natures: Cache<BlobId, Nature>,
    claims: Claims,
    questions: Questions,
    tokens: DeployTokens,
    codecs: Codecs,
    space_ids: Cache<SpaceName, SpaceId>,
}

/// Where deploys lie that are asked for by number; `None` is one that is not kept.
type Pinned = Cache<(SpaceName, u64), Option<Pointer>>;

/// Numbers that a space said it has no deploy of, and when it was asked.
type Unnumbered = Cache<(SpaceName, u64), Timestamp>;

/// Differences of two deploys, which never change: by space, both numbers, and paths named at most.
type Nets = Cache<(SpaceName, u64, u64, usize), Message>;

/// Bytes that a server keeps unless it is told otherwise.
const CACHE_BYTES: usize = 48 * 1024 * 1024;

/// Bytes of pointers of deploys that are asked for by number.
const PINNED_CACHE_BYTES: usize = 256 * 1024;

/// Bytes of numbers that have no deploy: some hundred.
const UNNUMBERED_CACHE_BYTES: usize = 64 * 1024;

/// Bytes of what is known of the bytes of blobs: some ten thousand of them.
const NATURES_CACHE_BYTES: usize = 1024 * 1024;

/// Bytes of the ids of spaces that something was published to: about a thousand.
const SPACE_IDS_CACHE_BYTES: usize = 128 * 1024;

/// Bytes of differences of deploys that are kept for readers who catch up.
const NETS_CACHE_BYTES: usize = 2 * 1024 * 1024;

impl<B: Backend> Server<B> {
    /// Puts a server over a platform.
    pub fn new(backend: B, settings: Settings) -> Self {
        Self::keeping(CACHE_BYTES, backend, settings)
    }

    /// The same where memory is dear: it keeps at most about `bytes`, decoded nodes of serving
    /// indices in one half, small bodies and differences in the other.
    pub fn keeping(bytes: usize, backend: B, settings: Settings) -> Self {
        let tokens = DeployTokens::of(settings.publish_secret.as_deref());
        Self {
            backend,
            settings,
            index: Index::new(bytes / 2),
            bodies: Cache::new(bytes / 16 * 5),
            verdicts: Cache::new(bytes / 16),
            marks: Marks::default(),
            differences: Cache::new(bytes / 8),
            pinned: Cache::new(PINNED_CACHE_BYTES),
            unnumbered: Cache::new(UNNUMBERED_CACHE_BYTES),
            newest: Newest::default(),
            nets: Cache::new(NETS_CACHE_BYTES),
            natures: Cache::new(NATURES_CACHE_BYTES),
            claims: Claims::default(),
            questions: Questions::default(),
            tokens,
            codecs: Codecs::default(),
            space_ids: Cache::new(SPACE_IDS_CACHE_BYTES),
        }
    }

    /// The platform.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The ids of spaces, as they were named last.
    pub(super) const fn space_ids(&self) -> &Cache<SpaceName, SpaceId> {
        &self.space_ids
    }

    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    pub(super) const fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    pub(super) const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    pub(super) const fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(super) const fn differences(&self) -> &Differences {
        &self.differences
    }

    pub(super) const fn dictionaries(&self) -> Dictionaries {
        self.settings.dictionaries
    }

    pub(super) const fn files_max(&self) -> u64 {
        self.settings.files_max
    }

    pub(super) const fn section_raw_bytes_max(&self) -> usize {
        self.settings.section_raw_bytes_max
    }

    pub(super) const fn lease(&self) -> Duration {
        self.settings.lease
    }

    pub(super) const fn live(&self) -> LivePages {
        self.settings.live
    }

    pub(super) fn publish_secret(&self) -> Option<&str> {
        self.settings.publish_secret.as_deref()
    }

    pub(super) const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    pub(super) const fn unnumbered(&self) -> &Unnumbered {
        &self.unnumbered
    }

    pub(super) const fn newest(&self) -> &Newest {
        &self.newest
    }

    pub(super) const fn natures(&self) -> &Cache<BlobId, Nature> {
        &self.natures
    }

    pub(super) const fn nets(&self) -> &Nets {
        &self.nets
    }

    pub(super) const fn questions(&self) -> &Questions {
        &self.questions
    }

    pub(super) const fn tokens(&self) -> &DeployTokens {
        &self.tokens
    }

    pub(super) const fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(super) const fn codecs(&self) -> &Codecs {
        &self.codecs
    }

    /// The domain under which sites live.
    pub(super) const fn domain(&self) -> &Domain {
        self.settings.hosts.domain()
    }

    /// The address of a site or a preview.
    pub fn url_of(&self, channel: &Channel) -> String {
        let SiteUrls { scheme, port } = self.settings.urls;
        let domain = self.domain();
        match port {
            Some(port) => format!("{scheme}://{channel}.{domain}:{port}/"),
            None => format!("{scheme}://{channel}.{domain}/"),
        }
    }

    /// Looks at a request before its body is read: how many bytes of body it may have, or the
    /// answer that refuses it (not authorised, too large, no such route).
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    pub fn admit(&self, head: &Parts) -> Result<usize, Response<Body>> {
        match self.addressed(head) {
            Addressed::Site { .. } | Addressed::Unknown => {
                let reads = [Method::GET, Method::HEAD, Method::OPTIONS];
                // A site is only read: why it is refused is said before a body is looked at.
                let refused = || bodiless(absent(&site_request(head, None)));
                reads
                    .contains(&head.method)
                    .then_some(0)
                    .ok_or_else(refused)
            }
            Addressed::Api => self
                .admit_api(head)
                .map_err(|problem| answer::problem(&problem)),
        }
    }

    fn admit_api(&self, head: &Parts) -> Result<usize, Problem> {
        let route = Route::of(&head.method, &head.uri)?;
        if route.is_open() {
            return Ok(0);
        }
        Query::of(&head.uri)?;
        authorise(&head.headers, self.settings.publish_secret.as_deref())?;
        let most = route.body_bytes_max();
        let length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        match length.and_then(|text| text.parse::<u64>().ok()) {
            None if head.method == Method::PUT => {
                let detail = "the upload has no Content-Length";
                return Err(Problem::new(Code::LengthRequired, detail));
            }
            Some(length) if length > most as u64 => {
                let detail = format!("the body has {length} bytes; the limit is {most}");
                return Err(Problem::new(Code::TooLarge, detail));
            }
            Some(_) | None => {}
        }
        if head.headers.contains_key(CONTENT_ENCODING) {
            let detail = "bodies are compressed by their own format, not by Content-Encoding";
            return Err(Problem::new(Code::RequestMalformed, detail));
        }
        Ok(most)
    }

    /// Who gets the answer to a request, were it an error.
    pub fn audience(&self, head: &Parts) -> Audience {
        match authorise(&head.headers, self.settings.publish_secret.as_deref()) {
            Ok(()) => Audience::Publisher,
            Err(_) => Audience::Stranger,
        }
    }

    /// Whether answering may take long or block (the publish API), so that a platform with threads
    /// runs it beside the quick reads of sites.
    pub fn is_heavy(&self, head: &Parts) -> bool {
        let route = Route::of(&head.method, &head.uri);
        self.is_api(head) && route.is_ok_and(|route| !route.is_open())
    }

    /// Whether a request is not for a site: for the publish API, or for what a platform has beside.
    pub fn is_api(&self, head: &Parts) -> bool {
        matches!(self.addressed(head), Addressed::Api)
    }

    /// Answers a request. `accept_encoding` is the client's own, where the platform knows better
    /// than the header.
    pub async fn handle(
        &self,
        request: Request<Bytes>,
        accept_encoding: Option<&str>,
        now: Timestamp,
        nonce: Nonce,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let addressed = self.addressed(&head);
        let listening = channel(&addressed).filter(|_| is_events(&head));
        let answered = match (addressed, listening) {
            (_, Some(channel)) => self.events(&channel, &head, now).await,
            (Addressed::Unknown, None) => {
                Ok(bodiless(absent(&site_request(&head, accept_encoding))))
            }
            (Addressed::Site { .. }, None) if is_script(&head) => {
                Ok(script(&head).map(Body::Bytes))
            }
            (Addressed::Site { space, deploy }, None) => {
                let request = site_request(&head, accept_encoding);
                let site = channel(&Addressed::Site {
                    space: space.clone(),
                    deploy: deploy.clone(),
                });
                let known = site.and_then(|site| self.known_deploy(&head, &site));
                let asked = Asked {
                    space: &space,
                    selector: &deploy,
                    request: &request,
                    known,
                    now,
                };
                self.site(asked).await
            }
            (Addressed::Api, None) => match self.admitted(&head, &body) {
                Ok(route) => {
                    self.api(route, Request::from_parts(head, body), now, nonce)
                        .await
                }
                Err(problem) => Err(problem),
            },
        };
        let mut response = answered.unwrap_or_else(|problem| answer::problem(&problem));
        if is_head {
            keep_length(&mut response);
        }
        response
    }

    /// The newest deploy of a channel that the client proves to have seen.
    fn known_deploy(&self, head: &Parts, channel: &Channel) -> Option<u64> {
        known_deploy(head, &self.tokens, channel, self.settings.urls.scheme)
    }

    /// Checks once more what [`Self::admit`] checks: a platform may forget to ask.
    fn admitted(&self, head: &Parts, body: &Bytes) -> Result<Route, Problem> {
        let most = self.admit_api(head)?;
        if body.len() > most {
            let detail = format!("the body has {} bytes; the limit is {most}", body.len());
            return Err(Problem::new(Code::TooLarge, detail));
        }
        Route::of(&head.method, &head.uri)
    }

    pub(super) fn addressed(&self, head: &Parts) -> Addressed {
        let mut hosts = head.headers.get_all(HOST).iter();
        // HTTP/2 names the host in the target.
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            (None, _) => head.uri.authority().map(http::uri::Authority::as_str),
            (Some(_), Some(_)) => None,
        };
        host.map_or(Addressed::Unknown, |host| {
            self.settings.hosts.resolve(host, Exposure::of(head))
        })
    }
}

/// Whether the live script is asked for.
fn is_script(head: &Parts) -> bool {
    let reads = [Method::GET, Method::HEAD];
    head.uri.path() == SCRIPT_PATH && reads.contains(&head.method)
}

fn site_request(head: &Parts, accept_encoding: Option<&str>) -> SiteRequest {
    let (path, query) = (head.uri.path(), head.uri.query());
    // Lines of one list are one list (RFC 9110, section 5.3).
    let lines = head.headers.get_all(ACCEPT_ENCODING).iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let header = (!lines.is_empty()).then(|| lines.join(","));
    let accept_encoding = accept_encoding.or(header.as_deref());
    SiteRequest::new(&head.method, path, query, &head.headers, accept_encoding)
}

/// An answer to HEAD has the length of the body that GET would get, and no body.
fn keep_length(response: &mut Response<Body>) {
    if let Body::Bytes(bytes) = response.body() {
        let length = bytes.len();
        response
            .headers_mut()
            .entry(CONTENT_LENGTH)
            .or_insert(length.into());
    }
    *response.body_mut() = Body::Empty;
}
