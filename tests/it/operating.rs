//! Operator settings of streams: tokens, public streams, rates.

use std::io::Read as _;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use crate::streaming::Home;
use crate::world::{
    Answer, Host, eventually, pmx_command, skipped, started_on_both_hosts, worker_lacks,
};

started_on_both_hosts! {
    stream_token_opens_its_streams_also_from_the_address,
    public_streams_are_written_by_holders_only,
    token_keys_rotate_without_a_pause,
    invalid_stream_settings_close_the_server,
    server_timing_shows_where_the_time_went,
    stream_list_is_the_operators,
    analytics_points_delay_and_fail_nothing,
    // Each isolate counts the requests that it gets.
    ; kind: rate_limit_says_how_long_to_wait,
}

const SECRET: &str = "a secret of at least thirty-two bytes";

#[test]
fn gzip_is_sent_for_long_reads_only() {
    let home = Operated::new(Host::Embedded, &[]);
    let text = "all work and no play ".repeat(10_000);
    let media = ("content-type", "text/plain");
    assert_eq!(home.ask("PUT", "a", &[media], &text).status, 201);
    let gzip = ("accept-encoding", "gzip, deflate");
    let coded = home.ask("GET", "a?offset=-1", &[gzip], "");
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert_eq!(coded.header("vary"), Some("accept-encoding"));
    assert!(coded.body.len() < text.len() / 20, "{}", coded.body.len());
    let mut opened = String::new();
    let read = GzDecoder::new(&coded.body[..]).read_to_string(&mut opened);
    assert!(read.is_ok() && opened == text);
    let plain = home.ask("GET", "a?offset=-1", &[], "");
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(
        (plain.header("vary"), plain.text() == text),
        (Some("accept-encoding"), true)
    );
    // Each coding has its own entity tag.
    let (ours, theirs) = (plain.header("etag").unwrap(), coded.header("etag").unwrap());
    for (known, accepted, expected) in [
        (ours, None, 304),
        (theirs, Some(gzip), 304),
        (theirs, None, 200),
        (ours, Some(gzip), 200),
    ] {
        let mut headers = vec![("if-none-match", known)];
        headers.extend(accepted);
        let answer = home.ask("GET", "a?offset=-1", &headers, "");
        assert_eq!(answer.status, expected, "{known} {accepted:?}");
    }
    // The server compresses neither events nor short pages.
    assert_eq!(home.ask("PUT", "b", &[media], "short").status, 201);
    let short = home.ask("GET", "b?offset=-1", &[gzip], "");
    assert_eq!(
        (short.header("content-encoding"), short.text().as_str()),
        (None, "short")
    );
    let poll = home.ask("GET", "a?offset=-1&live=long-poll", &[gzip], "");
    assert_eq!(
        (poll.header("content-encoding"), poll.text() == text),
        (None, true)
    );
}

fn stream_list_is_the_operators(host: Host) {
    let home = Operated::new(host, &[("STREAM_SECRET", SECRET)]);
    for name in ["b", "a/1", "a/2", "a/3", "c", "a/gone"] {
        assert_eq!(home.with(SECRET, "PUT", name, "x").status, 201);
    }
    assert_eq!(home.with(SECRET, "DELETE", "a/gone", "").status, 204);
    let list = |query: &str| {
        let answer = home.with(SECRET, "GET", query, "");
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, Some("no-store"))
        );
        let list = answer.json();
        let names = list["streams"].as_array().unwrap().iter();
        let names: Vec<String> = names
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), list["next"].as_str().map(str::to_owned))
    };
    let page = |names: &str, next: Option<&str>| (names.to_owned(), next.map(str::to_owned));
    // On the Worker, the registry is created beside the first stream.
    eventually("all are listed", || list("").0.starts_with("__registry__"));
    assert_eq!(list(""), page("__registry__ a/1 a/2 a/3 b c", None));
    assert_eq!(list("?prefix=a/"), page("a/1 a/2 a/3", None));
    assert_eq!(list("?limit=2"), page("__registry__ a/1", Some("a/1")));
    assert!(list("?limit=2&after=a/2").0.starts_with("a/3"));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (names, next) = list(&format!("?limit=1&after={after}"));
        seen.extend((!names.is_empty()).then_some(names));
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen.join(" "), "__registry__ a/1 a/2 a/3 b c");
    assert_eq!(home.ask("GET", "", &[], "").status, 401);
    let all = token(("STREAM_SECRET", SECRET), "**", "read write manage");
    // The token is valid, but not for this.
    assert_eq!(home.with(&all, "GET", "", "").status, 403);
    assert_eq!(home.with(SECRET, "GET", "?limit=0", "").status, 400);
    assert_eq!(home.with(SECRET, "DELETE", "", "").status, 405);
}

