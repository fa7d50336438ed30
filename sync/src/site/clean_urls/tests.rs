//! Clean URLs: tables of the answers to URLs, and properties of any site.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::site::test_support::Site;

fn check(site: &Site, expected: &[(&str, &str)]) {
    for (url, answer) in expected {
        assert_eq!(site.shown(url), *answer, "{url}");
    }
}

#[test]
fn clean_urls_follow_cloudflares_table() {
    // The table's column "Response" drops the slash of `/folder/`; the service itself does not.
    let site = Site::of(&["file.html", "folder/index.html"]);
    check(
        &site,
        &[
            ("/file", "200 file.html"),
            ("/file.html", "307 /file"),
            ("/file/", "307 /file"),
            ("/file/index", "307 /file"),
            ("/file/index.html", "307 /file"),
            ("/folder", "307 /folder/"),
            ("/folder.html", "307 /folder/"),
            ("/folder/", "200 folder/index.html"),
            ("/folder/index", "307 /folder/"),
            ("/folder/index.html", "307 /folder/"),
        ],
    );
}

#[test]
fn files_of_settings_have_no_url() {
    let names = [
        "_headers",
        "_redirects",
        "_site.toml",
        "pmx.toml",
        ".pmxignore",
    ];
    let more = ["a/pmx.toml", "a/_headers"];
    let site = Site::of(&[&names[..], &more[..]].concat());
    for name in names {
        assert_eq!(site.shown(&format!("/{name}")), "404", "{name}");
        assert_eq!(site.shown(&format!("/{name}/")), "404", "{name}");
    }
    check(
        &site,
        &[
            ("/a/pmx.toml", "404"),
            ("/%5fheaders", "404"),
            ("/a/_headers", "200 a/_headers"),
        ],
    );
}

#[test]
fn url_in_either_normalisation_finds_the_file() {
    let site = Site::of(&[
        "cafe\u{301}.css",
        "\u{e9}te\u{301}.css",
        "\u{fc}.html",
        "o\u{308}/index.html",
    ]);
    check(
        &site,
        &[
            ("/cafe%CC%81.css", "200 cafe\u{301}.css"),
            ("/caf%C3%A9.css", "200 cafe\u{301}.css"),
            ("/%C3%BC", "200 \u{fc}.html"),
            ("/u%CC%88", "200 \u{fc}.html"),
            ("/u%CC%88.html", "307 /%C3%BC"),
            ("/%C3%B6/", "200 o\u{308}/index.html"),
            ("/%C3%B6", "307 /o%CC%88/"),
            ("/caf%C3%A8.css", "404"),
        ],
    );
    // If both files exist, each has its own URL.
    let site = Site::of(&["cafe\u{301}.css", "caf\u{e9}.css"]);
    check(
        &site,
        &[
            ("/cafe%CC%81.css", "200 cafe\u{301}.css"),
            ("/caf%C3%A9.css", "200 caf\u{e9}.css"),
        ],
    );
}

#[test]
fn top_folder_has_one_url() {
    let site = Site::of(&["index.html", "a.css"]);
    check(
        &site,
        &[
            ("/", "200 index.html"),
            ("/index", "307 /"),
            ("/index.html", "307 /"),
            ("/index/", "307 /"),
            ("/index/index", "307 /"),
            ("/index.html/", "404"),
            ("/a.css", "200 a.css"),
            ("/a.css/", "404"),
            ("/a", "404"),
            ("/A.css", "404"),
        ],
    );
    check(&Site::of(&[]), &[("/", "404"), ("/index.html", "404")]);
}

#[test]
fn page_and_folder_of_one_name_have_two_urls() {
    let site = Site::of(&["both.html", "both/index.html", "both/more.html"]);
    check(
        &site,
        &[
            ("/both", "200 both.html"),
            ("/both/", "200 both/index.html"),
            ("/both.html", "307 /both"),
            ("/both/index", "307 /both/"),
            ("/both/index.html", "307 /both/"),
            ("/both/more.html", "307 /both/more"),
            ("/both/more/", "307 /both/more"),
        ],
    );
}

#[test]
fn file_that_is_no_page_wins() {
    let site = Site::of(&["bin", "bin.html", "index", "index.html", "d/index"]);
    check(
        &site,
        &[
            ("/bin", "200 bin"),
            ("/bin.html", "200 bin.html"),
            ("/bin/", "404"),
            ("/index", "200 index"),
            ("/index.html", "307 /"),
            ("/d/index", "200 d/index"),
            ("/d/", "404"),
        ],
    );
}

#[test]
fn names_with_several_endings_keep_them() {
    let site = Site::of(&[
        "a.html.html",
        "b.html/index.html",
        ".html",
        "index/index.html",
        "c.htm",
    ]);
    check(
        &site,
        &[
            ("/a.html.html", "200 a.html.html"),
            ("/a.html", "404"),
            ("/b.html/", "200 b.html/index.html"),
            ("/b.html", "307 /b.html/"),
            ("/.html", "200 .html"),
            ("/", "404"),
            ("/index", "307 /index/"),
            ("/index/", "200 index/index.html"),
            ("/c.htm", "200 c.htm"),
            ("/c", "404"),
        ],
    );
}

#[test]
fn redirects_keep_the_query_and_encode_the_path() {
    let site = Site::of(&["a b.html", "\u{fc}/index.html", "100%.html", "#?.html"]);
    check(
        &site,
        &[
            ("/a%20b.html?x=1&y=%20", "307 /a%20b?x=1&y=%20"),
            ("/%C3%BC?", "307 /%C3%BC/?"),
            ("/\u{fc}?\u{fc}", "307 /%C3%BC/?%C3%BC"),
            ("/\u{fc}/", "307 /%C3%BC/"),
            ("/100%25.html", "307 /100%25"),
            ("/%23%3F.html?a b", "307 /%23%3F?a%20b"),
            ("/%61%20b?q=%61", "307 /a%20b?q=%61"),
        ],
    );
}

