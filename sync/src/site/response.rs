//! Response builder: statuses and headers of site responses.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pmx_core::coding::{Coding, is_stored_as_zstd};

use super::answer::{Described, Origin, Plan, PlanBody, Snapshot};
use super::conditional::{PreconditionResult, etag};
use super::dictionary::is_dictionary;
use super::fingerprint::is_fingerprinted;
use super::lookups::LocatedFile;
use super::range::{ByteRange, Unsatisfiable};
use super::request::SiteRequest;
use crate::path::SitePath;
use crate::rules::CachePolicy;

const DEPLOY: HeaderName = HeaderName::from_static("x-pmx-deploy");
const USE_AS_DICTIONARY: HeaderName = HeaderName::from_static("use-as-dictionary");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const REVALIDATE: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
/// Caching of a page that browsers store as a dictionary for thirty days, and revalidate each time.
const KEPT_PAGE: HeaderValue =
    HeaderValue::from_static("private, max-age=0, stale-while-revalidate=2592000");
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// 404 page of a live site, which a reader sees until a deploy has the page.
const NOT_FOUND_PAGE: &str = "<!doctype html><html lang=\"en\"><head><title>404 Not Found</title></head>\
    <body><h1>404 Not Found</h1>\
    <p>This page shows itself as soon as it is published.</p></body></html>\n";

/// Builder of a site response, with the headers that every response has.
pub(super) struct ResponseBuilder {
    headers: HeaderMap,
    described: Option<Described>,
}

