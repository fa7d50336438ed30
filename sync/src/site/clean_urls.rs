//! Clean URLs: which file a URL means, and which URL a file has.
//!
//! The rules are Cloudflare's `auto-trailing-slash` (Workers static assets, "HTML handling"):
//! `a.html` is served at `/a`, `a/index.html` at `/a/`, and every other spelling of the two is
//! redirected there. They are stated here in two halves. [`candidates`] lists, in order, the files
//! that a URL may mean; `address` gives the one URL of a file. The first candidate that exists is
//! served if the URL is its own and redirected to otherwise, so a redirect always ends at once.
//!
//! Two oddities of Cloudflare's are left out: a file named just `.html` stands for no folder, and
//! `a.html.html` is served under its full name instead of at `/a.html`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::lookups::{Generation, LocatedFile, Lookup, Lookups, MissingLookups};
use crate::path::SitePath;

/// A URL path, decoded: what it could name in a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestedPath {
    /// `/`
    Root,
    /// `/a/b`
    File(SitePath),
    /// `/a/b/`
    Folder(SitePath),
}

impl RequestedPath {
    /// The path of a file that is no page, if the URL can mean one.
    pub(super) fn asset(&self) -> Option<&SitePath> {
        match self {
            Self::Root | Self::Folder(_) => None,
            Self::File(path) => (!has_page_extension(path) && !is_settings(path)).then_some(path),
        }
    }

    /// The same path in the other Unicode normalisation (UAX #15). macOS stores names decomposed,
    /// while browsers send what a page spells, so a request for either form finds the file.
    pub(super) fn respelled(&self) -> Option<Self> {
        let other = |path: &SitePath| {
            let text = path.as_str();
            if text.is_ascii() {
                return None;
            }
            let other: String = if is_nfc(text) {
                text.nfd().collect()
            } else {
                text.nfc().collect()
            };
            SitePath::parse(&other).ok().filter(|other| other != path)
        };
        match self {
            Self::Root => None,
            Self::File(path) => other(path).map(Self::File),
            Self::Folder(path) => other(path).map(Self::Folder),
        }
    }

    /// The `404.html` files of the folders above, nearest first.
    pub(super) fn not_found_pages(&self) -> Vec<SitePath> {
        let inner = match self {
            Self::Root | Self::File(_) => None,
            Self::Folder(path) => Some(path.as_str()),
        };
        let above = match self {
            Self::Root => None,
            Self::File(path) | Self::Folder(path) => Some(path.folders()),
        };
        let folders = inner.into_iter().chain(above.into_iter().flatten());
        let pages = folders.map(|folder| format!("{folder}/404.html"));
        let pages = pages.chain(["404.html".to_owned()]);
        pages
            .filter_map(|page| SitePath::parse(&page).ok())
            .collect()
    }
}

/// What a URL means in the served deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// This file, at this URL.
    Serve(SitePath, &'a LocatedFile),
    /// A page whose URL is this one: an absolute path, percent-encoded, never starting with `//`.
    Redirect(String),
    /// Nothing.
    Nothing,
}

/// Says what a URL means, once every file that it could mean is known to exist or not.
pub(super) fn meaning<'a>(
    asked: &RequestedPath,
    known: &'a Lookups,
) -> Result<Meaning<'a>, MissingLookups> {
    let served = |path| Lookup {
        generation: Generation::SERVED,
        path,
    };
    // Most requests are for assets that exist: they cost one lookup.
    if let Some(path) = asked.asset() {
        known.require([served(path.clone())])?;
        if let Some(held) = known.served(path) {
            return Ok(Meaning::Serve(path.clone(), held));
        }
    }
    let candidates = candidates(asked);
    let rivals = candidates.iter().filter_map(extensionless);
    known.require(candidates.iter().cloned().chain(rivals).map(served))?;
    for file in &candidates {
        let Some(held) = known.served(file) else {
            continue;
        };
        match address(file, known) {
            address if address == *asked => return Ok(Meaning::Serve(file.clone(), held)),
            // A file that has no clean URL is found under its full name only.
            RequestedPath::File(path) if path == *file => {}
            address => return Ok(Meaning::Redirect(location(&address))),
        }
    }
    Ok(Meaning::Nothing)
}

/// The files that a URL may mean, best first: at most four.
fn candidates(asked: &RequestedPath) -> Vec<SitePath> {
    let names = match asked {
        RequestedPath::Root => vec!["index.html".to_owned()],
        RequestedPath::Folder(path) => vec![format!("{path}/index.html"), format!("{path}.html")],
        RequestedPath::File(path) => file_candidates(path.as_str()),
    };
    // A name that grew too long to be a path is no file's.
    let paths = names.iter().filter_map(|name| SitePath::parse(name).ok());
    paths.filter(|path| !is_settings(path)).collect()
}

