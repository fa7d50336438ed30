//! Stream tokens: JSON Web Tokens (RFC 7519) with access to some streams, signed with HS256 (RFC
//! 7518, section 3.2) only.
//!
//! Past vulnerabilities of such tokens are in the parsing of unauthenticated text. So the verifier
//! checks the signature first, over the received bytes, and parses only authenticated text. It
//! accepts one header only, so that a token cannot choose its algorithm.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac as _};
use pmx_core::hash::Hash;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;

use crate::StreamName;
use crate::limits::{
    STREAM_JWT_BYTES_MAX, STREAM_JWT_KEY_BYTES_MIN, STREAM_JWT_KEYS_MAX, STREAM_JWT_LEEWAY,
    STREAM_JWT_TIME_MAX,
};
use crate::subscription::{InvalidPattern, Pattern};

/// The operator's keys: the first signs, and each of them verifies. An operator rotates keys by
/// putting a new one first, and removes the old one once its last token has expired.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Vec<u8>>);

/// Why the server rejects keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKeys {
    /// A key is shorter than the hash (RFC 7518), so that it could be guessed from a token.
    #[error("key {0} of tokens is shorter than {STREAM_JWT_KEY_BYTES_MIN} bytes")]
    Short(usize),
    /// There are too many keys: each costs a hash for each wrong token.
    #[error("there are more than {STREAM_JWT_KEYS_MAX} keys of tokens")]
    Many,
}

/// Context of the key that is derived from the secret, so that an issuer of tokens does not need
/// the secret.
const DERIVATION: &[u8] = b"pmx-sync stream tokens v1";

impl Keys {
    /// Parses a comma-separated list. The bytes of the text are the key, as in other libraries.
    fn parse(list: &str) -> Result<Self, InvalidKeys> {
        let keys = list.split(',').map(str::trim).filter(|key| !key.is_empty());
        let keys: Vec<Vec<u8>> = keys.map(|key| key.as_bytes().to_vec()).collect();
        if keys.len() > STREAM_JWT_KEYS_MAX {
            return Err(InvalidKeys::Many);
        }
        let is_short = |key: &Vec<u8>| key.len() < STREAM_JWT_KEY_BYTES_MIN;
        match keys.iter().position(is_short) {
            Some(at) => Err(InvalidKeys::Short(at + 1)),
            None => Ok(Self(keys)),
        }
    }

    /// The keys of the list, or the key that is derived from the secret if the list is empty.
    pub fn of(secret: Option<&str>, list: Option<&str>) -> Result<Self, InvalidKeys> {
        let keys = Self::parse(list.unwrap_or_default())?;
        match secret {
            Some(secret) if keys.is_empty() => Ok(Self::of_secret(secret)),
            Some(_) | None => Ok(keys),
        }
    }

    /// The key that is derived from the secret: the HMAC-SHA-256 of a fixed text, in lower-case
    /// hexadecimal digits. A short secret has none, because it could be guessed from a token.
    fn of_secret(secret: &str) -> Self {
        if secret.len() < STREAM_JWT_KEY_BYTES_MIN {
            return Self::default();
        }
        let mac = mac(secret.as_bytes(), DERIVATION).finalize();
        let key = HEXLOWER.encode(&mac.into_bytes());
        Self(vec![key.into_bytes()])
    }

