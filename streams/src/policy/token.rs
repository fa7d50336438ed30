//! Tokens that open some streams only: JSON Web Tokens (RFC 7519), signed with HS256 (RFC 7518,
//! section 3.2), and nothing else of that family.
//!
//! What others have to make of a text before they know who wrote it is where such tokens went
//! wrong before: here the signature is checked first, over the bytes as they came, and only what
//! holders of a key wrote is read at all. The header has to be the one that there is, so that no
//! token chooses how it is checked.

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

/// The keys of an operator: the first signs, each of them verifies. So a key is replaced by
/// putting another before it, and taking it away when its last token has ended.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Vec<u8>>);

/// Keys that are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKeys {
    /// RFC 7518 wants as many bytes as the hash has, or the key is guessed from a token.
    #[error("key {0} of tokens is shorter than {STREAM_JWT_KEY_BYTES_MIN} bytes")]
    Short(usize),
    /// Each costs a hash for each wrong token.
    #[error("there are more than {STREAM_JWT_KEYS_MAX} keys of tokens")]
    Many,
}

/// What makes another key of the secret, so that a client that issues tokens need not hold the
/// secret.
const DERIVATION: &[u8] = b"pmx-sync stream tokens v1";

impl Keys {
    /// Reads a list with commas. The bytes of the text are the key, as libraries take it.
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

    /// The keys of an operator: those of the list, or the one of the secret if there are none.
    pub fn of(secret: Option<&str>, list: Option<&str>) -> Result<Self, InvalidKeys> {
        let keys = Self::parse(list.unwrap_or_default())?;
        match secret {
            Some(secret) if keys.is_empty() => Ok(Self::of_secret(secret)),
            Some(_) | None => Ok(keys),
        }
    }

    /// The one key that follows from the secret: the HMAC-SHA-256 of a fixed text, in lower-case
    /// hexadecimal digits. None follows from a short secret: its tokens could be used to guess it.
    fn of_secret(secret: &str) -> Self {
        if secret.len() < STREAM_JWT_KEY_BYTES_MIN {
            return Self::default();
        }
        let mac = mac(secret.as_bytes(), DERIVATION).finalize();
        let key = HEXLOWER.encode(&mac.into_bytes());
        Self(vec![key.into_bytes()])
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a token; none without a key.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let key = self.0.first()?;
        let body = serde_json::to_vec(claims).ok()?;
        let body = BASE64URL_NOPAD.encode(&body);
        let signed = format!("{}.{body}", BASE64URL_NOPAD.encode(HEADER));
        let mac = mac(key, signed.as_bytes()).finalize();
        let mac = BASE64URL_NOPAD.encode(&mac.into_bytes());
        Some(format!("{signed}.{mac}"))
    }

    /// What a token says, if it counts at this moment.
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
        let claims: Written =
            serde_json::from_slice(&decoded(body)?).map_err(|_| Refused::Invalid)?;
        claims.read(now)
    }

    /// Whether one of the keys signed this. All are tried, whichever it was.
    fn signed(&self, signed: &[u8], tag: &[u8]) -> bool {
        let tried = self.0.iter().map(|key| {
            // Compares in constant time.
            mac(key, signed).verify_slice(tag).is_ok()
        });
        tried.fold(false, |any, one| any | one)
    }
}

/// Keys are never shown.
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

/// Strict: one text for the same bytes.
fn decoded(part: &[u8]) -> Result<Vec<u8>, Refused> {
    BASE64URL_NOPAD.decode(part).map_err(|_| Refused::Invalid)
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is none of these keys', or does not say what it has to. It tells no more.
    #[error("the request carries no valid token")]
    Invalid,
    /// It counted once.
    #[error("the token has expired")]
    Expired,
}

/// What its holder may do with streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a word of a scope")]
pub struct Scope {
    /// GET and HEAD, and naming it as the source of a fork.
    pub read: bool,
    /// POST: append and close.
    pub write: bool,
    /// PUT and DELETE.
    pub manage: bool,
    /// Claiming the work of a subscription.
    pub claim: bool,
}