/// Whether a file holds settings of the site or of its project. A manifest may have it, since the
/// server reads rules from it, but no URL means it.
fn is_settings(file: &SitePath) -> bool {
    matches!(file.as_str(), "_headers" | "_redirects" | "_site.toml")
        || matches!(file.name(), ".pmxignore" | "pmx.toml")
}

fn file_candidates(path: &str) -> Vec<String> {
    let exact = path.to_owned();
    let folder_page = format!("{path}/index.html");
    if path == "index" {
        vec![exact, "index.html".into(), folder_page]
    } else if let Some(folder) = path.strip_suffix("/index") {
        let index = format!("{path}.html");
        vec![exact, index, format!("{folder}.html"), folder_page]
    } else if let Some(folder) = path.strip_suffix("/index.html") {
        vec![exact, format!("{folder}.html"), folder_page]
    } else if let Some(stem) = path.strip_suffix(".html") {
        vec![exact, format!("{stem}/index.html"), folder_page]
    } else {
        vec![exact, format!("{path}.html"), folder_page]
    }
}

/// The one URL at which a file is served.
fn address(file: &SitePath, known: &Lookups) -> RequestedPath {
    if file.name() == "index.html" {
        return match SitePath::parse(file.folder()) {
            Ok(folder) => RequestedPath::Folder(folder),
            Err(_) => RequestedPath::Root,
        };
    }
    match extensionless(file) {
        Some(stem) if known.served(&stem).is_none() => RequestedPath::File(stem),
        Some(_) | None => RequestedPath::File(file.clone()),
    }
}

/// Where a browser finds a file: `/a/` for `a/index.html`, `/a` for `a.html`. If `a` is a file as
/// well, it has that address, and the page keeps its full name; both are distinguished only by who
/// knows the site, so this names the shorter one.
pub fn page_address(file: &SitePath) -> String {
    location(&address(file, &Lookups::default()))
}

/// `a` for the page `a.html`. Nothing for an index, which has the URL of its folder.
fn extensionless(file: &SitePath) -> Option<SitePath> {
    let stem = file.as_str().strip_suffix(".html")?;
    let doubled = stem.strip_suffix(".html").is_some();
    let plain = file.name() != "index.html" && !doubled;
    SitePath::parse(stem).ok().filter(|_| plain)
}

fn has_page_extension(path: &SitePath) -> bool {
    let extension = path.extension().map(str::to_ascii_lowercase);
    matches!(
        extension.as_deref(),
        Some("html" | "htm" | "xhtml" | "xht" | "shtml")
    )
}

/// What a path of RFC 3986 (section 3.3) may hold unencoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The one spelling of a path: absolute, percent-encoded, never starting with `//`.
pub(super) fn location(address: &RequestedPath) -> String {
    match address {
        RequestedPath::Root => "/".into(),
        RequestedPath::File(path) => format!("/{}", utf8_percent_encode(path.as_str(), ENCODED)),
        RequestedPath::Folder(path) => format!("/{}/", utf8_percent_encode(path.as_str(), ENCODED)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::super::test_support::Site;
    use super::*;

    fn check(site: &Site, expected: &[(&str, &str)]) {
        for (url, answer) in expected {
            assert_eq!(site.shown(url), *answer, "{url}");
        }
    }

    #[test]
    fn the_table_of_cloudflares_documentation() {
        // Its column "Response" drops the slash of `/folder/`; the service itself answers so.
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
    fn either_normalisation_of_a_name_finds_the_file() {
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
        // Where both exist, each has its own.
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
    fn the_top() {
        let site = Site::of(&["index.html", "a.css"]);
        check(
            &site,
            &[
                ("/", "200 index.html"),
                ("/index", "307 /"),
                ("/index.html", "307 /"),
                ("/index/", "307 /"),
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
    fn a_page_and_a_folder_of_one_name() {
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
    fn a_file_that_is_no_page_wins() {
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
    fn names_with_several_endings() {
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
    fn the_nearest_404_page() {
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
                // What no file can be called has no folder either.
                ("/a/b%2Fc", "404 404.html"),
                ("/_pmx/none", "404 404.html"),
                // Another spelling has the same folders.
                ("//x", "404 404.html"),
                ("//evil.example/", "404 404.html"),
                ("/a/../c/x", "404 404.html"),
                ("//a/x.css", "404 a/404.html"),
            ],
        );
    }

    #[test]
    fn the_longest_names_are_no_trouble() {
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

    /// What makes another spelling, put in front of a segment.
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
        fn a_redirect_stays_here_and_ends_at_once(
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
                // What is served at once has its one spelling: encoded as this page encodes.
                let plain = tail.is_empty() || tail == "/";
                prop_assert!(plain && spelled.starts_with(&encoded(&url)), "{spelled}");
            }
        }

        #[test]
        fn every_file_is_found_under_its_name(paths in a_site()) {
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
        fn any_text_is_answered(
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
}
