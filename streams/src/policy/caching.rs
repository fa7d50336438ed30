//! Cache policy: the `Cache-Control` of a response.
//!
//! An address names a stream and a place in it, but not which of the streams that have the name one
//! after the other: after a deletion, the same address is another stream's. And what follows the
//! last message has the address that its end had. So no answer may be used again without asking:
//! what a cache keeps saves bytes, by 304, and never a request. Whether anybody but the reader's
//! own browser may keep it is the operator's to say, and only of streams that everybody may read.

use http::HeaderValue;
use http::request::Parts;
use thiserror::Error;

use super::access::{Access, has_token};
use crate::http::name_of;

/// What an operator lets caches keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Nothing.
    Off,
    /// Pages, by the browser of who reads them.
    #[default]
    Private,
    /// Pages of streams that everybody may read, by shared caches.
    Shared,
}

/// The text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("CACHE_MODE is {0:?}; expected private, shared or off")]
pub struct InvalidCacheMode(String);

/// Who may see an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Everyone,
    /// Who sends a token.
    Holders,
    /// Who knows the address, for a token stands in it.
    Address,
}

/// What an answer says of itself when it may be kept and asked for anew.
pub(crate) const REVALIDATED: &str = "max-age=0, must-revalidate";

/// What one says that is read as it comes.
pub(crate) const AS_IT_COMES: &str = "no-cache, no-store";

/// What one says that is the same for everybody for a while, whatever becomes of streams.
pub(crate) const KEYS: &str = "public, max-age=300";

impl CacheMode {
    /// Reads a mode; what is empty counts as unset.
    pub fn parse(text: Option<&str>) -> Result<Self, InvalidCacheMode> {
        match text.unwrap_or_default() {
            "" | "private" => Ok(Self::Private),
            "shared" => Ok(Self::Shared),
            "off" => Ok(Self::Off),
            other => Err(InvalidCacheMode(other.to_owned())),
        }
    }

    /// The `Cache-Control` of an answer that says this of itself. What says nothing that is known
    /// here is kept by no one.
    pub fn policy(self, own: Option<&HeaderValue>, audience: Audience) -> &'static str {
        match own.map(HeaderValue::as_bytes) {
            Some(own) if own == REVALIDATED.as_bytes() => self.of_page(audience),
            Some(own) if own == AS_IT_COMES.as_bytes() => AS_IT_COMES,
            Some(own) if own == KEYS.as_bytes() && self != Self::Off => KEYS,
            Some(_) | None => "no-store",
        }
    }

    const fn of_page(self, audience: Audience) -> &'static str {
        match (self, audience) {
            (Self::Off, _) | (_, Audience::Address) => "no-store",
            (Self::Private, _) | (Self::Shared, Audience::Holders) => {
                "private, max-age=0, must-revalidate"
            }
            (Self::Shared, Audience::Everyone) => "public, max-age=0, must-revalidate",
        }
    }
}

impl Audience {
    /// Who may see the answer to a request.
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
