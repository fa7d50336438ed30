//! Stream access: closed without a secret, open in local mode or by the operator's setting.

use serde_json::json;

use crate::streaming::Home;
use crate::world::{Answer, Host, started_on_both_hosts, try_raw};

started_on_both_hosts! {
    streams_without_a_secret_are_closed_outside_local_mode,
    stream_secret_has_the_synonym_auth_token,
    stream_bodies_are_sandboxed_in_every_answer,
    workers_claim_with_a_token_of_that_scope,
}

const SECRET: &str = "a secret of at least thirty-two bytes";

const JSON: (&str, &str) = ("content-type", "application/json");

const HTML: (&str, &str) = ("content-type", "text/html");

const PAGE: (&str, &str) = ("origin", "https://evil.example");

/// A server outside local mode; the embedded host leaves it by its domain.
fn remote(host: Host, settings: &[(&'static str, &'static str)]) -> Home {
    let unset = [("STREAM_ACCESS", ""), ("DOMAIN", "streams.example")];
    let mut all = match host {
        Host::Embedded => unset.to_vec(),
        Host::Worker | Host::Unkind => unset[..1].to_vec(),
    };
    all.extend(settings);
    Home::new(host, &all)
}

fn ask(home: &Home, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let host = match home.server.host {
        Host::Embedded => "streams.example",
        Host::Worker | Host::Unkind => "localhost",
    };
    let mut head = format!(
        "{method} /v1/stream/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("\r\n{body}"));
    let answer = try_raw(home.server.port, head.as_bytes(), method == "HEAD");
    answer.expect("the server answers")
}

fn streams_without_a_secret_are_closed_outside_local_mode(host: Host) {
    let closed = remote(host, &[]);
    for (method, path) in [
        ("PUT", "a"),
        ("POST", "a"),
        ("GET", "a?offset=-1"),
        ("GET", "a?offset=-1&live=sse"),
        ("DELETE", "a"),
        ("GET", ""),
        ("GET", "__registry__"),
        ("PUT", "__ds/subscriptions/s"),
        ("POST", "__ds/subscriptions/s/claim"),
    ] {
        for headers in [&[PAGE][..], &[PAGE, ("authorization", "Bearer x")]] {
            let answer = ask(&closed, method, path, headers, "x");
            let problem = answer.json();
            assert_eq!(
                (answer.status, &problem["code"]),
                (403, &json!("E_STREAMS_CLOSED"))
            );
            let hint = problem["hint"].as_str().unwrap();
            assert!(hint.contains("STREAM_SECRET") && hint.contains("STREAM_ACCESS=open"));
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let open = remote(host, &[("STREAM_ACCESS", "open")]);
    let made = ask(&open, "PUT", "a", &[PAGE, HTML], "x");
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("access-control-allow-origin"), Some("*"));
    if host == Host::Embedded {
        assert!(
            closed
                .log()
                .contains("streams are closed: set STREAM_SECRET")
        );
        assert!(open.log().contains("streams are open to everybody"));
    }
}

/// The operator's setting applies in local mode too.
#[test]
fn open_streams_admit_foreign_pages_in_local_mode() {
    let home = Home::new(Host::Embedded, &[("STREAM_ACCESS", "open")]);
    let made = home.ask("PUT", "a", &[PAGE], b"");
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("access-control-allow-origin"), Some("*"));
}

/// Local mode: programs of this machine need no credential, and pages and proxies are refused.
#[test]
fn local_mode_opens_streams_to_programs_of_this_machine() {
    let home = Home::new(Host::Embedded, &[]);
    assert_eq!(home.ask("PUT", "a", &[], b"").status, 201);
    let page = home.ask("GET", "a?offset=-1", &[PAGE], b"");
    assert_eq!(page.header("access-control-allow-origin"), None, "{page:?}");
    let forwarded = "GET /v1/stream/a?offset=-1 HTTP/1.1\r\nHost: localhost\r\n\
                     X-Forwarded-For: 198.51.100.7\r\nConnection: close\r\n\r\n";
    let refused = try_raw(home.server.port, forwarded.as_bytes(), false).unwrap();
    assert_eq!(refused.json()["code"], "E_STREAMS_CLOSED", "{refused:?}");
    assert!(home.log().contains("programs of this machine only"));
    // A webhook to this machine needs a setting of the operator.
    let hook = json!({
        "type": "webhook", "pattern": "**", "webhook": {"url": "http://127.0.0.1:9/hook"},
    });
    let hook = hook.to_string();
    let refused = home.ask("PUT", "__ds/subscriptions/s", &[], hook.as_bytes());
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], "WEBHOOK_URL_REJECTED");
}

