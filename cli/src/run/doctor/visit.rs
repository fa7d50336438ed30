//! One request as a stranger sends it, on a connection of its own: nothing is repeated, followed or
//! decoded, and no token goes along.

use std::time::Duration;

use http::HeaderMap;
use ureq::{Agent, Body};

use crate::config::Site;
use crate::server::{Reach, Server};
use crate::trust::{self, Trust};

/// Bytes of an answer that are read.
pub(super) const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who asks.
pub(super) struct Visitor {
    agents: [Agent; 2],
    pub(super) server: Server,
    pub(super) trust: Trust,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How the body is coded.
    pub(super) fn coding(&self) -> &str {
        self.header("content-encoding").unwrap_or("identity")
    }
}

/// Where a request is sent, and the host that it names.
pub(super) struct Place {
    pub(super) url: String,
    /// Another host than the URL's.
    pub(super) host: Option<String>,
}

impl Visitor {
    pub(super) fn new(site: &Site) -> Self {
        let agents = [site.trust.clone(), Trust::bundled()];
        Self {
            agents: agents.map(|trust| agent(&site.server, &trust)),
            server: site.server.clone(),
            trust: site.trust.clone(),
        }
    }

    /// Asks for an address.
    pub(super) fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Seen, String> {
        self.ask("GET", url, headers)
    }

    /// The same with any method.
    pub(super) fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Seen, String> {
        let [agent, bundled] = &self.agents;
        let sent = match self.send(agent, method, url, headers) {
            Err(ureq::Error::Rustls(error)) if trust::is_storeless(&error) => {
                self.send(bundled, method, url, headers)
            }
            sent => sent,
        };
        sent.and_then(read).map_err(|error| error.to_string())
    }

    fn send(
        &self,
        agent: &Agent,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<http::Response<Body>, ureq::Error> {
        let place = self.place(url);
        let mut request = http::Request::builder().method(method).uri(place.url);
        if let Some(host) = place.host {
            request = request.header("host", host);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        agent.run(request.body(())?)
    }

    /// Where an address leads. Not every system knows where names below localhost are, so these
    /// lead to the server if that is on this machine.
    pub(super) fn place(&self, url: &str) -> Place {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let name = host.split(':').next().unwrap_or_default();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_local && self.server.reach() == Reach::Loopback {
            return Place {
                url: self.server.url(path),
                host: Some(host.to_owned()),
            };
        }
        Place {
            url: format!("{}{path}", &url[..url.len() - rest.len() + host.len()]),
            host: None,
        }
    }
}

fn read(mut answer: http::Response<Body>) -> Result<Seen, ureq::Error> {
    let limited = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
    let body = limited.read_to_vec()?;
    let (head, _) = answer.into_parts();
    Ok(Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

fn agent(server: &Server, trust: &Trust) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Each connection may be answered by another isolate.
        .max_idle_connections(0)
        .timeout_global(Some(PATIENCE))
        .tls_config(trust.config())
        .accept_encoding("identity")
        .user_agent(concat!("pmx-doctor/", env!("CARGO_PKG_VERSION")));
    let config = match server.reach() {
        Reach::Loopback => config.proxy(None),
        Reach::Encrypted | Reach::Plain => config,
    };
    config.build().new_agent()
}
