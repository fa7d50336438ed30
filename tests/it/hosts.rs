//! Host parity: both hosts answer the same requests with the same status, headers and body, byte
//! for byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::serving::PAGES;
use crate::world::{Answer, World, noise, or_skip};

/// Headers that the runtime or the connection adds.
const NOT_OURS: [&str; 4] = ["date", "connection", "transfer-encoding", "keep-alive"];

/// The parts of a response that must be equal on both hosts.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Publishes three deploys of a site with a file for each special case of serving.
fn publish(world: &World) {
    world.write(&PAGES);
    world.write(&[
        ("about.html", &"<h1>page</h1>".repeat(50)),
        ("assets/app-4f3c2a1b9d0e.js", &"let a = 1;".repeat(50)),
        ("assets/plain.css", &"p { color: red }".repeat(50)),
        ("feed.xml", "<feed/>"),
        ("empty.txt", ""),
        ("name with spaces.txt", "spaces"),
        ("ümlaut.html", "umlaut"),
        ("no-extension", "bytes"),
        (".well-known/security.txt", "Contact: x"),
    ]);
    world.write_bytes("logo.png", &[7u8; 3000]);
    world.write_bytes("latin.html", b"<p>caf\xe9</p>");
    world.write(&[
        ("main.go", "package main"),
        ("(x).html", "x"),
        ("song-4f3c2a1b9d0e.mp3", "sound"),
        (".well-known/apple-app-site-association", "{}"),
    ]);
    world.write_bytes("large.bin", &noise(0, 9_000_000));
    world.write(&[("table.json", &"{\"row\": 1}\n".repeat(900_000))]);
    world.sync("docs", &["--order", "none", "-m", "one"]).ok();
    fs::remove_file(world.site().join("assets/app-4f3c2a1b9d0e.js")).unwrap();
    world.write(&[("index.html", "home, changed")]);
    world.sync("docs", &["--order", "run:7", "-m", "two"]).ok();
    world.pmx(&["rollback", "1", "--space", "docs"]).ok();
    world.pmx(&["rollback", "2", "--space", "docs"]).ok();
}

/// Method, site, path, headers. The header `Authorization: token` becomes the world's own token.
type Asked = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const PLAIN: &[(&str, &str)] = &[];
const ZSTD: &[(&str, &str)] = &[("Accept-Encoding", "zstd, gzip")];
const TOKEN: &[(&str, &str)] = &[("Authorization", "token")];

