//! SSRF protection: webhooks reach public addresses over TLS only.
//!
//! A client that creates a subscription makes the server send requests. Its URL must not lead into
//! the server's own network (server-side request forgery, OWASP SSRF). The parser has a strict
//! grammar of its own. It rejects what URL parsers read differently: credentials, backslashes,
//! numbers that mean IPv4, escapes in the host. A name can still resolve to a private address. So
//! the code that opens the connection resolves it first, asks [`Reach::admits`] about each address,
//! and connects to that one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pmx_core::domain::Domain;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::limits::WEBHOOK_URL_BYTES_MAX;

/// Which webhook URLs a server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookPolicy {
    /// `https` to public hosts: for a public server.
    Public,
    /// Also `http` to this machine: for a server on a developer's machine.
    Loopback,
}

/// A URL that webhooks may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    text: String,
    reach: Reach,
}

/// The network that a webhook may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The internet.
    Public,
    /// This machine.
    Loopback,
}

impl Reach {
    /// Whether a connection may go to an address that a host resolved to.
    pub fn admits(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Loopback => address.to_canonical().is_loopback(),
        }
    }
}

/// Why the server rejects a webhook's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RejectedUrl {
    /// It is too long.
    #[error("webhook.url may have {WEBHOOK_URL_BYTES_MAX} bytes")]
    Long,
    /// It is not a URL, or parsers disagree about it.
    #[error("webhook.url must be a plain absolute URL: {0}")]
    Spelling(&'static str),
    /// It is not encrypted.
    #[error("webhook.url must use https")]
    Plain,
    /// Its host is not public.
    #[error("webhook.url must lead to a public host")]
    Private,
    /// Its host is one of this server, which the server's own requests do not reach.
    #[error(
        "webhook.url leads to a host of this server: requests of the server do not reach its own \
         hosts; give it a host outside its domain"
    )]
    Own,
    /// Its port is not one of web servers.
    #[error("webhook.url may not use this port")]
    Port,
}

