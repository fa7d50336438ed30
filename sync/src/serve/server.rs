//! From request to answer.

use bytes::Bytes;
use http::{Request, Response};

use super::backend::Backend;
use super::body::Body;
use crate::name::SpaceName;
use crate::site::Domain;
use crate::time::Timestamp;
use crate::wire::Problem;

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The domain under which every label is a site.
    pub domain: Domain,
    /// The token that may publish; without one the publish API is closed.
    pub publish_secret: Option<String>,
    /// How to spell the address of a site.
    pub urls: SiteUrls,
}

/// How to spell the address of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteUrls {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The port, if it is not the scheme's own.
    pub port: Option<u16>,
}

/// Randomness for one request, drawn by the platform.
#[derive(Debug, Clone, Copy)]
pub struct Nonce(pub [u8; 32]);

/// The server of all spaces of one platform.
pub struct Server<B> {
    backend: B,
    settings: Settings,
}

impl<B: Backend> Server<B> {
    /// Puts a server over a platform.
    pub fn new(backend: B, settings: Settings) -> Self {
        Self { backend, settings }
    }

    /// The platform.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// Looks at a request before its body is read: how many bytes of body it may have, or the
    /// answer that refuses it (not authorised, too large, no such route).
    pub fn admit(&self, head: &http::request::Parts) -> Result<usize, Response<Body>> {
        let _ = (head, &self.settings);
        Ok(crate::limits::BODY_BYTES_MAX)
    }

    /// Whether answering may take long or block (the publish API), so that a platform with threads
    /// runs it beside the quick reads of sites.
    pub fn is_heavy(&self, head: &http::request::Parts) -> bool {
        let _ = head;
        false
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
        let _ = (request, accept_encoding, now, nonce);
        Response::new(Body::Empty)
    }

    /// Delivers what the outbox of a space holds. Returns when to come again, if something is left.
    pub async fn deliver(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Problem> {
        let _ = (space, now);
        Ok(None)
    }
}
