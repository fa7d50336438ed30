//! Cache policy: the `Cache-Control` of a response.
//!
//! An address names a stream and an offset, but not the generation: after a deletion, another
//! stream can have the address. And new messages appear at the address of the former tail. So a
//! cache has to revalidate every response: it saves bytes, by 304, but never a request. The
//! operator decides whether shared caches may store responses, and only for streams that every
//! client may read.

use http::HeaderValue;
use http::request::Parts;
use thiserror::Error;

use super::access::{Access, has_token};
use crate::http::name_of;

/// The responses that caches may store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// None.
    Off,
    /// Pages, in the reader's own browser.
    #[default]
    Private,
    /// Pages of public streams in shared caches too.
    Shared,
}

/// The text is not a cache mode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("CACHE_MODE is {0:?}; expected private, shared or off")]
pub struct InvalidCacheMode(String);

/// The clients that may see a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All clients.
    Everyone,
    /// Holders of a credential.
    Holders,
    /// Holders of the address, which has a token.
    Address,
}

/// `Cache-Control` of a response that a cache may store and has to revalidate.
pub(crate) const REVALIDATED: &str = "max-age=0, must-revalidate";

/// `Cache-Control` of an event stream.
pub(crate) const EVENT_STREAM: &str = "no-cache, no-store";

/// `Cache-Control` of the public keys.
pub(crate) const KEYS: &str = "public, max-age=300";

impl CacheMode {
    /// Parses a mode; an empty text counts as unset.
    pub fn parse(text: Option<&str>) -> Result<Self, InvalidCacheMode> {
        match text.unwrap_or_default() {
            "" | "private" => Ok(Self::Private),
            "shared" => Ok(Self::Shared),
            "off" => Ok(Self::Off),
            other => Err(InvalidCacheMode(other.to_owned())),
        }
    }

    /// The `Cache-Control` of a response, from the one that its renderer set. Without a known
    /// value, no cache may store it.
    pub fn policy(self, own: Option<&HeaderValue>, audience: Visibility) -> &'static str {
        match own.map(HeaderValue::as_bytes) {
            Some(own) if own == REVALIDATED.as_bytes() => self.of_page(audience),
            Some(own) if own == EVENT_STREAM.as_bytes() => EVENT_STREAM,
            Some(own) if own == KEYS.as_bytes() && self != Self::Off => KEYS,
            Some(_) | None => "no-store",
        }
    }

    const fn of_page(self, audience: Visibility) -> &'static str {
        match (self, audience) {
            (Self::Off, _) | (_, Visibility::Address) => "no-store",
            (Self::Private, _) | (Self::Shared, Visibility::Holders) => {
                "private, max-age=0, must-revalidate"
            }
            (Self::Shared, Visibility::Everyone) => "public, max-age=0, must-revalidate",
        }
    }
}

impl Visibility {
    /// The audience of the response to a request.
    pub fn of(head: &Parts, access: &Access) -> Self {
        if head.uri.query().is_some() && has_token(&head.uri) {
            return Self::Address;
        }
        if access.is_open_to(head) {
            return Self::Everyone;
        }
        match name_of(&head.uri) {
            Some(Ok(name)) if access.is_public(&name) => Self::Everyone,
            Some(_) | None => Self::Holders,
        }
    }
}

#[cfg(test)]
mod tests;
