//! Request admission: the effective target of a request (RFC 9112), and the clients that may send
//! it.
//!
//! Later handlers get exactly one `Host` and a target in origin form, for every form of the target
//! and any number of proxies.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use pmx_core::code::Code;
use pmx_core::country::Country;
use pmx_core::exposure::Exposure;
use pmx_core::problem::Problem;
use pmx_sync::site::{CustomSite, Hosts, LocalMode};

use super::domains::RouteTable;
use super::proxy::{ForwardedRequest, Proxies};

/// The address of a request's client: that of its peer, or one that a trusted proxy reports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The scheme by which a client reaches the server.
#[derive(Debug, Clone, Copy)]
struct Scheme(&'static str);

/// The scheme by which the client of a request reaches the server.
pub(super) fn scheme_of(head: &Parts) -> &'static str {
    head.extensions
        .get()
        .map_or("http", |Scheme(scheme)| scheme)
}

/// Admits requests.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) hosts: Hosts,
    /// The settings of local mode, if it is on.
    pub(crate) local: Option<LocalMode>,
    pub(crate) proxies: Proxies,
    /// The routes of custom hosts.
    pub(crate) domains: Arc<RouteTable>,
    /// The header in which a trusted proxy names the client's country.
    pub(crate) country: Option<HeaderName>,
    /// The scheme of the server's public address.
    pub(crate) scheme: &'static str,
}

