//! Edge check: the server that answers at the hosts, by https and by plain http.

use super::sites::random_word;
use super::visit::VisitAnswer;
use super::{CheckFinding, Doctor};
use crate::server::LinkSecurity;

impl Doctor<'_> {
    /// Checks which edge answers by https.
    pub(super) fn edge_of_server(&self) -> CheckFinding {
        let server = &self.site.server;
        let url = server.url("/healthz");
        let seen = match self.visitor.get(&url, &[]) {
            Ok(seen) => seen,
            Err(why) => return CheckFinding::failed(format!("{url}: {why}")),
        };
        if !is_https(server.as_str()) {
            let why = format!("{server} is plain http on this machine, without an edge");
            return CheckFinding::skipped(why);
        }
        let (status, by) = (seen.status, seen.header("server").unwrap_or("unknown"));
        match seen.header("cf-ray") {
            Some(ray) => CheckFinding::ok(format!("{url}: {status} by {by}, cf-ray {ray}")),
            None => CheckFinding::failed(format!("{url}: {status} by {by}, without cf-ray"))
                .hint("Cloudflare did not answer: check that the DNS record is proxied."),
        }
    }

    /// Checks that the API answers at the domain itself and at `api.`.
    pub(super) fn apex_and_api(&self) -> CheckFinding {
        let (mut saw, mut faults) = (Vec::new(), Vec::new());
        for url in self.api_urls() {
            let health = format!("{url}/healthz");
            match self.visitor.get(&health, &[]) {
                Ok(seen) if seen.status == 200 => match version(&seen) {
                    Some(version) => saw.push(format!("{url} runs pmx {version}")),
                    None => faults.push(format!("{url}: another server answers")),
                },
                Ok(seen) => faults.push(format!("{health}: {}", seen.status)),
                Err(why) => faults.push(format!("{health}: {why}")),
            }
        }
        CheckFinding::of(&saw, &faults).hint(
            "Both hosts need a route to the Worker and a proxied DNS record: the route `*.DOMAIN/*` does not match the apex.",
        )
    }

    /// Checks that plain http redirects to https, and accepts no token.
    pub(super) fn plain_http(&self) -> CheckFinding {
        let server = &self.site.server;
        let Some(rest) = server.as_str().strip_prefix("https://") else {
            let why = format!("{server} is plain http on this machine");
            return CheckFinding::skipped(why);
        };
        let host = rest.split(':').next().unwrap_or(rest);
        let named = self.args.http.clone();
        let url = named.unwrap_or_else(|| format!("http://{host}"));
        let url = format!("{}/healthz", url.trim_end_matches('/'));
        let open = match self.visitor.get(&url, &[]) {
            Ok(seen) => seen,
            Err(why) => return CheckFinding::ok(format!("{url}: nothing answers ({why})")),
        };
        let (mut saw, mut faults) = (Vec::new(), Vec::new());
        let location = open.header("location").unwrap_or_default();
        let status = open.status;
        if matches!(status, 301 | 307 | 308) && location.starts_with("https://") {
            saw.push(format!("{url}: {status} to https"));
        } else {
            faults.push(format!("{url}: {status}, and no redirect to https"));
        }
        // The check never sends the real token.
        let token = format!("Bearer not-a-token-{}", random_word());
        match self.visitor.get(&url, &[("authorization", &token)]) {
            Ok(seen) if seen.status == 403 => saw.push("a token is refused: 403".into()),
            Ok(seen) if matches!(seen.status, 301 | 307 | 308) => saw.push(format!(
                "a token is redirected by the zone before the Worker sees it: {}",
                seen.status
            )),
            Ok(seen) => faults.push(format!("with a token: {}, not 403", seen.status)),
            Err(why) => faults.push(format!("with a token: {why}")),
        }
        CheckFinding::of(&saw, &faults).hint(
            "The Worker does both unless SITE_SCHEME is http; see whether the route leads plain http past it.",
        )
    }

    /// Checks that streams are closed to clients without a secret.
    pub(super) fn streams_closed(&self) -> CheckFinding {
        let path = format!("/v1/stream/pmx-doctor-{}?offset=-1", random_word());
        let url = self.site.server.url(&path);
        let seen = match self.visitor.get(&self.api_url(&path), &[]) {
            Ok(seen) => seen,
            Err(why) => return CheckFinding::failed(format!("{url}: {why}")),
        };
        let (status, code) = (seen.status, code(&seen));
        let saw = format!("a stranger who reads a stream gets {status} {code}");
        match status {
            401 | 403 => CheckFinding::ok(saw),
            200 | 404 => CheckFinding::failed(format!("{saw}: everybody may create, read and delete"))
                .hint("Set STREAM_SECRET or STREAM_TOKEN_KEYS with `npx wrangler secret put`, and do not set STREAM_ACCESS."),
            _ => CheckFinding::failed(saw),
        }
    }

    /// The two addresses of the API at one domain.
    fn api_urls(&self) -> [String; 2] {
        let server = self.site.server.as_str();
        let (scheme, rest) = server.split_once("://").unwrap_or(("https", server));
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                (host, format!(":{port}"))
            }
            _ => (rest, String::new()),
        };
        let apex = match self.site.server.reach() {
            LinkSecurity::Loopback => "localhost",
            LinkSecurity::Encrypted | LinkSecurity::Plain => {
                host.strip_prefix("api.").unwrap_or(host)
            }
        };
        [apex.to_owned(), format!("api.{apex}")].map(|host| format!("{scheme}://{host}{port}"))
    }

    fn api_url(&self, path: &str) -> String {
        let [_, api] = self.api_urls();
        match self.site.server.reach() {
            LinkSecurity::Loopback => format!("{api}{path}"),
            LinkSecurity::Encrypted | LinkSecurity::Plain => self.site.server.url(path),
        }
    }
}

fn is_https(server: &str) -> bool {
    server.starts_with("https://")
}

fn version(seen: &VisitAnswer) -> Option<String> {
    let health: serde_json::Value = serde_json::from_slice(&seen.body).ok()?;
    Some(health.get("version")?.as_str()?.to_owned())
}

/// The code of a refusal.
fn code(seen: &VisitAnswer) -> String {
    let body = serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap_or_default();
    let code = body.get("code").and_then(|code| code.as_str());
    code.unwrap_or("without a code").to_owned()
}
