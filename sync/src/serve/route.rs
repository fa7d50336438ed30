//! API routing: maps method and path to a route.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Uri};
use pmx_core::code::Code;
use pmx_core::id::{BlobId, PackId};
use pmx_core::limits::{EXACT_INTEGER_MAX, PART_BYTES};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;

use crate::domains::CustomHost;
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, JSON_BYTES_MAX};

/// Route of a request to the API host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiRoute {
    /// `POST /api/publish/begin`
    Begin,
    /// `POST /api/publish/commit`
    Commit,
    /// `POST /api/publish/begin` with JSON
    JsonBegin,
    /// `POST /api/publish/commit` with JSON
    JsonCommit,
    /// `POST /api/publish/upload`
    Upload,
    /// `POST /api/publish/rollback`
    Rollback,
    /// `PUT /api/publish/packs/<id>`
    Pack(PackId),
    /// `PUT /api/publish/blobs/<id>/<part>`
    Part(BlobId, u32),
    /// `POST /api/publish/resume`
    Resume,
    /// `DELETE /api/aliases/<name>`
    Alias(AliasName),
    /// `GET /api/aliases`
    Previews,
    /// `GET /api/domains`
    Domains,
    /// `POST /api/domains`
    AddDomain,
    /// `POST /api/domains/<host>/check`
    CheckDomain(CustomHost),
    /// `DELETE /api/domains/<host>`
    RemoveDomain(CustomHost),
    /// `GET /api/spaces`
    Spaces,
    /// `DELETE /api/spaces/<name>`
    DeleteSpace(SpaceName),
    /// `POST /api/spaces/<name>/gc`
    Collect(SpaceName),
    /// `POST /api/spaces/<name>/verify`
    Verify(SpaceName),
    /// `GET /api/spaces/<name>/retention`
    Retention(SpaceName),
    /// `PUT /api/spaces/<name>/retention`
    SetRetention(SpaceName),
    /// `GET /api/deploys`
    Deploys,
    /// `GET /api/deploys/<n>`
    Deploy(u64),
    /// `DELETE /api/deploys/<n>`
    RemoveDeploy(u64),
    /// `PUT /api/deploys/<n>/pin`
    Pin(u64),
    /// `DELETE /api/deploys/<n>/pin`
    Unpin(u64),
    /// `GET /api/deploys/<n>/file`
    File(u64),
    /// `GET /api/diff`, `GET /api/deploys/<a>/diff/<b>`
    Diff(Option<(u64, u64)>),
    /// `GET /api/nodes`
    Nodes,
    /// `GET /healthz`
    Health,
    /// `GET /`
    Home,
}

impl ApiRoute {
    /// Reads the head of a request. The media type of its body decides between JSON and envelopes.
    pub(crate) fn of_head(head: &Parts) -> Result<Self, Problem> {
        let route = Self::of(&head.method, &head.uri)?;
        Ok(match route {
            Self::Begin if is_json(head) => Self::JsonBegin,
            Self::Commit if is_json(head) => Self::JsonCommit,
            route => route,
        })
    }