#[test]
fn not_found_page_is_the_nearest() {
    let site = Site::of(&["404.html", "a/404.html", "a/b/x.css", "c/x.css"]);
    check(
        &site,
        &[
            ("/x", "404 404.html"),
            ("/c/x", "404 404.html"),
            ("/c/", "404 404.html"),
            ("/a", "404 404.html"),
            ("/a/", "404 a/404.html"),
            ("/a/x.css", "404 a/404.html"),
            ("/a/b/c/d.css", "404 a/404.html"),
            ("/", "404 404.html"),
            ("/404", "200 404.html"),
            ("/404.html", "307 /404"),
            // A name that no file can have has no folder either.
            ("/a/b%2Fc", "404 404.html"),
            ("/_pmx/none", "404 404.html"),
            // Another form of a path has the same folders.
            ("//x", "404 404.html"),
            ("//evil.example/", "404 404.html"),
            ("/a/../c/x", "404 404.html"),
            ("//a/x.css", "404 a/404.html"),
        ],
    );
}

#[test]
fn longest_names_have_urls() {
    let name = "x".repeat(255);
    let path = format!("{}/y", [&*name; 3].join("/"));
    let site = Site::of(&[&path]);
    check(&site, &[(&format!("/{path}"), &format!("200 {path}"))]);
    check(&site, &[(&format!("/{path}/{name}"), "404")]);
}

fn a_path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "a",
        "b",
        "a.html",
        "a.html.html",
        "index",
        "index.html",
        "index.html.html",
        ".html",
        "404.html",
        "a.css",
        "\u{fc} ?%2f",
    ]);
    prop::collection::vec(segment, 1..4).prop_map(|segments| segments.join("/"))
}

fn a_site() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set(a_path(), 0..12)
}

fn encoded(path: &str) -> String {
    format!("/{}", utf8_percent_encode(path, ENCODED))
}

/// Prefixes of a segment that make another form of the path.
const DRESSINGS: &[&str] = &["/", "./", "%2E/", "x/../", "x/%2e%2e/", "\\", "../"];

/// A path with empty and dot segments in front of it or in it, and needless escapes.
fn respelled(url: &str, dressing: &[(usize, &str)], escapes: &[bool]) -> String {
    let mut spelled = String::from("/");
    let segments = url.split('/').count();
    for (at, segment) in url.split('/').enumerate() {
        for (place, dress) in dressing {
            // A `..` without a segment of its own changes the meaning, except at the top.
            if place % segments == at && (at == 0 || *dress != "../") {
                spelled.push_str(dress);
            }
        }
        for (byte, escape) in segment.bytes().zip(escapes.iter().cycle()) {
            if *escape || !byte.is_ascii_alphanumeric() && byte != b'.' {
                write!(spelled, "%{byte:02x}").unwrap();
            } else {
                spelled.push(char::from(byte));
            }
        }
        if at + 1 < segments {
            spelled.push('/');
        }
    }
    spelled
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn redirect_stays_here_and_ends_at_once(
        paths in a_site(),
        url in a_path(),
        folder in prop::sample::select(vec!["", "/"]),
    ) {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let site = Site::of(&paths);
        let shown = site.shown(&format!("{}{folder}", encoded(&url)));
        if let Some(location) = shown.strip_prefix("307 ") {
            prop_assert!(location.starts_with('/') && !location.starts_with("//"));
            prop_assert!(site.shown(location).starts_with("200 "), "{location}");
        }
    }

    #[test]
    fn page_has_one_url_however_it_is_spelled(
        paths in a_site(),
        url in a_path(),
        dressing in prop::collection::vec((0_usize..40, prop::sample::select(DRESSINGS)), 0..4),
        escapes in prop::collection::vec(any::<bool>(), 40),
        tail in prop::sample::select(vec!["", "/", "//", "/.", "/x/..", "\\"]),
    ) {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let site = Site::of(&paths);
        let spelled = respelled(&url, &dressing, &escapes) + tail;
        let shown = site.shown(&format!("{spelled}?q=%61"));
        if let Some(location) = shown.strip_prefix("307 ") {
            prop_assert!(location.starts_with('/') && !location.starts_with("//"));
            prop_assert!(location.ends_with("?q=%61") && !location.contains('\\'));
            prop_assert!(site.shown(location).starts_with("200 "), "{spelled} {location}");
        } else if shown.starts_with("200 ") {
            // A path that is served directly is in its canonical form: encoded as this page
            // encodes.
            let plain = tail.is_empty() || tail == "/";
            prop_assert!(plain && spelled.starts_with(&encoded(&url)), "{spelled}");
        }
    }

    #[test]
    fn file_is_found_under_its_name(paths in a_site()) {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let site = Site::of(&paths);
        for path in paths {
            let first = site.shown(&encoded(path));
            let last = match first.strip_prefix("307 ") {
                Some(location) => site.shown(location),
                None => first,
            };
            prop_assert_eq!(last, format!("200 {path}"));
        }
    }

    #[test]
    fn url_of_any_text_is_answered(
        paths in a_site(),
        url in r"(/|%2e|%2f|%5c|%00|\.|\\|:|@|//|a|index|\.html|%C3|%BC|\PC){0,12}",
    ) {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let shown = Site::of(&paths).shown(&format!("/{}", url.replace('?', "")));
        if let Some(location) = shown.strip_prefix("307 ") {
            prop_assert!(!location.starts_with("//") && !location.contains('\\'));
        }
    }
}
