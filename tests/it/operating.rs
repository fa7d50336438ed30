//! What operators of streams decide: tokens, public streams, rates.

use std::process::Command;

use tempfile::TempDir;

use crate::world::{Answer, Host, Server, pmx_path, started_on_both_hosts, try_raw};

started_on_both_hosts! {
    a_token_opens_its_streams_and_a_page_may_send_it_in_the_address,
    what_everybody_may_read_is_written_by_holders_only,
    a_key_is_replaced_without_a_pause,
    who_asks_too_often_waits_and_is_told_how_long,
    a_server_whose_settings_make_no_sense_is_closed,
}

const SECRET: &str = "a secret of at least thirty-two bytes";

struct Home {
    temp: TempDir,
    server: Server,
}

impl Home {
    fn new(host: Host, settings: &[(&str, &str)]) -> Self {
        let temp = TempDir::new().unwrap();
        let server = Server::start_with(host, &temp.path().join("data"), 0, settings);
        Self { temp, server }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let port = self.server.port;
        let mut head = format!(
            "{method} /v1/stream/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Connection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let request = format!("{head}\r\n{body}");
        try_raw(port, request.as_bytes(), method == "HEAD").expect("the server answers")
    }

    fn with(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "text/plain"),
        ];
        self.ask(method, path, &headers, body)
    }

    /// What the server said to its operator so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.temp.path().join("data.log")).unwrap()
    }
}

