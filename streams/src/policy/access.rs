//! Access control: decides which principal may do what with which stream.
//!
//! The holder of the secret has full access. The holder of a token has the access of its claims.
//! Every client may read the streams that the operator made public. A server without secret and
//! keys is closed, unless its operator opens it (`STREAM_ACCESS=open`) or it is in local mode.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use pmx_core::code::Code;
use pmx_core::exposure::Exposure;
use pmx_core::hash::Hash;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use subtle::ConstantTimeEq as _;

use super::access_mode::{AccessMode, AccessVars, InvalidAccess};
use super::token::{ClientId, Keys, Refused};
use crate::StreamName;
use crate::http::{Query, forked_from};
use crate::limits::{STREAM_JWT_BYTES_MAX, STREAM_PUBLIC_PATTERNS_MAX};
use crate::subscription::Pattern;

/// The access settings of a server.
#[derive(Debug, Clone, Default)]
pub struct Access {
    secret: Option<Secret>,
    keys: Keys,
    public: Vec<Pattern>,
    /// Whether `STREAM_ACCESS` is `open`.
    opened: bool,
    /// Whether the server is in local mode.
    local: bool,
}

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// A client without a credential, where none is needed.
    Anonymous,
    /// The holder of a token.
    Token(ClientId),
    /// The holder of the secret.
    Operator,
}

impl Principal {
    /// The client whose rate the request counts for: the token's, else the address's. The operator
    /// has no rate.
    pub fn client(self, address: impl FnOnce() -> Option<ClientId>) -> Option<ClientId> {
        match self {
            Self::Anonymous => address(),
            Self::Token(client) => Some(client),
            Self::Operator => None,
        }
    }
}

impl Access {
    /// Parses the settings; an empty one counts as unset. Without token keys, the key is derived
    /// from the secret.
    pub fn parse(vars: AccessVars<'_>) -> Result<Self, InvalidAccess> {
        let secret = vars.secret()?;
        let keys = Keys::of(secret, vars.keys)?;
        let public = vars.public.unwrap_or_default().split(',').map(str::trim);
        let public = public.filter(|pattern| !pattern.is_empty()).map(|pattern| {
            let parsed = Pattern::parse(pattern);
            parsed.map_err(|error| InvalidAccess::Public(error, pattern.to_owned()))
        });
        let public: Vec<Pattern> = public.collect::<Result<_, _>>()?;
        if public.len() > STREAM_PUBLIC_PATTERNS_MAX {
            return Err(InvalidAccess::ManyPublic);
        }
        let opened = match vars.access.unwrap_or_default() {
            "" => false,
            "open" => true,
            other => return Err(InvalidAccess::Mode(other.to_owned())),
        };
        Ok(Self {
            secret: secret.map(Secret::new),
            keys,
            public,
            opened,
            local: false,
        })
    }

