//! Transport security: how a server of https answers plain http, and what it asks of browsers and
//! of intermediaries.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use pmx_core::code::Code;
use pmx_core::problem::Problem;

use super::answer::problem;
use super::body::Body;

/// How clients reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By https; a request by plain http is redirected.
    Encrypted(Hsts),
    /// By plain http too: on a developer's machine, or where a proxy decides.
    Any,
}

/// How long browsers keep using https alone (RFC 6797); `None` sends no header.
///
/// The header omits `includeSubDomains`: each site's answer speaks for its own host. Other hosts of
/// the domain are not this server's to decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts(Option<u32>);

/// Half a year. The server offers nothing by http, so a browser loses nothing. A domain that moves
/// elsewhere needs TLS there, which every host offers today.
const HSTS_SECONDS: u32 = 15_552_000;

impl Hsts {
    /// Reads an operator's choice: seconds (`0` withdraws an earlier promise), or `off`.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(Self(Some(HSTS_SECONDS))),
            Some("off") => Some(Self(None)),
            Some(seconds) => seconds.parse().ok().map(|seconds| Self(Some(seconds))),
        }
    }
}

impl Transport {
    /// The redirect or refusal of a request by plain http; `None` if the server may answer it.
    ///
    /// A redirect would hide that a token already travelled as plain text, so the server refuses a
    /// request with a token.
    pub fn refusal(&self, head: &Parts) -> Option<Response<Bytes>> {
        if matches!(self, Self::Any) || is_encrypted(&head.uri) {
            return None;
        }
        let response = if head.headers.contains_key(AUTHORIZATION) {
            let detail = "the request came by plain http and carried a token";
            problem(&Problem::new(Code::Insecure, detail))
        } else {
            redirect(&head.uri)
        };
        Some(response.map(|body| match body {
            Body::Bytes(bytes) => bytes,
            Body::Empty | Body::Pieces(_) | Body::Led(..) => Bytes::new(),
        }))
    }

    /// The HSTS header of an answer by https.
    pub fn strict(&self, uri: &Uri) -> Option<HeaderValue> {
        let Self::Encrypted(Hsts(Some(seconds))) = self else {
            return None;
        };
        // A browser ignores the header in an answer by plain http (RFC 6797, section 8.1).
        let value = HeaderValue::from_str(&format!("max-age={seconds}")).ok();
        value.filter(|_| is_encrypted(uri))
    }
}

fn is_encrypted(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("https" | "wss"))
}

/// A redirect to the same address by https. That port differs, so the target names none.
fn redirect(uri: &Uri) -> Response<Body> {
    let host = uri.host().unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut response = Response::new(Body::Empty);
    match HeaderValue::from_str(&format!("https://{host}{path}")) {
        Ok(location) if !host.is_empty() => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(_) | Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// Asks intermediaries not to change a body that the server compressed itself. Browsers keep its
/// bytes as dictionaries, and its tag names them.
///
/// An uncompressed body is not marked: an edge compresses it for clients without zstd.
pub fn keep_as_sent(headers: &mut HeaderMap) {
    let coding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if !matches!(coding, Some(b"zstd" | b"dcz")) {
        return;
    }
    let said = headers.get(CACHE_CONTROL).map(HeaderValue::to_str);
    let said = match said {
        None => "no-transform".to_owned(),
        Some(Ok(said)) if !said.contains("no-transform") => format!("{said}, no-transform"),
        Some(_) => return,
    };
    if let Ok(said) = HeaderValue::from_str(&said) {
        headers.insert(CACHE_CONTROL, said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, token: bool) -> Parts {
        let mut request = http::Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        if token {
            let value = HeaderValue::from_static("Bearer s3cret");
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request.into_parts().0
    }

    #[test]
    fn plain_http_is_sent_to_https_and_a_token_is_refused() {
        let https = Transport::Encrypted(Hsts::parse(None).unwrap());
        for (transport, uri, token, expected) in [
            (&https, "http://docs.path.app/a%20b?c=d", false, "308"),
            (&https, "http://docs.path.app:8080/", false, "308"),
            (
                &https,
                "http://api.path.app/api/v1/spaces/docs",
                true,
                "403",
            ),
            (&https, "http://docs.path.app/_events", true, "403"),
            (&https, "https://api.path.app/api/v1/spaces/docs", true, "-"),
            (&https, "https://docs.path.app/", false, "-"),
            (&https, "/", false, "400"),
            (&Transport::Any, "http://docs.path.app/", true, "-"),
            (&Transport::Any, "http://docs.path.app/", false, "-"),
        ] {
            let answer = transport.refusal(&head(uri, token));
            let status = answer.as_ref().map(|it| it.status().as_u16().to_string());
            assert_eq!(status.as_deref().unwrap_or("-"), expected, "{uri}");
            let location = answer.as_ref().and_then(|it| it.headers().get(LOCATION));
            match expected {
                "308" => {
                    let location = location.unwrap().to_str().unwrap();
                    let end = uri.strip_prefix("http").unwrap().replace(":8080", "");
                    assert_eq!(location, format!("https{end}"));
                }
                _ => assert_eq!(location, None, "{uri}"),
            }
        }
        let refusal = https.refusal(&head("http://path.app/", true)).unwrap();
        let body = String::from_utf8_lossy(refusal.body()).into_owned();
        assert!(
            body.contains("E_INSECURE") && !body.contains("s3cret"),
            "{body}"
        );
    }

    #[test]
    fn browsers_are_asked_for_https_by_https_alone() {
        let of = |text: Option<&str>, uri: &str| {
            let transport = Transport::Encrypted(Hsts::parse(text).unwrap());
            let value = transport.strict(&uri.parse().unwrap());
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let site = "https://docs.path.app/";
        assert_eq!(of(None, site).as_deref(), Some("max-age=15552000"));
        assert_eq!(of(Some("0"), site).as_deref(), Some("max-age=0"));
        assert_eq!(of(Some("off"), site), None);
        assert_eq!(of(None, "http://docs.path.app/"), None);
        assert_eq!(Transport::Any.strict(&site.parse().unwrap()), None);
        for bad in ["", "on", "-1", "1y", "99999999999"] {
            assert_eq!(Hsts::parse(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn no_transform_is_for_compressed_answers_only() {
        for (coding, said, expected) in [
            (
                Some("zstd"),
                Some("max-age=0"),
                Some("max-age=0, no-transform"),
            ),
            (Some("dcz"), None, Some("no-transform")),
            (
                Some("dcz"),
                Some("a, no-transform"),
                Some("a, no-transform"),
            ),
            (Some("gzip"), Some("max-age=0"), Some("max-age=0")),
            (None, Some("max-age=0"), Some("max-age=0")),
            (None, None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(coding) = coding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            if let Some(said) = said {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static(said));
            }
            keep_as_sent(&mut headers);
            let seen = headers.get(CACHE_CONTROL).map(|it| it.to_str().unwrap());
            assert_eq!(seen, expected, "{coding:?}");
        }
    }
}
