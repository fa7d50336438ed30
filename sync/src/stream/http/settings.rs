//! What an operator decides about streams, and what follows for every request and answer.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HOST, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use super::cors::{self, Origins};
use super::request::{is_reserved, name_of};
use super::{answer, headers};
use crate::code::Code;
use crate::serve::authorise;
use crate::stream::StreamName;
use crate::wire::Problem;

/// What an operator decides about streams.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The token that reads and writes; without one everybody may.
    pub secret: Option<String>,
    /// Whose pages may talk to streams.
    pub origins: Origins,
}

impl Settings {
    /// Answers what needs no stream: a browser that asks whether it may ask.
    pub fn preflight(&self, head: &Parts) -> Option<Response<Bytes>> {
        (head.method == Method::OPTIONS).then(cors::preflight)
    }

    /// Whether the request carries the token, if there is one.
    pub fn authorise(&self, head: &Parts) -> Result<(), Problem> {
        match self.secret.as_deref() {
            Some(secret) => authorise(&head.headers, Some(secret)),
            None => Ok(()),
        }
    }

    /// Which stream a request may ask, by its head alone; or the answer that it gets without one.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    pub fn admit(&self, head: &Parts) -> Result<StreamName, Response<Bytes>> {
        if let Some(preflight) = self.preflight(head) {
            return Err(preflight);
        }
        let refused = |problem| answer::problem(&problem);
        self.authorise(head).map_err(refused)?;
        let missing = || Problem::new(Code::NotFound, "the address is no stream's");
        let name = name_of(&head.uri).ok_or_else(|| refused(missing()))?;
        let name = name.map_err(|error| answer::invalid(&error))?;
        if is_reserved(&name) {
            return Err(refused(missing()));
        }
        Ok(name)
    }

    /// Puts on an answer what every answer has.
    pub fn dress<B>(&self, head: &Parts, mut answer: Response<B>) -> Response<B> {
        let all = answer.headers_mut();
        all.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let policy = HeaderValue::from_static("cross-origin");
        all.insert(headers::RESOURCE_POLICY, policy);
        self.origins.admit(&head.headers, all);
        let caching = all.entry(CACHE_CONTROL);
        let caching = caching.or_insert(HeaderValue::from_static("no-store"));
        // Whoever has no token gets nothing, and so not from a cache either.
        if self.secret.is_some()
            && let Some(rest) = caching.as_bytes().strip_prefix(b"public")
            && let Ok(private) = HeaderValue::from_bytes(&[b"private", rest].concat())
        {
            *caching = private;
        }
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
