//! Exposure of a request: whether another machine can have sent it.

use std::net::IpAddr;

use http::HeaderMap;
use http::request::Parts;

/// The possible origin of a request. A platform puts it into the request's extensions; without it
/// the request is [`Public`](Exposure::Public).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exposure {
    /// From any machine.
    #[default]
    Public,
    /// From this machine, but the server is not in local mode.
    Machine,
    /// From this machine, and the server is in local mode.
    Local,
}

impl Exposure {
    /// The exposure of a request.
    pub fn of(head: &Parts) -> Self {
        head.extensions.get().copied().unwrap_or_default()
    }

    /// Derives the exposure from the peer's address and the headers: a proxy on this machine
    /// forwards requests from anywhere.
    pub fn judge(peer: Option<IpAddr>, headers: &HeaderMap, local: bool) -> Self {
        let near = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
        match (near && !is_forwarded(headers), local) {
            (false, _) => Self::Public,
            (true, false) => Self::Machine,
            (true, true) => Self::Local,
        }
    }
}

/// Whether a proxy has added a header that names its client.
fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        name.as_str().starts_with("x-forwarded-") || FORWARDING.contains(&name.as_str())
    })
}

const FORWARDING: [&str; 7] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-host",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposure_is_public_behind_a_proxy() {
        let judged = |peer: &str, header: Option<&str>, local| {
            let mut headers = HeaderMap::new();
            if let Some(name) = header {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.insert(name, "x".parse().unwrap());
            }
            Exposure::judge(Some(peer.parse().unwrap()), &headers, local)
        };
        assert_eq!(judged("127.0.0.1", None, true), Exposure::Local);
        assert_eq!(judged("::ffff:127.0.0.1", None, true), Exposure::Local);
        assert_eq!(judged("::1", None, false), Exposure::Machine);
        assert_eq!(judged("10.0.0.1", None, true), Exposure::Public);
        for name in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"] {
            assert_eq!(judged("127.0.0.1", Some(name), true), Exposure::Public);
        }
        assert_eq!(
            Exposure::judge(None, &HeaderMap::new(), true),
            Exposure::Public
        );
    }
}
