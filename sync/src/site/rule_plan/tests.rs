use proptest::prelude::*;

use super::super::test_support::Site;
use crate::rules::RuleFile;

const FILES: [&str; 8] = [
    "index.html",
    "404.html",
    "about.html",
    "new.html",
    "blog/index.html",
    "app/index.html",
    "shell.html",
    "assets/app.js",
];

fn site(redirects: &str) -> Site {
    Site::of(&FILES).ruled(RuleFile::Redirects, redirects)
}

fn check(redirects: &str, expected: &[(&str, &str)]) {
    let site = site(redirects);
    for (url, answer) in expected {
        assert_eq!(site.shown(url), *answer, "{url} with {redirects}");
    }
}

#[test]
fn redirects_come_before_files_and_rewrites_after_them() {
    check(
        "/about /new 301\n/r1 /about 200\n/new /about 200\n/r2 /about 200!\n/gone /404 410\n/x /y 200",
        &[
            ("/about", "301 /new"),
            ("/about.html", "307 /about"),
            ("/r1", "200 about.html"),
            ("/new", "200 new.html"),
            ("/gone", "410 404.html"),
            ("/x", "404 404.html"),
        ],
    );
    check("/new /about 200!", &[("/new", "200 about.html")]);
}

#[test]
fn rewrite_names_its_page_by_any_spelling() {
    check(
        "/a /about.html 200\n/b /blog 200\n/c /blog/ 200\n/d / 200\n/e /blog/index.html 200",
        &[
            ("/a", "200 about.html"),
            ("/b", "200 blog/index.html"),
            ("/c", "200 blog/index.html"),
            ("/d", "200 index.html"),
            ("/e", "200 blog/index.html"),
        ],
    );
}

#[test]
fn wide_rewrite_answers_no_asset() {
    check(
        "/* /shell 200",
        &[
            ("/", "200 index.html"),
            ("/missing", "200 shell.html"),
            ("/missing.html", "200 shell.html"),
            ("/missing.js", "404 404.html"),
            ("/assets/app.js", "200 assets/app.js"),
        ],
    );
    check("/* /shell 200!", &[("/missing.js", "200 shell.html")]);
}

#[test]
fn rules_compare_other_spellings_and_no_empty_segments() {
    check(
        "/about /new 301\n/a%2Fb /new\n/go* /:splat",
        &[
            ("/%61bout", "301 /new"),
            ("/a%2fb", "302 /new"),
            ("//about", "307 /about"),
            ("/go/evil.example", "302 /evil.example"),
            ("/go//evil.example", "404 404.html"),
            ("/go/%2Fevil.example", "302 /%2Fevil.example"),
        ],
    );
}

#[test]
fn other_slash_of_a_page_leads_to_its_url_first() {
    check(
        "/blog/ /new\n/about /new 301\n/t/ /new",
        &[
            ("/blog", "307 /blog/"),
            ("/blog/", "302 /new"),
            ("/about/", "307 /about"),
            ("/t", "302 /new"),
        ],
    );
}

#[test]
fn rule_that_leads_back_does_not_apply() {
    // Found by the property below: the URL of a page comes before a rule with its other slash.
    check(
        "/* /app\n/app/ https://example.com/",
        &[
            ("/", "200 index.html"),
            ("/app", "307 /app/"),
            ("/app/", "200 app/index.html"),
        ],
    );
    check(
        "/a /b\n/b /a",
        &[("/a", "404 404.html"), ("/b", "404 404.html")],
    );
    check("/v/* /v/x/:splat", &[("/v/a", "404 404.html")]);
    check(
        "/app/ /app 301",
        &[("/app", "307 /app/"), ("/app/", "200 app/index.html")],
    );
    check("/ /index.html 302", &[("/", "200 index.html")]);
    check(
        "/:any /new",
        &[("/w", "302 /new"), ("/new", "200 new.html")],
    );
    check("/i1 /index.html", &[("/i1", "302 /index.html")]);
}

