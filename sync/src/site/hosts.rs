//! Virtual hosts: map the authority of a request to a site or the API.
//!
//! Sites and the API answer under the domain; the API may also have its own host. Names of this
//! machine (`localhost`, loopback addresses) count only if no remote client can send the request.
//! Callers may pass only the `Host` header, `:authority`, or the value of a trusted proxy.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use pmx_core::domain::{Domain, InvalidDomain, Selector};
use pmx_core::exposure::Exposure;
use pmx_core::name::SpaceName;

use super::host::{Addressed, plain_host, site};
use crate::domains::CustomHost;

/// The hosts that a server answers.
#[derive(Debug, Clone)]
pub struct Hosts {
    domain: Domain,
    api: Option<Domain>,
    home: Option<SpaceName>,
    loopback: bool,
}

impl Hosts {
    /// Hosts of the domain, its sites, and `api` under it.
    pub const fn new(domain: Domain) -> Self {
        Self {
            domain,
            api: None,
            home: None,
            loopback: false,
        }
    }

    /// Adds a separate host of the API.
    pub fn with_api(mut self, host: &str) -> Result<Self, InvalidDomain> {
        self.api = Some(Domain::parse(host)?);
        Ok(self)
    }

    /// Makes the domain itself and the names of this machine a site. The API then answers at `api`
    /// under the domain, so that no content of users has its origin.
    #[must_use]
    pub fn with_home(mut self, space: SpaceName) -> Self {
        self.home = Some(space);
        self
    }

    /// Makes names of this machine count for every request, in development: for a platform that
    /// does not know its clients' addresses.
    #[must_use]
    pub const fn with_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// The domain under which sites live.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Resolves a `Host` header without its port, case-insensitively.
    pub fn resolve(&self, header: &str, exposure: Exposure) -> Addressed {
        let Some(host) = plain_host(header) else {
            return Addressed::Unknown;
        };
        if self.api.as_ref().is_some_and(|api| api.as_str() == host) {
            return Addressed::Api;
        }
        if host == self.domain.as_str() {
            return self.home();
        }
        let under = host.strip_suffix(self.domain.as_str());
        match under.and_then(|rest| rest.strip_suffix('.')) {
            Some("api") => Addressed::Api,
            Some(label) => site(label).unwrap_or(Addressed::Unknown),
            None if !self.loopback && exposure == Exposure::Public => Addressed::Unknown,
            None if host == LOOPBACK_API => Addressed::Api,
            None if is_loopback(&host) => self.home(),
            None => Addressed::Unknown,
        }
    }

    /// The custom host that a request names, if it is none of the server's own.
    pub fn custom(&self, head: &Parts) -> Option<CustomHost> {
        let field = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let header = field.or_else(|| head.uri.authority().map(Authority::as_str))?;
        let host = CustomHost::parse(&plain_host(header)?).ok()?;
        (!self.owns(&host)).then_some(host)
    }

    /// Whether a host is the server's own: it is the domain, lies under it, or is the API's.
    pub(crate) fn owns(&self, host: &CustomHost) -> bool {
        let is_api = self
            .api
            .as_ref()
            .is_some_and(|api| api.as_str() == host.as_str());
        is_api || host.is_within(&self.domain)
    }

    fn home(&self) -> Addressed {
        let space = self.home.clone();
        space.map_or(Addressed::Api, |space| Addressed::Site {
            space,
            deploy: Selector::Active,
        })
    }
}

/// The space of a request's custom host. The platform looks it up, and puts it into the request's
/// extensions.
#[derive(Debug, Clone)]
pub struct CustomSite(pub SpaceName);

impl CustomSite {
    /// The site that the platform found for a request.
    pub(crate) fn of(head: &Parts) -> Option<Addressed> {
        let Self(space) = head.extensions.get()?;
        Some(Addressed::Site {
            space: space.clone(),
            deploy: Selector::Active,
        })
    }
}

/// The API's name on every machine. A client sends it to a server at a loopback address, whose
/// other names may all be a site's.
pub const LOOPBACK_API: &str = "api.localhost";

/// Whether a host without port names this machine (RFC 6761), or is a loopback address.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
        || host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hosts: &Hosts, host: &str, exposure: Exposure) -> String {
        match hosts.resolve(host, exposure) {
            Addressed::Api => "api".into(),
            Addressed::Unknown => "unknown".into(),
            Addressed::Site { space, .. } => space.to_string(),
        }
    }

    #[test]
    fn resolve_takes_names_of_this_machine_only_from_it() {
        let public = Hosts::new(Domain::parse("path.app").unwrap());
        let named = public.clone().with_api("pages.example.org").unwrap();
        let home = public.clone().with_home(SpaceName::parse("docs").unwrap());
        let local = Hosts::new(Domain::parse("localhost").unwrap());
        let dev = local.clone().with_home(SpaceName::parse("docs").unwrap());
        let worker = local.clone().with_loopback();
        for (host, expected) in [
            // Public, with an API host, with a home: from a remote client. Then from this machine:
            // public, home, local, dev. Last the Worker in development.
            ("path.app", "api api docs api docs unknown unknown unknown"),
            (
                "API.path.app.:443",
                "api api api api api unknown unknown unknown",
            ),
            (
                "pages.example.org",
                "unknown api unknown unknown unknown unknown unknown unknown",
            ),
            (
                "127.0.0.1:8787",
                "unknown unknown unknown api docs api docs api",
            ),
            (
                "[::1]:8787",
                "unknown unknown unknown api docs api docs api",
            ),
            ("localhost", "unknown unknown unknown api docs api docs api"),
            (
                "api.localhost:1",
                "unknown unknown unknown api api api api api",
            ),
            (
                "128.0.0.1",
                "unknown unknown unknown unknown unknown unknown unknown unknown",
            ),
            (
                "0.0.0.0",
                "unknown unknown unknown unknown unknown unknown unknown unknown",
            ),
            (
                "evil.example",
                "unknown unknown unknown unknown unknown unknown unknown unknown",
            ),
        ] {
            let seen = [
                shown(&public, host, Exposure::Public),
                shown(&named, host, Exposure::Public),
                shown(&home, host, Exposure::Public),
                shown(&public, host, Exposure::Machine),
                shown(&home, host, Exposure::Machine),
                shown(&local, host, Exposure::Local),
                shown(&dev, host, Exposure::Local),
                shown(&worker, host, Exposure::Public),
            ];
            assert_eq!(seen.join(" "), expected, "{host}");
        }
    }
}