    /// Reads method and path.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Result<Self, Problem> {
        let (route, allowed) = Self::at(method, uri)?;
        let is_allowed = *method == allowed || (allowed == Method::GET && *method == Method::HEAD);
        if is_allowed {
            return Ok(route);
        }
        let detail = format!(
            "{} takes {allowed}, not {method}",
            uri.path().escape_debug()
        );
        Err(Problem::new(Code::MethodNotAllowed, detail).with_items(vec![allowed.to_string()]))
    }

    /// The route at a path, and its method. The method of the request decides where a path has
    /// several routes.
    fn at(method: &Method, uri: &Uri) -> Result<(Self, Method), Problem> {
        let segments: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        Ok(match segments[..] {
            ["healthz"] => (Self::Health, Method::GET),
            [""] => (Self::Home, Method::GET),
            ["api", "publish", "begin"] => (Self::Begin, Method::POST),
            ["api", "publish", "commit"] => (Self::Commit, Method::POST),
            ["api", "publish", "upload"] => (Self::Upload, Method::POST),
            ["api", "publish", "rollback"] => (Self::Rollback, Method::POST),
            ["api", "publish", "resume"] => (Self::Resume, Method::POST),
            ["api", "publish", "packs", id] => (
                Self::Pack(PackId::from_hex(id).map_err(|e| invalid_hash(&e))?),
                Method::PUT,
            ),
            ["api", "publish", "blobs", id, part] => {
                let id = BlobId::from_hex(id).map_err(|e| invalid_hash(&e))?;
                (Self::Part(id, number(part)?), Method::PUT)
            }
            ["api", "aliases"] => (Self::Previews, Method::GET),
            ["api", "aliases", name] => (Self::Alias(AliasName::parse(name)?), Method::DELETE),
            ["api", "domains"] if *method == Method::POST => (Self::AddDomain, Method::POST),
            ["api", "domains"] => (Self::Domains, Method::GET),
            ["api", "domains", host] => {
                (Self::RemoveDomain(CustomHost::parse(host)?), Method::DELETE)
            }
            ["api", "domains", host, "check"] => {
                (Self::CheckDomain(CustomHost::parse(host)?), Method::POST)
            }
            ["api", "spaces"] => (Self::Spaces, Method::GET),
            ["api", "spaces", name] => (Self::DeleteSpace(SpaceName::parse(name)?), Method::DELETE),
            ["api", "spaces", name, "gc"] => (Self::Collect(SpaceName::parse(name)?), Method::POST),
            ["api", "spaces", name, "verify"] => {
                (Self::Verify(SpaceName::parse(name)?), Method::POST)
            }
            ["api", "spaces", name, "retention"] if *method == Method::PUT => {
                (Self::SetRetention(SpaceName::parse(name)?), Method::PUT)
            }
            ["api", "spaces", name, "retention"] => {
                (Self::Retention(SpaceName::parse(name)?), Method::GET)
            }
            ["api", "deploys"] => (Self::Deploys, Method::GET),
            ["api", "deploys", n] if *method == Method::DELETE => {
                (Self::RemoveDeploy(number(n)?), Method::DELETE)
            }
            ["api", "deploys", n] => (Self::Deploy(number(n)?), Method::GET),
            ["api", "deploys", n, "pin"] if *method == Method::DELETE => {
                (Self::Unpin(number(n)?), Method::DELETE)
            }
            ["api", "deploys", n, "pin"] => (Self::Pin(number(n)?), Method::PUT),
            ["api", "deploys", n, "file"] => (Self::File(number(n)?), Method::GET),
            ["api", "deploys", a, "diff", b] => {
                (Self::Diff(Some((number(a)?, number(b)?))), Method::GET)
            }
            ["api", "diff"] => (Self::Diff(None), Method::GET),
            ["api", "nodes"] => (Self::Nodes, Method::GET),
            _ => {
                let detail = format!("the API has no {}", uri.path().escape_debug());
                return Err(Problem::new(Code::NotFound, detail));
            }
        })
    }

    /// Whether the route needs no token.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Home)
    }

    /// Most bytes of a body.
    pub(crate) const fn body_bytes_max(&self) -> usize {
        match self {
            Self::Begin | Self::Pack(_) | Self::Part(..) => BODY_BYTES_MAX,
            Self::JsonBegin | Self::JsonCommit => JSON_BYTES_MAX,
            Self::Upload => PART_BYTES as usize,
            Self::Commit
            | Self::Rollback
            | Self::Resume
            | Self::AddDomain
            | Self::SetRetention(_) => HEAD_BYTES_MAX,
            Self::Alias(_)
            | Self::Previews
            | Self::Domains
            | Self::CheckDomain(_)
            | Self::RemoveDomain(_)
            | Self::Spaces
            | Self::DeleteSpace(_)
            | Self::Collect(_)
            | Self::Verify(_)
            | Self::Retention(_)
            | Self::Deploys
            | Self::Deploy(_)
            | Self::RemoveDeploy(_)
            | Self::Pin(_)
            | Self::Unpin(_)
            | Self::File(_)
            | Self::Diff(_)
            | Self::Nodes
            | Self::Health
            | Self::Home => 0,
        }
    }
}

