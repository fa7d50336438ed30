//! Answers of intermediaries: proxies, firewalls, portals and other servers that answer in place of
//! a PathMX server. A failure names the program that answered, and a hint.

use http::{HeaderMap, StatusCode, Uri};
use pmx_core::code::Code;
use pmx_core::problem::{PROBLEM_MEDIA, Problem};
use pmx_sync::limits::BODY_BYTES_MAX;

use super::{ApiRequest, Client, retry};
use crate::error::Failure;
use crate::server::ServerUrl;

/// Characters of an answer, and of one header, that a failure shows.
const EXCERPT_CHARS: usize = 120;

/// Bytes of an answer that the client examines.
const LOOKED_AT_BYTES: usize = 4 * 1024;

/// Mebibytes that a proxy must let through, in the unit of its configuration.
const BODY_MEBIBYTES: usize = BODY_BYTES_MAX / (1024 * 1024);

/// The parts of an answer that a failure may describe.
pub(super) struct ForeignAnswer<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    pub(super) media: &'a str,
    pub(super) bytes: &'a [u8],
}

impl Client {
    /// The failure that a server reports, or that the answer is not from a PathMX server.
    pub(super) fn refusal(&self, call: &ApiRequest<'_>, seen: &ForeignAnswer<'_>) -> Failure {
        if seen.media == PROBLEM_MEDIA
            && let Ok(problem) = serde_json::from_slice::<Problem>(seen.bytes)
        {
            return problem.into();
        }
        let code = if retry::is_passing(seen.status) {
            Code::Network
        } else {
            Code::Protocol
        };
        let mut message = self.first_line(call, seen);
        if let Some(excerpt) = excerpt(seen.bytes) {
            message = format!("{message}\n{excerpt}");
        }
        Failure::new(code, message).with_hint(self.hint(call, seen))
    }

    /// The failure for a successful answer that is not from a PathMX server.
    pub(super) fn no_answer(
        &self,
        call: &ApiRequest<'_>,
        why: &str,
        seen: &ForeignAnswer<'_>,
    ) -> Failure {
        let mut message = format!(
            "{}\nit is not of this protocol: {why}",
            self.first_line(call, seen)
        );
        if let Some(excerpt) = excerpt(seen.bytes) {
            message = format!("{message}\n{excerpt}");
        }
        let failure = Failure::new(Code::Protocol, message);
        match seen.media {
            "text/html" | "application/xhtml+xml" => {
                failure.with_hint(web_page(&self.server.url("/")))
            }
            _ => failure,
        }
    }

    /// The program that answered, its answer, and the request.
    fn first_line(&self, call: &ApiRequest<'_>, seen: &ForeignAnswer<'_>) -> String {
        let who = who(seen.headers).unwrap_or_else(|| match seen.status {
            407 => "a proxy".to_owned(),
            _ => "a proxy or another server".to_owned(),
        });
        let reason = StatusCode::from_u16(seen.status).ok();
        let reason = reason.and_then(|status| status.canonical_reason());
        let reason = reason.map(|it| format!(" {it}")).unwrap_or_default();
        let media = match seen.media {
            "" => String::new(),
            media => format!(" with {}", shortened(media)),
        };
        let path = call.path.split('?').next().unwrap_or_default();
        format!(
            "{who} answered HTTP {}{reason}{media} to {} {}",
            seen.status,
            call.method.as_str(),
            self.server.url(path)
        )
    }

