//! Request handling: admits a request, finds what it addresses, and answers it.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::country::Country;
use pmx_core::exposure::Exposure;
use pmx_core::incident::Audience;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer;
use super::auth::authorise;
use super::backend::Backend;
use super::body::Body;
use super::events::{channel, is_events};
use super::min_deploy::min_deploy;
use super::nonce::Nonce;
use super::route::{ApiRoute, Query};
use super::server::Server;
use super::site::{SiteQuery, bodiless};
use crate::live::{SCRIPT_PATH, script};
use crate::site::{Addressed, CustomSite, PlanBody, SiteRequest, absent};

impl<B: Backend> Server<B> {
    /// Checks a request before its body is read. Returns the number of body bytes that it may have,
    /// or the answer that refuses it (not authorised, too large, no such route).
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    pub fn admit(&self, head: &Parts) -> Result<usize, Response<Body>> {
        match self.addressed(head) {
            // A site is read-only: the server reads no body for it.
            Addressed::Site { .. } => Ok(0),
            Addressed::Unknown => {
                let reads = [Method::GET, Method::HEAD, Method::OPTIONS];
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
        let route = ApiRoute::of_head(head)?;
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

    /// The audience of an error answer to a request.
    pub fn audience(&self, head: &Parts) -> Audience {
        match authorise(&head.headers, self.settings.publish_secret.as_deref()) {
            Ok(()) => Audience::Publisher,
            Err(_) => Audience::Stranger,
        }
    }

    /// Whether an answer may take long or block (the publish API). A platform with threads runs
    /// such requests beside the quick reads of sites.
    pub fn is_heavy(&self, head: &Parts) -> bool {
        let route = ApiRoute::of(&head.method, &head.uri);
        self.is_api(head) && route.is_ok_and(|route| !route.is_open())
    }

    /// Whether a request is for the publish API or for an API of the platform, and not for a site.
    pub fn is_api(&self, head: &Parts) -> bool {
        matches!(self.addressed(head), Addressed::Api)
    }

    /// Answers a request. `accept_encoding` is the client's own value, where the platform knows it
    /// better than the header.
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
            (Addressed::Unknown, None) => Ok(self.unknown(&head, accept_encoding)),
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
                let asked = SiteQuery {
                    space: &space,
                    selector: &deploy,
                    request: &request,
                    min_deploy: known,
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

    /// The newest deploy of a channel for which the client has a valid token.
    fn known_deploy(&self, head: &Parts, channel: &Channel) -> Option<u64> {
        min_deploy(head, self.tokens(), channel, self.settings.urls.scheme)
    }

    /// Repeats the checks of [`Self::admit`], because a platform may forget to call it.
    fn admitted(&self, head: &Parts, body: &Bytes) -> Result<ApiRoute, Problem> {
        let most = self.admit_api(head)?;
        if body.len() > most {
            let detail = format!("the body has {} bytes; the limit is {most}", body.len());
            return Err(Problem::new(Code::TooLarge, detail));
        }
        ApiRoute::of_head(head)
    }

    pub(super) fn addressed(&self, head: &Parts) -> Addressed {
        let addressed = host(head).map_or(Addressed::Unknown, |host| {
            self.settings.hosts.resolve(host, Exposure::of(head))
        });
        match (addressed, CustomSite::of(head)) {
            (Addressed::Unknown, Some(site)) => site,
            (addressed, _) => addressed,
        }
    }

    /// The answer for a host that no space owns. It is the same for each reason: a host that was
    /// never added, one that waits for its record, one that stopped.
    fn unknown(&self, head: &Parts, accept_encoding: Option<&str>) -> Response<Body> {
        let mut plan = absent(&site_request(head, accept_encoding));
        if plan.status == StatusCode::NOT_FOUND && self.custom_host(head).is_some() {
            let length = HeaderValue::from(UNKNOWN_HOST.len());
            plan.headers.insert(CONTENT_LENGTH, length);
            if matches!(plan.body, PlanBody::Text(_)) {
                plan.body = PlanBody::Text(UNKNOWN_HOST);
            }
        }
        bodiless(plan)
    }
}

const UNKNOWN_HOST: &str = "404 Not Found: no site on this server has this host name\n";

/// The host of a request, if it names exactly one.
fn host(head: &Parts) -> Option<&str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/2 names the host in the target.
        (None, _) => head.uri.authority().map(http::uri::Authority::as_str),
        (Some(_), Some(_)) => None,
    }
}

/// Whether a request is for the live script.
fn is_script(head: &Parts) -> bool {
    let reads = [Method::GET, Method::HEAD];
    head.uri.path() == SCRIPT_PATH && reads.contains(&head.method)
}

fn site_request(head: &Parts, accept_encoding: Option<&str>) -> SiteRequest {
    let (path, query) = (head.uri.path(), head.uri.query());
    // Header lines of one list form one list (RFC 9110, section 5.3).
    let lines = head.headers.get_all(ACCEPT_ENCODING).iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let header = (!lines.is_empty()).then(|| lines.join(","));
    let accept_encoding = accept_encoding.or(header.as_deref());
    SiteRequest::new(&head.method, path, query, &head.headers, accept_encoding)
        .from_client(host(head).unwrap_or_default(), Country::of(head))
}

/// Gives an answer to HEAD the length of the body that GET would get, and no body.
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