fn is_json(head: &Parts) -> bool {
    let media = head.headers.get(CONTENT_TYPE);
    let media = media.and_then(|media| media.to_str().ok()).unwrap_or("");
    let essence = media.split(';').next().unwrap_or("");
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn invalid_hash(error: &pmx_core::hash::InvalidHash) -> Problem {
    Problem::new(Code::HashInvalid, error.to_string())
}

fn number<T: TryFrom<u64>>(text: &str) -> Result<T, Problem> {
    let shown: String = text.chars().take(40).collect();
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if text.is_empty() || !(is_plain || text == "0") {
        let detail = format!("{shown:?} is not a number");
        return Err(Problem::new(Code::RequestMalformed, detail));
    }
    let exact = text.parse().ok().filter(|&n| n <= EXACT_INTEGER_MAX);
    let exact = exact.ok_or_else(|| {
        let detail = format!("{shown} is above the limit of {EXACT_INTEGER_MAX}");
        Problem::new(Code::NumberTooLarge, detail)
    })?;
    T::try_from(exact).map_err(|_| {
        let detail = format!("{shown} is too large a number here");
        Problem::new(Code::RequestMalformed, detail)
    })
}

/// The query of an API request: each name at most once.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8();
            let value = value
                .map_err(|_| Problem::new(Code::RequestMalformed, "the query is not UTF-8"))?;
            if matches!(name, "token" | "access_token" | "secret" | "authorization") {
                let detail = format!("the query has a {name}");
                return Err(Problem::new(Code::TokenInQuery, detail));
            }
            if pairs.iter().any(|(known, _)| known == name) {
                let detail = format!("{name:?} is in the query twice");
                return Err(Problem::new(Code::RequestMalformed, detail));
            }
            pairs.push((name.to_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A text that the query may omit.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.find(name)
    }

    /// A number that the query may omit.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.find(name).map(number).transpose()
    }

    /// A required value, parsed.
    pub(crate) fn required<T, E: Into<Problem>>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Problem> {
        let value = self.find(name).ok_or_else(|| {
            Problem::new(Code::RequestMalformed, format!("the query lacks {name:?}"))
        })?;
        parse(value).map_err(Into::into)
    }

    /// The required space, which the first releases called a subdomain.
    pub(crate) fn space(&self) -> Result<SpaceName, Problem> {
        let name = self.find("space").or_else(|| self.find("subdomain"));
        let name =
            name.ok_or_else(|| Problem::new(Code::RequestMalformed, "the query lacks \"space\""))?;
        Ok(SpaceName::parse(name)?)
    }

    /// A required number.
    pub(crate) fn required_number(&self, name: &str) -> Result<u64, Problem> {
        self.required(name, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(method: &str, path: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match ApiRoute::of(&method, &path.parse().unwrap()) {
            Ok(route) => format!("{route:?}")
                .split('(')
                .next()
                .unwrap_or_default()
                .to_owned(),
            Err(problem) => problem.code.to_string(),
        }
    }

    #[test]
    fn route_of_each_method_and_path() {
        let id = "ab".repeat(32);
        for (method, path, expected) in [
            ("POST", "/api/publish/begin", "Begin"),
            ("GET", "/api/publish/begin", "E_METHOD_NOT_ALLOWED"),
            ("PUT", &format!("/api/publish/packs/{id}"), "Pack"),
            (
                "PUT",
                &format!("/api/publish/packs/{}", id.to_uppercase()),
                "E_HASH_INVALID",
            ),
            ("PUT", "/api/publish/packs/..", "E_HASH_INVALID"),
            ("PUT", &format!("/api/publish/blobs/{id}/3"), "Part"),
            (
                "PUT",
                &format!("/api/publish/blobs/{id}/03"),
                "E_REQUEST_MALFORMED",
            ),
            (
                "PUT",
                &format!("/api/publish/blobs/{id}/-1"),
                "E_REQUEST_MALFORMED",
            ),
            (
                "PUT",
                &format!("/api/publish/blobs/{id}/99999999999"),
                "E_REQUEST_MALFORMED",
            ),
            ("GET", "/api/deploys?space=x", "Deploys"),
            ("HEAD", "/api/deploys/7", "Deploy"),
            ("GET", "/api/deploys/9007199254740991", "Deploy"),
            ("GET", "/api/deploys/9007199254740992", "E_NUMBER_TOO_LARGE"),
            (
                "GET",
                "/api/deploys/1/diff/99999999999999999999",
                "E_NUMBER_TOO_LARGE",
            ),
            ("GET", "/api/deploys/", "E_REQUEST_MALFORMED"),
            ("GET", "/api/deploys/7/file?space=x&path=a", "File"),
            ("POST", "/api/deploys/7/file", "E_METHOD_NOT_ALLOWED"),
            ("GET", "/api/aliases?space=x", "Previews"),
            ("POST", "/api/aliases", "E_METHOD_NOT_ALLOWED"),
            ("GET", "/api/domains?space=x", "Domains"),
            ("POST", "/api/domains", "AddDomain"),
            ("POST", "/api/domains/docs.example.com/check", "CheckDomain"),
            ("DELETE", "/api/domains/docs.example.com", "RemoveDomain"),
            ("DELETE", "/api/domains/127.0.0.1", "E_DOMAIN_INVALID"),
            (
                "GET",
                "/api/domains/docs.example.com",
                "E_METHOD_NOT_ALLOWED",
            ),
            ("PUT", "/api/domains", "E_METHOD_NOT_ALLOWED"),
            ("GET", "/api/spaces", "Spaces"),
            ("GET", "/api/spaces?after=docs", "Spaces"),
            ("POST", "/api/spaces", "E_METHOD_NOT_ALLOWED"),
            ("DELETE", "/api/spaces/docs?expect=3", "DeleteSpace"),
            ("DELETE", "/api/spaces/..", "E_NAME_INVALID"),
            ("GET", "/api/spaces/docs", "E_METHOD_NOT_ALLOWED"),
            ("POST", "/api/spaces/docs/gc?start=1", "Collect"),
            ("GET", "/api/spaces/docs/gc", "E_METHOD_NOT_ALLOWED"),
            ("POST", "/api/spaces/../gc", "E_NAME_INVALID"),
            ("POST", "/api/spaces/docs/verify?data=1", "Verify"),
            ("GET", "/api/spaces/docs/verify", "E_METHOD_NOT_ALLOWED"),
            ("GET", "/api/spaces/docs/retention", "Retention"),
            ("HEAD", "/api/spaces/docs/retention", "Retention"),
            ("PUT", "/api/spaces/docs/retention", "SetRetention"),
            (
                "DELETE",
                "/api/spaces/docs/retention",
                "E_METHOD_NOT_ALLOWED",
            ),
            ("GET", "/api/spaces/docs/other", "E_NOT_FOUND"),
            ("DELETE", "/api/deploys/7?space=x&purge=1", "RemoveDeploy"),
            ("DELETE", "/api/deploys/x", "E_REQUEST_MALFORMED"),
            ("PUT", "/api/deploys/7", "E_METHOD_NOT_ALLOWED"),
            ("PUT", "/api/deploys/7/pin?space=x", "Pin"),
            ("DELETE", "/api/deploys/7/pin?space=x", "Unpin"),
            ("GET", "/api/deploys/7/pin", "E_METHOD_NOT_ALLOWED"),
            ("POST", "/api/publish/resume", "Resume"),
            ("GET", "/api/deploys/1/diff/2", "Diff"),
            ("GET", "/api/nodes?space=x&ids=", "Nodes"),
            ("POST", "/api/nodes", "E_METHOD_NOT_ALLOWED"),
            ("GET", "/healthz", "Health"),
            ("GET", "/", "Home"),
            ("POST", "/", "E_METHOD_NOT_ALLOWED"),
            ("GET", "/api/publish/begin/", "E_NOT_FOUND"),
        ] {
            assert_eq!(outcome(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn tokens_and_repeated_names_are_refused_in_a_query() {
        for (query, code) in [
            ("token=abc", Code::TokenInQuery),
            ("space=a&space=b", Code::RequestMalformed),
            ("space=%ff", Code::RequestMalformed),
        ] {
            let uri = format!("/api/deploys?{query}").parse().unwrap();
            assert_eq!(Query::of(&uri).unwrap_err().code, code, "{query}");
        }
    }
}
