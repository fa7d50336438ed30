//! Public address (`PUBLIC_URL`): how clients reach the server behind a reverse proxy.

use std::str::FromStr;

use http::Uri;

/// A scheme, a host and an optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
    /// The port, unless it is the scheme's default.
    pub(crate) port: Option<u16>,
}

impl PublicUrl {
    /// The domain of the address: its host, without an `api` label.
    pub fn domain(&self) -> &str {
        self.host.strip_prefix("api.").unwrap_or(&self.host)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |why: &str| format!("{text:?} is no public address: {why}");
        let uri: Uri = text.parse().map_err(|_| fault("it is not a URL"))?;
        let (scheme, own) = match uri.scheme_str() {
            Some("https") => ("https", 443),
            Some("http") => ("http", 80),
            _ => return Err(fault("expected https://HOST or http://HOST")),
        };
        let authority = uri.authority().ok_or_else(|| fault("it has no host"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(fault("expected a host, and no name or password"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(fault("expected no path, since sites are hosts"));
        }
        Ok(Self {
            scheme,
            host: authority.host().to_ascii_lowercase(),
            port: uri.port_u16().filter(|port| *port != own),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_address_has_no_path() {
        for (text, expected) in [
            (
                "https://pages.example",
                Some(("https", "pages.example", None)),
            ),
            (
                "https://API.pages.example:443/",
                Some(("https", "pages.example", None)),
            ),
            (
                "http://pages.example:8080",
                Some(("http", "pages.example", Some(8080))),
            ),
            ("pages.example", None),
            ("ftp://pages.example", None),
            ("https://me@pages.example", None),
            ("https://pages.example/sites", None),
            ("https://pages.example/?a", None),
        ] {
            let parsed = text.parse::<PublicUrl>().ok();
            let parts = parsed
                .as_ref()
                .map(|url| (url.scheme, url.domain(), url.port));
            assert_eq!(parts, expected, "{text}");
        }
    }
}
