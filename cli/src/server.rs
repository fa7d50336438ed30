//! Server address: parsed once.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;
use pmx_sync::site::LOOPBACK_API;

use crate::error::Failure;

/// The default server: the address at which the embedded host listens.
pub const DEFAULT: &str = "http://127.0.0.1:8787";

/// The address of a server: a scheme, a host and an optional port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    base: String,
    reach: LinkSecurity,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkSecurity {
    /// On this machine.
    Loopback,
    /// Over a network, encrypted.
    Encrypted,
    /// Over a network, as plain text.
    Plain,
}

impl ServerUrl {
    /// Parses an address. Without a scheme it is `http` on this machine and `https` elsewhere.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let fault =
            |why: &str| Failure::usage(format!("{text:?} is not a server's address: {why}"));
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some("http"), rest),
            Some(("https", rest)) => (Some("https"), rest),
            Some(_) => return Err(fault("expected http or https")),
            None => (None, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(fault(
                "a name or password does not belong there; use PMX_TOKEN",
            ));
        }
        let parsed: http::uri::Authority = authority
            .parse()
            .map_err(|_| fault("expected a host, such as https://example.org"))?;
        if parsed.host().is_empty() {
            return Err(fault("it has no host"));
        }
        let local = is_loopback(parsed.host());
        let scheme = scheme.unwrap_or(if local { "http" } else { "https" });
        let reach = match (local, scheme) {
            (true, _) => LinkSecurity::Loopback,
            (false, "https") => LinkSecurity::Encrypted,
            (false, _) => LinkSecurity::Plain,
        };
        let base = format!("{scheme}://{}", authority.to_ascii_lowercase());
        Uri::try_from(&base).map_err(|_| fault("it is not a URL"))?;
        Ok(Self { base, reach })
    }

    /// The address of a path on the server; the path starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The `Host` to send, if it differs from the address's own. Under `pmx dev`, the names of this
    /// machine belong to a site, and the API has a host that no site has.
    pub fn api_host(&self) -> Option<String> {
        let authority = self
            .base
            .split_once("://")
            .map(|(_, authority)| authority)?;
        let parsed: http::uri::Authority = authority.parse().ok()?;
        let is_plain =
            self.reach == LinkSecurity::Loopback && !parsed.host().ends_with(".localhost");
        let port = parsed.port().map(|port| format!(":{port}"));
        is_plain.then(|| format!("{LOOPBACK_API}{}", port.unwrap_or_default()))
    }

    /// How it is reached.
    pub const fn reach(&self) -> LinkSecurity {
        self.reach
    }

    /// The address, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.base
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// RFC 6761, section 6.3: names under `localhost` belong to this machine.
fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_host_is_sent_to_addresses_of_this_machine() {
        for (text, expected) in [
            (DEFAULT, Some("api.localhost:8787")),
            ("http://[::1]:1", Some("api.localhost:1")),
            ("http://localhost", Some("api.localhost")),
            ("http://docs.localhost:8787", None),
            ("https://example.org", None),
        ] {
            let server = ServerUrl::parse(text).unwrap();
            assert_eq!(server.api_host().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_normalised() {
        for (text, base, reach) in [
            (DEFAULT, "http://127.0.0.1:8787", LinkSecurity::Loopback),
            (
                "localhost:80",
                "http://localhost:80",
                LinkSecurity::Loopback,
            ),
            (
                "http://docs.localhost/",
                "http://docs.localhost",
                LinkSecurity::Loopback,
            ),
            (
                "http://[::1]:8787",
                "http://[::1]:8787",
                LinkSecurity::Loopback,
            ),
            (
                "Example.org",
                "https://example.org",
                LinkSecurity::Encrypted,
            ),
            (
                "https://example.org:444/",
                "https://example.org:444",
                LinkSecurity::Encrypted,
            ),
            ("http://10.0.0.1", "http://10.0.0.1", LinkSecurity::Plain),
            (
                "http://127.0.0.1.example.org",
                "http://127.0.0.1.example.org",
                LinkSecurity::Plain,
            ),
        ] {
            let server = ServerUrl::parse(text).unwrap();
            assert_eq!((server.as_str(), server.reach()), (base, reach), "{text}");
        }
        for text in [
            "",
            "ftp://x",
            "http://",
            "http://u:p@x",
            "http://x/path",
            "http://x y",
            "x?y",
        ] {
            assert_eq!(
                ServerUrl::parse(text).map_err(|f| f.exit()),
                Err(2),
                "{text}"
            );
        }
    }
}
