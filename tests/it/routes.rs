//! Route credentials on both hosts: every route with every kind of credential, for foreign pages
//! and at foreign hosts.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::world::{
    Answer, Host, Server, World, eventually, pmx_command, started_on_both_hosts, try_raw,
};

started_on_both_hosts! {
    routes_ask_for_their_own_credential,
    routes_give_foreign_pages_and_hosts_no_more_than_strangers,
}

const SECRET: &str = "a secret of at least thirty-two bytes";

/// Credential that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Nothing,
    PublishSecret,
    ReadStream,
    WriteStream,
    ManageStream,
    StreamSecret,
}

/// Credential that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sends {
    None,
    Wrong,
    PublishSecret,
    StreamSecret,
    ReadToken,
    WriteToken,
    ManageToken,
    TokenOfAnother,
    ExpiredToken,
}

const CREDENTIALS: [Sends; 9] = [
    Sends::None,
    Sends::Wrong,
    Sends::PublishSecret,
    Sends::StreamSecret,
    Sends::ReadToken,
    Sends::WriteToken,
    Sends::ManageToken,
    Sends::TokenOfAnother,
    Sends::ExpiredToken,
];

impl Asks {
    fn takes(self, sent: Sends) -> bool {
        match self {
            Self::Nothing => true,
            Self::PublishSecret => sent == Sends::PublishSecret,
            Self::ReadStream => matches!(sent, Sends::StreamSecret | Sends::ReadToken),
            Self::WriteStream => matches!(sent, Sends::StreamSecret | Sends::WriteToken),
            Self::ManageStream => matches!(sent, Sends::StreamSecret | Sends::ManageToken),
            Self::StreamSecret => sent == Sends::StreamSecret,
        }
    }
}

const HASH: &str = "abababababababababababababababababababababababababababababababab";

/// All routes: those of the API first, then those of a site, whose paths begin with `docs:`.
const ROUTES: &[(&str, &str, Asks)] = &[
    ("GET", "/", Asks::Nothing),
    ("GET", "/healthz", Asks::Nothing),
    ("HEAD", "/healthz", Asks::Nothing),
    ("POST", "/api/publish/begin", Asks::PublishSecret),
    ("POST", "/api/publish/commit", Asks::PublishSecret),
    (
        "POST",
        "/api/publish/upload?space=docs&hash=HASH",
        Asks::PublishSecret,
    ),
    ("POST", "/api/publish/rollback", Asks::PublishSecret),
    (
        "PUT",
        "/api/publish/packs/HASH?space=docs",
        Asks::PublishSecret,
    ),
    (
        "PUT",
        "/api/publish/blobs/HASH/0?space=docs&size=1",
        Asks::PublishSecret,
    ),
    (
        "DELETE",
        "/api/aliases/next?space=docs",
        Asks::PublishSecret,
    ),
    ("GET", "/api/aliases?space=docs", Asks::PublishSecret),
    ("GET", "/api/domains?space=docs", Asks::PublishSecret),
    ("POST", "/api/domains", Asks::PublishSecret),
    (
        "POST",
        "/api/domains/docs.example.com/check?space=docs",
        Asks::PublishSecret,
    ),
    (
        "DELETE",
        "/api/domains/docs.example.com?space=docs",
        Asks::PublishSecret,
    ),
    ("GET", "/api/spaces", Asks::PublishSecret),
    ("DELETE", "/api/spaces/other?expect=7", Asks::PublishSecret),
    ("POST", "/api/spaces/docs/gc?start=1", Asks::PublishSecret),
    ("POST", "/api/spaces/docs/verify", Asks::PublishSecret),
    ("GET", "/api/spaces/docs/retention", Asks::PublishSecret),
    ("PUT", "/api/spaces/docs/retention", Asks::PublishSecret),
    ("GET", "/api/deploys?space=docs", Asks::PublishSecret),
    ("GET", "/api/deploys/1?space=docs", Asks::PublishSecret),
    ("DELETE", "/api/deploys/1?space=docs", Asks::PublishSecret),
    ("PUT", "/api/deploys/1/pin?space=docs", Asks::PublishSecret),
    (
        "DELETE",
        "/api/deploys/1/pin?space=docs",
        Asks::PublishSecret,
    ),
    (
        "GET",
        "/api/deploys/1/file?space=docs&path=index.html",
        Asks::PublishSecret,
    ),
    ("GET", "/api/nodes?space=docs&ids=", Asks::PublishSecret),
    (
        "GET",
        "/api/diff?space=docs&from=1&to=1",
        Asks::PublishSecret,
    ),
    (
        "GET",
        "/api/deploys/1/diff/1?space=docs",
        Asks::PublishSecret,
    ),
    ("PUT", "/v1/stream/t/new", Asks::ManageStream),
    ("GET", "/v1/stream/t/a?offset=-1", Asks::ReadStream),
    ("HEAD", "/v1/stream/t/a", Asks::ReadStream),
    ("POST", "/v1/stream/t/a", Asks::WriteStream),
    ("DELETE", "/v1/stream/t/none", Asks::ManageStream),
    ("GET", "/v1/stream/", Asks::StreamSecret),
    ("PUT", "/v1/stream/__ds/subscriptions/s", Asks::StreamSecret),
    ("GET", "/v1/stream/__ds/subscriptions/s", Asks::StreamSecret),
    (
        "DELETE",
        "/v1/stream/__ds/subscriptions/s",
        Asks::StreamSecret,
    ),
    ("GET", "docs:/", Asks::Nothing),
    ("HEAD", "docs:/", Asks::Nothing),
    ("GET", "docs:/none", Asks::Nothing),
    ("GET", "docs:/_pmx/live.js", Asks::Nothing),
];