impl Scope {
    /// Reads words with a space between (RFC 6749, section 3.3), each at most once.
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

impl fmt::Display for Scope {
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

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    #[serde(rename = "sub")]
    streams: Pattern,
    scope: Scope,
    #[serde(rename = "exp")]
    expires: u64,
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Claims that no token may make.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidClaims {
    /// The name or pattern is none.
    #[error("the stream of a token: {0}")]
    Streams(#[from] InvalidPattern),
    /// The scope is none.
    #[error("the scope of a token is made of read, write, manage and claim, each at most once")]
    Scope,
    /// It would count for ever, or not at all.
    #[error("a token counts for 1 second to {} days", STREAM_JWT_TIME_MAX.as_secs() / 86_400)]
    Time,
    /// The token would be too long.
    #[error("the token would be longer than {STREAM_JWT_BYTES_MAX} bytes")]
    Long,
}

impl Claims {
    /// What is to be said: which streams, what for, until when, and who its holder is if that
    /// shall be told apart.
    pub fn new(
        streams: &str,
        scope: &str,
        now: Timestamp,
        time: Duration,
        id: Option<String>,
    ) -> Result<Self, InvalidClaims> {
        let streams = Pattern::parse(streams)?;
        let scope = Scope::parse(scope)?;
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

    /// Seconds since the Unix epoch at which it ends.
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// What its holder may do.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The streams that it is about.
    pub const fn streams(&self) -> &Pattern {
        &self.streams
    }

    /// Whether it is about this stream.
    pub fn covers(&self, name: &StreamName) -> bool {
        self.streams.matches(name)
    }

    /// Who its holder is: tokens with the same `jti` are one client's, others are each their own.
    pub(super) fn client(&self, token: &[u8]) -> ClientId {
        match &self.id {
            Some(id) => ClientId::of("token id", id.as_bytes()),
            None => ClientId::of("token", token),
        }
    }
}

/// Bytes of a token beside its stream and its id.
const OTHER_BYTES_MAX: usize = 256;

/// A client, without what they are called: names and addresses are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId([u8; 16]);

impl ClientId {
    /// A client that has this address. Who has one of IPv6 has 2^64 of them.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of("address", &address.octets()),
            IpAddr::V6(address) => Self::of("address", address.octets().split_at(8).0),
        }
    }

    /// A stream.
    pub fn of_stream(name: &StreamName) -> Self {
        Self::of("stream", name.as_str().as_bytes())
    }

    /// A client that is called so among those of a kind.
    pub fn of(kind: &str, called: &[u8]) -> Self {
        let text = [kind.as_bytes(), b"\0", called].concat();
        let hash = Hash::derived("pmx-sync 2026-11 stream client v1", &text);
        let mut id = [0; 16];
        id.copy_from_slice(hash.as_bytes().split_at(16).0);
        Self(id)
    }
}

/// Claims as they travel. Who it is for is not for this server to know, so a token that says it is
/// refused (RFC 7519, section 4.1.3); other claims say nothing here.
#[derive(Deserialize)]
struct Written {
    sub: String,
    scope: String,
    exp: u64,
    nbf: Option<u64>,
    jti: Option<String>,
    aud: Option<serde::de::IgnoredAny>,
}

impl Written {
    fn read(self, now: Timestamp) -> Result<Claims, Refused> {
        let now = seconds(now);
        let leeway = STREAM_JWT_LEEWAY.as_secs();
        let latest = now.saturating_add(STREAM_JWT_TIME_MAX.as_secs());
        let is_early = self.nbf.is_some_and(|nbf| nbf > now.saturating_add(leeway));
        if self.aud.is_some() || is_early || self.exp > latest.saturating_add(leeway) {
            return Err(Refused::Invalid);
        }
        let claims = Claims {
            streams: Pattern::parse(&self.sub).map_err(|_| Refused::Invalid)?,
            scope: Scope::parse(&self.scope).map_err(|_| Refused::Invalid)?,
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
