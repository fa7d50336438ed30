//! Errors of intermediaries (proxies, firewalls, portals): `pmx` names the sender and a remedy.

use std::io::{BufReader, Read as _, Write as _};
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use crate::scripted_servers::{ScriptedServer, http, no_deploys, pmx, read_request};

const HTML: &str = "\r\nServer: nginx\r\nContent-Type: text/html";
const PAGE: &str = "<html><h1>no</h1></html>";

/// Runs `pmx deploys` against a server.
fn list(url: &str) -> crate::world::Ran {
    let home = TempDir::new().unwrap();
    let args = ["deploys", "--space", "docs", "--server", url];
    pmx(home.path(), &args, &[])
}

#[test]
fn intermediary_errors_name_what_answered_and_hint_by_status() {
    let now = "\r\nRetry-After: 0";
    for (status, more, code, requests, hint) in [
        (
            "301 Moved Permanently",
            "\r\nLocation: https://docs.example:444/x",
            "E_PROTOCOL",
            1,
            "--server https://docs.example:444",
        ),
        (
            "302 Found",
            "\r\nLocation: /login",
            "E_PROTOCOL",
            1,
            "/login",
        ),
        (
            "307 Temporary Redirect",
            "\r\nLocation: http://127.0.0.1:1/",
            "E_PROTOCOL",
            1,
            "no redirect",
        ),
        ("308 Permanent Redirect", "", "E_PROTOCOL", 1, "nowhere"),
        ("401 Unauthorized", "", "E_PROTOCOL", 1, "login of its own"),
        ("403 Forbidden", "", "E_PROTOCOL", 1, "firewall"),
        ("404 Not Found", "", "E_PROTOCOL", 1, "No PathMX server"),
        (
            "407 Proxy Authentication Required",
            "",
            "E_PROTOCOL",
            1,
            "HTTPS_PROXY",
        ),
        (
            "413 Content Too Large",
            "",
            "E_PROTOCOL",
            1,
            "client_max_body_size 12m",
        ),
        ("429 Too Many Requests", now, "E_NETWORK", 6, "rate"),
        (
            "431 Request Header Fields Too Large",
            "",
            "E_PROTOCOL",
            1,
            "headers",
        ),
        ("500 Internal Server Error", now, "E_NETWORK", 6, "log"),
        ("502 Bad Gateway", now, "E_NETWORK", 6, "behind it"),
        ("503 Service Unavailable", now, "E_NETWORK", 6, "behind it"),
        ("504 Gateway Timeout", now, "E_NETWORK", 6, "behind it"),
        (
            "511 Network Authentication Required",
            "",
            "E_PROTOCOL",
            1,
            "browser",
        ),
        ("200 OK", "", "E_PROTOCOL", 1, "portal"),
    ] {
        let answer = http(&format!("{status}{HTML}{more}"), PAGE);
        let server = ScriptedServer::answering(move |_| answer.clone());
        let ran = list(&server.url("http", "127.0.0.1")).fails(5, code);
        let number = status.split(' ').next().unwrap();
        let first = ran.stderr.lines().next().unwrap();
        assert!(first.contains("`server: nginx`"), "{status}: {ran:?}");
        assert!(
            first.contains(&format!("HTTP {number}")),
            "{status}: {ran:?}"
        );
        assert!(first.contains("GET http://127.0.0.1"), "{status}: {ran:?}");
        assert!(
            ran.stderr.contains("text/html") && ran.stderr.contains("<h1>no"),
            "{ran:?}"
        );
        let said = ran
            .stderr
            .lines()
            .find(|line| line.contains("hint"))
            .unwrap();
        assert!(said.contains(hint), "{status}: {ran:?}");
        assert_eq!(server.asked.load(Ordering::SeqCst), requests, "{status}");
    }
}

