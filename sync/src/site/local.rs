//! Local mode: a server that only its own machine can reach may trust local programs.
//!
//! Local mode is a loopback listener, the domain `localhost`, no public address and no trusted
//! proxies. Programs of this machine then need no credential for streams. A browser is such a
//! program too, and runs foreign pages. So the server refuses a request from a foreign page, and
//! one for a host that is not its own (DNS rebinding).

use http::header::{HOST, ORIGIN, REFERER};
use http::request::Parts;
use pmx_core::code::Code;
use pmx_core::exposure::Exposure;
use pmx_core::problem::Problem;
use pmx_streams::http::STREAMS_PATH;

use super::host::Addressed;
use super::hosts::{CustomSite, Hosts};

/// The settings of a server in local mode.
#[derive(Debug, Clone)]
pub struct LocalMode {
    port: u16,
    origins: Vec<String>,
    opens_streams: bool,
}

impl LocalMode {
    /// `port` is the listener's; `origins` are foreign origins that the operator admits.
    pub const fn new(port: u16, origins: Vec<String>) -> Self {
        Self {
            port,
            origins,
            opens_streams: false,
        }
    }

    /// Applies the operator's choice to open streams to the pages of all origins.
    #[must_use]
    pub const fn with_open_streams(mut self, opens_streams: bool) -> Self {
        self.opens_streams = opens_streams;
        self
    }

    /// Refuses a request for an unknown host, or from a foreign page. The server must call this
    /// before it reads anything else of the request.
    pub fn refusal(&self, head: &Parts, hosts: &Hosts) -> Option<Problem> {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default();
        let custom = CustomSite::of(head);
        let is_custom = custom.is_some();
        let addressed = match (hosts.resolve(host, Exposure::Local), custom) {
            (Addressed::Unknown, Some(site)) => site,
            (addressed, _) => addressed,
        };
        if addressed == Addressed::Unknown && !is_under(host, hosts) {
            let detail = format!("{host:?} is no host of this server, which is in local mode");
            return Some(Problem::new(Code::HostForeign, detail));
        }
        if self.opens_streams && addressed == Addressed::Api && is_of_streams(head) {
            return None;
        }
        let ports = [Some(self.port), port_of(host)];
        let mut origins = head.headers.get_all(ORIGIN).iter().peekable();
        let foreign = if origins.peek().is_some() {
            origins
                .map(|origin| origin.to_str().unwrap_or_default())
                // Pages of a domain of a space are foreign to all hosts but their own.
                .find(|origin| {
                    let is_same = is_custom && is_origin_of(origin, host);
                    !is_same && !self.is_own(origin, hosts, ports)
                })
        } else if addressed == Addressed::Api && is_embedded(head) {
            let from = header(head, REFERER.as_str());
            (!self.is_own(origin_of(from), hosts, ports)).then_some(from)
        } else {
            None
        };
        let foreign: String = foreign?.chars().take(SHOWN_CHARS).collect();
        let detail = format!("a page of {foreign:?} made the request; the server is in local mode");
        Some(Problem::new(Code::Origin, detail))
    }

    /// Whether an origin is this server's own, or one that the operator admits. Two ports are the
    /// server's: its own, and that of a tunnel to it.
    fn is_own(&self, origin: &str, hosts: &Hosts, ports: [Option<u16>; 2]) -> bool {
        if self
            .origins
            .iter()
            .any(|known| known.eq_ignore_ascii_case(origin))
        {
            return true;
        }
        let Some(authority) = origin.strip_prefix("http://") else {
            return false;
        };
        let port = port_of(authority);
        port.is_some()
            && ports.contains(&port)
            && hosts.resolve(authority, Exposure::Local) != Addressed::Unknown
    }
}

/// Whether an origin is that of a host, by http or, behind a tunnel, by https.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn is_of_streams(head: &Parts) -> bool {
    head.uri.path().starts_with(STREAMS_PATH)
}

/// Characters of a foreign origin that an error repeats.
const SHOWN_CHARS: usize = 80;

/// Whether a host is under the domain, and so on this machine, though it is no site.
fn is_under(host: &str, hosts: &Hosts) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let rest = name.strip_suffix(hosts.domain().as_str());
    rest.is_some_and(|rest| rest.ends_with('.'))
}

/// The port of an authority; 80 by default.
fn port_of(authority: &str) -> Option<u16> {
    let after_address = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    match after_address.rsplit_once(':') {
        None => Some(80),
        Some((_, port)) => port.parse().ok(),
    }
}

/// Whether a browser embeds the response in a page of another site, as an image or a script,
/// without an `Origin` header. A link that the user follows does not count.
fn is_embedded(head: &Parts) -> bool {
    header(head, "sec-fetch-site") == "cross-site" && header(head, "sec-fetch-mode") != "navigate"
}