impl Front {
    /// Determines the target of a request, or refuses it before any other step.
    pub(crate) fn admit(&self, head: &mut Parts, peer: Option<IpAddr>) -> Result<(), Problem> {
        let mut host = target_host(head)?;
        let mut scheme = self.scheme;
        let mut client = peer;
        if peer.is_some_and(|peer| self.proxies.contains(peer)) {
            let described = self.proxies.describe(&head.headers);
            let ForwardedRequest {
                host: named,
                scheme: said,
                client: behind,
            } = described;
            host = named.map_or(Ok(host), |named| valid_host(&named))?;
            scheme = said.unwrap_or(scheme);
            client = behind.or(client);
            if let Some(country) = self.country_of(head) {
                head.extensions.insert(country);
            }
        }
        let exposure = Exposure::judge(peer, &head.headers, self.local.is_some());
        head.extensions.insert(exposure);
        head.extensions.insert(Scheme(scheme));
        if let Some(client) = client {
            head.extensions.insert(Peer(client));
        }
        head.headers.insert(HOST, host);
        origin_form(&mut head.uri);
        if let Some(site) = self.custom_site(head) {
            head.extensions.insert(site);
        }
        match &self.local {
            Some(local) if exposure == Exposure::Local => {
                local.refusal(head, &self.hosts).map_or(Ok(()), Err)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The space of the custom host that a request names.
    fn custom_site(&self, head: &Parts) -> Option<CustomSite> {
        let host = self.hosts.custom(head)?;
        let route = self.domains.find(&host)?;
        route
            .is_shown(super::now())
            .then_some(CustomSite(route.space))
    }
}

impl Front {
    fn country_of(&self, head: &Parts) -> Option<Country> {
        let value = head.headers.get(self.country.as_ref()?)?;
        Country::parse(value.to_str().ok()?)
    }
}

/// The host that a request names: in its target, or in its one `Host` field (RFC 9112, section
/// 3.2). The absolute form has priority, but the field must be well-formed as well.
fn target_host(head: &Parts) -> Result<HeaderValue, Problem> {
    if head.method == Method::CONNECT {
        let mut problem = malformed("this server is no proxy, so it takes no CONNECT");
        problem.status = StatusCode::NOT_IMPLEMENTED.as_u16();
        return Err(problem);
    }
    check_coding(head)?;
    let mut fields = head.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(_), Some(_)) => return Err(malformed("the request has more than one Host")),
        (Some(field), None) => {
            let text = field
                .to_str()
                .map_err(|_| malformed("the Host is not a host name"))?;
            Some(valid_host(text)?)
        }
        (None, _) if head.version == Version::HTTP_10 => None,
        (None, _) => return Err(malformed("the request has no Host")),
    };
    match (head.uri.authority(), head.uri.scheme_str()) {
        (Some(authority), Some("http" | "https")) => valid_host(authority.as_str()),
        (Some(_), _) => Err(malformed("the target's scheme is neither http nor https")),
        // Programs that send no Host get the site of the machine's own name.
        (None, _) => Ok(field.unwrap_or(HeaderValue::from_static("localhost"))),
    }
}

/// Refuses transfer codings that the server would have to decode to find the end of a body.
fn check_coding(head: &Parts) -> Result<(), Problem> {
    let codings = head.headers.get_all(TRANSFER_ENCODING);
    let plain = |coding: &HeaderValue| {
        coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    };
    if codings.iter().all(plain) && codings.iter().count() <= 1 {
        return Ok(());
    }
    let mut problem = malformed("the request has a Transfer-Encoding other than chunked");
    problem.status = StatusCode::NOT_IMPLEMENTED.as_u16();
    Err(problem)
}

/// Parses a host with an optional port, without a user's name.
fn valid_host(text: &str) -> Result<HeaderValue, Problem> {
    let authority = text.parse::<Authority>().ok();
    let sound = authority.is_some_and(|authority| {
        let port = &text[authority.host().len()..];
        let digits = port.strip_prefix(':').unwrap_or_default();
        !authority.host().is_empty()
            && text.starts_with(authority.host())
            && (port.is_empty() || port.starts_with(':'))
            && digits.bytes().all(|b| b.is_ascii_digit())
    });
    let value = HeaderValue::from_str(text).ok().filter(|_| sound);
    value.ok_or_else(|| malformed("the host of the request is no host name"))
}

/// Reduces a target in absolute form to its path and query.
fn origin_form(uri: &mut Uri) {
    if uri.authority().is_some() {
        let path = uri.path_and_query().cloned();
        *uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(Code::RequestMalformed, detail)
}

#[cfg(test)]
mod tests {
    use pmx_core::domain::Domain;

    use super::*;

    fn front(local: bool) -> Front {
        let domain = if local { "localhost" } else { "path.app" };
        Front {
            country: None,
            hosts: Hosts::new(Domain::parse(domain).unwrap()),
            local: local.then(|| LocalMode::new(80, Vec::new())),
            proxies: Proxies(vec!["10.0.0.1".parse().unwrap()]),
            domains: Arc::default(),
            scheme: "http",
        }
    }

    fn admitted(
        front: &Front,
        peer: &str,
        version: Version,
        target: &str,
        fields: &[(&str, &str)],
    ) -> String {
        let mut request = http::Request::get(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        match front.admit(&mut head, Some(peer.parse().unwrap())) {
            Ok(()) => {
                let host = head.headers[HOST].to_str().unwrap();
                let Peer(client) = head.extensions.get().unwrap();
                let exposure = Exposure::of(&head);
                format!(
                    "{}://{host}{} {client} {exposure:?}",
                    scheme_of(&head),
                    head.uri
                )
            }
            Err(problem) => format!("{} {}", problem.status, problem.code),
        }
    }

    #[test]
    fn admit_settles_the_target() {
        let front = front(false);
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        let docs = ("host", "docs.path.app");
        for (version, target, fields, expected) in [
            (
                new,
                "/a?b",
                &[docs][..],
                "http://docs.path.app/a?b 127.0.0.1 Machine",
            ),
            (new, "/a", &[], "400 E_REQUEST_MALFORMED"),
            (old, "/a", &[], "http://localhost/a 127.0.0.1 Machine"),
            (
                old,
                "/a",
                &[docs],
                "http://docs.path.app/a 127.0.0.1 Machine",
            ),
            (new, "/a", &[docs, docs], "400 E_REQUEST_MALFORMED"),
            (old, "/a", &[docs, docs], "400 E_REQUEST_MALFORMED"),
            (new, "/a", &[("host", "")], "400 E_REQUEST_MALFORMED"),
            (
                new,
                "/a",
                &[("host", "docs.path.app/x")],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "/a",
                &[("host", "me@docs.path.app")],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "/a",
                &[("host", "docs.path.app, evil")],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "/a",
                &[("host", "docs.path.app:x")],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "/a",
                &[("host", "docs path")],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "http://blog.path.app/a?b",
                &[docs],
                "http://blog.path.app/a?b 127.0.0.1 Machine",
            ),
            (
                new,
                "http://blog.path.app",
                &[docs],
                "http://blog.path.app/ 127.0.0.1 Machine",
            ),
            (new, "http://blog.path.app/", &[], "400 E_REQUEST_MALFORMED"),
            (
                new,
                "http://me@blog.path.app/",
                &[docs],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "ftp://blog.path.app/",
                &[docs],
                "400 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "/a",
                &[docs, ("transfer-encoding", "gzip, chunked")],
                "501 E_REQUEST_MALFORMED",
            ),
            (
                new,
                "/a",
                &[("host", "evil.example")],
                "http://evil.example/a 127.0.0.1 Machine",
            ),
            (
                new,
                "/a",
                &[("host", "127.0.0.1:80")],
                "http://127.0.0.1:80/a 127.0.0.1 Machine",
            ),
        ] {
            let seen = admitted(&front, "127.0.0.1", version, target, fields);
            assert_eq!(seen, expected, "{version:?} {target} {fields:?}");
        }
    }

    #[test]
    fn admit_takes_a_proxys_word_only_if_it_is_trusted() {
        let said = [
            ("host", "docs.path.app"),
            ("x-forwarded-host", "blog.path.app"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        for (local, peer, expected) in [
            (
                false,
                "10.0.0.1",
                "https://blog.path.app/ 203.0.113.9 Public",
            ),
            (false, "10.0.0.2", "http://docs.path.app/ 10.0.0.2 Public"),
            (false, "127.0.0.1", "http://docs.path.app/ 127.0.0.1 Public"),
            (true, "127.0.0.1", "http://docs.path.app/ 127.0.0.1 Public"),
        ] {
            let seen = admitted(&front(local), peer, Version::HTTP_11, "/", &said);
            assert_eq!(seen, expected, "{peer}");
        }
    }

    #[test]
    fn admit_refuses_foreign_pages_in_local_mode_only() {
        let evil = [("host", "localhost"), ("origin", "https://evil.example")];
        let at = |local, host: &str| {
            let fields = [("host", host), evil[1]];
            admitted(&front(local), "127.0.0.1", Version::HTTP_11, "/", &fields)
        };
        assert_eq!(at(true, "localhost"), "403 E_ORIGIN");
        assert_eq!(at(false, "path.app"), "http://path.app/ 127.0.0.1 Machine");
    }
}