#[test]
fn stream_index_lists_all_streams() {
    if let Some(lack) = worker_lacks() {
        return skipped("the index", lack);
    }
    let home = Operated::new(Host::Worker, &[("PMX_STREAM_INDEX", "1")]);
    let idle = [("content-type", "text/plain"), ("stream-ttl", "600")];
    assert_eq!(home.ask("PUT", "a/0';--", &idle, "x").status, 201);
    assert_eq!(home.ask("PUT", "a/1", &idle, "x").status, 201);
    assert_eq!(
        home.ask("PUT", "a/2", &[("content-type", "application/json")], "")
            .status,
        201
    );
    assert_eq!(home.ask("DELETE", "a/2", &[], "").status, 204);
    eventually("the index says of which version it is", || {
        let select = "SELECT key, value, 1, 1 FROM streams_schema ORDER BY key";
        let rows = home.indexed(select).unwrap_or_default();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(key, value, ..)| (key, value))
            .collect();
        let number = |key: &str| (key.to_owned(), "1".to_owned());
        rows == [number("readable_by"), number("schema")]
    });
    let select = "SELECT name, content_type, ttl_seconds, deleted_at IS NULL FROM streams \
         WHERE created_at > '2026' ORDER BY name";
    eventually("the index has all", || {
        let rows = home.indexed(select).unwrap_or_default();
        rows == [
            (
                "a/0';--".to_owned(),
                "text/plain".to_owned(),
                Some(600),
                true,
            ),
            ("a/1".to_owned(), "text/plain".to_owned(), Some(600), true),
            ("a/2".to_owned(), "application/json".to_owned(), None, false),
        ]
    });
}

type Row = (String, String, Option<i64>, bool);

/// A server of streams, with requests of its operator and of token holders.
struct Operated(Home);

impl Operated {
    fn new(host: Host, settings: &[(&'static str, &'static str)]) -> Self {
        Self(Home::new(host, settings))
    }

    /// Rows of the index's database, once it exists.
    fn indexed(&self, select: &str) -> Option<Vec<Row>> {
        let mut folders = vec![self.0.temp.path().join("data/d1")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).ok()?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "sqlite")
                    && let Ok(database) = rusqlite::Connection::open(&path)
                    && let Ok(mut select) = database.prepare(select)
                {
                    let read = |row: &rusqlite::Row<'_>| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                    };
                    return select
                        .query_map([], read)
                        .ok()?
                        .collect::<Result<_, _>>()
                        .ok();
                }
            }
        }
        None
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.0.ask(method, path, headers, body.as_bytes())
    }

    fn with(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "text/plain"),
        ];
        self.ask(method, path, &headers, body)
    }
}

