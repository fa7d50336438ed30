//! Serving sites: URLs, conditional requests, content codings and types, as browsers and caches see
//! them.

use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::world::{Host, World, on_both_hosts};

on_both_hosts! {
    clean_urls_redirect_and_show_the_nearest_404,
    etags_are_blob_ids_and_conditions_are_honoured,
    zstd_is_served_as_stored_where_accepted,
    assets_of_earlier_deploys_still_resolve_but_pages_do_not,
    unknown_hosts_and_sites_are_not_found,
    page_has_one_url,
    content_types_and_charsets_are_true,
}

/// Pages at clean URLs, and the page for a missing one.
pub(crate) const PAGES: [(&str, &str); 5] = [
    ("index.html", "home"),
    ("docs/index.html", "docs home"),
    ("docs/intro.html", "intro"),
    ("404.html", "nothing here"),
    ("docs/404.html", "no such docs"),
];

fn site(world: World) -> World {
    world.write(&PAGES);
    world.write(&[
        ("about.html", &"<h1>page</h1>".repeat(50)),
        ("assets/app-4f3c2a1b9d0e.js", &"let a = 1;".repeat(50)),
        ("assets/plain.css", &"p { color: red }".repeat(50)),
    ]);
    world.write_bytes("logo.png", &[7u8; 3000]);
    world.sync("docs", &[]).ok();
    world
}

fn clean_urls_redirect_and_show_the_nearest_404(world: World) {
    let world = site(world);
    for (path, status, location, body) in [
        ("/", 200, None, Some("home")),
        ("/index.html", 307, Some("/"), None),
        ("/index", 307, Some("/"), None),
        ("/about.html", 307, Some("/about"), None),
        ("/about/", 307, Some("/about"), None),
        ("/about.html?q=1", 307, Some("/about?q=1"), None),
        ("/docs", 307, Some("/docs/"), None),
        ("/docs/", 200, None, Some("docs home")),
        ("/docs/index.html", 307, Some("/docs/"), None),
        ("/docs/intro", 200, None, Some("intro")),
        ("/nope", 404, None, Some("nothing here")),
        ("/docs/deep/er/nope", 404, None, Some("no such docs")),
        ("//evil.example/", 404, None, None),
        ("/%2e%2e%2fetc/passwd", 404, None, None),
        ("/%zz", 400, None, None),
    ] {
        let answer = world.get("docs", path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("location"), location, "{path}");
        if let Some(body) = body {
            assert_eq!(answer.text(), body, "{path}");
        }
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
    }
}

fn etags_are_blob_ids_and_conditions_are_honoured(world: World) {
    let world = site(world);
    let content = fs::read(world.site().join("about.html")).unwrap();
    let id = blake3::hash(&content).to_hex().to_string();
    let whole = world.get("docs", "/about");
    assert_eq!(whole.header("etag"), Some(format!("\"{id}\"").as_str()));
    assert_eq!(
        whole.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        whole.header("cache-control"),
        Some("public, max-age=0, must-revalidate")
    );
    let with = |name: &str, value: &str| world.get_with("docs", "/about", &[(name, value)]);
    for matching in [
        format!("\"{id}\""),
        format!("W/\"{id}\", \"x\""),
        "*".into(),
    ] {
        let answer = with("If-None-Match", &matching);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{matching}");
    }
    assert_eq!(with("If-None-Match", "\"other\"").status, 200);
    let head = world.request("HEAD", "docs", "/about", &[], b"");
    assert_eq!(
        head.header("content-length"),
        Some(content.len().to_string().as_str())
    );
    assert!(head.body.is_empty());
    for (range, status, body) in [
        ("bytes=0-9", 206, &content[..10]),
        ("bytes=-4", 206, &content[content.len() - 4..]),
        ("bytes=5-", 206, &content[5..]),
        ("bytes=999999-", 416, &[]),
        ("bytes=5-1", 200, &content[..]),
        ("bytes=0-1,3-4", 200, &content[..]),
    ] {
        let answer = with("Range", range);
        assert_eq!(answer.status, status, "{range}");
        if status != 416 {
            assert_eq!(answer.body, body, "{range}");
        }
    }
    assert_eq!(
        world.request("POST", "docs", "/about", &[], b"x").status,
        405
    );
}

