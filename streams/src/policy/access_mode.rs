//! Access mode: the clients that may use streams without a credential.

use thiserror::Error;

use super::token::InvalidKeys;
use crate::limits::STREAM_PUBLIC_PATTERNS_MAX;
use crate::subscription::InvalidPattern;

/// Invalid access settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAccess {
    /// `STREAM_TOKEN_KEYS`
    #[error("STREAM_TOKEN_KEYS: {0}")]
    Keys(#[from] InvalidKeys),
    /// `STREAM_PUBLIC_READ`
    #[error("STREAM_PUBLIC_READ: {0}: {1:?}")]
    Public(InvalidPattern, String),
    /// `STREAM_PUBLIC_READ`
    #[error("STREAM_PUBLIC_READ has more than {STREAM_PUBLIC_PATTERNS_MAX} patterns")]
    ManyPublic,
    /// `STREAM_ACCESS`
    #[error("STREAM_ACCESS is {0:?}; it may be \"open\", or unset")]
    Mode(String),
    /// `AUTH_TOKEN`
    #[error("STREAM_SECRET and its synonym AUTH_TOKEN have different values: set one of them")]
    TwoSecrets,
}

/// The variables of access settings, as in the environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessVars<'a> {
    /// `STREAM_SECRET`
    pub secret: Option<&'a str>,
    /// `AUTH_TOKEN`, a synonym of `STREAM_SECRET`
    pub auth_token: Option<&'a str>,
    /// `STREAM_TOKEN_KEYS`
    pub keys: Option<&'a str>,
    /// `STREAM_PUBLIC_READ`
    pub public: Option<&'a str>,
    /// `STREAM_ACCESS`
    pub access: Option<&'a str>,
}

/// The clients that may use streams without a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// All clients, by the operator's setting.
    Open,
    /// Programs on this machine: the server is in local mode.
    Local,
    /// None; the secret or a token is needed.
    Guarded,
    /// None, and no credential suffices: there is neither a secret nor a key.
    Closed,
}

impl AccessMode {
    /// The mode as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Local => "local",
            Self::Guarded => "guarded",
            Self::Closed => "closed",
        }
    }

    /// The mode as the server states it at its start.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::Open => "streams are open to everybody (STREAM_ACCESS=open)",
            Self::Local => {
                "streams are open to programs of this machine only; STREAM_SECRET closes them"
            }
            Self::Guarded => "streams are open to holders of STREAM_SECRET or of a stream token",
            Self::Closed => {
                "streams are closed: set STREAM_SECRET, or STREAM_ACCESS=open to open them to \
                 everybody"
            }
        }
    }
}

impl AccessVars<'_> {
    /// The secret, under either of its names.
    pub(super) fn secret(&self) -> Result<Option<&str>, InvalidAccess> {
        let known = |text: &&str| !text.is_empty();
        match (self.secret.filter(known), self.auth_token.filter(known)) {
            (Some(secret), Some(other)) if secret != other => Err(InvalidAccess::TwoSecrets),
            (secret, other) => Ok(secret.or(other)),
        }
    }
}
