//! Stream settings: the operator's policy, applied to every request and response.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use thiserror::Error;

use super::cors::{self, CorsOrigins};
use super::request::{is_reserved, name_of};
use super::{answer, headers};
use crate::StreamName;
use crate::policy::{
    Access, AccessVars, CacheMode, InvalidAccess, InvalidCacheMode, InvalidRate, Principal, Rates,
    Timing, Visibility,
};

/// The operator's settings of streams.
#[derive(Debug, Clone, Default)]
pub struct StreamSettings {
    /// Access control.
    pub access: Access,
    /// CORS.
    pub origins: CorsOrigins,
    /// HTTP caching.
    pub caching: CacheMode,
    /// Rate limits.
    pub rates: Rates,
    /// The requests that get server timing.
    pub timing: TimingAudience,
}

/// The requests whose responses have server timing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimingAudience {
    /// Those that ask for it.
    #[default]
    OnRequest,
    /// All.
    Always,
}

/// Invalid settings. A server does not start with them, because it could be more open than its
/// operator intends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(transparent)]
pub enum InvalidSettings {
    /// `STREAM_TOKEN_KEYS` or `STREAM_PUBLIC_READ`
    Access(#[from] InvalidAccess),
    /// `CACHE_MODE`
    Caching(#[from] InvalidCacheMode),
    /// `STREAM_RATE_READS` or `STREAM_RATE_WRITES`
    Rates(#[from] InvalidRate),
}

/// A request that passed access control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The requested stream.
    pub name: StreamName,
    /// The sender.
    pub principal: Principal,
}

impl StreamSettings {
    /// Parses variables: `STREAM_SECRET` or `AUTH_TOKEN`, `STREAM_ACCESS` (`open`),
    /// `STREAM_TOKEN_KEYS`, `STREAM_PUBLIC_READ`, `STREAM_ORIGINS` (lists with commas),
    /// `STREAM_RATE_READS`, `STREAM_RATE_WRITES`, `CACHE_MODE` and `DEBUG_TIMING` (`1`: always).
    /// An empty variable counts as unset.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let access = Access::parse(AccessVars {
            secret: var("STREAM_SECRET").as_deref(),
            auth_token: var("AUTH_TOKEN").as_deref(),
            keys: var("STREAM_TOKEN_KEYS").as_deref(),
            public: var("STREAM_PUBLIC_READ").as_deref(),
            access: var("STREAM_ACCESS").as_deref(),
        })?;
        let origins = var("STREAM_ORIGINS").filter(|list| !list.is_empty());
        let (reads, writes) = (var("STREAM_RATE_READS"), var("STREAM_RATE_WRITES"));
        Ok(Self {
            access,
            origins: origins.map_or(CorsOrigins::Unset, |list| CorsOrigins::parse(&list)),
            caching: CacheMode::parse(var("CACHE_MODE").as_deref())?,
            rates: Rates::parse(reads.as_deref(), writes.as_deref())?,
            timing: match var("DEBUG_TIMING").as_deref() {
                Some("1") => TimingAudience::Always,
                Some(_) | None => TimingAudience::OnRequest,
            },
        })
    }

    /// The same, on a server in local mode or not.
    #[must_use]
    pub fn in_local_mode(mut self, local: bool) -> Self {
        self.access = self.access.in_local_mode(local);
        self
    }

    /// The response to a CORS preflight; `None` for other requests.
    pub fn preflight(&self, head: &Parts) -> Option<Response<Bytes>> {
        (head.method == Method::OPTIONS).then(cors::preflight)
    }

    /// Refuses a request that is not the operator's, unless the server is open. For requests that
    /// are not about a single stream.
    pub fn authorise(&self, head: &Parts, now: Timestamp) -> Result<(), Problem> {
        self.access.authorise(head, now)
    }

    /// Admits a request to a stream by its head, or returns the response that needs no stream.
    #[allow(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal; it is small on 32 bits"
    )]
    pub fn admit(&self, head: &Parts, now: Timestamp) -> Result<Admitted, Response<Bytes>> {
        if let Some(preflight) = self.preflight(head) {
            return Err(preflight);
        }
        let refused = |problem| answer::problem(&problem);
        let missing = || Problem::new(Code::NotFound, "the address is no stream's");
        let name = name_of(&head.uri).ok_or_else(|| refused(missing()))?;
        let name = name.map_err(|error| answer::invalid(&error))?;
        let principal = self.access.admit(head, &name, now).map_err(refused)?;
        if is_reserved(&name) {
            return Err(refused(missing()));
        }
        Ok(Admitted { name, principal })
    }

    /// Whether the response to a request has server timing.
    pub fn reports_timing(&self, head: &Parts) -> bool {
        match self.timing {
            TimingAudience::Always => true,
            TimingAudience::OnRequest => Timing::is_requested(head),
        }
    }

    /// Adds the headers that every response has.
    pub fn add_common_headers<B>(&self, head: &Parts, mut answer: Response<B>) -> Response<B> {
        let all = answer.headers_mut();
        all.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let policy = HeaderValue::from_static("cross-origin");
        all.insert(headers::RESOURCE_POLICY, policy);
        // A browser must not run what a client appended, nor give it an origin.
        let sandbox = HeaderValue::from_static("sandbox");
        all.insert(CONTENT_SECURITY_POLICY, sandbox);
        self.origins.admit(head, &self.access, all);
        let audience = Visibility::of(head, &self.access);
        let policy = self.caching.policy(all.get(CACHE_CONTROL), audience);
        let policy = HeaderValue::from_static(policy);
        if audience == Visibility::Holders && policy != "no-store" {
            // A cache must not give this response to clients with another token or none.
            all.append(VARY, HeaderValue::from_static("authorization"));
        }
        if audience == Visibility::Address {
            // The address has a token, which must not leak as a referrer.
            all.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        all.insert(CACHE_CONTROL, policy);
        answer
    }

    /// The URL of a request, as its client wrote it.
    pub fn address_of(head: &Parts, scheme: &str) -> String {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let host = host.or(authority).unwrap_or("localhost");
        format!("{scheme}://{host}{}", head.uri.path())
    }
}