#[test]
fn browser_challenge_has_its_own_hint() {
    for status in ["403 Forbidden", "503 Service Unavailable\r\nRetry-After: 0"] {
        let challenge = format!("{status}{HTML}\r\ncf-mitigated: challenge");
        let answer = http(&challenge, "<title>Just a moment...</title>");
        let server = ScriptedServer::answering(move |_| answer.clone());
        let ran = list(&server.url("http", "127.0.0.1"));
        assert_eq!(ran.code, 5, "{ran:?}");
        assert!(ran.stderr.contains("Bot Fight Mode"), "{ran:?}");
    }
}

#[test]
fn retry_after_is_obeyed_or_left_to_the_user() {
    let seen = std::sync::atomic::AtomicBool::new(false);
    let server = ScriptedServer::answering(move |_| {
        if seen.swap(true, Ordering::SeqCst) {
            no_deploys()
        } else {
            http("429 Slow\r\nRetry-After: 1", "")
        }
    });
    let started = std::time::Instant::now();
    list(&server.url("http", "127.0.0.1")).ok();
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));
    let busy = ScriptedServer::answering(|_| http("503 Busy\r\nRetry-After: 7200", ""));
    let ran = list(&busy.url("http", "127.0.0.1")).fails(5, "E_NETWORK");
    assert!(ran.stderr.contains("7200 s"), "{ran:?}");
    assert_eq!(busy.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn wrong_protocol_has_its_own_hint() {
    let alert = ScriptedServer::handling(|mut stream| {
        let _gone = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x32");
    });
    let plaintext = ScriptedServer::answering(|_| {
        let text = "Client sent an HTTP request to an HTTPS server.\n";
        http("400 Bad Request\r\nContent-Type: text/plain", text)
    });
    for server in [alert, plaintext] {
        let ran = list(&server.url("http", "127.0.0.1"));
        assert_eq!(ran.code, 5, "{ran:?}");
        let hint = format!("https://127.0.0.1:{}", server.port);
        assert!(ran.stderr.contains(&hint), "{ran:?}");
    }
}

/// The response of a space that lacks the site's only file.
fn lacking() -> Vec<u8> {
    let body = r#"{"state":"blobs","active":0,"blobs":[[0,1]],
        "summary":{"added":1,"modified":0,"removed":0,"unchanged":0}}"#;
    http("200 OK\r\nContent-Type: application/json", body)
}

fn too_large() -> Vec<u8> {
    http(&format!("413 Request Entity Too Large{HTML}"), PAGE)
}

#[test]
fn body_limit_of_a_proxy_is_named() {
    let server = ScriptedServer::answering(move |asked| match asked.method.as_str() {
        "PUT" => too_large(),
        _ => lacking(),
    });
    upload_is_too_large(&server);
}

#[test]
fn refusal_in_the_middle_of_a_body_is_read() {
    let server = ScriptedServer::handling(|mut stream| {
        let mut first = [0; 3];
        stream.peek(&mut first).unwrap();
        let answer = if &first == b"PUT" {
            // The unread rest of the request resets the connection after the response.
            stream.read_exact(&mut [0; 16 * 1024]).unwrap();
            too_large()
        } else {
            read_request(&mut BufReader::new(stream.try_clone().unwrap()));
            lacking()
        };
        let _gone = stream.write_all(&answer);
    });
    upload_is_too_large(&server);
}

fn upload_is_too_large(server: &ScriptedServer) {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    let noise: Vec<u8> = (0..400_000_u32)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec())
        .collect();
    std::fs::write(home.path().join("site/a.bin"), noise).unwrap();
    let url = server.url("http", "127.0.0.1");
    let ran = pmx(
        home.path(),
        &["sync", "site", "--space", "docs", "--server", &url],
        &[],
    );
    let ran = ran.fails(5, "E_PROTOCOL");
    assert!(
        ran.stderr.contains("HTTP 413") && ran.stderr.contains(" to PUT "),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("client_max_body_size"), "{ran:?}");
}