fn origin_of(address: &str) -> &str {
    let path = address.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find('/').unwrap_or(rest.len());
        address.get(..scheme.len() + 3 + end)
    });
    path.unwrap_or_default()
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    let value = head.headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use pmx_core::domain::Domain;
    use pmx_core::name::SpaceName;

    use super::*;

    fn outcome(hosts: &Hosts, headers: &[(&str, &str)]) -> Option<Code> {
        let mut request = http::Request::post("/v1/stream/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let local = LocalMode::new(8787, vec!["https://app.example".into()]);
        local.refusal(&head, hosts).map(|problem| problem.code)
    }

    #[test]
    fn refusal_of_foreign_hosts_and_origins() {
        let hosts = Hosts::new(Domain::parse("localhost").unwrap());
        let dev = hosts.clone().with_home(SpaceName::parse("docs").unwrap());
        let (foreign, unknown) = (Some(Code::Origin), Some(Code::HostForeign));
        for (host, origin, expected) in [
            ("localhost:8787", "", None),
            ("127.0.0.1:8787", "", None),
            ("[::1]:8787", "", None),
            ("docs.localhost:8787", "", None),
            ("127.0.0.1:8787", "http://127.0.0.1:8787", None),
            ("127.0.0.1:8787", "http://docs.localhost:8787", None),
            ("docs.localhost:8787", "http://[::1]:8787", None),
            ("127.0.0.1:8787", "https://app.example", None),
            // A request through a tunnel.
            ("localhost:9999", "http://localhost:9999", None),
            ("localhost:8787", "http://localhost:3000", foreign),
            ("localhost:8787", "http://localhost", foreign),
            ("localhost:8787", "https://localhost:8787", foreign),
            ("localhost:8787", "null", foreign),
            ("localhost:8787", "http://evil.example:8787", foreign),
            (
                "localhost:8787",
                "http://localhost.evil.example:8787",
                foreign,
            ),
            ("localhost:8787", "chrome-extension://abcdef", foreign),
            ("docs.localhost:8787", "https://evil.example", foreign),
            // DNS rebinding: the browser treats the page as the server's own.
            ("evil.example:8787", "", unknown),
            ("evil.example:8787", "http://evil.example:8787", unknown),
            ("localhost.evil.example", "", unknown),
            ("0.0.0.0:8787", "", unknown),
            ("192.168.1.7:8787", "", unknown),
            ("", "", unknown),
        ] {
            let mut headers = vec![("host", host)];
            headers.extend((!origin.is_empty()).then_some(("origin", origin)));
            assert_eq!(outcome(&hosts, &headers), expected, "{host} {origin}");
            assert_eq!(outcome(&dev, &headers), expected, "dev: {host} {origin}");
        }
        let own = ("origin", "http://localhost:8787");
        let two = [("host", "localhost:8787"), own, ("origin", "null")];
        assert_eq!(outcome(&hosts, &two), foreign);
    }

    #[test]
    fn open_streams_admit_foreign_pages_and_nothing_else_does() {
        let hosts = Hosts::new(Domain::parse("localhost").unwrap());
        let foreign = Some(Code::Origin);
        for (open, path, host, expected) in [
            (true, "/v1/stream/a", "localhost:8787", None),
            (
                true,
                "/v1/stream/a",
                "evil.example",
                Some(Code::HostForeign),
            ),
            (true, "/v1/stream/a", "docs.localhost:8787", foreign),
            (true, "/api/publish/begin", "localhost:8787", foreign),
            (false, "/v1/stream/a", "localhost:8787", foreign),
        ] {
            let request = http::Request::post(path).header("host", host);
            let request = request.header("origin", "https://evil.example");
            let (head, ()) = request.body(()).unwrap().into_parts();
            let local = LocalMode::new(8787, Vec::new()).with_open_streams(open);
            let refusal = local.refusal(&head, &hosts);
            assert_eq!(refusal.map(|it| it.code), expected, "{open} {path} {host}");
        }
    }

    #[test]
    fn refusal_of_what_a_foreign_page_embeds() {
        let hosts = Hosts::new(Domain::parse("localhost").unwrap());
        let embedded = [("host", "localhost:8787"), ("sec-fetch-site", "cross-site")];
        for (more, expected) in [
            (("sec-fetch-mode", "no-cors"), Some(Code::Origin)),
            (("sec-fetch-mode", "navigate"), None),
            (("referer", "http://evil.example/"), Some(Code::Origin)),
            (("referer", "http://docs.localhost:8787/a/b"), None),
        ] {
            let headers = [&embedded[..], &[more]].concat();
            assert_eq!(outcome(&hosts, &headers), expected, "{more:?}");
        }
        let site = [
            ("host", "docs.localhost:8787"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(outcome(&hosts, &site), None);
    }
}
