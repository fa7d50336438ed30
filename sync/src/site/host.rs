//! Host name parsing: maps a label to a site, a preview or a deploy.
//!
//! `<space>`, `<alias>--<space>` and `<number>--<space>` under the domain are sites.
//! [`Hosts`](super::Hosts) decides which other hosts a server answers.

use pmx_core::domain::Selector;
use pmx_core::limits::{DNS_LABEL_BYTES_MAX, EXACT_INTEGER_MAX, HOST_BYTES_MAX};
use pmx_core::name::{AliasName, SpaceName};
/// Meaning of a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressed {
    /// A site, if the space exists.
    Site {
        /// The space.
        space: SpaceName,
        /// The selected deploy.
        deploy: Selector,
    },
    /// The API.
    Api,
    /// No host of this server, and no name of a site: [`absent`](super::absent) answers.
    Unknown,
}

pub(super) fn site(label: &str) -> Option<Addressed> {
    if label.len() > DNS_LABEL_BYTES_MAX {
        return None;
    }
    let (deploy, space) = match label.split_once("--") {
        None => (Selector::Active, label),
        Some((selector, space)) => (parse_selector(selector)?, space),
    };
    let space = SpaceName::parse(space).ok()?;
    Some(Addressed::Site { space, deploy })
}

fn parse_selector(text: &str) -> Option<Selector> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // Each number has one canonical form, so that caches store a deploy once.
        let canonical = !text.starts_with('0');
        let number = text.parse().ok().filter(|_| canonical)?;
        return (number <= EXACT_INTEGER_MAX).then_some(Selector::Number(number));
    }
    AliasName::parse(text).ok().map(Selector::Alias)
}

/// The host in lower case without port and root dot; `None` if it is malformed.
pub(super) fn plain_host(header: &str) -> Option<String> {
    let (host, port) = if let Some(rest) = header.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let numeric = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
        if address.is_empty() || !address.bytes().all(numeric) {
            return None;
        }
        (address, after)
    } else {
        let end = header.find(':').unwrap_or(header.len());
        let (host, port) = header.split_at(end);
        (named_host(host)?, port)
    };
    let port_fits = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()),
    };
    port_fits.then(|| host.to_ascii_lowercase())
}

fn named_host(text: &str) -> Option<&str> {
    let host = text.strip_suffix('.').unwrap_or(text);
    // Host names have no underscore, but real names elsewhere do.
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let sound = host.bytes().all(legal) && host.split('.').all(|label| !label.is_empty());
    (sound && host.len() <= HOST_BYTES_MAX).then_some(host)
}

#[cfg(test)]
mod tests {
    use pmx_core::domain::Domain;
    use pmx_core::exposure::Exposure;

    use super::super::Hosts;
    use super::*;

    fn shown(host: &str, domain: &str) -> String {
        let hosts = Hosts::new(Domain::parse(domain).unwrap());
        match hosts.resolve(host, Exposure::Public) {
            Addressed::Api => "api".into(),
            Addressed::Unknown => "unknown".into(),
            Addressed::Site { space, deploy } => match deploy {
                Selector::Active => format!("{space}"),
                Selector::Number(number) => format!("{space} number {number}"),
                Selector::Alias(alias) => format!("{space} alias {alias}"),
            },
        }
    }

    #[test]
    fn hosts_of_sites() {
        let long = "x".repeat(63);
        for (host, expected) in [
            ("docs.path.app", "docs"),
            ("DOCS.Path.App", "docs"),
            ("docs.path.app.", "docs"),
            ("docs.path.app:443", "docs"),
            ("docs.path.app.:443", "docs"),
            ("2026.path.app", "2026"),
            ("www.path.app", "www"),
            ("12--docs.path.app", "docs number 12"),
            ("12--2026.path.app", "2026 number 12"),
            ("preview-x--docs.path.app", "docs alias preview-x"),
            ("9007199254740991--a.path.app", "a number 9007199254740991"),
            (&format!("{long}.path.app"), &long),
        ] {
            assert_eq!(shown(host, "path.app"), expected, "{host}");
        }
        assert_eq!(shown("docs.localhost:8787", "localhost"), "docs");
    }

    #[test]
    fn host_of_no_site_is_unknown() {
        let long = format!("{}.path.app", "x".repeat(64));
        let pair = format!("{}--{}.path.app", "a".repeat(37), "b".repeat(30));
        for host in [
            "",
            "evil.example",
            "notpath.app",
            "path.app.evil.example",
            "127.0.0.1:8787",
            "[::1]",
            ".path.app",
            "a.b.path.app",
            "a..path.app",
            "_x.path.app",
            "a_b.path.app",
            "-a.path.app",
            "admin.path.app",
            "xn--bcher-kva.path.app",
            "0--docs.path.app",
            "007--docs.path.app",
            "9007199254740992--docs.path.app",
            "99999999999999999999999--docs.path.app",
            "a--b--docs.path.app",
            "a---docs.path.app",
            "--docs.path.app",
            "12--.path.app",
            "12--admin.path.app",
            &long,
            &pair,
            "docs.path.app:http",
            "docs.path.app:1:2",
            "docs.path.app:123456",
            "docs.path.app..",
            "user@docs.path.app",
            "docs.path.app/x",
            "docs.path.app, evil.example",
            "docs.path.app\r\nX: y",
            "d\u{f6}cs.path.app",
            "[::1",
            "[x].path.app",
            &"a.".repeat(200),
        ] {
            assert_eq!(shown(host, "path.app"), "unknown", "{host:?}");
        }
    }

    #[test]
    fn built_host_is_parsed_back() {
        let domain = Domain::parse("Path.App").unwrap();
        let space = SpaceName::parse("docs").unwrap();
        for deploy in [
            Selector::Active,
            Selector::Number(7),
            Selector::Alias(AliasName::parse("next").unwrap()),
        ] {
            let host = domain.host_of(&space, &deploy).unwrap();
            let space = space.clone();
            let found = Hosts::new(domain.clone()).resolve(&host, Exposure::Public);
            assert_eq!(found, Addressed::Site { space, deploy });
        }
        let long = SpaceName::parse(&"x".repeat(63)).unwrap();
        assert_eq!(domain.host_of(&long, &Selector::Number(1)), None);
    }
}