/// A server with a secret of its own for streams, a site and a stream.
struct Setting {
    world: World,
    tokens: Vec<(Sends, String)>,
}

impl Setting {
    fn new(host: Host) -> Self {
        let world = World::with_settings(host, &[("STREAM_SECRET", SECRET)]);
        world.write(&[("index.html", "home")]);
        world.sync("docs", &[]).ok();
        let expired = token("t/*", "read write manage", "1s");
        let tokens = vec![
            (Sends::Wrong, "wrong".to_owned()),
            (Sends::PublishSecret, world.token().replace("Bearer ", "")),
            (Sends::StreamSecret, SECRET.to_owned()),
            (Sends::ReadToken, token("t/*", "read", "1h")),
            (Sends::WriteToken, token("t/*", "write", "1h")),
            (Sends::ManageToken, token("t/*", "manage", "1h")),
            (
                Sends::TokenOfAnother,
                token("other/*", "read write manage", "1h"),
            ),
            (Sends::ExpiredToken, expired),
        ];
        let setting = Self { world, tokens };
        let made = setting.ask("PUT", "/v1/stream/t/a", Sends::StreamSecret, &[]);
        assert_eq!(made.status, 201, "{made:?}");
        eventually("the token expires", || {
            let read = setting.ask("GET", "/v1/stream/t/a", Sends::ExpiredToken, &[]);
            read.status == 401
        });
        setting
    }