/// A token that the CLI issues.
pub(crate) fn token(variable: (&str, &str), stream: &str, scope: &str) -> String {
    let mut pmx = pmx_command();
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

fn stream_token_opens_its_streams_also_from_the_address(host: Host) {
    let home = Operated::new(host, &[("STREAM_SECRET", SECRET)]);
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
    let mut vary = page.headers.iter().filter(|(name, _)| name == "vary");
    let varies = vary.any(|(_, value)| value.split(", ").any(|name| name == "authorization"));
    assert!(varies, "{page:?}");
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
    // A fork shows the messages of its source.
    let thief = own("mine/*", "manage read");
    let bearer = format!("Bearer {thief}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("stream-forked-from", "/v1/stream/chat/1"),
    ];
    assert_eq!(code(&home.ask("PUT", "mine/1", &headers, "")), forbidden);
    // Paths that belong to no stream are reserved for the operator.
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
        let shown = format!("{:?} {}", answer.headers, answer.text());
        assert!(
            !shown.contains(&reader[..40]) && !shown.contains(&writer[..40]),
            "{shown}"
        );
    }
    let log = home.0.log();
    for token in [reader, writer, manager, all] {
        assert!(
            !log.contains(&token) && !log.contains(&token[token.len() - 20..]),
            "{log}"
        );
    }
}

fn public_streams_are_written_by_holders_only(host: Host) {
    let settings = [
        ("STREAM_SECRET", SECRET),
        ("STREAM_PUBLIC_READ", "news/**"),
        ("CACHE_MODE", "shared"),
    ];
    let home = Operated::new(host, &settings);
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
    // The entity tag of a deleted stream differs from that of its successor.
    let tag = page.header("etag").unwrap();
    let known = [("if-none-match", tag)];
    assert_eq!(home.ask("GET", "news/1?offset=-1", &known, "").status, 304);
    assert_eq!(home.with(SECRET, "DELETE", "news/1", "").status, 204);
    assert_eq!(home.with(SECRET, "PUT", "news/1", "y").status, 201);
    let page = home.ask("GET", "news/1?offset=-1", &known, "");
    assert_eq!((page.status, page.text().as_str()), (200, "y"));
}

fn token_keys_rotate_without_a_pause(host: Host) {
    let (old, new) = (
        "the old key which has thirty-two bytes",
        "the new key which has thirty-two bytes",
    );
    let both = "the new key which has thirty-two bytes,the old key which has thirty-two bytes";
    let home = Operated::new(host, &[("STREAM_TOKEN_KEYS", both)]);
    let signed = |keys| token(("STREAM_TOKEN_KEYS", keys), "a", "manage");
    assert_eq!(home.with(&signed(old), "PUT", "a", "").status, 201);
    assert_eq!(home.with(&signed(new), "PUT", "a", "").status, 200);
    assert_eq!(home.with(&signed(both), "PUT", "a", "").status, 200);
    let home = Operated::new(host, &[("STREAM_TOKEN_KEYS", new)]);
    assert_eq!(home.with(&signed(old), "PUT", "a", "").status, 401);
    assert_eq!(home.with(&signed(both), "PUT", "a", "").status, 201);
    // A server without a secret is open to token holders only.
    assert_eq!(home.ask("GET", "a?offset=-1", &[], "").status, 401);
    assert_eq!(
        home.ask("GET", "__ds/subscriptions/a", &[], "").status / 100,
        4
    );
}

fn rate_limit_says_how_long_to_wait(host: Host) {
    let settings = [
        ("STREAM_SECRET", SECRET),
        (
            "STREAM_RATE_WRITES",
            "client 1/h burst 2, stream 1/h burst 4",
        ),
    ];
    let home = Operated::new(host, &settings);
    let made = home.with(SECRET, "PUT", "a", "");
    assert_eq!(made.status, 201);
    let limit = made.header("ratelimit").unwrap();
    assert!(limit.contains("\"stream\";r=3;t="), "{limit}");
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
    // The operator has no client rate, but the stream's rate applies.
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
    // The limit counts neither reads nor other streams.
    let page = home.with(SECRET, "GET", "a?offset=-1", "");
    assert_eq!((page.status, page.text().as_str()), (200, "xxx"));
    assert_eq!(page.header("ratelimit"), None);
    assert_eq!(home.with(SECRET, "PUT", "b", "").status, 201);
}