fn stream_secret_has_the_synonym_auth_token(host: Host) {
    let home = remote(host, &[("AUTH_TOKEN", SECRET)]);
    let bearer = format!("Bearer {SECRET}");
    let known = ("authorization", bearer.as_str());
    let refused = ask(&home, "PUT", "a", &[], "x");
    assert_eq!(
        (refused.status, refused.json()["code"].clone()),
        (401, json!("E_UNAUTHORISED"))
    );
    let hint = refused.json()["hint"].as_str().unwrap().to_owned();
    assert!(
        hint.contains("STREAM_SECRET") && !hint.contains("PMX_TOKEN"),
        "{hint}"
    );
    assert_eq!(ask(&home, "PUT", "a", &[known, HTML], "x").status, 201);
}

fn stream_bodies_are_sandboxed_in_every_answer(host: Host) {
    let home = remote(
        host,
        &[("STREAM_ACCESS", "open"), ("STREAM_LONG_POLL_MS", "100")],
    );
    let evil = "<script>alert(document.cookie)</script>";
    let closing = ("stream-closed", "true");
    for (method, path, headers, status) in [
        ("PUT", "a", &[closing][..], 201),
        ("GET", "a?offset=-1", &[], 200),
        ("HEAD", "a", &[], 200),
        ("GET", "a?offset=-1&live=sse", &[], 200),
        ("GET", "a?offset=now&live=long-poll", &[], 204),
        ("POST", "a", &[], 409),
        ("GET", "missing", &[], 404),
        ("GET", "a?offset=x", &[], 400),
        ("PATCH", "a", &[], 405),
        ("OPTIONS", "a", &[], 204),
        ("GET", "", &[], 200),
        ("GET", "__ds/jwks.json", &[], 200),
        ("GET", "__ds/subscriptions/none", &[], 404),
        ("DELETE", "a", &[], 204),
    ] {
        let body = if method == "PUT" || method == "POST" {
            evil
        } else {
            ""
        };
        let answer = ask(&home, method, path, &[headers, &[HTML]].concat(), body);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let sandbox = answer.header("content-security-policy");
        assert_eq!(sandbox, Some("sandbox"), "{method} {path}");
        let sniffed = answer.header("x-content-type-options");
        assert_eq!(sniffed, Some("nosniff"), "{method} {path}");
    }
}

fn workers_claim_with_a_token_of_that_scope(host: Host) {
    let home = remote(host, &[("STREAM_SECRET", SECRET)]);
    let call = |token: &str, method: &str, path: &str, body: &serde_json::Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), JSON];
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        ask(&home, method, path, &headers, &body)
    };
    assert_eq!(call(SECRET, "PUT", "wake", &json!([])).status, 201);
    let config = json!({"type": "pull-wake", "pattern": "jobs/*", "wake_stream": "wake"});
    let subscription = "__ds/subscriptions/p";
    assert_eq!(call(SECRET, "PUT", subscription, &config).status, 201);
    assert_eq!(call(SECRET, "PUT", "jobs/a", &json!([1])).status, 201);
    let token = |stream, scope| crate::operating::token(("STREAM_SECRET", SECRET), stream, scope);
    let claim = format!("{subscription}/claim");
    let worker = json!({"worker": "w"});
    for (stream, scope, status) in [
        ("jobs/*", "read write manage", 403),
        ("other/*", "claim", 403),
        ("jobs/*", "claim", 200),
    ] {
        let answer = call(&token(stream, scope), "POST", &claim, &worker);
        assert_eq!(answer.status, status, "{stream} {scope}: {answer:?}");
    }
    // Only the operator may change a subscription.
    let answer = call(
        &token("**", "read write manage claim"),
        "GET",
        subscription,
        &json!({}),
    );
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (403, json!("E_FORBIDDEN"))
    );
    assert_eq!(call("none", "GET", subscription, &json!({})).status, 401);
}
