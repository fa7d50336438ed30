//! Malformed requests and folders on a running server: each gets its own error, and the site stays
//! live.

mod publishing;

use serde_json::json;

use crate::world::{Answer, Host, World, on_both_hosts, try_raw};

on_both_hosts! {
    tokens_that_are_wrong_are_refused_alike,
    history_requests_that_are_malformed_are_refused,
    folders_that_are_unfit_are_refused,
    // On the unkind platform, the bench's proxy refuses malformed HTTP.
    ; kind: raw_http_that_is_malformed_is_refused
}

fn live(world: World) -> World {
    world.write(&[("index.html", "kept")]);
    world.sync("docs", &[]).ok();
    world
}

/// Checks that no content is lost afterwards.
fn nothing_is_lost(world: &World) {
    let home = world.get("docs", "/");
    assert_eq!((home.status, home.text().as_str()), (200, "kept"));
    let again = world.sync("docs", &[]).ok();
    assert_eq!(
        (again.at("/outcome"), again.number("/deploy")),
        (json!("unchanged"), 1)
    );
}

fn api(world: &World, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let token = world.token();
    let headers = [&[("Authorization", token.as_str())], headers].concat();
    world.request(method, "", path, &headers, body)
}

fn check(answer: &Answer, status: u16, code: &str, story: &str) {
    assert_eq!(answer.status, status, "{story}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{story}"
    );
    assert_eq!(answer.json()["code"], code, "{story}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{story}");
    let said = answer.text();
    for leak in ["panicked", "src/", ".rs:", "backtrace"] {
        assert!(!said.contains(leak), "{story} says {leak}: {said}");
    }
}

fn tokens_that_are_wrong_are_refused_alike(world: World) {
    let world = live(world);
    let good = world.token();
    let path = "/api/deploys?space=docs";
    let wrong_end = format!("{}x", &good[..good.len() - 1]);
    let doubled = format!("{good}{good}");
    let long = format!("Bearer {}", "x".repeat(8000));
    let nameless = |answer: &Answer| {
        let mut json = answer.json();
        json.as_object_mut().unwrap().remove("id");
        json
    };
    let mut bodies = Vec::new();
    for token in [
        "",
        "Bearer",
        "Bearer ",
        "Basic eDp5",
        "Bearer wrong",
        &wrong_end,
        &doubled,
        &long,
    ] {
        let answer = world.get_with("", path, &[("Authorization", token)]);
        check(&answer, 401, "E_UNAUTHORISED", token);
        bodies.push(nameless(&answer));
    }
    let none = world.get_with("", path, &[]);
    bodies.push(nameless(&none));
    assert!(
        bodies.windows(2).all(|pair| pair[0] == pair[1]),
        "one answer for every wrong token"
    );
    let in_query = world.get_with("", &format!("{path}&token=x"), &[("Authorization", &good)]);
    check(&in_query, 400, "E_TOKEN_IN_QUERY", "a token in the query");
    nothing_is_lost(&world);
}

fn raw_http_that_is_malformed_is_refused(world: World) {
    let world = live(world);
    let port = world.server.port;
    let token = world.token();
    let send = |text: String| try_raw(port, text.as_bytes(), false).map(|answer| answer.status);
    let put = format!(
        "PUT /api/publish/packs/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n",
        "ab".repeat(32)
    );
    // workerd refuses it in its own way, before the Worker sees it.
    let two_hosts = match world.server.host {
        Host::Embedded => &[400, 404][..],
        Host::Worker | Host::Unkind => &[500],
    };
    for (story, request, expected) in [
        ("two hosts", "GET / HTTP/1.1\r\nHost: docs.localhost\r\nHost: evil\r\nConnection: close\r\n\r\n".to_owned(), two_hosts),
        ("an upload without a length", format!("{put}Authorization: {token}\r\n\r\n"), &[411]),
        ("a length above the limit", format!("{put}Authorization: {token}\r\nContent-Length: 99999999999\r\n\r\n"), &[413]),
        ("a length beyond 32 bits", format!("{put}Authorization: {token}\r\nContent-Length: 4294967301\r\n\r\nabcde"), &[413]),
        ("an append of such a length", "POST /v1/stream/long HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 4294967301\r\n\r\nabcde".to_owned(), &[413]),
        ("no token, and a body to come", format!("{put}Content-Length: 5\r\n\r\nabcde"), &[401]),
        ("a path of 16 KB", format!("GET /{} HTTP/1.1\r\nHost: docs.localhost\r\nConnection: close\r\n\r\n", "a".repeat(16_000)), &[400, 404, 414]),
        ("X-Forwarded-Host is ignored", "GET / HTTP/1.1\r\nHost: missing.localhost\r\nX-Forwarded-Host: docs.localhost\r\nConnection: close\r\n\r\n".to_owned(), &[404]),
        ("capitals, a port and a dot", format!("GET / HTTP/1.1\r\nHost: DOCS.localhost.:{port}\r\nConnection: close\r\n\r\n"), &[200]),
    ] {
        let status = send(request);
        assert!(status.is_some_and(|status| expected.contains(&status)), "{story}: {status:?}");
    }
    // A body that ends early is no upload, and gets no response.
    let _cut = send(format!(
        "{put}Authorization: {token}\r\nContent-Length: 50\r\n\r\nabc"
    ));
    nothing_is_lost(&world);
}

