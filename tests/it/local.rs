//! Local mode over sockets: foreign pages and hosts are refused, and the server states its mode at
//! its start.

use std::process::Stdio;

use serde_json::json;

use crate::stream_subscriptions::Home;
use crate::world::{Answer, Host, Running, World, eventually, try_raw};

/// Sends a request unchanged, with these header fields and `Connection`.
fn ask(port: u16, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in fields {
        let value = value.replace("PORT", &port.to_string());
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    try_raw(port, head.as_bytes(), method == "HEAD").expect("the server answers")
}

const HERE: (&str, &str) = ("Host", "127.0.0.1:PORT");

#[test]
fn foreign_pages_and_hosts_are_refused_before_anything_happens() {
    let world = World::published("home");
    let port = world.server.port;
    let text = ("Content-Type", "text/plain");
    let docs = ("Host", "docs.localhost:PORT");
    let rebound = ("Host", "evil.example:PORT");
    for (name, method, path, fields) in [
        (
            "simple request",
            "PUT",
            "/v1/stream/a",
            &[HERE, text, ("Origin", "https://evil.example")][..],
        ),
        (
            "simple POST",
            "POST",
            "/v1/stream/a",
            &[HERE, text, ("Origin", "http://evil.example")],
        ),
        (
            "sandboxed page",
            "PUT",
            "/v1/stream/a",
            &[HERE, text, ("Origin", "null")],
        ),
        (
            "another port",
            "PUT",
            "/v1/stream/a",
            &[HERE, text, ("Origin", "http://localhost:3000")],
        ),
        (
            "preflight",
            "OPTIONS",
            "/v1/stream/a",
            &[HERE, ("Origin", "https://evil.example")],
        ),
        (
            "publishing",
            "POST",
            "/api/publish/begin",
            &[HERE, ("Origin", "https://evil.example")],
        ),
        (
            "health",
            "GET",
            "/healthz",
            &[HERE, ("Origin", "https://evil.example")],
        ),
        (
            "page",
            "GET",
            "/",
            &[docs, ("Origin", "https://evil.example")],
        ),
        (
            "WebSocket",
            "GET",
            "/_events",
            &[
                docs,
                ("Origin", "https://evil.example"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
        ),
        ("rebinding", "PUT", "/v1/stream/a", &[rebound, text]),
        (
            "rebinding with an origin",
            "PUT",
            "/v1/stream/a",
            &[rebound, text, ("Origin", "http://evil.example:PORT")],
        ),
        ("rebinding of a page", "GET", "/", &[rebound]),
        (
            "rebinding by a forwarded host",
            "GET",
            "/healthz",
            &[rebound, ("X-Forwarded-Host", "localhost")],
        ),
        (
            "another address",
            "GET",
            "/healthz",
            &[("Host", "0.0.0.0:PORT")],
        ),
    ] {
        let answer = ask(port, method, path, fields, "");
        let expected = if name.contains("forwarded") { 404 } else { 403 };
        assert_eq!(answer.status, expected, "{name}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{name}");
    }
    let there = ask(port, "HEAD", "/v1/stream/a", &[HERE], "");
    assert_eq!(there.status, 404, "a foreign page has made a stream");
    for origin in ["http://127.0.0.1:PORT", "http://docs.localhost:PORT"] {
        let own = ask(
            port,
            "PUT",
            "/v1/stream/a",
            &[HERE, text, ("Origin", origin)],
            "",
        );
        assert!([200, 201].contains(&own.status), "{own:?}");
    }
    let log = std::fs::read_to_string(world.temp.path().join("data.log")).unwrap();
    assert!(
        log.contains("local mode"),
        "the start says nothing of its mode: {log}"
    );
}

#[test]
fn webhooks_to_this_machine_need_a_flag() {
    let hook = json!({
        "type": "webhook", "pattern": "a/*", "webhook": {"url": "http://127.0.0.1:9/hook"},
    });
    let made = |settings: &[(&'static str, &'static str)]| {
        let home = Home::plain(Host::Embedded, settings);
        home.ask("PUT", "__ds/subscriptions/s", "", &hook).status
    };
    assert_eq!(made(&[]), 400);
    assert_eq!(made(&[("STREAM_WEBHOOKS", "loopback")]), 201);
}

/// `pmx dev` of the site.
fn dev(world: &World) -> Running {
    let mut command = world.command(&[
        "dev",
        "site",
        "--space",
        "docs",
        "--data",
        "dev-data",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.stderr(Stdio::null());
    Running::start(command)
}

#[test]
fn dev_shows_its_site_at_localhost_and_the_api_at_its_own_name() {
    let world = World::new();
    world.write(&[("index.html", "home")]);
    let dev = dev(&world);
    let port = dev.port;
    let get = |host: &str, path: &str| ask(port, "GET", path, &[("Host", host)], "");
    eventually("dev serves the folder", || {
        get("localhost:PORT", "/").status == 200
    });
    for host in [
        "localhost:PORT",
        "127.0.0.1:PORT",
        "[::1]:PORT",
        "docs.localhost:PORT",
    ] {
        assert!(get(host, "/").text().starts_with("home"), "{host}");
        assert_eq!(
            get(host, "/healthz").status,
            404,
            "{host} is the API as well"
        );
        let stream = ask(port, "PUT", "/v1/stream/a", &[("Host", host)], "");
        assert_eq!(stream.status, 404, "{host} has streams: {stream:?}");
    }
    assert_eq!(get("api.localhost:PORT", "/healthz").status, 200);
    assert_eq!(
        get("api.localhost:PORT", "/").header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let server = format!("http://127.0.0.1:{port}");
    let site = ["--server", &server, "--space", "docs", "--data", "dev-data"];
    let deploys = world
        .pmx(&[&["deploys", "--json"], &site[..]].concat())
        .ok();
    assert_eq!(deploys.number("/active"), 1);
    world.pmx(&[&["status", "site"], &site[..]].concat()).ok();
}