/// On the Worker, the edge does this instead.
#[test]
fn content_coding_falls_back_without_zstd() {
    let world = World::new();
    let content = "<p>all work and no play makes a dull page</p>\n".repeat(2_000);
    world.write(&[("index.html", &content), ("404.html", &content)]);
    world.write_bytes("logo.png", &[7; 3_000]);
    world.sync("docs", &[]).ok();
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let browser = [("Accept-Encoding", "gzip, deflate, br")];
        world.get_with("docs", path, &[&browser[..], headers].concat())
    };
    let plain = world.get("docs", "/");
    let tag = plain.header("etag").unwrap().to_owned();
    let coded = ask("/", &[]);
    assert_eq!(coded.header("content-encoding"), Some("br"));
    assert!(coded.header("vary").unwrap().starts_with("accept-encoding"));
    assert_eq!(coded.header("etag"), Some(&*format!("W/{tag}")));
    assert!(
        coded.body.len() < content.len() / 50,
        "{}",
        coded.body.len()
    );
    let gzip = [("Accept-Encoding", "gzip")];
    let gzip = world.get_with("docs", "/", &gzip);
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut opened = String::new();
    GzDecoder::new(&gzip.body[..])
        .read_to_string(&mut opened)
        .unwrap();
    assert!(opened == content);
    let missing = ask("/none", &[]);
    assert_eq!(
        (missing.status, missing.header("content-encoding")),
        (404, Some("br"))
    );
    for known in [tag.clone(), format!("W/{tag}")] {
        assert_eq!(
            ask("/", &[("If-None-Match", &known)]).status,
            304,
            "{known}"
        );
    }
    let range = ask("/", &[("Range", "bytes=3-9")]);
    assert_eq!(
        (range.status, range.header("content-encoding")),
        (206, None)
    );
    assert_eq!(range.text(), content[3..10]);
    assert_eq!(ask("/logo.png", &[]).header("content-encoding"), None);
}

fn zstd_is_served_as_stored_where_accepted(world: World) {
    let world = site(world);
    let content = fs::read(world.site().join("about.html")).unwrap();
    let ask = |encoding: &str| world.get_with("docs", "/about", &[("Accept-Encoding", encoding)]);
    for (encoding, coded) in [
        ("gzip, br, zstd", true),
        ("zstd;q=0.5", true),
        ("*", false),
        ("*, identity;q=0", true),
        ("gzip", false),
        ("zstd;q=0, *", false),
        ("identity", false),
    ] {
        let answer = ask(encoding);
        let encoded = answer.header("content-encoding");
        // Cloudflare's edge may compress a body whose coding the Worker leaves open.
        let by_edge = world.server.host.is_worker() && encoded == Some("gzip");
        if !by_edge || coded {
            assert_eq!(encoded, coded.then_some("zstd"), "{encoding}");
        }
        let vary = answer.header("vary").map(str::to_ascii_lowercase);
        assert_eq!(vary.as_deref(), Some("accept-encoding"), "{encoding}");
        let body = if coded {
            let mut out = vec![0; content.len()];
            zstd_safe::decompress(&mut out[..], &answer.body).unwrap();
            out
        } else if by_edge {
            let mut out = Vec::new();
            GzDecoder::new(&answer.body[..])
                .read_to_end(&mut out)
                .unwrap();
            out
        } else {
            answer.body
        };
        assert!(body == content, "{encoding}");
    }
    let image = world.get_with("docs", "/logo.png", &[("Accept-Encoding", "zstd")]);
    assert_eq!(
        image.header("content-encoding"),
        None,
        "images lie as they are"
    );
}