/// A token as the command makes it.
fn token(variable: (&str, &str), stream: &str, scope: &str) -> String {
    let mut pmx = Command::new(pmx_path());
    pmx.env_remove("STREAM_SECRET")
        .env_remove("STREAM_TOKEN_KEYS")
        .env(variable.0, variable.1)
        .args(["stream-token", "--stream", stream, "--scope", scope]);
    let made = pmx.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn code(answer: &Answer) -> (u16, String) {
    let media = answer.header("content-type");
    assert_eq!(media, Some("application/problem+json"), "{answer:?}");
    let code = answer.json()["code"].as_str().unwrap().to_owned();
    (answer.status, code)
}

fn a_token_opens_its_streams_and_a_page_may_send_it_in_the_address(host: Host) {
    let home = Home::new(host, &[("STREAM_SECRET", SECRET)]);
    let own = |stream, scope| token(("STREAM_SECRET", SECRET), stream, scope);
    let (manager, writer, reader) = (
        own("chat/*", "manage"),
        own("chat/*", "write"),
        own("chat/1", "read"),
    );
    assert_eq!(home.with(&manager, "PUT", "chat/1", "").status, 201);
    assert_eq!(home.with(&writer, "POST", "chat/1", "hello").status, 204);
    let page = home.with(&reader, "GET", "chat/1?offset=-1", "");
    assert_eq!((page.status, page.text().as_str()), (200, "hello"));
    let policy = Some("private, max-age=0, must-revalidate");
    assert_eq!(page.header("cache-control"), policy);
    assert_eq!(page.header("vary"), Some("authorization"));
    let forbidden = (403, "E_FORBIDDEN".to_owned());
    for (token, method, path) in [
        (&reader, "POST", "chat/1"),
        (&reader, "DELETE", "chat/1"),
        (&reader, "GET", "chat/2"),
        (&writer, "GET", "chat/1"),
        (&manager, "PUT", "other"),
    ] {
        assert_eq!(code(&home.with(token, method, path, "x")), forbidden);
    }
    // A fork shows what its source has.
    let thief = own("mine/*", "manage read");
    let bearer = format!("Bearer {thief}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("stream-forked-from", "/v1/stream/chat/1"),
    ];
    assert_eq!(code(&home.ask("PUT", "mine/1", &headers, "")), forbidden);
    // What belongs to no stream stays the operator's.
    let all = own("**", "read write manage");
    let hidden = home.with(&all, "GET", "__ds/subscriptions/a", "");
    assert!([401, 403, 404].contains(&hidden.status), "{hidden:?}");

    let address = format!("chat/1?offset=-1&token={reader}");
    let page = home.ask("GET", &address, &[], "");
    assert_eq!((page.status, page.text().as_str()), (200, "hello"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let in_query = home.ask("POST", &format!("chat/1?token={writer}"), &[], "x");
    assert_eq!(code(&in_query), (400, "E_TOKEN_IN_QUERY".to_owned()));
    let unknown = home.ask("GET", &format!("{address}x"), &[], "");
    assert_eq!(code(&unknown), (401, "E_UNAUTHORISED".to_owned()));
    assert_eq!(unknown.header("www-authenticate"), Some("Bearer"));
    for answer in [&page, &in_query, &unknown] {
        let told = format!("{:?} {}", answer.headers, answer.text());
        assert!(
            !told.contains(&reader[..40]) && !told.contains(&writer[..40]),
            "{told}"
        );
    }
    let log = home.log();
    for token in [reader, writer, manager, all] {
        assert!(
            !log.contains(&token) && !log.contains(&token[token.len() - 20..]),
            "{log}"
        );
    }
}

fn what_everybody_may_read_is_written_by_holders_only(host: Host) {
    let settings = [
        ("STREAM_SECRET", SECRET),
        ("STREAM_PUBLIC_READ", "news/**"),
        ("CACHE_MODE", "shared"),
    ];
    let home = Home::new(host, &settings);
    assert_eq!(home.with(SECRET, "PUT", "news/1", "x").status, 201);
    assert_eq!(home.with(SECRET, "PUT", "other", "x").status, 201);
    let page = home.ask("GET", "news/1?offset=-1", &[], "");
    assert_eq!((page.status, page.text().as_str()), (200, "x"));
    let policy = Some("public, max-age=0, must-revalidate");
    assert_eq!(page.header("cache-control"), policy);
    assert_eq!(home.ask("HEAD", "news/1", &[], "").status, 200);
    assert_eq!(home.ask("GET", "other?offset=-1", &[], "").status, 401);
    assert_eq!(home.ask("POST", "news/1", &[], "x").status, 401);
    assert_eq!(home.ask("DELETE", "news/1", &[], "").status, 401);
    // Who made it anew is not taken for who it was.
    let tag = page.header("etag").unwrap();
    let known = [("if-none-match", tag)];
    assert_eq!(home.ask("GET", "news/1?offset=-1", &known, "").status, 304);
    assert_eq!(home.with(SECRET, "DELETE", "news/1", "").status, 204);
    assert_eq!(home.with(SECRET, "PUT", "news/1", "y").status, 201);
    let page = home.ask("GET", "news/1?offset=-1", &known, "");
    assert_eq!((page.status, page.text().as_str()), (200, "y"));
}

fn a_key_is_replaced_without_a_pause(host: Host) {
    let (old, new) = (
        "the old key which has thirty-two bytes",
        "the new key which has thirty-two bytes",
    );
    let both = format!("{new},{old}");
    let home = Home::new(host, &[("STREAM_TOKEN_KEYS", &both)]);
    let signed = |keys| token(("STREAM_TOKEN_KEYS", keys), "a", "manage");
    assert_eq!(home.with(&signed(old), "PUT", "a", "").status, 201);
    assert_eq!(home.with(&signed(new), "PUT", "a", "").status, 200);
    assert_eq!(home.with(&signed(&both), "PUT", "a", "").status, 200);
    let home = Home::new(host, &[("STREAM_TOKEN_KEYS", new)]);
    assert_eq!(home.with(&signed(old), "PUT", "a", "").status, 401);
    assert_eq!(home.with(&signed(&both), "PUT", "a", "").status, 201);
    // Without a secret, too, the server is open to holders only.
    assert_eq!(home.ask("GET", "a?offset=-1", &[], "").status, 401);
    assert_eq!(
        home.ask("GET", "__ds/subscriptions/a", &[], "").status / 100,
        4
    );
}

fn who_asks_too_often_waits_and_is_told_how_long(host: Host) {
    let settings = [
        ("STREAM_SECRET", SECRET),
        (
            "STREAM_RATE_WRITES",
            "client 1/h burst 2, stream 1/h burst 4",
        ),
    ];
    let home = Home::new(host, &settings);
    let made = home.with(SECRET, "PUT", "a", "");
    assert_eq!(made.status, 201);
    let told = made.header("ratelimit").unwrap();
    assert!(told.contains("\"stream\";r=3;t="), "{told}");
    let policy = made.header("ratelimit-policy").unwrap();
    assert!(policy.contains("\"stream\";q=4;w=14400"), "{policy}");
    let writer = token(("STREAM_SECRET", SECRET), "*", "write");
    assert_eq!(home.with(&writer, "POST", "a", "x").status, 204);
    assert_eq!(home.with(&writer, "POST", "a", "x").status, 204);
    let refused = home.with(&writer, "POST", "a", "x");
    assert_eq!(code(&refused), (429, "E_TOO_MANY".to_owned()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("this client")
    );
    // The operator waits for no client's limit, but the stream has one as well.
    assert_eq!(home.with(SECRET, "POST", "a", "x").status, 204);
    let refused = home.with(SECRET, "POST", "a", "x");
    assert_eq!(code(&refused), (429, "E_TOO_MANY".to_owned()));
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("this stream")
    );
    let body = "x".repeat(1_000_000);
    assert_eq!(home.with(SECRET, "POST", "a", &body).status, 429);
    // Reads are not counted, nor other streams.
    let page = home.with(SECRET, "GET", "a?offset=-1", "");
    assert_eq!((page.status, page.text().as_str()), (200, "xxx"));
    assert_eq!(page.header("ratelimit"), None);
    assert_eq!(home.with(SECRET, "PUT", "b", "").status, 201);
}

fn a_server_whose_settings_make_no_sense_is_closed(host: Host) {
    let settings = [("STREAM_TOKEN_KEYS", "short")];
    match host {
        Host::Embedded => {
            let temp = TempDir::new().unwrap();
            let mut pmx = Command::new(pmx_path());
            pmx.args(["serve", "--listen", "127.0.0.1:0", "--data"])
                .arg(temp.path())
                .envs(settings);
            let ended = pmx.output().unwrap();
            assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        }
        Host::Worker => {
            let home = Home::new(host, &settings);
            let refused = home.ask("GET", "a?offset=-1", &[], "");
            assert_eq!(code(&refused), (503, "E_NOT_CONFIGURED".to_owned()));
        }
    }
}