    /// Whether there are no keys.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Signs a token; `None` without a key.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let key = self.0.first()?;
        let body = serde_json::to_vec(claims).ok()?;
        let body = BASE64URL_NOPAD.encode(&body);
        let signed = format!("{}.{body}", BASE64URL_NOPAD.encode(HEADER));
        let mac = mac(key, signed.as_bytes()).finalize();
        let mac = BASE64URL_NOPAD.encode(&mac.into_bytes());
        Some(format!("{signed}.{mac}"))
    }

    /// Verifies a token and returns its claims.
    pub fn verify(&self, token: &[u8], now: Timestamp) -> Result<Claims, Refused> {
        if token.len() > STREAM_JWT_BYTES_MAX {
            return Err(Refused::Invalid);
        }
        let mut parts = token.split(|&byte| byte == b'.');
        let (Some(header), Some(body), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Invalid);
        };
        let signed = token.get(..header.len() + 1 + body.len());
        let signed = signed.ok_or(Refused::Invalid)?;
        if !self.signed(signed, &decoded(mac)?) {
            return Err(Refused::Invalid);
        }
        let header = decoded(header)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| Refused::Invalid)?;
        if header.alg != "HS256" || header.typ != "JWT" {
            return Err(Refused::Invalid);
        }
        let claims: RawClaims =
            serde_json::from_slice(&decoded(body)?).map_err(|_| Refused::Invalid)?;
        claims.validate(now)
    }

    /// Whether one of the keys signed this. It tries all keys, in constant time.
    fn signed(&self, signed: &[u8], tag: &[u8]) -> bool {
        let tried = self.0.iter().map(|key| {
            // Compares in constant time.
            mac(key, signed).verify_slice(tag).is_ok()
        });
        tried.fold(false, |any, one| any | one)
    }
}

/// Hides the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

fn mac(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    mac.expect("HMAC takes keys of any length")
        .chain_update(text)
}

const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
}

/// Decodes strictly: each value has one encoding.
fn decoded(part: &[u8]) -> Result<Vec<u8>, Refused> {
    BASE64URL_NOPAD.decode(part).map_err(|_| Refused::Invalid)
}

/// Why the server rejects a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// No key signed it, or its claims are invalid. The error is not more specific on purpose.
    #[error("the request carries no valid token")]
    Invalid,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
}

/// The access of a token's holder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a word of a scope")]
pub struct TokenScope {
    /// GET and HEAD, and use as the source of a fork.
    pub read: bool,
    /// POST: append and close.
    pub write: bool,
    /// PUT and DELETE.
    pub manage: bool,
    /// Claiming the work of a subscription.
    pub claim: bool,
}

impl TokenScope {
    /// Parses words that are separated by a space (RFC 6749, section 3.3), each at most once.
    pub fn parse(text: &str) -> Result<Self, InvalidClaims> {
        let mut scope = Self::default();
        for word in text.split(' ') {
            let field = match word {
                "read" => &mut scope.read,
                "write" => &mut scope.write,
                "manage" => &mut scope.manage,
                "claim" => &mut scope.claim,
                _ => return Err(InvalidClaims::Scope),
            };
            if std::mem::replace(field, true) {
                return Err(InvalidClaims::Scope);
            }
        }
        Ok(scope)
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.read, "read"),
            (self.write, "write"),
            (self.manage, "manage"),
            (self.claim, "claim"),
        ];
        let words = words.into_iter().filter(|(has, _)| *has);
        f.write_str(&words.map(|(_, word)| word).collect::<Vec<_>>().join(" "))
    }
}

