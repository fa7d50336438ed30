use http::{HeaderName, Method, header};
use pmx_core::coding::Coding;
use pmx_core::id::BlobId;
use pmx_core::location::Codec;
use proptest::prelude::*;

use super::super::answer::PlanBody;
use super::super::test_support::{DEPLOY, Site, ask, held, lookup, served, text};
use super::*;
use crate::limits::ASSET_RETENTION_DEPLOYS;

mod live;

const ZSTD: (HeaderName, &str) = (header::ACCEPT_ENCODING, "gzip, br, zstd");
const HASHED: &str = "app-4f3c2a1b9d.js";

/// A site with ten uncompressed bytes, the same as zstd, and big blobs in parts.
fn site() -> Site {
    Site::of(&["index.html", "404.html", HASHED, "a.css"])
        .with("ten", held(b"0123456789", "image/png", Codec::Stored, 10))
        .with("coded", held(b"0123456789", "text/plain", Codec::Zstd, 7))
        .with("none", held(b"", "text/plain", Codec::Zstd, 9))
        .with("parts", held(b"big", "text/plain", Codec::Parts, 96))
        .with("frames", held(b"big", "text/plain", Codec::ZstdParts, 96))
}

fn ten() -> BlobId {
    BlobId::of(b"0123456789")
}

fn sent(plan: &Plan) -> (Coding, Option<(u64, u64)>) {
    match &plan.body {
        PlanBody::Blob { coding, range, .. } => (*coding, *range),
        PlanBody::Empty | PlanBody::Text(_) | PlanBody::Page(_) => panic!("no blob: {plan:?}"),
    }
}

fn headers(plan: &Plan) -> String {
    let lines = plan.headers.iter();
    let lines = lines.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    format!("{}\n{}", plan.status, lines.concat())
}