impl WebhookUrl {
    /// Parses a URL and checks its reach against the policy.
    pub fn parse(text: &str, policy: WebhookPolicy) -> Result<Self, RejectedUrl> {
        if text.len() > WEBHOOK_URL_BYTES_MAX {
            return Err(RejectedUrl::Long);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('\\') {
            return Err(RejectedUrl::Spelling("it has a character that none has"));
        }
        let (scheme, host, port) = split(text)?;
        let reach = match (scheme, reach(&host)?) {
            (Scheme::Https, Reach::Public) => Reach::Public,
            (Scheme::Http, Reach::Loopback) if policy == WebhookPolicy::Loopback => Reach::Loopback,
            (Scheme::Http, Reach::Public) => return Err(RejectedUrl::Plain),
            (Scheme::Https | Scheme::Http, Reach::Loopback) => return Err(RejectedUrl::Private),
        };
        if reach == Reach::Public && !is_web_port(port) {
            return Err(RejectedUrl::Port);
        }
        let text = text.to_owned();
        Ok(Self { text, reach })
    }

    /// The same, unless its host is a domain or below it.
    pub fn outside(self, own: &Domain) -> Result<Self, RejectedUrl> {
        let (_, host, _) = split(&self.text)?;
        let host = host.strip_suffix('.').unwrap_or(&host);
        let below = host.strip_suffix(own.as_str());
        let is_own = below.is_some_and(|label| label.is_empty() || label.ends_with('.'));
        // The server can call itself under any name of a developer's machine.
        if is_own && self.reach == Reach::Public {
            return Err(RejectedUrl::Own);
        }
        Ok(self)
    }

    /// Restores a URL that was checked when it was stored.
    pub(super) fn from_stored(text: String) -> Self {
        let reach = match text.strip_prefix("http:") {
            Some(_) => Reach::Loopback,
            None => Reach::Public,
        };
        Self { text, reach }
    }

    /// The URL as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The network that it may reach.
    pub const fn reach(&self) -> Reach {
        self.reach
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for WebhookUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Whether an address is public: global unicast, and in no block of the IANA registries of
/// special-purpose addresses (RFC 6890 and its successors). IPv4 inside IPv6 counts as IPv4 if it
/// is mapped, and is not public if it is translated.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // This network, private, loopback; multicast, reserved, broadcast.
        [0 | 10 | 127 | 224.., ..] => true,
        // Shared (RFC 6598), link-local with cloud metadata, private.
        [100, second, ..] => (64..=127).contains(&second),
        [169, second, ..] => second == 254,
        [172, second, ..] => (16..=31).contains(&second),
        // Private, protocol assignments, documentation, 6to4 relays.
        [192, second, third, _] => {
            second == 168 || matches!((second, third), (0, 0 | 2) | (88, 99))
        }
        // Benchmarks, documentation.
        [198, second, third, _] => matches!((second, third), (18 | 19, _) | (51, 100)),
        [203, second, third, _] => (second, third) == (0, 113),
        [..] => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is allocated (RFC 4291); the rest is loopback, private, link-local, multicast,
    // or a translation of IPv4.
    let is_allocated = first & 0xe000 == 0x2000;
    // Teredo and other protocols 2001::/23, documentation 2001:db8::/32 and 3fff::/20, 6to4.
    let is_special = match (first, second) {
        (0x2001, 0..=0x1ff | 0xdb8) | (0x2002, _) | (0x3fff, 0..=0xfff) => true,
        (_, _) => false,
    };
    is_allocated && !is_special
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// The scheme, the host in lower case, and the port.
fn split(text: &str) -> Result<(Scheme, String, u16), RejectedUrl> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or(RejectedUrl::Spelling("it has no scheme"))?;
    let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
        "https" => (Scheme::Https, 443),
        "http" => (Scheme::Http, 80),
        _ => return Err(RejectedUrl::Plain),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(RejectedUrl::Spelling("it has credentials"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed
            .split_once(']')
            .ok_or(RejectedUrl::Spelling("a bracket is open"))?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => number(digits).ok_or(RejectedUrl::Spelling("its port is no number"))?,
        None if port.is_empty() => default,
        None => return Err(RejectedUrl::Spelling("something follows its host")),
    };
    let host = if authority.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_ascii_lowercase()
    };
    Ok((scheme, host, port))
}

fn number(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = digits.parse().ok().filter(|_| plain)?;
    (port != 0).then_some(port)
}

/// The reach of a host.
fn reach(host: &str) -> Result<Reach, RejectedUrl> {
    let address = match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.trim_end_matches(']').parse().ok();
            let spelling = RejectedUrl::Spelling("its host is no IPv6 address");
            Some(IpAddr::V6(inner.ok_or(spelling)?))
        }
        None => host.parse().ok().map(IpAddr::V4),
    };
    match address {
        Some(address) if address == IpAddr::V6(Ipv6Addr::LOCALHOST) => Ok(Reach::Loopback),
        Some(IpAddr::V4(address)) if address.is_loopback() => Ok(Reach::Loopback),
        // Mapped IPv4 in a URL serves only to bypass a blocklist.
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(RejectedUrl::Private)
        }
        Some(address) if is_public(address) => Ok(Reach::Public),
        Some(_) => Err(RejectedUrl::Private),
        None => name(host),
    }
}

/// The reach of a host that is a name.
fn name(host: &str) -> Result<Reach, RejectedUrl> {
    if host == "localhost" {
        return Ok(Reach::Loopback);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let labels: Vec<&str> = host.split('.').collect();
    if host.len() > 253 || !labels.iter().all(|label| is_label(label)) {
        return Err(RejectedUrl::Spelling("its host is no name"));
    }
    match labels.as_slice() {
        // One label resolves in the server's own network.
        [] | [_] => Err(RejectedUrl::Private),
        [.., zone, last] => {
            // Parsers read `127.1`, `0x7f.1` and `1.2.3.08` as IPv4.
            if last.starts_with(|first: char| first.is_ascii_digit()) {
                return Err(RejectedUrl::Spelling("its host ends in a number"));
            }
            let private = PRIVATE_ZONES.contains(last) || (*zone == "home" && *last == "arpa");
            if private {
                Err(RejectedUrl::Private)
            } else {
                Ok(Reach::Public)
            }
        }
    }
}

/// Zones without public names: RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`, and those that
/// private networks use (RFC 6762, appendix G).
const PRIVATE_ZONES: &[&str] = &[
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
];

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(inner)
}