/// The page at the target's other spelling redirects to the URL that the rule redirects (found by
/// fuzzing).
#[test]
fn rule_to_another_spelling_of_a_page_does_not_lead_back() {
    check(
        "/* /blog//",
        &[
            ("/blog/", "200 blog/index.html"),
            ("/blog//", "307 /blog/"),
            ("/missing", "404 404.html"),
        ],
    );
    check(
        "/a /blog//",
        &[("/a", "302 /blog//"), ("/blog//", "307 /blog/")],
    );
}

#[test]
fn modes_of_html_files() {
    let settings = |text: &str| Site::of(&FILES).ruled(RuleFile::Settings, text);
    for (mode, expected) in [
        (
            "slash",
            [
                ("/about", "307 /about/"),
                ("/about/", "200 about.html"),
                ("/blog", "307 /blog/"),
            ],
        ),
        (
            "no-slash",
            [
                ("/about/", "307 /about"),
                ("/blog", "200 blog/index.html"),
                ("/blog/", "307 /blog"),
            ],
        ),
        (
            "exact",
            [
                ("/about", "404 404.html"),
                ("/about.html", "200 about.html"),
                ("/", "404 404.html"),
            ],
        ),
        (
            "both",
            [
                ("/about", "200 about.html"),
                ("/about.html", "200 about.html"),
                ("/blog/index.html", "200 blog/index.html"),
            ],
        ),
    ] {
        let site = settings(&format!("html = {mode:?}"));
        for (url, answer) in expected {
            assert_eq!(site.shown(url), answer, "{url} in {mode}");
        }
    }
    let shell = settings("missing = \"spa\"");
    for (url, answer) in [
        ("/deep/link", "200 index.html"),
        ("/deep/link.html", "200 index.html"),
        ("/missing.css", "404"),
        ("/about", "200 about.html"),
    ] {
        assert_eq!(shell.shown(url), answer, "{url}");
    }
    assert_eq!(settings("missing = \"none\"").shown("/x"), "404");
    assert_eq!(
        settings("canonical = 308").shown("/about.html"),
        "308 /about"
    );
}

fn a_rule() -> impl Strategy<Value = String> {
    let source = prop::sample::select(vec![
        "/a",
        "/b/",
        "/a/*",
        "/b/*",
        "/*",
        "/:x",
        "/:x/:y",
        "/app/",
        "/app",
        "/blog/*",
        "/go*",
        "/index.html",
        "/about",
    ]);
    let target = prop::sample::select(vec![
        "/a",
        "/b",
        "/app",
        "/app/",
        "/about.html",
        "/",
        "/index.html",
        "/a/x",
        "/b/x/",
        "/blog",
        "https://example.com/",
        "/:splat",
        "/b/:splat",
        "/a/b/:splat",
        "/:x",
        "/b/:x",
        "https://:x.example.com/",
        "/a?q",
        "/b#f",
    ]);
    let status = prop::sample::select(vec!["", "301", "308", "200", "200!", "404", "410!"]);
    (source, target, status)
        .prop_map(|(source, target, status)| format!("{source} {target} {status}\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn rules_produce_no_loop_and_no_foreign_host(
        rules in prop::collection::vec(a_rule(), 1..6),
        url in r"/(a|b|app|blog|index\.html|about|go|%2F|%5C|:x|\.|evil\.example|/|x){0,6}",
    ) {
        let (rules, _) = crate::rules::SiteRules::compile([
            (RuleFile::Redirects, rules.concat().as_bytes()),
        ]);
        let site = Site::of(&FILES).with_rules(rules);
        let mut at = url;
        for step in 0.. {
            let shown = site.shown(&at);
            let Some((status, location)) = shown.split_once(' ') else { break };
            if !status.starts_with('3') {
                break;
            }
            prop_assert!(step < 20, "a loop: {shown}");
            if let Some(host) = location.strip_prefix("https://") {
                let host = host.split('/').next().unwrap_or_default();
                prop_assert!(host == "example.com" || host.ends_with(".example.com"), "{shown}");
                break;
            }
            prop_assert!(location.starts_with('/') && !location.starts_with("//"), "{shown}");
            prop_assert!(!location.starts_with("/\\"), "{shown}");
            at = location.split('#').next().unwrap_or_default().to_owned();
        }
    }
}