#[test]
fn page_is_revalidated() {
    let plan = site().get_with("/", &[ZSTD]);
    insta::assert_snapshot!(headers(&plan), @r#"
    200 OK
    accept-ranges: bytes
    cache-control: public, max-age=0, must-revalidate
    content-encoding: zstd
    content-length: 17
    content-type: text/html; charset=utf-8
    etag: W/"80c7dd78cd9faa6eba9d07a3c44e517f9fdf274f9851ea1e6004452225be04fb"
    referrer-policy: strict-origin-when-cross-origin
    vary: accept-encoding
    x-content-type-options: nosniff
    x-pmx-deploy: 12
    "#);
    assert_eq!(sent(&plan), (Coding::Zstd, None));
}

#[test]
fn fingerprinted_asset_is_immutable() {
    insta::assert_snapshot!(headers(&site().get(&format!("/{HASHED}"))), @r#"
    200 OK
    accept-ranges: bytes
    cache-control: public, max-age=31536000, immutable
    content-length: 17
    content-type: text/javascript; charset=utf-8
    etag: "4e84cedd9b3ee3b7325ceaae958fe0a26697de88013b24d083949c1b9a1d005f"
    referrer-policy: strict-origin-when-cross-origin
    vary: accept-encoding
    x-content-type-options: nosniff
    x-pmx-deploy: 12
    "#);
}

#[test]
fn not_found_page_of_the_site() {
    insta::assert_snapshot!(headers(&site().get("/nowhere")), @r#"
    404 Not Found
    cache-control: public, max-age=0, must-revalidate
    content-length: 8
    content-type: text/html; charset=utf-8
    etag: "d8bbecea9125ab28ff4e75a81ed52837502b601de849072210776c84c9dff98c"
    referrer-policy: strict-origin-when-cross-origin
    vary: accept-encoding
    x-content-type-options: nosniff
    x-pmx-deploy: 12
    "#);
}

#[test]
fn redirect_to_the_clean_url() {
    insta::assert_snapshot!(headers(&site().get("/index.html")), @r#"
    307 Temporary Redirect
    content-length: 0
    location: /
    referrer-policy: strict-origin-when-cross-origin
    x-content-type-options: nosniff
    x-pmx-deploy: 12
    "#);
}

#[test]
fn refusal_of_an_invalid_path() {
    let plan = site().get("/%00");
    insta::assert_snapshot!(headers(&plan), @r#"
    400 Bad Request
    cache-control: no-store
    content-length: 16
    content-type: text/plain; charset=utf-8
    referrer-policy: strict-origin-when-cross-origin
    x-content-type-options: nosniff
    x-pmx-deploy: 12
    "#);
    assert_eq!(plan.body, PlanBody::Text("400 Bad Request\n"));
}

#[test]
fn missing_site_is_not_found() {
    let plan = absent(&ask(&Method::GET, "/", &[]));
    insta::assert_snapshot!(headers(&plan), @r#"
    404 Not Found
    cache-control: no-store
    content-length: 14
    content-type: text/plain; charset=utf-8
    referrer-policy: strict-origin-when-cross-origin
    x-content-type-options: nosniff
    "#);
    let plan = absent(&ask(&Method::HEAD, "/%zz", &[]));
    assert_eq!((plan.status.as_u16(), plan.body), (404, PlanBody::Empty));
    let plan = absent(&ask(&Method::PUT, "/", &[]));
    assert_eq!(plan.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn methods_other_than_get_and_head_are_refused() {
    for (method, status) in [
        (Method::POST, 405),
        (Method::PUT, 405),
        (Method::DELETE, 405),
        (Method::TRACE, 405),
        (Method::from_bytes(b"get").unwrap(), 405),
        (Method::OPTIONS, 204),
    ] {
        let plan = site().answer(&ask(&method, "/", &[]));
        assert_eq!(plan.status.as_u16(), status, "{method}");
        assert_eq!(text(&plan, header::ALLOW), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    for url in ["/", "/ten", "/frames", "/nowhere", "/%00", "/index.html"] {
        for accepts in [ZSTD, (header::ACCEPT_ENCODING, "identity")] {
            let get = site().get_with(url, std::slice::from_ref(&accepts));
            let head = site().answer(&ask(&Method::HEAD, url, &[accepts]));
            assert_eq!((get.status, get.headers), (head.status, head.headers));
            assert_eq!(head.body, PlanBody::Empty);
        }
    }
    let ranged = ask(&Method::HEAD, "/ten", &[(header::RANGE, "bytes=2-4")]);
    assert_eq!(site().answer(&ranged).status, StatusCode::OK);
}

#[test]
fn stored_coding_is_sent_to_clients_that_accept_it() {
    let site = site();
    // url, accepted: coding, tag, length, varies
    for (url, takes_zstd, coding, weak, length, varies) in [
        ("/ten", true, Coding::Identity, false, Some("10"), false),
        ("/coded", true, Coding::Zstd, true, Some("7"), true),
        ("/frames", true, Coding::Zstd, true, None, true),
        ("/parts", true, Coding::Identity, false, Some("3"), false),
        ("/ten", false, Coding::Identity, false, Some("10"), false),
        ("/coded", false, Coding::Identity, false, Some("10"), true),
        ("/frames", false, Coding::Identity, false, Some("3"), true),
    ] {
        let headers = if takes_zstd { &[ZSTD][..] } else { &[] };
        let plan = site.get_with(url, headers);
        assert_eq!(sent(&plan), (coding, None), "{url}");
        let tag = text(&plan, header::ETAG).unwrap();
        assert_eq!(tag.starts_with("W/"), weak, "{url}");
        let encoding = text(&plan, header::CONTENT_ENCODING);
        assert_eq!(encoding == Some("zstd"), coding == Coding::Zstd, "{url}");
        assert_eq!(text(&plan, header::CONTENT_LENGTH), length, "{url}");
        assert_eq!(plan.headers.contains_key(header::VARY), varies, "{url}");
        assert_eq!(plan.body.length().map(|n| n.to_string()).as_deref(), length);
    }
}

#[test]
fn empty_file_has_an_empty_body() {
    let plan = site().get_with("/none", &[ZSTD]);
    assert_eq!(plan.body, PlanBody::Empty);
    assert_eq!(text(&plan, header::CONTENT_LENGTH), Some("0"));
    assert_eq!(text(&plan, header::CONTENT_ENCODING), None);
}

#[test]
fn matching_etag_is_not_modified() {
    let site = site();
    let tags = format!("\"{}\", \"{}\"", BlobId::of(b"x"), ten());
    let weak = format!("W/\"{}\"", ten());
    for tags in [&*tags, &weak, "*"] {
        for accepts in [ZSTD, (header::ACCEPT_ENCODING, "")] {
            let asked = &[(header::IF_NONE_MATCH, tags), accepts];
            let fresh = site.get_with("/coded", &asked[1..]);
            let plan = site.get_with("/coded", asked);
            assert_eq!(plan.status, StatusCode::NOT_MODIFIED);
            assert_eq!(plan.body, PlanBody::Empty);
            for name in ["etag", "cache-control", "vary", "x-pmx-deploy"] {
                assert_eq!(text(&plan, name), text(&fresh, name), "{name}");
            }
            for name in ["content-length", "content-type", "content-encoding"] {
                assert_eq!(text(&plan, name), None, "{name}");
            }
        }
    }
    // Conditions apply only to a 200.
    let plan = site.get_with("/nowhere", &[(header::IF_NONE_MATCH, "*")]);
    assert_eq!(plan.status, StatusCode::NOT_FOUND);
    let plan = site.get_with("/index.html", &[(header::IF_MATCH, "\"x\"")]);
    assert_eq!(plan.status, StatusCode::TEMPORARY_REDIRECT);
}

#[test]
fn conditions_come_in_their_order() {
    let mine = &*format!("\"{}\"", ten());
    let weak = &*format!("W/\"{}\"", ten());
    let range = (header::RANGE, "bytes=2-4");
    let beyond = (header::RANGE, "bytes=10-");
    for (headers, status) in [
        (vec![(header::IF_MATCH, mine)], 200),
        (vec![(header::IF_MATCH, weak)], 412),
        (
            vec![(header::IF_MATCH, "\"x\""), (header::IF_NONE_MATCH, mine)],
            412,
        ),
        (
            vec![(header::IF_MATCH, mine), (header::IF_NONE_MATCH, mine)],
            304,
        ),
        (vec![(header::IF_NONE_MATCH, mine), range.clone()], 304),
        (vec![(header::IF_NONE_MATCH, mine), beyond.clone()], 304),
        (vec![(header::IF_MATCH, "\"x\""), range.clone()], 412),
        (vec![(header::IF_MATCH, mine), range.clone()], 206),
        (vec![(header::IF_RANGE, mine), range.clone()], 206),
        (vec![(header::IF_RANGE, weak), range.clone()], 200),
        (vec![(header::IF_RANGE, "\"x\""), beyond.clone()], 200),
        (vec![(header::IF_RANGE, mine), beyond], 416),
        (vec![(header::IF_RANGE, mine)], 200),
    ] {
        for url in ["/ten", "/coded"] {
            let plan = site().get_with(url, &headers);
            assert_eq!(plan.status.as_u16(), status, "{url} {headers:?}");
        }
    }
}

#[test]
fn range_is_of_the_bytes_as_they_are() {
    for url in ["/ten", "/coded"] {
        let plan = site().get_with(url, &[ZSTD, (header::RANGE, "bytes=2-4")]);
        assert_eq!(plan.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(sent(&plan), (Coding::Identity, Some((2, 3))));
        assert_eq!(text(&plan, header::CONTENT_RANGE), Some("bytes 2-4/10"));
        assert_eq!(text(&plan, header::CONTENT_LENGTH), Some("3"));
        assert_eq!(text(&plan, header::CONTENT_ENCODING), None);
        assert_eq!(text(&plan, header::ACCEPT_RANGES), Some("bytes"));
        assert_eq!(text(&plan, header::ETAG), Some(&*format!("\"{}\"", ten())));
    }
    let whole = site().get_with("/coded", &[ZSTD, (header::RANGE, "bytes=0-1,3-4")]);
    assert_eq!(
        (whole.status, sent(&whole)),
        (StatusCode::OK, (Coding::Zstd, None))
    );
}

#[test]
fn range_past_the_end_is_refused() {
    let plan = site().get_with("/coded", &[ZSTD, (header::RANGE, "bytes=10-")]);
    insta::assert_snapshot!(headers(&plan), @r#"
    416 Range Not Satisfiable
    cache-control: no-store
    content-length: 26
    content-range: bytes */10
    content-type: text/plain; charset=utf-8
    etag: "53b63a6fc8605d0c0ce559317a00177d72adb24d669235e4c914f443a8831ca1"
    referrer-policy: strict-origin-when-cross-origin
    vary: accept-encoding
    x-content-type-options: nosniff
    x-pmx-deploy: 12
    "#);
}

#[test]
fn hostile_urls_are_refused_and_not_kept() {
    let long = format!("/{}", "a".repeat(16 * 1024));
    let query = format!("/index.html?{}", "a".repeat(16 * 1024));
    let bare = Site::of(&["index.html"]);
    for (url, status) in [
        ("/%2e%2e%2f", 404),
        ("/%252e", 404),
        ("/%00", 400),
        ("/%zz", 400),
        ("/%ff", 400),
        ("/x;x.css", 404),
        ("/index.html/x.css", 404),
        (&*long, 400),
        (&*query, 400),
        ("//evil", 404),
        ("//evil/", 404),
        ("//evil/index.html", 404),
        ("/%2fevil/index.html", 404),
        ("/\\evil/index.html", 404),
        ("/_pmx/live.js", 404),
        ("/_events", 404),
    ] {
        let plan = bare.get(url);
        let name: String = url.chars().take(40).collect();
        assert_eq!(plan.status.as_u16(), status, "{name}");
        assert_eq!(
            text(&plan, header::CACHE_CONTROL),
            Some("no-store"),
            "{name}"
        );
        assert_eq!(text(&plan, header::LOCATION), None, "{name}");
        let nosniff = text(&plan, header::X_CONTENT_TYPE_OPTIONS);
        assert_eq!(nosniff, Some("nosniff"), "{name}");
    }
}

#[test]
fn cache_control_of_a_year_is_for_fingerprinted_assets() {
    let page = held(b"page", "text/html", Codec::Stored, 4);
    let site = site().with("page-4f3c2a1b9d.js", page);
    for (url, kept) in [
        ("/app-4f3c2a1b9d.js", true),
        ("/a.css", false),
        ("/", false),
        ("/page-4f3c2a1b9d.js", false),
    ] {
        for snapshot in [site.snapshot(), Snapshot::pinned(3)] {
            let plan = site.get_as(snapshot, url);
            let control = text(&plan, header::CACHE_CONTROL).unwrap();
            assert_eq!(control.contains("immutable"), kept, "{url}");
            assert_eq!(control.contains("must-revalidate"), !kept, "{url}");
        }
    }
}

#[test]
fn earlier_deploys_resolve_assets_and_no_pages() {
    let page = ["old.html", "old/index.html", "old.css", "noext"];
    let site = Site::of(&["404.html", "new.css"])
        .after(&["new.css", "recent.js"])
        .after(&page)
        .after(&["older.js"]);
    for (url, expected) in [
        ("/new.css", "200 new.css"),
        ("/recent.js", "200 recent.js"),
        ("/old.css", "200 old.css"),
        ("/older.js", "200 older.js"),
        ("/noext", "200 noext"),
        ("/old", "404 404.html"),
        ("/old.html", "404 404.html"),
        ("/old/", "404 404.html"),
        ("/old/index.html", "404 404.html"),
        ("/never.js", "404 404.html"),
    ] {
        assert_eq!(site.shown(url), expected, "{url}");
        let pinned = site.get_as(Snapshot::pinned(DEPLOY), url);
        let kept_back = !matches!(url, "/new.css");
        assert_eq!(pinned.status.as_u16() == 404, kept_back, "{url}");
    }
    let plan = site.get("/older.js");
    let deploy = DEPLOY.to_string();
    assert_eq!(text(&plan, "x-pmx-deploy"), Some(&*deploy));
}

#[test]
fn page_is_a_page_whatever_its_name() {
    let old = held(b"old", "text/html", Codec::Stored, 3);
    let earlier = Site::of(&["x.js"]).with("page.js", old);
    let mut both = Site::of(&[]);
    both.append(earlier);
    assert_eq!(both.shown("/x.js"), "200 x.js");
    assert_eq!(both.shown("/page.js"), "404");
}

#[test]
fn earlier_deploys_are_searched_ten_back() {
    let mut site = Site::of(&[]);
    for _ in 1..ASSET_RETENTION_DEPLOYS {
        site = site.after(&[]);
    }
    site = site.after(&["ten.js"]).after(&["eleven.js"]);
    assert_eq!(site.shown("/ten.js"), "200 ten.js");
    assert_eq!(site.shown("/eleven.js"), "404");
}

#[test]
fn plan_needs_few_rounds_and_lookups() {
    let site = Site::of(&["a.css"]).after(&["b.css"]).after(&["c.css"]);
    let rounds = |url| {
        site.answer_as(site.snapshot(), &ask(&Method::GET, url, &[]))
            .1
    };
    assert_eq!(rounds("/a.css"), [[served("a.css")]]);
    let spellings = vec![served("b.css.html"), served("b.css/index.html")];
    let first = vec![served("404.html"), lookup(1, "b.css")];
    assert_eq!(rounds("/b.css"), [vec![served("b.css")], spellings, first]);
    assert_eq!(rounds("/c.css").last(), Some(&vec![lookup(2, "c.css")]));
    assert_eq!(rounds("/")[0], [served("index.html")]);
    assert_eq!(rounds("/"), [[served("index.html")], [served("404.html")]]);
    assert_eq!(rounds("/%2Fevil"), [[served("404.html")]]);
}

fn some_paths() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(vec!["a.css", "b", "b.html", "c/index.html", "c/x.js"], 0..5)
}

proptest! {
    #[test]
    fn earlier_deploys_serve_assets_only(
        deploys in prop::collection::vec(some_paths(), 1..14),
        path in prop::sample::select(vec!["a.css", "b", "b.html", "c/index.html", "c/x.js"]),
    ) {
        let mut site = Site::of(&[]);
        for paths in &deploys {
            site.append(Site::of(paths));
        }
        // The served deploy is empty, so any found file is of an earlier one.
        let depth = deploys.len().min(ASSET_RETENTION_DEPLOYS);
        let held = deploys[..depth].iter().any(|paths| paths.contains(&path));
        let asset = matches!(path, "a.css" | "b" | "c/x.js");
        let expected = if held && asset { format!("200 {path}") } else { "404".into() };
        prop_assert_eq!(site.shown(&format!("/{path}")), expected);
    }
}
