//! Live pages: the answers with the script, and their dependencies.

use super::super::super::request::Pages;
use super::*;

const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

fn live(site: &Site, url: &str, headers: &[(HeaderName, &str)]) -> (Plan, bool) {
    let request = ask(&Method::GET, url, headers).with_pages(Pages::Live);
    let plan = site.answer(&request);
    let is_live = match &plan.body {
        PlanBody::Blob { held, .. } => request.makes_live(&held.entry),
        PlanBody::Page(_) => true,
        PlanBody::Text(_) | PlanBody::Empty => false,
    };
    (plan, is_live)
}

fn site_of_pages() -> Site {
    let html = "text/html; charset=utf-8";
    Site::of(&["index.html", "a.css"])
        .with("empty.html", held(b"", html, Codec::Stored, 0))
        .with("stored.html", held(b"x", html, Codec::Stored, 1))
        .with(
            "x.xhtml",
            held(b"x", "application/xhtml+xml", Codec::Zstd, 9),
        )
        .with(
            "wide.html",
            held(b"y", "text/html; charset=UTF-16LE", Codec::Zstd, 9),
        )
}

#[test]
fn live_script_goes_into_pages_that_a_browser_shows() {
    let site = site_of_pages();
    for (url, dest, is_live, vary) in [
        ("/", None, true, Some("sec-fetch-dest")),
        ("/", Some("document"), true, Some("sec-fetch-dest")),
        ("/", Some("iframe"), true, Some("sec-fetch-dest")),
        ("/", Some("frame"), true, Some("sec-fetch-dest")),
        (
            "/",
            Some("empty"),
            false,
            Some("accept-encoding, sec-fetch-dest"),
        ),
        (
            "/",
            Some("object"),
            false,
            Some("accept-encoding, sec-fetch-dest"),
        ),
        ("/stored", None, true, Some("sec-fetch-dest")),
        ("/stored", Some("empty"), false, Some("sec-fetch-dest")),
        ("/empty", None, true, Some("sec-fetch-dest")),
        ("/empty", Some("empty"), false, Some("sec-fetch-dest")),
        ("/a.css", None, false, Some("accept-encoding")),
        ("/x.xhtml", None, false, Some("accept-encoding")),
        ("/wide", None, false, Some("accept-encoding")),
    ] {
        let dest: Vec<_> = dest.map(|dest| (DEST, dest)).into_iter().collect();
        let (plan, found) = live(&site, url, &dest);
        assert_eq!(
            (plan.status.as_u16(), found),
            (200, is_live),
            "{url} {dest:?}"
        );
        assert_eq!(text(&plan, header::VARY), vary, "{url} {dest:?}");
        let plain = site.get_with(url, &dest);
        let same = text(&plain, header::ETAG) == text(&plan, header::ETAG);
        assert_eq!(same, !is_live, "{url} {dest:?}");
        // The 304 has the same tag.
        let tag = text(&plan, header::ETAG).unwrap().to_owned();
        let known = [&dest[..], &[(header::IF_NONE_MATCH, &*tag)]].concat();
        let (again, _) = live(&site, url, &known);
        assert_eq!(again.status.as_u16(), 304);
        assert_eq!(text(&again, header::VARY), vary);
    }
}

#[test]
fn missing_page_of_a_live_site_waits_for_its_deploy() {
    let (site, html) = (site_of_pages(), (header::ACCEPT, "text/html,*/*;q=0.8"));
    for (headers, is_live) in [
        (&[][..], true),
        (&[html.clone()][..], true),
        (&[html.clone(), (DEST, "document")], true),
        (&[html.clone(), (DEST, "image")], false),
        (&[html.clone(), (DEST, "empty")], false),
        (&[(header::ACCEPT, "application/json")], false),
        (&[(header::ACCEPT, "*/*")], true),
    ] {
        let (plan, found) = live(&site, "/nowhere", headers);
        assert_eq!((plan.status.as_u16(), found), (404, is_live), "{headers:?}");
        let media = text(&plan, header::CONTENT_TYPE).unwrap();
        assert_eq!(media.starts_with("text/html"), is_live, "{headers:?}");
        assert_eq!(text(&plan, header::CACHE_CONTROL), Some("no-store"));
    }
    // A site's own 404 page waits.
    let site = Site::of(&["404.html"]);
    let (plan, is_live) = live(&site, "/nowhere", &[]);
    assert!(matches!(plan.body, PlanBody::Blob { .. }) && is_live);
    assert_eq!(plan.status.as_u16(), 404);
    // None of this applies to sites that are not live.
    assert_eq!(
        site_of_pages().get("/nowhere").body,
        PlanBody::Text("404 Not Found\n")
    );
    let request = ask(&Method::GET, "/", &[]).with_pages(Pages::Live);
    assert!(matches!(absent(&request).body, PlanBody::Page(_)));
}
