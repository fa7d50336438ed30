//! Trusted reverse proxies: their addresses, and the headers with which they describe a request.

use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderMap;
use http::header::FORWARDED;

/// A range of addresses, such as `10.0.0.0/8`; a single address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Whether an address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                let prefix = |ip: std::net::Ipv4Addr| u32::from(ip).checked_shr(shift);
                prefix(first) == prefix(address)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                let prefix = |ip: std::net::Ipv6Addr| u128::from(ip).checked_shr(shift);
                prefix(first) == prefix(address)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text:?} is no address like 10.0.0.7, and no range like 10.0.0.0/8");
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| expected())?;
        let first = first.to_canonical();
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| expected()))?;
        if bits > most {
            return Err(expected());
        }
        Ok(Self { first, bits })
    }
}

/// The proxies whose headers the host trusts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(pub(crate) Vec<AddressRange>);

/// A request as its client sent it to the first trusted proxy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardedRequest {
    pub(crate) host: Option<String>,
    pub(crate) scheme: Option<&'static str>,
    pub(crate) client: Option<IpAddr>,
}

impl Proxies {
    /// Whether a peer is a trusted proxy.
    pub(crate) fn contains(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(peer))
    }

    /// Reads `Forwarded` (RFC 7239) or, without it, the `X-Forwarded-*` headers. The last entry of
    /// each list is that of the trusted proxy. The client is the last entry that is no trusted
    /// proxy.
    pub(crate) fn describe(&self, headers: &HeaderMap) -> ForwardedRequest {
        if headers.contains_key(FORWARDED) {
            return self.forwarded(&list(headers, FORWARDED.as_str()));
        }
        let last = |name| list(headers, name).pop();
        let clients = list(headers, "x-forwarded-for");
        ForwardedRequest {
            host: last("x-forwarded-host").filter(|host| !host.is_empty()),
            scheme: last("x-forwarded-proto").and_then(|text| scheme(&text)),
            client: self.client(clients.iter().map(String::as_str)),
        }
    }

    fn forwarded(&self, hops: &[String]) -> ForwardedRequest {
        let part = |hop: &String, name: &str| {
            let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
            let mut values = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            values
                .next()
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let last = |name| hops.last().and_then(|hop| part(hop, name));
        let clients: Vec<_> = hops.iter().filter_map(|hop| part(hop, "for")).collect();
        ForwardedRequest {
            host: last("host"),
            scheme: last("proto").and_then(|text| scheme(&text)),
            client: self.client(clients.iter().map(String::as_str)),
        }
    }

    fn client<'a>(&self, hops: impl DoubleEndedIterator<Item = &'a str>) -> Option<IpAddr> {
        let mut known = hops.rev().map_while(address);
        known.find(|address| !self.contains(*address))
    }
}

/// The entries of a list header, from all its lines.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    let entries = texts.flat_map(|text| text.split(','));
    entries.map(|entry| entry.trim().to_owned()).collect()
}

fn scheme(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "http" => Some("http"),
        "https" => Some("https"),
        _ => None,
    }
}

/// Parses an address with an optional port; IPv6 may have brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((address, _)) = bare {
        return address.parse().ok();
    }
    let whole = text.parse().ok();
    whole.or_else(|| text.split_once(':')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_ranges_are_parsed() {
        let holds = |range: &str, address: &str| {
            let range: AddressRange = range.parse().unwrap();
            range.contains(address.parse().unwrap())
        };
        for (range, address, expected) in [
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.7", "::ffff:10.0.0.7", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("::1", "::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "10.0.0.1", false),
        ] {
            assert_eq!(holds(range, address), expected, "{range} {address}");
        }
        for bad in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "::1/129",
            "10.0.0.1:80",
        ] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn describe_takes_the_trusted_proxys_own_entries() {
        let proxies = Proxies(vec![
            "127.0.0.1".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ]);
        let described = |lines: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let ForwardedRequest {
                host,
                scheme,
                client,
            } = proxies.describe(&headers);
            let client = client.map(|client| client.to_string());
            format!("{scheme:?} {host:?} {client:?}")
                .replace("Some", "")
                .replace(['(', ')', '"'], "")
        };
        for (lines, expected) in [
            (&[][..], "None None None"),
            (
                &[
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "docs.example"),
                    ("x-forwarded-for", "203.0.113.9"),
                ],
                "https docs.example 203.0.113.9",
            ),
            // The client itself may have sent the entries before the last untrusted address.
            (
                &[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2")],
                "None None 203.0.113.9",
            ),
            (
                &[
                    ("x-forwarded-for", "1.1.1.1"),
                    ("x-forwarded-for", "unknown, 10.0.0.2"),
                ],
                "None None None",
            ),
            (
                &[
                    ("x-forwarded-host", "evil.example, docs.example"),
                    ("x-forwarded-proto", "ftp"),
                ],
                "None docs.example None",
            ),
            (
                &[
                    (
                        "forwarded",
                        "for=\"[2001:db8::1]:4711\";proto=https;host=docs.example",
                    ),
                    ("x-forwarded-host", "evil.example"),
                ],
                "https docs.example 2001:db8::1",
            ),
            (
                &[(
                    "forwarded",
                    "for=1.1.1.1;host=evil.example, for=203.0.113.9:80;Proto=HTTP",
                )],
                "http None 203.0.113.9",
            ),
        ] {
            assert_eq!(described(lines), expected, "{lines:?}");
        }
    }
}