impl Serialize for TokenScope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    #[serde(rename = "sub")]
    streams: Pattern,
    scope: TokenScope,
    #[serde(rename = "exp")]
    expires: u64,
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Why claims are invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidClaims {
    /// The name or pattern is invalid.
    #[error("the stream of a token: {0}")]
    Streams(#[from] InvalidPattern),
    /// The scope is invalid.
    #[error("the scope of a token is made of read, write, manage and claim, each at most once")]
    Scope,
    /// The lifetime is too long or zero.
    #[error("a token counts for 1 second to {} days", STREAM_JWT_TIME_MAX.as_secs() / 86_400)]
    Time,
    /// The token would be too long.
    #[error("the token would be longer than {STREAM_JWT_BYTES_MAX} bytes")]
    Long,
}

impl Claims {
    /// Claims for streams, with a scope, a lifetime, and optionally an id of the holder: tokens
    /// with one id share a rate.
    pub fn new(
        streams: &str,
        scope: &str,
        now: Timestamp,
        time: Duration,
        id: Option<String>,
    ) -> Result<Self, InvalidClaims> {
        let streams = Pattern::parse(streams)?;
        let scope = TokenScope::parse(scope)?;
        if time < Duration::from_secs(1) || time > STREAM_JWT_TIME_MAX {
            return Err(InvalidClaims::Time);
        }
        let bytes = streams.as_str().len() + id.as_ref().map_or(0, String::len);
        if bytes * 4 / 3 + OTHER_BYTES_MAX > STREAM_JWT_BYTES_MAX {
            return Err(InvalidClaims::Long);
        }
        Ok(Self {
            streams,
            scope,
            expires: seconds(now).saturating_add(time.as_secs()),
            id,
        })
    }

    /// The expiry in seconds since the Unix epoch.
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// The scope.
    pub const fn scope(&self) -> TokenScope {
        self.scope
    }

    /// The pattern of the streams.
    pub const fn streams(&self) -> &Pattern {
        &self.streams
    }

    /// Whether the claims include a stream.
    pub fn covers(&self, name: &StreamName) -> bool {
        self.streams.matches(name)
    }

    /// The holder: tokens with the same `jti` belong to one client, and each other token to its
    /// own.
    pub(super) fn client(&self, token: &[u8]) -> ClientId {
        match &self.id {
            Some(id) => ClientId::of("token id", id.as_bytes()),
            None => ClientId::of("token", token),
        }
    }
}

/// Most bytes of a token without its stream and its id.
const OTHER_BYTES_MAX: usize = 256;

/// Pseudonymous id of a client or a stream: a hash, so that names and addresses are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId([u8; 16]);

impl ClientId {
    /// The client with an address. An IPv6 client usually has 2^64 addresses, which count as one.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of("address", &address.octets()),
            IpAddr::V6(address) => Self::of("address", address.octets().split_at(8).0),
        }
    }

    /// The id of a stream.
    pub fn of_stream(name: &StreamName) -> Self {
        Self::of("stream", name.as_str().as_bytes())
    }

    /// The id of a name within a kind.
    pub fn of(kind: &str, name: &[u8]) -> Self {
        let text = [kind.as_bytes(), b"\0", name].concat();
        let hash = Hash::derived("pmx-sync 2026-11 stream client v1", &text);
        let mut id = [0; 16];
        id.copy_from_slice(hash.as_bytes().split_at(16).0);
        Self(id)
    }
}

/// Claims as encoded. The server has no audience, so it rejects a token with `aud` (RFC 7519,
/// section 4.1.3); it ignores other claims.
#[derive(Deserialize)]
struct RawClaims {
    sub: String,
    scope: String,
    exp: u64,
    nbf: Option<u64>,
    jti: Option<String>,
    aud: Option<serde::de::IgnoredAny>,
}

impl RawClaims {
    fn validate(self, now: Timestamp) -> Result<Claims, Refused> {
        let now = seconds(now);
        let leeway = STREAM_JWT_LEEWAY.as_secs();
        let latest = now.saturating_add(STREAM_JWT_TIME_MAX.as_secs());
        let is_early = self.nbf.is_some_and(|nbf| nbf > now.saturating_add(leeway));
        if self.aud.is_some() || is_early || self.exp > latest.saturating_add(leeway) {
            return Err(Refused::Invalid);
        }
        let claims = Claims {
            streams: Pattern::parse(&self.sub).map_err(|_| Refused::Invalid)?,
            scope: TokenScope::parse(&self.scope).map_err(|_| Refused::Invalid)?,
            expires: self.exp,
            id: self.jti,
        };
        if self.exp.saturating_add(leeway) <= now {
            return Err(Refused::Expired);
        }
        Ok(claims)
    }
}

const fn seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

#[cfg(test)]
mod tests;