fn history_requests_that_are_malformed_are_refused(world: World) {
    let world = live(world);
    let rollback = |body: serde_json::Value| {
        api(
            &world,
            "POST",
            "/api/publish/rollback",
            &[],
            body.to_string().as_bytes(),
        )
    };
    let head = |space: &str, to: u64| json!({"v": 1, "space": space, "to": to, "key": "k"});
    check(
        &rollback(head("docs", 9)),
        404,
        "E_DEPLOY_UNKNOWN",
        "an unknown deploy",
    );
    check(
        &rollback(head("missing", 1)),
        404,
        "E_NOT_FOUND",
        "an unknown space",
    );
    check(
        &rollback(json!({"v": 1})),
        400,
        "E_REQUEST_MALFORMED",
        "half a request",
    );
    let current = rollback(head("docs", 1));
    assert_eq!(
        (current.status, &current.json()["deploy"]["number"]),
        (200, &json!(1)),
        "no-op"
    );
    for (path, status, code) in [
        ("/api/deploys/7?space=docs", 404, "E_DEPLOY_UNKNOWN"),
        ("/api/deploys?space=missing", 404, "E_NOT_FOUND"),
        (
            "/api/diff?space=docs&from=1&to=x",
            400,
            "E_REQUEST_MALFORMED",
        ),
        ("/api/diff?space=docs&from=1", 400, "E_REQUEST_MALFORMED"),
        ("/api/deploys/1/diff/2?space=docs", 404, "E_DEPLOY_UNKNOWN"),
        ("/api/nothing", 404, "E_NOT_FOUND"),
    ] {
        check(&api(&world, "GET", path, &[], b""), status, code, path);
    }
    check(
        &api(&world, "DELETE", "/api/deploys", &[], b""),
        405,
        "E_METHOD_NOT_ALLOWED",
        "DELETE",
    );
    nothing_is_lost(&world);
}

/// Makes a folder that `pmx` can't publish.
type Spoil = fn(&std::path::Path);

fn folders_that_are_unfit_are_refused(world: World) {
    let world = live(world);
    let site = world.temp.path().join("bad");
    let cases: [(&str, i32, &str, Spoil); 6] = [
        ("a link that leaves", 3, "E_SYMLINK_ESCAPE", |dir| {
            std::os::unix::fs::symlink("/etc/hostname", dir.join("x")).unwrap();
        }),
        ("a link to nothing", 3, "E_SYMLINK_ESCAPE", |dir| {
            std::os::unix::fs::symlink("nothing", dir.join("x")).unwrap();
        }),
        ("a socket", 3, "E_NOT_REGULAR", |dir| {
            drop(std::os::unix::net::UnixListener::bind(dir.join("x")).unwrap());
        }),
        ("a private key", 3, "E_SECRET", |dir| {
            let key = "-----BEGIN PRIVATE KEY-----\n";
            std::fs::write(dir.join("a.html"), key).unwrap();
        }),
        ("a control character", 3, "E_PATH_INVALID", |dir| {
            std::fs::write(dir.join("a\x1b[2J.html"), "x").unwrap();
        }),
        (
            "build output without its files",
            3,
            "E_BUILD_INCOMPLETE",
            |dir| {
                std::fs::create_dir(dir.join("main")).unwrap();
                let roots =
                    json!({"roots": {"main": {"routes": [], "manifest": "main/manifest.json"}}});
                std::fs::write(dir.join("roots.json"), roots.to_string()).unwrap();
                let files = json!({"files": {"gone.html": {"hash": "x"}}});
                std::fs::write(dir.join("main/manifest.json"), files.to_string()).unwrap();
            },
        ),
    ];
    for (story, exit, code, make) in cases {
        std::fs::create_dir(&site).unwrap();
        std::fs::write(site.join("ok.html"), "ok").unwrap();
        make(&site);
        let ran = world.pmx(&["sync", "bad", "--space", "docs"]);
        assert!(
            !ran.stderr.contains('\x1b'),
            "{story}: a name reached the terminal as it is"
        );
        let _checked = ran.fails(exit, code);
        std::fs::remove_dir_all(&site).unwrap();
    }
    nothing_is_lost(&world);
}