    fn ask(&self, method: &str, path: &str, sent: Sends, more: &[(&str, &str)]) -> Answer {
        let port = self.world.server.port;
        let (host, path) = match path.split_once(':') {
            Some((site, path)) => (format!("{site}.localhost:{port}"), path),
            None => (format!("127.0.0.1:{port}"), path),
        };
        let path = path.replace("HASH", HASH);
        let own = !more.iter().any(|(name, _)| *name == "Host");
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if own {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        if let Some((_, token)) = self.tokens.iter().find(|(known, _)| *known == sent) {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in more {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if matches!(method, "PUT" | "POST") {
            head.push_str("Content-Type: text/plain\r\nContent-Length: 1\r\n");
        }
        let body = if matches!(method, "PUT" | "POST") {
            "x"
        } else {
            ""
        };
        let request = format!("{head}\r\n{body}");
        let answer = try_raw(port, request.as_bytes(), method == "HEAD");
        answer.unwrap_or_else(|| panic!("no answer to {request:?}"))
    }
}

fn token(stream: &str, scope: &str, expires: &str) -> String {
    let mut pmx = pmx_command();
    pmx.env_remove("STREAM_TOKEN_KEYS")
        .env("STREAM_SECRET", SECRET);
    pmx.args([
        "stream-token",
        "--stream",
        stream,
        "--scope",
        scope,
        "--expires",
        expires,
    ]);
    let made = pmx.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn routes_ask_for_their_own_credential(host: Host) {
    let setting = Setting::new(host);
    for (method, path, asks) in ROUTES {
        for sent in CREDENTIALS {
            let answer = setting.ask(method, path, sent, &[]);
            let refused = matches!(answer.status, 401 | 403);
            let case = format!("{method} {path} with {sent:?}: {answer:?}");
            assert_eq!(refused, !asks.takes(sent), "{case}");
            assert!(answer.status < 500, "{case}");
        }
    }
}

fn routes_give_foreign_pages_and_hosts_no_more_than_strangers(host: Host) {
    let setting = Setting::new(host);
    let evil = ("Origin", "https://evil.example");
    for (method, path, asks) in ROUTES {
        let case = format!("{method} {path}");
        // The embedded host is in local mode, where a foreign page is always refused.
        let page = setting.ask(method, path, Sends::None, &[evil]);
        match host {
            Host::Embedded => assert_eq!(page.status, 403, "{case}: {page:?}"),
            Host::Worker | Host::Unkind => {
                let refused = matches!(page.status, 401 | 403);
                assert_eq!(refused, *asks != Asks::Nothing, "{case}: {page:?}");
            }
        }
        let is_stream = path.starts_with("/v1/stream");
        let readable = page.header("access-control-allow-origin");
        assert!(is_stream || readable.is_none(), "{case}: {page:?}");
        for name in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
            let there = setting.ask(method, path, Sends::StreamSecret, &[("Host", name)]);
            let expected: &[u16] = match host {
                Host::Embedded => &[403],
                // A missing site does not accept writes either.
                Host::Worker | Host::Unkind => &[404, 405],
            };
            assert!(
                expected.contains(&there.status),
                "{case} at {name}: {there:?}"
            );
        }
    }
}

/// The same in public mode: pages of other origins may send requests, and an unknown host is
/// refused.
#[test]
fn public_server_answers_at_its_own_hosts_only() {
    let temp = TempDir::new().unwrap();
    let settings = [("DOMAIN", "pages.test"), ("API_HOST", "api.example")];
    let server = Server::start_with(Host::Embedded, &temp.path().join("data"), 0, &settings);
    let status = |host: &str, more: &str| {
        let request =
            format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        try_raw(server.port, request.as_bytes(), false).map(|answer| answer.status)
    };
    let begun = Instant::now();
    for (host, more, expected) in [
        ("pages.test", "", 200),
        ("api.pages.test", "", 200),
        ("api.example", "", 200),
        ("pages.test", "Origin: https://evil.example\r\n", 200),
        ("docs.pages.test", "", 404),
        ("evil.example", "", 404),
        ("localhost.evil.example", "", 404),
        // From this machine, unless a proxy forwards the request of another client.
        ("127.0.0.1", "", 200),
        ("api.localhost", "", 200),
        ("127.0.0.1", "X-Forwarded-For: 203.0.113.9\r\n", 404),
    ] {
        assert_eq!(status(host, more), Some(expected), "{host} {more}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let log = std::fs::read_to_string(temp.path().join("data.log")).unwrap();
    assert!(log.contains("public mode"), "{log}");
}

/// Behind a proxy that ends TLS, `pmx` prints the addresses that clients use.
#[test]
fn proxied_server_prints_its_public_addresses() {
    let settings = [
        ("PUBLIC_URL", "https://pages.test"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("STREAM_SECRET", SECRET),
        ("STREAMS_SECRET", "a name with a slip"),
    ];
    let world = World::with_settings(Host::Embedded, &settings);
    world.write(&[("index.html", "home")]);
    let synced = world.sync("docs", &[]).ok();
    assert_eq!(synced.at("/url"), "https://docs.pages.test/");
    let port = world.server.port;
    let put = |fields: &str| {
        let request = format!(
            "PUT /v1/stream/a HTTP/1.1\r\n{fields}Authorization: Bearer {SECRET}\r\n\
             Content-Type: text/plain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        try_raw(port, request.as_bytes(), false).unwrap()
    };
    let made = put(
        "Host: internal:8787\r\nX-Forwarded-Host: api.pages.test\r\nX-Forwarded-Proto: https\r\n",
    );
    assert_eq!(
        made.header("location"),
        Some("https://api.pages.test/v1/stream/a"),
        "{made:?}"
    );
    let log = std::fs::read_to_string(world.temp.path().join("data.log")).unwrap();
    assert!(
        log.contains("STREAMS_SECRET") && !log.contains("a slip"),
        "{log}"
    );
}