impl ResponseBuilder {
    pub(super) fn plain() -> Self {
        let mut headers = HeaderMap::new();
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        let origin = HeaderValue::from_static("strict-origin-when-cross-origin");
        headers.insert(header::REFERRER_POLICY, origin);
        Self {
            headers,
            described: None,
        }
    }

    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self::plain().header(DEPLOY, HeaderValue::from(snapshot.deploy()))
    }

    /// Asks the client to store the body as a dictionary.
    pub(super) fn kept_as(mut self, held: &LocatedFile, kept: Option<HeaderValue>) -> Self {
        if let Some(kept) = kept {
            self.headers.insert(USE_AS_DICTIONARY, kept);
            if held.entry.media.is_html() {
                self.headers.insert(header::CACHE_CONTROL, KEPT_PAGE);
            }
        }
        self
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header that is not set yet.
    fn with_default(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.entry(name).or_insert(value);
        self
    }

    fn send(self, status: StatusCode, body: PlanBody) -> Plan {
        let length = body.length();
        let builder = match length {
            Some(length) => self.header(header::CONTENT_LENGTH, HeaderValue::from(length)),
            None => self,
        };
        let nothing = length == Some(0);
        let body = if nothing { PlanBody::Empty } else { body };
        builder.plan(status, body)
    }

    /// Sends a body with the live script, whose length the server sets after the injection.
    fn send_live(self, status: StatusCode, body: PlanBody) -> Plan {
        self.plan(status, body)
    }

    fn plan(self, status: StatusCode, body: PlanBody) -> Plan {
        Plan {
            status,
            headers: self.headers,
            described: self.described,
            body,
            origin: Origin::Nothing,
            rule: None,
            shown: None,
        }
    }

    /// Sends a status that never has a body or a length.
    fn send_bare(self, status: StatusCode) -> Plan {
        let described = None;
        Self { described, ..self }.plan(status, PlanBody::Empty)
    }

    pub(super) fn error(self, status: StatusCode, text: &'static str) -> Plan {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        self.header(header::CONTENT_TYPE, plain)
            .header(header::CACHE_CONTROL, NO_STORE)
            .send(status, PlanBody::Text(text))
    }

    pub(super) fn not_found(self) -> Plan {
        self.error(StatusCode::NOT_FOUND, "404 Not Found\n")
    }

    /// The 404 page of a live site.
    pub(super) fn not_found_live(self) -> Plan {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        self.header(header::CONTENT_TYPE, html)
            .header(header::CACHE_CONTROL, NO_STORE)
            .header(
                header::VARY,
                HeaderValue::from_static("accept, sec-fetch-dest"),
            )
            .send_live(StatusCode::NOT_FOUND, PlanBody::Page(NOT_FOUND_PAGE))
    }

    pub(super) fn not_allowed(self) -> Plan {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        self.header(header::ALLOW, METHODS)
            .error(status, "405 Method Not Allowed\n")
    }

    pub(super) fn options(self) -> Plan {
        self.header(header::ALLOW, METHODS)
            .header(header::CACHE_CONTROL, NO_STORE)
            .send_bare(StatusCode::NO_CONTENT)
    }

    /// A redirect to a URL that is percent-encoded.
    pub(super) fn redirect(
        self,
        status: StatusCode,
        location: String,
        query: Option<&str>,
    ) -> Plan {
        let location = match query {
            Some(query) => format!("{location}?{query}"),
            None => location,
        };
        let location = HeaderValue::from_str(&location);
        let location = location.expect("path and query are percent-encoded, so visible ASCII");
        let mut builder = self.header(header::LOCATION, location);
        // Clients may cache the others only if a header says so (RFC 9110, section 15.1).
        let is_cached = [
            StatusCode::MOVED_PERMANENTLY,
            StatusCode::PERMANENT_REDIRECT,
        ];
        if is_cached.contains(&status) {
            builder = builder.header(header::CACHE_CONTROL, REVALIDATE);
        }
        let plan = builder.send(status, PlanBody::Empty);
        let origin = Origin::Redirect;
        Plan { origin, ..plan }
    }

    /// A page that says why there is no file. It has no conditions to evaluate (RFC 9110, section
    /// 13.2.1) and no ranges. If the client accepts no coding of it, it is sent uncompressed.
    pub(super) fn page(
        self,
        request: &SiteRequest,
        status: StatusCode,
        held: &LocatedFile,
    ) -> Plan {
        let coding = coding_for(request, held).unwrap_or(Coding::Identity);
        let plan = self
            .header(header::CACHE_CONTROL, REVALIDATE)
            .representing(request, held, coding)
            .send_blob(request, status, held, coding);
        let origin = Origin::Page;
        Plan { origin, ..plan }
    }

    /// A file, which has this path in its deploy.
    pub(super) fn found(
        self,
        request: &SiteRequest,
        path: &SitePath,
        held: &LocatedFile,
        policy: Option<CachePolicy>,
    ) -> Plan {
        let caching = cache_control(path, held, policy);
        let plan = self.file(request, held, caching);
        let origin = Origin::File;
        Plan { origin, ..plan }
    }

    fn file(self, request: &SiteRequest, held: &LocatedFile, caching: HeaderValue) -> Plan {
        let conditions = &request.conditions;
        let blob = &request.tag_of(&held.entry);
        let range = request.range.filter(|_| conditions.allows_range_of(blob));
        let range = range.filter(|_| request.accepted.takes_identity());
        let range = range.filter(|_| !request.makes_live(&held.entry));
        let range = range.map_or(Ok(None), |range| range.of(held.entry.size));
        // A range applies to the uncompressed bytes.
        let coding = match range {
            Ok(None) => coding_for(request, held),
            Ok(Some(_)) | Err(Unsatisfiable) => Some(Coding::Identity),
        };
        let Some(coding) = coding else {
            return self.not_acceptable();
        };
        let builder = self
            .with_default(header::CACHE_CONTROL, caching)
            .validated_by(request, held, coding);
        match (conditions.evaluate(blob), range) {
            (PreconditionResult::Failed, _) => builder.failed(),
            (PreconditionResult::NotModified, _) => builder.send_bare(StatusCode::NOT_MODIFIED),
            (PreconditionResult::Proceed, Err(Unsatisfiable)) => builder.unsatisfiable(held),
            (PreconditionResult::Proceed, Ok(Some(range))) => builder.part(request, held, range),
            (PreconditionResult::Proceed, Ok(None)) => builder
                .header(header::ACCEPT_RANGES, BYTES)
                .representing(request, held, coding)
                .send_blob(request, StatusCode::OK, held, coding),
        }
    }

    /// The client refuses uncompressed bytes, and accepts no available coding (RFC 9110, sections
    /// 12.5.3 and 15.5.7).
    fn not_acceptable(self) -> Plan {
        let vary = HeaderValue::from_static("accept-encoding");
        self.header(header::VARY, vary).error(
            StatusCode::NOT_ACCEPTABLE,
            "406 Not Acceptable: Accept-Encoding refuses identity and every coding there is\n",
        )
    }

    fn failed(self) -> Plan {
        let status = StatusCode::PRECONDITION_FAILED;
        self.error(status, "412 Precondition Failed\n")
    }

    fn unsatisfiable(self, held: &LocatedFile) -> Plan {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        let range = format!("bytes */{}", held.entry.size);
        self.header(header::CONTENT_RANGE, legal(&range))
            .error(status, "416 Range Not Satisfiable\n")
    }

    fn part(self, request: &SiteRequest, held: &LocatedFile, range: ByteRange) -> Plan {
        let ByteRange { first, len } = range;
        let last = first + len - 1;
        let content_range = format!("bytes {first}-{last}/{}", held.entry.size);
        let body = PlanBody::Blob {
            held: held.clone(),
            coding: Coding::Identity,
            range: Some((first, len)),
        };
        self.header(header::CONTENT_RANGE, legal(&content_range))
            .header(header::ACCEPT_RANGES, BYTES)
            .representing(request, held, Coding::Identity)
            .send(StatusCode::PARTIAL_CONTENT, body)
    }

    /// The headers that a 304 repeats (RFC 9110, section 15.4.5).
    fn validated_by(self, request: &SiteRequest, held: &LocatedFile, coding: Coding) -> Self {
        let builder = self.header(header::ETAG, etag(&request.tag_of(&held.entry), coding));
        match vary(request, held) {
            Some(vary) => builder.header(header::VARY, HeaderValue::from_static(vary)),
            None => builder,
        }
    }

    /// The headers that describe the body.
    fn representing(mut self, request: &SiteRequest, held: &LocatedFile, coding: Coding) -> Self {
        let media = legal(held.entry.media.as_str());
        self.described = Some(Described {
            held: held.clone(),
            coding,
            is_gzip_by_name: request.names_gzip(),
            has_own_type: false,
        });
        let builder = self
            .validated_by(request, held, coding)
            .header(header::CONTENT_TYPE, media);
        match coding {
            Coding::Identity => builder,
            Coding::Zstd => {
                builder.header(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"))
            }
        }
    }

    fn send_blob(
        self,
        request: &SiteRequest,
        status: StatusCode,
        held: &LocatedFile,
        coding: Coding,
    ) -> Plan {
        let body = PlanBody::Blob {
            held: held.clone(),
            coding,
            range: None,
        };
        if request.makes_live(&held.entry) {
            return self.send_live(status, body);
        }
        self.send(status, body)
    }
}

/// The coding of a blob's body, if the client accepts one. An empty blob is sent uncompressed,
/// because a frame would be longer.
fn coding_for(request: &SiteRequest, held: &LocatedFile) -> Option<Coding> {
    if held.entry.size == 0 {
        return Some(Coding::Identity);
    }
    let has_frame = is_stored_as_zstd(held.at.codec) && !request.makes_live(&held.entry);
    request.accepted.coding(has_frame)
}

/// A year for immutable files; others are revalidated each time, which a 304 answers.
///
/// The URL of a numbered deploy gets no longer time. Its content is fixed, but a space's name can
/// be released and taken again, and the numbers then restart.
fn cache_control(path: &SitePath, held: &LocatedFile, policy: Option<CachePolicy>) -> HeaderValue {
    let is_immutable = match policy {
        Some(policy) => policy == CachePolicy::Immutable,
        None => !held.entry.media.is_html() && is_fingerprinted(path),
    };
    if is_immutable { IMMUTABLE } else { REVALIDATE }
}

/// The request headers that an answer depends on.
fn vary(request: &SiteRequest, held: &LocatedFile) -> Option<&'static str> {
    let may_live = request.may_live(&held.entry);
    if !is_stored_as_zstd(held.at.codec) || request.makes_live(&held.entry) {
        return may_live.then_some("sec-fetch-dest");
    }
    let dictionary = request.dictionaries.is_some() && is_dictionary(held);
    let is_page = held.entry.media.is_html();
    Some(match (dictionary, dictionary && is_page || may_live) {
        (true, true) => "accept-encoding, available-dictionary, sec-fetch-dest",
        (true, false) => "accept-encoding, available-dictionary",
        (false, true) => "accept-encoding, sec-fetch-dest",
        (false, false) => "accept-encoding",
    })
}

fn legal(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("media types and ranges are visible ASCII")
}