fn assets_of_earlier_deploys_still_resolve_but_pages_do_not(world: World) {
    let world = site(world);
    let hashed = world.get("docs", "/assets/app-4f3c2a1b9d0e.js");
    assert_eq!(
        hashed.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    let plain = world.get("docs", "/assets/plain.css");
    assert_eq!(
        plain.header("cache-control"),
        Some("public, max-age=0, must-revalidate")
    );
    let old = hashed.body;
    fs::remove_file(world.site().join("assets/app-4f3c2a1b9d0e.js")).unwrap();
    fs::remove_file(world.site().join("about.html")).unwrap();
    for number in 0..10 {
        world.write(&[("index.html", &format!("home {number}"))]);
        world.sync("docs", &[]).ok();
        let kept = world.get("docs", "/assets/app-4f3c2a1b9d0e.js");
        assert_eq!(
            (kept.status, &kept.body),
            (200, &old),
            "after {} deploys",
            number + 1
        );
        assert_eq!(
            world.get("docs", "/about").status,
            404,
            "a page must not outlive its deploy"
        );
    }
    world.write(&[("index.html", "home, the eleventh")]);
    world.sync("docs", &[]).ok();
    assert_eq!(world.get("docs", "/assets/app-4f3c2a1b9d0e.js").status, 404);
    assert_eq!(
        world.get("1--docs", "/about").status,
        200,
        "a deploy's own URL shows all of it"
    );
}

fn page_has_one_url(world: World) {
    world.write(&[("(x).html", "x"), ("\u{fc}.html", "u")]);
    let world = site(world);
    for (path, status, location) in [
        ("/%61bout?q=%61", 307, Some("/about?q=%61")),
        ("/%28x%29", 200, None),
        ("/(x)", 200, None),
        ("/%c3%bc", 307, Some("/%C3%BC")),
        ("/%C3%BC", 200, None),
        ("/%61ssets/plain%2ecss", 307, Some("/assets/plain.css")),
        ("/%61bout.html", 307, Some("/about")),
        ("//about", 307, Some("/about")),
        ("///", 307, Some("/")),
        ("//docs//", 307, Some("/docs/")),
        ("//evil.example", 404, None),
        ("/a%2Fb", 404, None),
    ] {
        let answer = world.get("docs", path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("location"), location, "{path}");
        if let Some(location) = location {
            assert_eq!(world.get("docs", location).status, 200, "{path}");
        }
        if status == 404 {
            assert_eq!(answer.text(), "nothing here", "{path}");
        }
    }
}

fn content_types_and_charsets_are_true(world: World) {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
        .unwrap();
    let (latin, long) = (b"<p>caf\xe9</p>".repeat(40), "\u{fc}".repeat(200_000));
    world.write_bytes("latin.html", &latin);
    world.write_bytes("a.svgz", &gzip.finish().unwrap());
    world.write_bytes("plain.svgz", b"<svg xmlns='http://www.w3.org/2000/svg'/>");
    world.write(&[
        ("utf8.html", "<p>caf\u{e9}</p>"),
        ("long.txt", &long),
        ("main.go", "package main"),
        ("page.tsx", "<b/>"),
        ("live.m3u8", "#EXTM3U"),
        ("data.json", "{\"a\": 1}"),
        (".well-known/apple-app-site-association", "{\"a\": 1}"),
        ("song-4f3c2a1b9d0e.mp3", "sound"),
    ]);
    world.sync("docs", &[]).ok();
    for (path, media, coding) in [
        ("/latin", "text/html", None),
        ("/utf8", "text/html; charset=utf-8", None),
        ("/long.txt", "text/plain; charset=utf-8", None),
        ("/main.go", "text/plain; charset=utf-8", None),
        ("/page.tsx", "text/plain; charset=utf-8", None),
        ("/live.m3u8", "application/vnd.apple.mpegurl", None),
        ("/data.json", "application/json", None),
        (
            "/.well-known/apple-app-site-association",
            "application/json",
            None,
        ),
        ("/a.svgz", "image/svg+xml", Some("gzip")),
        ("/plain.svgz", "image/svg+xml", None),
    ] {
        let ask =
            |method, headers: &[(&str, &str)]| world.request(method, "docs", path, headers, b"");
        let first = ask("HEAD", &[]);
        let zstd = ask("GET", &[("Accept-Encoding", "zstd")]);
        let part = ask("GET", &[("Range", "bytes=0-3")]);
        let whole = ask("GET", &[]);
        for answer in [&first, &zstd, &part, &whole] {
            assert_eq!(
                answer.header("content-type"),
                Some(media),
                "{path} {answer:?}"
            );
        }
        assert_eq!(whole.header("content-encoding"), coding, "{path}");
        assert_eq!((part.status, part.body.len()), (206, 4), "{path}");
    }
    let song = world.get("docs", "/song-4f3c2a1b9d0e.mp3");
    let revalidated = Some("public, max-age=0, must-revalidate");
    assert_eq!(song.header("cache-control"), revalidated);
    let refused = [("Accept-Encoding", "identity;q=0")];
    let refused = world.get_with("docs", "/utf8", &refused);
    // The local runtime answers such a request itself, before the Worker sees it.
    let expected = match world.server.host {
        Host::Embedded => 406,
        Host::Worker | Host::Unkind => 415,
    };
    assert_eq!(refused.status, expected, "{refused:?}");
}

fn unknown_hosts_and_sites_are_not_found(world: World) {
    let world = site(world);
    for host in ["missing", "9--docs", "no_such", "a.docs", "preview--docs"] {
        let answer = world.get(host, "/");
        assert_eq!(answer.status, 404, "{host}");
    }
    let api = world.get("", "/healthz");
    assert_eq!(
        (api.status, &api.json()["ok"]),
        (200, &serde_json::Value::Bool(true))
    );
    assert_eq!(world.get("", "/api/deploys?space=docs").status, 401);
    let token = world.token();
    let listed = world.get_with("", "/api/deploys?space=docs", &[("Authorization", &token)]);
    assert_eq!(listed.json()["active"], 1);
}
