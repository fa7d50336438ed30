//! Access control: decides which principal may do what with which stream.
//!
//! The holder of the secret may do everything. Holders of tokens may do what theirs say. Everybody
//! may read the streams that the operator named for that. A server without secret and keys is
//! closed, unless its operator opens it (`STREAM_ACCESS=open`) or it serves its own machine only.

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

/// Who may do what.
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

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// A client who need not say.
    Anonymous,
    /// The holder of a token.
    Token(ClientId),
    /// The holder of the secret.
    Operator,
}

impl Principal {
    /// Whose requests are counted together: those of a token, else those of an address. The
    /// operator's are not.
    pub fn client(self, address: impl FnOnce() -> Option<ClientId>) -> Option<ClientId> {
        match self {
            Self::Anonymous => address(),
            Self::Token(client) => Some(client),
            Self::Operator => None,
        }
    }
}

impl Access {
    /// Reads the settings; what is empty counts as unset. Without keys for tokens, the secret
    /// yields one.
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

    /// The same on a server that is in local mode, or is not.
    #[must_use]
    pub const fn in_local_mode(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// Who may use streams without a credential. A secret or a key closes streams, whatever else
    /// is set.
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

    /// Whether the sender of a request may do everything without a credential.
    pub fn is_open_to(&self, head: &Parts) -> bool {
        match self.access_mode() {
            AccessMode::Open => true,
            AccessMode::Local => Exposure::of(head) == Exposure::Local,
            AccessMode::Guarded | AccessMode::Closed => false,
        }
    }

    /// Whether everybody may read the stream.
    pub fn is_public(&self, name: &StreamName) -> bool {
        self.access_mode() == AccessMode::Open
            || self.public.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether the request carries the secret, if the server is not open.
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

    /// Which streams' work a worker may claim with the token that it sends.
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

    /// Who asks, if they may do with the stream what they ask for.
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
        // A fork shows all that its source has. What names none is refused with the request.
        let source = (head.method == Method::PUT).then(|| forked_from(&head.headers));
        if let Some(Some(source)) = source
            && !may(Need::Read, &source)
        {
            let detail = "the token does not allow to read the source of the fork (`read`)";
            return Err(forbidden(detail));
        }
        Ok(Principal::Token(claims.client(token)))
    }

    /// The refusal of a credential. Where none could do, it names what the operator may set.
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

/// What a request does to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    Write,
    Manage,
}

impl Need {
    /// What is no method of streams is refused later; until then it may as little as any.
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
    /// What the streams have to match.
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

/// The secret, as what it is compared with: hashes have one length, so the comparison takes the
/// same time for every token.
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

/// It is never shown.
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

/// What opens streams, which is never the publish secret.
const TOKEN_HINT: &str = "Send the server's STREAM_SECRET, or a token of `pmx stream-token` for \
    this stream, as a bearer token.";

/// The one bearer token of a request's headers, if there is any `Authorization`.
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

/// The token of the query, for an EventSource can't set headers.
fn token_in(uri: &Uri) -> Result<Option<String>, Problem> {
    // Most have none, and then nothing has to be decoded.
    let query = uri.query().unwrap_or_default();
    if !query.contains("token") && !query.contains('%') {
        return Ok(None);
    }
    let query = Query::of(uri).and_then(|query| query.one("token"));
    query.map_err(|error| Problem::new(Code::StreamRequest, error.to_string()))
}

/// Whether an address carries a token, be it a good one or not.
pub(crate) fn has_token(uri: &Uri) -> bool {
    !matches!(token_in(uri), Ok(None))
}

#[cfg(test)]
mod tests;
