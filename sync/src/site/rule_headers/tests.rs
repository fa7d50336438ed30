use http::header;

use super::super::test_support::Site;
use crate::rules::RuleFile;

fn value(site: &Site, url: &str, name: &str) -> Option<String> {
    let plan = site.get(url);
    let values = plan.headers.get_all(name).iter();
    let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
    (!values.is_empty()).then(|| values.join(" | "))
}

#[test]
fn headers_replace_join_and_add_up() {
    let text = "/*\n  X-A: 1\n  Set-Cookie: c=3\n  Referrer-Policy: no-referrer\n\
                /about\n  X-A: 2\n  X-A: 3\n  Set-Cookie: a=1\n  Vary: X-Test, accept-encoding\n\
                /new\n  ! X-A\n  X-B: 1\n\
                /about\n  X-C: 1\n";
    let site = Site::of(&["about.html", "new.html"]).ruled(RuleFile::Headers, text);
    for (url, name, expected) in [
        ("/about", "x-a", Some("2, 3")),
        ("/about", "set-cookie", Some("c=3 | a=1")),
        ("/about", "x-c", Some("1")),
        ("/about", "referrer-policy", Some("no-referrer")),
        ("/new", "x-a", None),
        ("/new", "x-b", Some("1")),
        ("/missing", "x-a", Some("1")),
        ("/about.html", "x-a", Some("1")),
    ] {
        assert_eq!(value(&site, url, name).as_deref(), expected, "{url} {name}");
    }
    let vary = value(&site, "/about", "vary").unwrap();
    assert!(vary.contains("X-Test"), "{vary}");
    assert_eq!(vary.matches("accept-encoding").count(), 1, "{vary}");
}

#[test]
fn cache_control_is_for_the_file_at_the_path() {
    let text = "/*\n  Cache-Control: max-age=60\n";
    let files = ["index.html", "404.html", "about.html"];
    let site = Site::of(&files).ruled(RuleFile::Headers, text);
    for (url, expected) in [
        ("/about", "max-age=60"),
        ("/missing/x", "public, max-age=0, must-revalidate"),
        ("/missing", "public, max-age=0, must-revalidate"),
    ] {
        let found = value(&site, url, header::CACHE_CONTROL.as_str());
        assert_eq!(found.as_deref(), Some(expected), "{url}");
    }
}

#[test]
fn answers_that_depend_on_the_client_are_private() {
    let text = "/ /de 302 Language=de\n/c /x 302 Cookie=beta\n/l /x 302 Country=de\n";
    let site = Site::of(&["index.html", "c.html", "l.html"]).ruled(RuleFile::Redirects, text);
    for (url, vary) in [("/", "accept-language"), ("/c", "cookie"), ("/l", "")] {
        let found = value(&site, url, "vary").unwrap_or_default();
        assert!(found.contains(vary), "{url}: {found}");
        let caching = value(&site, url, "cache-control").unwrap();
        assert!(caching.starts_with("private"), "{url}: {caching}");
    }
}
