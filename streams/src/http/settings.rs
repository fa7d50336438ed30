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

use super::cors::{self, Origins};
use super::request::{is_reserved, name_of};
use super::{answer, headers};
use crate::StreamName;
use crate::policy::{
    Access, AccessVars, Audience, CacheMode, InvalidAccess, InvalidCacheMode, InvalidRate,
    Principal, Rates, Timing,
};

/// What an operator decides about streams.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who may do what.
    pub access: Access,
    /// Whose pages may talk to streams.
    pub origins: Origins,
    /// What caches may keep.
    pub caching: CacheMode,
    /// How often they may be asked.
    pub rates: Rates,
    /// Whom to tell where the time went.
    pub timing: TellTimes,
}

/// Whom to tell where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TellTimes {
    /// Who asks for it.
    #[default]
    OnRequest,
    /// Everybody.
    Always,
}

/// Settings that make no sense. A server does not start with them: it would be more open than
/// meant, or more closed.
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

/// A request that may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The stream that it is about.
    pub name: StreamName,
    /// Who asks.
    pub who: Principal,
}

impl Settings {
    /// Reads variables: `STREAM_SECRET` or `AUTH_TOKEN`, `STREAM_ACCESS` (`open`),
    /// `STREAM_TOKEN_KEYS`, `STREAM_PUBLIC_READ`, `STREAM_ORIGINS` (lists with commas),
    /// `STREAM_RATE_READS`, `STREAM_RATE_WRITES`, `CACHE_MODE` and `DEBUG_TIMING` (`1`: always).
    /// What is empty counts as unset.
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
            origins: origins.map_or(Origins::Unset, |list| Origins::parse(&list)),
            caching: CacheMode::parse(var("CACHE_MODE").as_deref())?,
            rates: Rates::parse(reads.as_deref(), writes.as_deref())?,
            timing: match var("DEBUG_TIMING").as_deref() {
                Some("1") => TellTimes::Always,
                Some(_) | None => TellTimes::OnRequest,
            },
        })
    }

    /// The same on a server that is in local mode, or is not.
    #[must_use]
    pub fn in_local_mode(mut self, local: bool) -> Self {
        self.access = self.access.in_local_mode(local);
        self
    }

    /// Answers what needs no stream: a browser that asks whether it may ask.
    pub fn preflight(&self, head: &Parts) -> Option<Response<Bytes>> {
        (head.method == Method::OPTIONS).then(cors::preflight)
    }

    /// Whether the request comes from the operator, or from anybody if the server is open: what is
    /// asked of no single stream.
    pub fn authorise(&self, head: &Parts, now: Timestamp) -> Result<(), Problem> {
        self.access.authorise(head, now)
    }

    /// Which stream a request may ask, by its head alone; or the answer that it gets without one.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    pub fn admit(&self, head: &Parts, now: Timestamp) -> Result<Admitted, Response<Bytes>> {
        if let Some(preflight) = self.preflight(head) {
            return Err(preflight);
        }
        let refused = |problem| answer::problem(&problem);
        let missing = || Problem::new(Code::NotFound, "the address is no stream's");
        let name = name_of(&head.uri).ok_or_else(|| refused(missing()))?;
        let name = name.map_err(|error| answer::invalid(&error))?;
        let who = self.access.admit(head, &name, now).map_err(refused)?;
        if is_reserved(&name) {
            return Err(refused(missing()));
        }
        Ok(Admitted { name, who })
    }

    /// Whether the answer to a request is to say where the time went.
    pub fn tells_times(&self, head: &Parts) -> bool {
        match self.timing {
            TellTimes::Always => true,
            TellTimes::OnRequest => Timing::is_asked(head),
        }
    }

    /// Puts on an answer what every answer has.
    pub fn add_common_headers<B>(&self, head: &Parts, mut answer: Response<B>) -> Response<B> {
        let all = answer.headers_mut();
        all.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let policy = HeaderValue::from_static("cross-origin");
        all.insert(headers::RESOURCE_POLICY, policy);
        // A browser runs nothing of what a client put into a stream, nor gives it an origin.
        let sandbox = HeaderValue::from_static("sandbox");
        all.insert(CONTENT_SECURITY_POLICY, sandbox);
        self.origins.admit(head, &self.access, all);
        let audience = Audience::of(head, &self.access);
        let policy = self.caching.policy(all.get(CACHE_CONTROL), audience);
        let policy = HeaderValue::from_static(policy);
        if audience == Audience::Holders && policy != "no-store" {
            // A client that has another token, or none, is not to get what is kept for this one.
            all.append(VARY, HeaderValue::from_static("authorization"));
        }
        if audience == Audience::Address {
            // Nor is a page to tell others where it was read.
            all.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        all.insert(CACHE_CONTROL, policy);
        answer
    }

    /// The address of what a request is about, as its client spells it.
    pub fn address_of(head: &Parts, scheme: &str) -> String {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let host = host.or(authority).unwrap_or("localhost");
        format!("{scheme}://{host}{}", head.uri.path())
    }
}
