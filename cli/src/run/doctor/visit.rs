//! Visitor request, on a separate connection: without retries, redirects, decoding or token.

use std::time::Duration;

use http::HeaderMap;
use reqwest::{Method, RequestBuilder};

use crate::config::SiteConfig;
use crate::error::Failure;
use crate::http_client::{self, HttpClient, Versions};
use crate::server::{LinkSecurity, ServerUrl};
use crate::trust::Trust;

/// Most bytes of an answer that the visitor reads.
pub(super) const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Client of a request.
pub(super) struct Visitor {
    http: HttpClient,
    pub(super) server: ServerUrl,
    pub(super) trust: Trust,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct VisitAnswer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl VisitAnswer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The content coding of the body.
    pub(super) fn coding(&self) -> &str {
        self.header("content-encoding").unwrap_or("identity")
    }
}

/// The destination of a request, and the host that it names.
pub(super) struct VisitTarget {
    pub(super) url: String,
    /// A host that differs from the URL's.
    pub(super) host: Option<String>,
}

impl Visitor {
    pub(super) fn new(site: &SiteConfig) -> Result<Self, Failure> {
        Ok(Self {
            http: connections(&site.server, &site.trust)?,
            server: site.server.clone(),
            trust: site.trust.clone(),
        })
    }

    /// Requests an address by GET.
    pub(super) fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<VisitAnswer, String> {
        self.ask("GET", url, headers)
    }

    /// Requests an address by any method.
    pub(super) fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<VisitAnswer, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let target = self.target(url);
        let mut request = self.http.client().request(method, target.url);
        if let Some(host) = target.host {
            request = request.header("host", host);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.http.wait(async {
            let answer = tokio::time::timeout(PATIENCE, read(request));
            answer.await.map_err(|_| "timeout: global".to_owned())
        });
        answer?
    }

    /// The destination of an address. Not every system resolves names below localhost. If the
    /// server is on this machine, these names lead to it.
    pub(super) fn target(&self, url: &str) -> VisitTarget {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let name = host.split(':').next().unwrap_or_default();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_local && self.server.reach() == LinkSecurity::Loopback {
            return VisitTarget {
                url: self.server.url(path),
                host: Some(host.to_owned()),
            };
        }
        VisitTarget {
            url: format!("{}{path}", &url[..url.len() - rest.len() + host.len()]),
            host: None,
        }
    }
}

async fn read(request: RequestBuilder) -> Result<VisitAnswer, String> {
    let cause = |error: reqwest::Error| http_client::cause(&error);
    let mut answer = request.send().await.map_err(cause)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(cause)? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > ANSWER_BYTES_MAX {
            return Err(format!(
                "the answer is longer than {ANSWER_BYTES_MAX} bytes"
            ));
        }
    }
    Ok(VisitAnswer {
        status: answer.status().as_u16(),
        headers: std::mem::take(answer.headers_mut()),
        body,
    })
}

/// Connections to a server. Each serves one request, because another connection may reach another
/// isolate.
fn connections(server: &ServerUrl, trust: &Trust) -> Result<HttpClient, Failure> {
    let mut headers = HeaderMap::new();
    let identity = http::HeaderValue::from_static("identity");
    headers.insert(http::header::ACCEPT_ENCODING, identity);
    let builder = http_client::builder(trust, Versions::Http1)?
        .pool_max_idle_per_host(0)
        .default_headers(headers)
        .user_agent(concat!("pmx-doctor/", env!("CARGO_PKG_VERSION")));
    HttpClient::new(match server.reach() {
        LinkSecurity::Loopback => builder,
        LinkSecurity::Encrypted | LinkSecurity::Plain => http_client::with_proxies(builder),
    })
}