const TABLE: &[Asked] = &[
    // Pages, redirects, missing pages.
    ("GET", "docs", "/", PLAIN),
    ("GET", "docs", "/?query=1", PLAIN),
    ("GET", "docs", "/index.html", PLAIN),
    ("GET", "docs", "/about", PLAIN),
    ("GET", "docs", "/about.html?q=1&r=%20", PLAIN),
    ("GET", "docs", "/about/", PLAIN),
    ("GET", "docs", "/docs", PLAIN),
    ("GET", "docs", "/docs/", PLAIN),
    ("GET", "docs", "/docs/intro", PLAIN),
    ("GET", "docs", "/docs/nope", PLAIN),
    ("GET", "docs", "/docs/deep/er/nope", PLAIN),
    ("GET", "docs", "/nope", PLAIN),
    ("GET", "docs", "//evil.example/", PLAIN),
    ("GET", "docs", "/%zz", PLAIN),
    ("GET", "docs", "/a%00b", PLAIN),
    ("GET", "docs", "/empty.txt", PLAIN),
    ("GET", "docs", "/name%20with%20spaces.txt", PLAIN),
    ("GET", "docs", "/%C3%BCmlaut", PLAIN),
    ("GET", "docs", "/no-extension", PLAIN),
    ("GET", "docs", "/feed.xml", PLAIN),
    ("GET", "docs", "/.well-known/security.txt", PLAIN),
    ("GET", "docs", "/logo.png", PLAIN),
    ("GET", "docs", "/assets/app-4f3c2a1b9d0e.js", PLAIN),
    ("GET", "docs", "/assets/plain.css", PLAIN),
    ("GET", "docs", "/large.bin", PLAIN),
    ("GET", "docs", "/table.json", PLAIN),
    // Other spellings of a path.
    ("GET", "docs", "/%61bout?q=%61", PLAIN),
    ("GET", "docs", "/%28x%29", PLAIN),
    ("GET", "docs", "//about", PLAIN),
    ("GET", "docs", "///", PLAIN),
    ("GET", "docs", "/a%2Fb", PLAIN),
    ("GET", "docs", "/_pmx/none", PLAIN),
    ("HEAD", "docs", "/%61bout", PLAIN),
    // Types and charsets.
    ("GET", "docs", "/latin", PLAIN),
    ("HEAD", "docs", "/latin", PLAIN),
    ("GET", "docs", "/latin", &[("Range", "bytes=0-3")]),
    ("GET", "docs", "/main.go", PLAIN),
    ("GET", "docs", "/song-4f3c2a1b9d0e.mp3", PLAIN),
    (
        "GET",
        "docs",
        "/.well-known/apple-app-site-association",
        PLAIN,
    ),
    // Other methods.
    ("HEAD", "docs", "/", PLAIN),
    ("HEAD", "docs", "/about", PLAIN),
    ("HEAD", "docs", "/about.html", PLAIN),
    ("HEAD", "docs", "/nope", PLAIN),
    ("HEAD", "docs", "/large.bin", PLAIN),
    ("HEAD", "docs", "/table.json", ZSTD),
    ("POST", "docs", "/", PLAIN),
    ("DELETE", "docs", "/nope", PLAIN),
    ("OPTIONS", "docs", "/", PLAIN),
    // Codings.
    ("GET", "docs", "/about", ZSTD),
    ("GET", "docs", "/assets/plain.css", ZSTD),
    ("GET", "docs", "/logo.png", ZSTD),
    ("GET", "docs", "/table.json", ZSTD),
    ("GET", "docs", "/large.bin", ZSTD),
    ("GET", "docs", "/nope", ZSTD),
    ("HEAD", "docs", "/about", ZSTD),
    ("GET", "docs", "/about", &[("Accept-Encoding", "identity")]),
    (
        "GET",
        "docs",
        "/about",
        &[("Accept-Encoding", "zstd;q=0, *")],
    ),
    ("GET", "docs", "/about", &[("Accept-Encoding", "*")]),
    (
        "GET",
        "docs",
        "/about",
        &[("Accept-Encoding", "*, identity;q=0")],
    ),
    // Conditions and ranges.
    ("GET", "docs", "/about", &[("If-None-Match", "*")]),
    ("GET", "docs", "/about", &[("If-None-Match", "\"x\"")]),
    ("HEAD", "docs", "/about", &[("If-None-Match", "*")]),
    ("GET", "docs", "/nope", &[("If-None-Match", "*")]),
    ("GET", "docs", "/about", &[("If-Match", "\"x\"")]),
    ("GET", "docs", "/about", &[("Range", "bytes=0-9")]),
    ("GET", "docs", "/about", &[("Range", "bytes=-4")]),
    ("GET", "docs", "/about", &[("Range", "bytes=999999-")]),
    ("GET", "docs", "/about", &[("Range", "bytes=5-1")]),
    ("GET", "docs", "/about", &[("Range", "bytes=0-1,3-4")]),
    (
        "GET",
        "docs",
        "/about",
        &[("Range", "bytes=0-9"), ("If-Range", "\"x\"")],
    ),
    ("GET", "docs", "/logo.png", &[("Range", "bytes=100-199")]),
    (
        "GET",
        "docs",
        "/large.bin",
        &[("Range", "bytes=8388600-8388620")],
    ),
    (
        "GET",
        "docs",
        "/table.json",
        &[("Range", "bytes=8388600-8388620")],
    ),
    ("HEAD", "docs", "/about", &[("Range", "bytes=0-9")]),
    // Earlier deploys, other names.
    ("GET", "1--docs", "/", PLAIN),
    ("GET", "2--docs", "/", PLAIN),
    ("GET", "2--docs", "/assets/app-4f3c2a1b9d0e.js", PLAIN),
    ("GET", "9--docs", "/", PLAIN),
    ("HEAD", "9--docs", "/", PLAIN),
    ("GET", "preview--docs", "/", PLAIN),
    ("GET", "missing", "/", PLAIN),
    ("POST", "missing", "/", PLAIN),
    ("GET", "a.docs", "/", PLAIN),
    ("GET", "no_such", "/", PLAIN),
    // Events, and false claims of a stranger.
    ("GET", "docs", "/_events?offset=-1", PLAIN),
    ("HEAD", "docs", "/_events?offset=-1", PLAIN),
    ("GET", "docs", "/_events?offset=-1&compact=1", PLAIN),
    ("GET", "docs", "/_events?offset=-1&live=sse", PLAIN),
    ("GET", "docs", "/_events?offset=-1&live=long-poll", PLAIN),
    ("GET", "missing", "/_events?offset=-1", PLAIN),
    ("GET", "docs", "/", &[("X-Pmx-Know", "9")]),
    ("GET", "docs", "/", &[("Cookie", "_pmx_deploy=9")]),
    // The API.
    ("GET", "", "/healthz", PLAIN),
    ("HEAD", "", "/healthz", PLAIN),
    ("GET", "", "/", PLAIN),
    ("GET", "", "/api/nothing", TOKEN),
    ("GET", "", "/api/deploys?space=docs", PLAIN),
    (
        "GET",
        "",
        "/api/deploys?space=docs",
        &[("Authorization", "Bearer wrong")],
    ),
    ("GET", "", "/api/deploys?space=docs", TOKEN),
    ("GET", "", "/api/deploys?space=docs&limit=1&before=3", TOKEN),
    ("GET", "", "/api/deploys?space=docs&limit=x", TOKEN),
    ("GET", "", "/api/deploys?space=missing", TOKEN),
    ("GET", "", "/api/deploys?space=No", TOKEN),
    ("GET", "", "/api/deploys", TOKEN),
    ("GET", "", "/api/deploys/2?space=docs", TOKEN),
    ("HEAD", "", "/api/deploys/2?space=docs", TOKEN),
    ("GET", "", "/api/deploys/99?space=docs", TOKEN),
    ("GET", "", "/api/deploys/1/diff/2?space=docs", TOKEN),
    ("GET", "", "/api/diff?space=docs&from=1&to=99", TOKEN),
    ("POST", "", "/api/deploys?space=docs", TOKEN),
    ("GET", "", "/api/publish/begin", TOKEN),
    ("POST", "", "/api/publish/begin", TOKEN),
    ("POST", "", "/api/publish/begin", PLAIN),
    ("POST", "", "/api/publish/commit", TOKEN),
    ("POST", "", "/api/publish/rollback", TOKEN),
    ("PUT", "", "/api/publish/packs/zz?space=docs", TOKEN),
    ("PUT", "", "/api/publish/blobs/zz/0?space=docs", TOKEN),
];