    fn hint(&self, call: &ApiRequest<'_>, seen: &ForeignAnswer<'_>) -> String {
        let server = &self.server;
        if is_challenge(seen.headers) {
            return CHALLENGED.to_owned();
        }
        match seen.status {
            301 | 302 | 303 | 307 | 308 => self.redirect(location(seen)),
            400 if speaks_of_https(seen.bytes) => https_instead(server),
            401 => "What answered wants a login of its own, which is no matter of PMX_TOKEN: let requests below /api/ pass it.".to_owned(),
            403 => format!(
                "A firewall or proxy refuses {} requests; pmx itself would say why. Allow GET, POST, PUT and DELETE below /api/ there.",
                call.method.as_str()
            ),
            404 | 410 => format!(
                "No PathMX server answers at {server}: check --server and PMX_SERVER. Its API is at the top of a host, below /api/."
            ),
            405 | 501 => "What answered does not allow this method: a proxy has to pass GET, POST, PUT and DELETE below /api/.".to_owned(),
            407 => proxy_login(),
            411 => "A proxy lost the request's Content-Length: let it pass requests unbuffered and unchanged.".to_owned(),
            413 => format!(
                "A proxy limits the size of requests: allow {BODY_MEBIBYTES} MiB there (nginx: `client_max_body_size {BODY_MEBIBYTES}m;`)."
            ),
            414 | 431 => "The request's line or headers are too large for what answered: a long token? Raise its limit (nginx: `large_client_header_buffers`).".to_owned(),
            421 => format!("What answers there is not responsible for {server}: check the host's name and the proxy's routes."),
            429 => "What answered limits the rate of requests: wait, or raise its limit for /api/.".to_owned(),
            500 => "Look into the log of what answered; pmx's own faults have a code and a reason.".to_owned(),
            502..=504 => "A proxy answers, but not the server behind it: check that the server runs, and that the proxy leads to it.".to_owned(),
            511 => "This network wants a login first: open any page in a browser.".to_owned(),
            _ if seen.media == "text/html" => web_page(&server.url("/")),
            _ => Code::Protocol.hint().to_owned(),
        }
    }

    /// pmx sends its token only to the address that the user named.
    fn redirect(&self, location: Option<String>) -> String {
        let Some(location) = location else {
            return "It redirects to nowhere; pmx follows no redirects.".to_owned();
        };
        let origin = location.parse::<Uri>().ok().and_then(|uri| {
            let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
            ServerUrl::parse(&format!("{scheme}://{authority}")).ok()
        });
        match origin {
            Some(origin) if origin != self.server => format!(
                "It redirects to {location}. pmx follows no redirect, because its token must not go to another address; if that is your server, pass --server {origin}."
            ),
            Some(_) | None => format!(
                "It redirects to {location}: a login page, perhaps. pmx follows no redirect; let requests below /api/ pass."
            ),
        }
    }
}

/// Whether Cloudflare demands a browser challenge before a request reaches the server.
fn is_challenge(headers: &HeaderMap) -> bool {
    let value = headers.get("cf-mitigated").map(http::HeaderValue::as_bytes);
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"challenge"))
}

const CHALLENGED: &str = "Cloudflare takes pmx for a bot and wants a proof that only browsers can give. In the zone's settings turn off Bot Fight Mode, which no rule can skip; for Browser Integrity Check and Under Attack a configuration rule for the API's host is enough.";

/// The program that sent an answer, by its headers.
fn who(headers: &HeaderMap) -> Option<String> {
    let of = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        (!value.trim().is_empty()).then(|| format!("`{name}: {}`", shortened(value.trim())))
    };
    of("server")
        .or_else(|| of("via"))
        .or_else(|| of("x-powered-by"))
}

fn location(seen: &ForeignAnswer<'_>) -> Option<String> {
    let value = seen.headers.get("location")?.to_str().ok()?;
    Some(shortened(value))
}

/// The beginning of an answer's text, in one line.
fn excerpt(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOKED_AT_BYTES)]);
    let words: Vec<_> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| shortened(&words.join(" ")))
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(EXCERPT_CHARS).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// The answers of nginx, Go and Apache to plain HTTP on a port of TLS.
fn speaks_of_https(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOKED_AT_BYTES)]);
    let text = text.to_ascii_lowercase();
    text.contains("https") || text.contains("ssl-enabled")
}

fn web_page(url: &str) -> String {
    format!(
        "A web page answered instead of the API: a login page, a network's portal, or another site. Open {url} in a browser, and check the address."
    )
}

/// Hint for plain HTTP to a TLS port.
pub(super) fn https_instead(server: &ServerUrl) -> String {
    let rest = server.as_str().trim_start_matches("http://");
    format!("If that port speaks TLS, use https://{rest}.")
}

/// Hint for a proxy that requires a login.
pub(super) fn proxy_login() -> String {
    "The proxy wants a login: put it into HTTPS_PROXY as http://USER:PASSWORD@HOST:PORT, or list the server in NO_PROXY.".to_owned()
}
