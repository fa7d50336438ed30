//! DNS over HTTPS client (RFC 8484): sends DNS messages to the operator's resolver.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_sync::limits::DNS_MESSAGE_BYTES_MAX;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use thiserror::Error;

use crate::error::Failure;
use crate::http_client::{self, HttpClient, Versions};
use crate::trust::Trust;

/// The resolver, unless the operator names another.
const DEFAULT_URL: &str = "https://cloudflare-dns.com/dns-query";

const DNS_MEDIA: &str = "application/dns-message";

/// Time limit of a lookup, with its connection.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

/// The address of a resolver: https, or http on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DohUrl(Url);

impl Default for DohUrl {
    fn default() -> Self {
        Self(Url::parse(DEFAULT_URL).expect("the default is a URL"))
    }
}

impl fmt::Display for DohUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DohUrl {
    type Err = InvalidDohUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDohUrl> {
        let url = Url::parse(text).map_err(|_| InvalidDohUrl)?;
        let is_near = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_near;
        is_safe.then_some(Self(url)).ok_or(InvalidDohUrl)
    }
}

/// The text is not the address of a resolver.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error(
    "expected the https address of a resolver, such as {DEFAULT_URL} (http on this machine only)"
)]
pub struct InvalidDohUrl;

/// Client of one resolver, built for its first lookup.
pub(super) struct DohClient {
    url: DohUrl,
    http: OnceLock<Result<HttpClient, Failure>>,
}

impl DohClient {
    pub(super) const fn new(url: DohUrl) -> Self {
        Self {
            url,
            http: OnceLock::new(),
        }
    }

    /// Sends a message and returns the answer. Waits on this thread, which must be one that may
    /// block.
    pub(super) fn exchange(&self, query: Bytes) -> Result<Bytes, BackendError> {
        let failed = |why: &dyn fmt::Display| {
            BackendError::new(format!("asking the resolver {}", self.url), why).passing()
        };
        let http = self.http.get_or_init(connections).as_ref();
        let http = http.map_err(|failure| failed(&failure.message))?;
        let asking = async {
            // The timeout needs the runtime's clock.
            tokio::time::timeout(LOOKUP_TIME, self.ask(http, query)).await
        };
        match http.wait(asking) {
            Ok(Ok(answer)) => answer.ok_or_else(|| failed(&"it gave no DNS message")),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"it did not answer in time")),
        }
    }

    /// The answer; none if the resolver sends something else, or too much.
    async fn ask(&self, http: &HttpClient, query: Bytes) -> reqwest::Result<Option<Bytes>> {
        let request = http.client().post(self.url.0.clone()).body(query);
        let request = request
            .header(CONTENT_TYPE, DNS_MEDIA)
            .header(ACCEPT, DNS_MEDIA);
        let mut response = request.send().await?;
        if response.status() != 200 {
            return Ok(None);
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if answer.len() + chunk.len() > DNS_MESSAGE_BYTES_MAX {
                return Ok(None);
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(Some(answer.into()))
    }
}

fn connections() -> Result<HttpClient, Failure> {
    let builder = http_client::builder(&Trust::default(), Versions::Http2)?;
    let builder = http_client::with_proxies(builder).pool_max_idle_per_host(1);
    HttpClient::new(builder.user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_is_reached_by_https_or_on_this_machine() {
        for (text, is_good) in [
            (DEFAULT_URL, true),
            ("https://9.9.9.9/dns-query", true),
            ("http://127.0.0.1:5380/dns-query", true),
            ("http://resolver.example/dns-query", false),
            ("dns.example", false),
            ("ftp://dns.example", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<DohUrl>().is_ok(), is_good, "{text}");
        }
    }
}