fn shown(world: &World, &(method, site, path, headers): &Asked) -> Shown {
    let token = world.token();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            (
                *name,
                if *value == "token" {
                    token.as_str()
                } else {
                    value
                },
            )
        })
        .collect();
    let Answer {
        status,
        headers,
        body,
    } = world.request(method, site, path, &headers, b"");
    let port = world.server.port.to_string();
    let ours = |(name, value): (String, String)| {
        let is_ours = !NOT_OURS.contains(&name.as_str());
        // A deploy token depends on the server's secret.
        let value = match value.split_once('.') {
            Some((deploy, _mac)) if name == "x-pmx-know" => deploy.to_owned(),
            // Only the Worker has an edge in front, which must not recode frames.
            _ if name == "cache-control" => value.replace(", no-transform", ""),
            Some(_) | None => value.replace(&port, "PORT"),
        };
        is_ours.then_some((name, value))
    };
    let mut headers: BTreeMap<_, _> = headers.into_iter().filter_map(ours).collect();
    let mut body = body;
    // Cloudflare's edge may compress a body whose coding the Worker leaves open, and then drops the
    // length.
    if headers
        .get("content-encoding")
        .is_some_and(|coding| coding == "gzip")
    {
        headers.remove("content-encoding");
        let mut raw = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut raw).unwrap();
        body = raw;
    }
    if method != "HEAD" && status != 304 {
        headers.insert("content-length".to_owned(), body.len().to_string());
    }
    Shown {
        status,
        headers,
        body: without_port(&body, &port),
    }
}

/// A body as text, or its hash if it is long or not text.
fn without_port(body: &[u8], port: &str) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if text.len() < 5000 => nameless(&timeless(&text.replace(port, "PORT"))),
        Ok(_) | Err(_) => format!("{} bytes {}", body.len(), blake3::hash(body)),
    }
}

/// An error response without its id, which differs each time.
fn nameless(text: &str) -> String {
    match text.split_once(ID) {
        Some((before, after)) => format!("{before}{}", after.get(ID_DIGITS..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

const ID: &str = "\"id\":\"";
const ID_DIGITS: usize = 16;

/// The field with the time of a deploy.
const AT: &str = "\"at\":";

/// JSON without the times of deploys.
fn timeless(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find(AT) {
        let (before, after) = rest.split_at(at + AT.len());
        out.push_str(before);
        out.push_str("TIME");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn hosts_answer_the_same() {
    let worker = or_skip!(World::worker());
    let embedded = World::new();
    for world in [&embedded, &worker] {
        publish(world);
    }
    let differ = |asked: &&Asked| shown(&embedded, asked) != shown(&worker, asked);
    let different: Vec<_> = TABLE.iter().filter(differ).collect();
    for asked in &different {
        println!("{asked:?}");
        println!("  embedded {:?}", shown(&embedded, asked));
        println!("  worker   {:?}", shown(&worker, asked));
    }
    assert!(
        different.is_empty(),
        "{} of {} differ",
        different.len(),
        TABLE.len()
    );
}
