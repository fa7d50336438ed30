//! Custom host: a host name outside of the server's domain that a space may own.
//!
//! A name is ASCII in lower case, without port and root dot, as browsers send it. Clients turn an
//! internationalised name into its `xn--` form (RFC 5891) before they send it.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use pmx_core::code::Code;
use pmx_core::domain::Domain;
use pmx_core::limits::DNS_LABEL_BYTES_MAX;
use pmx_core::problem::Problem;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::limits::CUSTOM_HOST_BYTES_MAX;

/// The label of the record that proves a host, in front of the host's name.
pub const RECORD_LABEL: &str = "_pmx";

/// A host name that a space may own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomHost(Arc<str>);

impl CustomHost {
    /// Parses a name, in any case and with or without a root dot.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match fault(&host) {
            None => Ok(Self(host.into())),
            Some(fault) => Err(InvalidHost {
                host: text.chars().take(SHOWN_CHARS).collect(),
                fault,
            }),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the TXT record that proves the host.
    pub fn record(&self) -> String {
        format!("{RECORD_LABEL}.{self}")
    }

    /// Whether the host is the domain or lies under it.
    pub fn is_within(&self, domain: &Domain) -> bool {
        let rest = self.0.strip_suffix(domain.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// Characters of a refused name that an error repeats.
const SHOWN_CHARS: usize = 80;

fn fault(host: &str) -> Option<HostFault> {
    if host.contains(':') || host.contains('/') {
        return Some(HostFault::Address);
    }
    if !host.is_ascii() {
        return Some(HostFault::NotAscii);
    }
    if host.len() > CUSTOM_HOST_BYTES_MAX {
        return Some(HostFault::TooLong);
    }
    if !host.split('.').all(is_label) {
        return Some(HostFault::Label);
    }
    let Some((_, last)) = host.rsplit_once('.') else {
        return Some(HostFault::SingleLabel);
    };
    // Programs read a name whose last label is a number as an IPv4 address (WHATWG URL, section
    // 3.5), also `127.1` and `0x7f.0.0.1`.
    if host.parse::<Ipv4Addr>().is_ok() || is_number(last) {
        return Some(HostFault::Ip);
    }
    // Names under `localhost` are this machine's (RFC 6761), and local mode trusts them.
    (last == "localhost").then_some(HostFault::Localhost)
}

fn is_label(label: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty()
        && label.len() <= DNS_LABEL_BYTES_MAX
        && label.bytes().all(legal)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x");
    hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
        || label.bytes().all(|b| b.is_ascii_digit())
}

/// The text is not a custom host.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{host:?} can't be a domain of a space: {fault}")]
pub struct InvalidHost {
    host: String,
    fault: HostFault,
}

/// Fault of a host name.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
enum HostFault {
    #[error("name the host alone, without scheme, port and path")]
    Address,
    #[error("spell it in ASCII, with xn-- for other letters")]
    NotAscii,
    #[error("it is longer than {CUSTOM_HOST_BYTES_MAX} bytes")]
    TooLong,
    #[error("a label has 1 to 63 letters, digits and hyphens, and no hyphen at its ends")]
    Label,
    #[error("it has a single label; expected a name such as docs.example.com")]
    SingleLabel,
    #[error("it is an IP address, which no record can prove")]
    Ip,
    #[error("names under localhost belong to each machine itself")]
    Localhost,
}

impl From<InvalidHost> for Problem {
    fn from(error: InvalidHost) -> Self {
        Self::new(Code::DomainInvalid, error.to_string())
    }
}

impl fmt::Display for CustomHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CustomHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for CustomHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CustomHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, HostFault> {
        CustomHost::parse(text)
            .map(|host| host.to_string())
            .map_err(|error| error.fault)
    }

    #[test]
    fn custom_host_is_a_name_of_several_labels() {
        let long = format!("{}.example.com", "x".repeat(64));
        let longest = format!("{}com", "a.".repeat(130));
        for (text, expected) in [
            ("docs.example.com", Ok("docs.example.com")),
            ("Docs.EXAMPLE.com.", Ok("docs.example.com")),
            ("example.com", Ok("example.com")),
            ("www.example.com", Ok("www.example.com")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("1.example.com", Ok("1.example.com")),
            ("b\u{fc}cher.example", Err(HostFault::NotAscii)),
            ("docs", Err(HostFault::SingleLabel)),
            ("localhost", Err(HostFault::SingleLabel)),
            ("docs.localhost", Err(HostFault::Localhost)),
            ("127.0.0.1", Err(HostFault::Ip)),
            ("127.1", Err(HostFault::Ip)),
            ("1.2.3.0x7f", Err(HostFault::Ip)),
            ("::1", Err(HostFault::Address)),
            ("[::1]", Err(HostFault::Address)),
            ("docs.example.com:443", Err(HostFault::Address)),
            ("https://docs.example.com", Err(HostFault::Address)),
            ("docs.example.com/a", Err(HostFault::Address)),
            ("", Err(HostFault::Label)),
            (".", Err(HostFault::Label)),
            ("docs..com", Err(HostFault::Label)),
            ("docs.example.com..", Err(HostFault::Label)),
            ("-docs.example.com", Err(HostFault::Label)),
            ("_pmx.example.com", Err(HostFault::Label)),
            ("*.example.com", Err(HostFault::Label)),
            ("a b.example.com", Err(HostFault::Label)),
            ("user@example.com", Err(HostFault::Label)),
            (&long, Err(HostFault::Label)),
            (&longest, Err(HostFault::TooLong)),
        ] {
            assert_eq!(shown(text).as_deref(), expected.as_deref(), "{text:?}");
        }
    }

    #[test]
    fn custom_host_lies_outside_of_the_domain() {
        let domain = Domain::parse("path.app").unwrap();
        for (host, expected) in [
            ("path.app", true),
            ("docs.path.app", true),
            ("a.b.path.app", true),
            ("notpath.app", false),
            ("path.app.example.com", false),
            ("example.com", false),
        ] {
            assert_eq!(
                CustomHost::parse(host).unwrap().is_within(&domain),
                expected,
                "{host}"
            );
        }
    }
}