fn invalid_stream_settings_close_the_server(host: Host) {
    let settings = [("STREAM_TOKEN_KEYS", "short")];
    match host {
        Host::Embedded => {
            let temp = TempDir::new().unwrap();
            let mut pmx = pmx_command();
            pmx.args(["serve", "--listen", "127.0.0.1:0", "--data"])
                .arg(temp.path())
                .envs(settings);
            let ended = pmx.output().unwrap();
            assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        }
        Host::Worker | Host::Unkind => {
            let home = Operated::new(host, &settings);
            let refused = home.ask("GET", "a?offset=-1", &[], "");
            assert_eq!(code(&refused), (503, "E_NOT_CONFIGURED".to_owned()));
        }
    }
}

fn server_timing_shows_where_the_time_went(host: Host) {
    let settings = [
        ("STREAM_LONG_POLL_MS", "300"),
        ("PMX_STREAM_SEGMENT_MESSAGES", "2"),
    ];
    let home = Operated::new(host, &settings);
    let media = ("content-type", "text/plain");
    let asked = ("x-debug-timing", "1");
    let made = home.ask("PUT", "a", &[media, asked], "x");
    assert!(steps(&made).contains(&"turn".to_owned()), "{made:?}");
    let silent = home.ask("GET", "a?offset=-1", &[], "");
    assert_eq!(silent.header("server-timing"), None);
    let waited = home.ask("GET", "a?offset=now&live=long-poll", &[asked], "");
    assert_eq!(waited.status, 204);
    let timing = waited.header("server-timing").unwrap();
    let wait = timing
        .split(", ")
        .find_map(|step| step.strip_prefix("wait;dur="));
    let wait: f64 = wait.unwrap_or_else(|| panic!("{timing}")).parse().unwrap();
    assert!((250.0..30_000.0).contains(&wait), "{timing}");
    let always = Operated::new(host, &[("DEBUG_TIMING", "1")]);
    let made = always.ask("PUT", "a", &[media], "x");
    let expected = match host {
        Host::Embedded => "auth",
        Host::Worker | Host::Unkind => "edge",
    };
    let steps = steps(&made);
    assert!(steps.contains(&expected.to_owned()), "{made:?}");
    assert!(steps.contains(&"turn".to_owned()), "{made:?}");
}

/// The names of the timed steps.
fn steps(answer: &Answer) -> Vec<String> {
    let timings = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "server-timing");
    let steps = timings.flat_map(|(_, value)| value.split(", "));
    let names = steps.filter_map(|step| step.split_once(";dur="));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Miniflare accepts data points and drops them. The test shows that they delay nothing.
fn analytics_points_delay_and_fail_nothing(host: Host) {
    let settings = [
        ("PMX_STREAM_ANALYTICS", "1"),
        ("STREAM_LONG_POLL_MS", "100"),
    ];
    let home = Operated::new(host, &settings);
    let media = ("content-type", "text/plain");
    assert_eq!(home.ask("PUT", "a", &[media], "x").status, 201);
    assert_eq!(home.ask("POST", "a", &[media], "y").status, 204);
    assert_eq!(home.ask("POST", "b", &[media], "y").status, 404);
    assert_eq!(home.ask("GET", "a?offset=-1", &[], "").text(), "xy");
    assert_eq!(
        home.ask("GET", "a?offset=now&live=long-poll", &[], "")
            .status,
        204
    );
    let close = [("stream-closed", "true")];
    assert_eq!(home.ask("POST", "a", &close, "").status, 204);
    let events = home.ask("GET", "a?offset=-1&live=sse", &[], "");
    assert!(events.text().contains("streamClosed"), "{events:?}");
    if host.is_worker() {
        let log = home.0.log();
        assert!(!log.contains("writing a point"), "{log}");
    }
}