    /// The same, on a server in local mode or not.
    #[must_use]
    pub const fn in_local_mode(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// The access mode. A secret or a key closes streams, whatever the other settings are.
    pub const fn access_mode(&self) -> AccessMode {
        match (
            self.secret.is_none() && self.keys.is_empty(),
            self.opened,
            self.local,
        ) {
            (false, _, _) => AccessMode::Guarded,
            (true, true, _) => AccessMode::Open,
            (true, false, true) => AccessMode::Local,
            (true, false, false) => AccessMode::Closed,
        }
    }

    /// Whether a request has full access without a credential.
    pub fn is_open_to(&self, head: &Parts) -> bool {
        match self.access_mode() {
            AccessMode::Open => true,
            AccessMode::Local => Exposure::of(head) == Exposure::Local,
            AccessMode::Guarded | AccessMode::Closed => false,
        }
    }

    /// Whether every client may read the stream.
    pub fn is_public(&self, name: &StreamName) -> bool {
        self.access_mode() == AccessMode::Open
            || self.public.iter().any(|pattern| pattern.matches(name))
    }

    /// Refuses a request without the secret, unless the server is open to it.
    pub fn authorise(&self, head: &Parts, now: Timestamp) -> Result<(), Problem> {
        if self.is_open_to(head) {
            return Ok(());
        }
        match bearer(&head.headers)? {
            Some(token) if self.is_secret(token) => Ok(()),
            Some(token) => {
                self.keys
                    .verify(token, now)
                    .map_err(|why| self.refused(why))?;
                Err(forbidden("this is for the holder of STREAM_SECRET only"))
            }
            None => Err(self.refused(Refused::Invalid)),
        }
    }

    /// The streams whose work a worker may claim with its credential.
    pub fn claim(&self, head: &Parts, now: Timestamp) -> Result<Claimable, Problem> {
        if self.is_open_to(head) {
            return Ok(Claimable::All);
        }
        let token = bearer(&head.headers)?.ok_or_else(|| self.refused(Refused::Invalid))?;
        if self.is_secret(token) {
            return Ok(Claimable::All);
        }
        let claims = self
            .keys
            .verify(token, now)
            .map_err(|why| self.refused(why))?;
        if claims.scope().claim {
            Ok(Claimable::Within(claims.streams().clone()))
        } else {
            Err(forbidden(
                "the token does not allow to claim work: its scope lacks `claim`",
            ))
        }
    }

    /// The sender of a request, if it may do what it requests.
    pub fn admit(
        &self,
        head: &Parts,
        name: &StreamName,
        now: Timestamp,
    ) -> Result<Principal, Problem> {
        if self.is_open_to(head) {
            return Ok(Principal::Anonymous);
        }
        let (header, query) = (bearer(&head.headers)?, token_in(&head.uri)?);
        if query.is_some() && head.method != Method::GET {
            let detail = "only GET takes a token in the query";
            return Err(Problem::new(Code::TokenInQuery, detail));
        }
        let need = Need::of(&head.method);
        let token = match (header, &query) {
            (Some(token), None) if self.is_secret(token) => return Ok(Principal::Operator),
            (Some(token), None) => token,
            (None, Some(token)) => token.as_bytes(),
            (None, None) if need == Need::Read && self.is_public(name) => {
                return Ok(Principal::Anonymous);
            }
            // RFC 6750, section 2: one way at a time.
            (None, None) | (Some(_), Some(_)) => return Err(self.refused(Refused::Invalid)),
        };
        let claims = self
            .keys
            .verify(token, now)
            .map_err(|why| self.refused(why))?;
        let may = |need, name: &StreamName| {
            let allowed = match need {
                Need::Read => claims.scope().read,
                Need::Write => claims.scope().write,
                Need::Manage => claims.scope().manage,
            };
            (allowed && claims.covers(name)) || (need == Need::Read && self.is_public(name))
        };
        if !may(need, name) {
            let (verb, scope) = (need.verb(), need.scope());
            let detail = format!("the token does not allow to {verb} this stream (`{scope}`)");
            return Err(forbidden(detail));
        }
        // A fork has all messages of its source. An invalid source is refused later.
        let source = (head.method == Method::PUT).then(|| forked_from(&head.headers));
        if let Some(Some(source)) = source
            && !may(Need::Read, &source)
        {
            let detail = "the token does not allow to read the source of the fork (`read`)";
            return Err(forbidden(detail));
        }
        Ok(Principal::Token(claims.client(token)))
    }

    /// The refusal of a credential. If no credential suffices, it names the missing setting.
    fn refused(&self, why: Refused) -> Problem {
        match self.access_mode() {
            AccessMode::Guarded => refused(why),
            AccessMode::Open | AccessMode::Local | AccessMode::Closed => {
                let detail = "the server has no STREAM_SECRET, so its streams are closed";
                Problem::new(Code::StreamsClosed, detail)
            }
        }
    }

    fn is_secret(&self, token: &[u8]) -> bool {
        self.secret.as_ref().is_some_and(|secret| secret.is(token))
    }
}

/// The access that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    Write,
    Manage,
}

impl Need {
    /// Other methods are refused later, and until then need the most access.
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            Method::POST => Self::Write,
            _ => Self::Manage,
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "append to or close",
            Self::Manage => "create or delete",
        }
    }

    /// The word in a token's scope.
    const fn scope(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Manage => "manage",
        }
    }
}

/// The streams whose work a worker may claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimable {
    /// All streams.
    All,
    /// Those that match.
    Within(Pattern),
}

impl Claimable {
    /// The pattern that the streams have to match.
    pub const fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::All => None,
            Self::Within(pattern) => Some(pattern),
        }
    }
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Forbidden, detail)
}

/// The secret's hash. All hashes have one length, so the comparison takes the same time for every
/// token.
#[derive(Clone)]
struct Secret(Hash);

impl Secret {
    fn new(text: &str) -> Self {
        Self(Hash::of(text.as_bytes()))
    }

    fn is(&self, token: &[u8]) -> bool {
        let given = Hash::of(token);
        bool::from(given.as_bytes().ct_eq(self.0.as_bytes()))
    }
}

/// Hides the secret.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn refused(refused: Refused) -> Problem {
    let code = match refused {
        Refused::Invalid => Code::Unauthorised,
        Refused::Expired => Code::TokenExpired,
    };
    let mut problem = Problem::new(code, refused.to_string());
    TOKEN_HINT.clone_into(&mut problem.hint);
    problem
}

/// Hint for the credentials of streams, which never include the publish secret.
const TOKEN_HINT: &str = "Send the server's STREAM_SECRET, or a token of `pmx stream-token` for \
    this stream, as a bearer token.";

/// The bearer token of a request's headers, if there is an `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return Err(refused(Refused::Invalid)),
    };
    let parts = value.split_at_checked("Bearer ".len());
    let token = parts.and_then(|(scheme, token)| {
        let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
        let fits = !token.is_empty() && token.len() <= STREAM_JWT_BYTES_MAX;
        (is_bearer && fits).then_some(token)
    });
    token.map(Some).ok_or_else(|| refused(Refused::Invalid))
}

/// The token of the query: an EventSource can't set headers.
fn token_in(uri: &Uri) -> Result<Option<String>, Problem> {
    // Most queries have no token and need no decoding.
    let query = uri.query().unwrap_or_default();
    if !query.contains("token") && !query.contains('%') {
        return Ok(None);
    }
    let query = Query::of(uri).and_then(|query| query.one("token"));
    query.map_err(|error| Problem::new(Code::StreamRequest, error.to_string()))
}

/// Whether an address has a token, valid or not.
pub(crate) fn has_token(uri: &Uri) -> bool {
    !matches!(token_in(uri), Ok(None))
}

#[cfg(test)]
mod tests;