/// Whether a port is 443, or above the system ports and not one that `fetch` rejects (WHATWG Fetch,
/// "bad port").
fn is_web_port(port: u16) -> bool {
    let bad = matches!(
        port,
        1_719
            | 1_720
            | 1_723
            | 2_049
            | 3_659
            | 4_045
            | 4_190
            | 5_060
            | 5_061
            | 6_000
            | 6_566
            | 6_665..=6_669 | 6_679 | 6_697 | 10_080
    );
    port == 443 || (port >= 1_024 && !bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_urls_lead_to_public_hosts_only() {
        use RejectedUrl::{Plain, Port, Private};
        let spelling = "spelling";
        for (url, expected) in [
            ("https://worker.example.com/hooks?a=b", Ok(())),
            ("HTTPS://Worker.Example.COM", Ok(())),
            ("https://worker.dev.:8443/", Ok(())),
            ("https://8.8.8.8/", Ok(())),
            ("https://[2606:4700::1111]:443/", Ok(())),
            ("https://xn--bcher-kva.ch/#x", Ok(())),
            ("http://worker.example.com/", Err(Plain.to_string())),
            ("ftp://worker.example.com/", Err(Plain.to_string())),
            ("http://10.0.0.1/hook", Err(Private.to_string())),
            ("https://10.0.0.1/hook", Err(Private.to_string())),
            ("https://172.31.255.255/", Err(Private.to_string())),
            ("https://192.168.0.1/", Err(Private.to_string())),
            ("https://169.254.169.254/latest/", Err(Private.to_string())),
            ("https://100.100.100.200/", Err(Private.to_string())),
            ("https://0.0.0.0/", Err(Private.to_string())),
            ("https://127.0.0.1/", Err(Private.to_string())),
            ("https://localhost/", Err(Private.to_string())),
            ("https://localhost./", Err(Private.to_string())),
            ("https://a.localhost/", Err(Private.to_string())),
            ("https://metadata/", Err(Private.to_string())),
            (
                "https://metadata.google.internal/",
                Err(Private.to_string()),
            ),
            ("https://router.home.arpa/", Err(Private.to_string())),
            ("https://[::1]/", Err(Private.to_string())),
            ("https://[::]/", Err(Private.to_string())),
            ("https://[fe80::1]/", Err(Private.to_string())),
            ("https://[fd00::1]/", Err(Private.to_string())),
            ("https://[::ffff:10.0.0.1]/", Err(Private.to_string())),
            ("https://[::ffff:8.8.8.8]/", Err(Private.to_string())),
            ("https://[64:ff9b::a00:1]/", Err(Private.to_string())),
            ("https://[2002:a00:1::]/", Err(Private.to_string())),
            ("https://worker.dev:22/", Err(Port.to_string())),
            ("https://worker.dev:6667/", Err(Port.to_string())),
            ("https://a@worker.dev/", Err(spelling.into())),
            ("https://worker.dev\\@10.0.0.1/", Err(spelling.into())),
            ("https://worker.dev:/", Err(spelling.into())),
            ("https://worker.dev:0/", Err(spelling.into())),
            ("https://worker.dev:+1/", Err(spelling.into())),
            ("https://worker.dev:99999/", Err(spelling.into())),
            ("https://127.1/", Err(spelling.into())),
            ("https://0x7f.0.0.1/", Err(spelling.into())),
            ("https://0x7f000001/", Err(Private.to_string())),
            ("https://2130706433/", Err(Private.to_string())),
            ("https://010.0.0.1/", Err(spelling.into())),
            ("https://1.2.3.4.5/", Err(spelling.into())),
            ("https://%31%30.0.0.1/", Err(spelling.into())),
            ("https://wor\u{2488}ker.dev/", Err(spelling.into())),
            ("https://[::1/", Err(spelling.into())),
            ("https://[::1]x/", Err(spelling.into())),
            ("https://[fe80::1%25eth0]/", Err(spelling.into())),
            ("https://a..b.dev/", Err(spelling.into())),
            ("https://worker .dev/", Err(spelling.into())),
            ("https:///etc", Err(spelling.into())),
            ("worker.dev/", Err(spelling.into())),
            ("", Err(spelling.into())),
        ] {
            let judged = WebhookUrl::parse(url, WebhookPolicy::Public).map(drop);
            let judged = judged.map_err(|why| match why {
                RejectedUrl::Spelling(_) => spelling.into(),
                RejectedUrl::Long | RejectedUrl::Own | Plain | Private | Port => why.to_string(),
            });
            assert_eq!(judged, expected, "{url}");
        }
    }

    #[test]
    fn webhook_urls_to_loopback_need_the_loopback_policy() {
        for (url, local) in [
            ("http://127.0.0.1:4000/hook", true),
            ("http://127.8.9.1/", true),
            ("http://localhost:80/", true),
            ("http://[::1]:22/", true),
            ("https://worker.dev/", true),
            ("https://127.0.0.1/", false),
            ("http://10.0.0.1/hook", false),
            ("http://0.0.0.0/", false),
            ("http://localhost.evil.dev/", false),
            ("http://worker.dev/", false),
        ] {
            let judge = |policy| WebhookUrl::parse(url, policy).is_ok();
            assert_eq!(judge(WebhookPolicy::Loopback), local, "{url}");
            let public = local && url.starts_with("https:");
            assert_eq!(judge(WebhookPolicy::Public), public, "{url}");
        }
    }

    #[test]
    fn outside_rejects_hosts_of_the_own_domain() {
        let own = Domain::parse("path.app").unwrap();
        for (url, expected) in [
            ("https://path.app/hook", Err(RejectedUrl::Own)),
            ("https://API.Path.App/v1/stream/a", Err(RejectedUrl::Own)),
            ("https://docs.path.app.:443/", Err(RejectedUrl::Own)),
            ("https://a.b.path.app", Err(RejectedUrl::Own)),
            ("https://notpath.app/", Ok(())),
            ("https://path.app.example.com/", Ok(())),
            ("https://example.com/path.app", Ok(())),
        ] {
            let judged = WebhookUrl::parse(url, WebhookPolicy::Public).unwrap();
            assert_eq!(judged.outside(&own).map(drop), expected, "{url}");
        }
        let local = Domain::parse("localhost").unwrap();
        let url = WebhookUrl::parse("http://localhost:1/", WebhookPolicy::Loopback).unwrap();
        assert!(url.outside(&local).is_ok());
    }

    #[test]
    fn admits_only_addresses_within_the_reach() {
        let public = WebhookUrl::parse("https://worker.dev/", WebhookPolicy::Loopback).unwrap();
        let local = WebhookUrl::parse("http://localhost/", WebhookPolicy::Loopback).unwrap();
        for (address, out, here) in [
            ("8.8.8.8", true, false),
            ("2606:4700::1111", true, false),
            ("::ffff:8.8.8.8", true, false),
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("10.1.2.3", false, false),
            ("192.0.0.8", false, false),
            ("192.0.2.1", false, false),
            ("192.88.99.1", false, false),
            ("198.19.0.1", false, false),
            ("203.0.113.7", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("2001:db8::1", false, false),
            ("2001::1", false, false),
            ("3fff:1::1", false, false),
            ("ff02::1", false, false),
        ] {
            let address = address.parse().unwrap();
            for url in [&public, &WebhookUrl::from_stored(public.text.clone())] {
                assert_eq!(url.reach().admits(address), out, "{address}");
            }
            for url in [&local, &WebhookUrl::from_stored(local.text.clone())] {
                assert_eq!(url.reach().admits(address), here, "{address}");
            }
        }
    }
}
