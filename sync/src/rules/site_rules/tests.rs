use proptest::prelude::*;

use super::*;

fn rules(files: &[(RuleFile, &str)]) -> SiteRules {
    let files = files.iter().map(|(file, text)| (*file, text.as_bytes()));
    let (rules, diagnostics) = SiteRules::compile(files);
    assert!(!has_errors(&diagnostics), "{diagnostics:?}");
    rules
}

fn request<'a>(path: &'a str, query: Option<&'a str>) -> RuleRequest<'a> {
    let client = ClientContext {
        query,
        ..ClientContext::default()
    };
    RuleRequest {
        host: "site.localhost",
        path,
        client,
    }
}

fn shown(rules: &SiteRules, path: &str, query: Option<&str>) -> String {
    let answer = rules.answer(&request(path, query));
    let Some(rule) = answer.rule else {
        return "none".into();
    };
    let action = match rule.action {
        MatchedAction::Redirect {
            status, location, ..
        } => format!("{} {location}", status.as_u16()),
        MatchedAction::Rewrite { status, path, .. } => format!("{} as {path}", status.as_u16()),
        MatchedAction::File(path) => format!("file {path}"),
    };
    format!("{} {action}", rule.at)
}

#[test]
fn answer_is_that_of_the_first_rule_that_matches() {
    let text = "/:any /new\n/w /old\n/q?id=1 /one\n/q /two\n/s/* /t/:splat 301\n/r id=:id /n/:id";
    let rules = rules(&[(RuleFile::Redirects, text)]);
    for (path, query, expected) in [
        ("/w", None, "_redirects:1 302 /new"),
        // A rule never sends a client to where it is.
        ("/new", None, "none"),
        ("/s/a/b", Some("x=1"), "_redirects:5 301 /t/a/b?x=1"),
        ("/s//a", None, "none"),
        ("/x/y", None, "none"),
    ] {
        assert_eq!(shown(&rules, path, query), expected, "{path}");
    }
}

#[test]
fn answer_prefers_written_rules_to_generated_routes() {
    let json = r#"{"cache":{"a.js":"immutable"},"routes":{"/":{"status":308,"to":"/index.path"},"/a%2Fb":{"file":"a%2Fb"},"/index.path":{"file":"index.path.html"}},"version":1}"#;
    let rules = rules(&[
        (RuleFile::Generated, json),
        (RuleFile::Redirects, "/index.path /elsewhere 301"),
    ]);
    for (path, expected) in [
        ("/", "_pmx/rules.json 308 /index.path"),
        ("/index.path", "_redirects:1 301 /elsewhere"),
        ("/a%2Fb", "_pmx/rules.json file a%2Fb"),
        ("/a%2fb", "none"),
    ] {
        assert_eq!(shown(&rules, path, None), expected, "{path}");
    }
    let path = SitePath::parse("a.js").unwrap();
    assert_eq!(rules.cache_policy(&path), Some(CachePolicy::Immutable));
}

#[test]
fn header_changes_of_a_path() {
    let text = "/*\n X-A: 1\n/blog/:slug\n ! X-A\n X-Slug: :slug :none\n X-Slug: b\n/blog\n X-B: 1";
    let rules = rules(&[(RuleFile::Headers, text)]);
    let changes = |path| {
        let changes = rules.header_changes(&request(path, None)).into_iter();
        let shown = changes.map(|change| match change {
            HeaderChange::Remove(name) => format!("! {name}"),
            HeaderChange::Set { block, name, value } => format!("{block} {name}: {value}"),
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(
        changes("/blog/a%20b"),
        ["1 x-a: 1", "! x-a", "3 x-slug: a%20b :none", "3 x-slug: b"]
    );
    assert_eq!(changes("/blog/"), ["1 x-a: 1", "7 x-b: 1"]);
}

#[test]
fn compile_is_total() {
    for bytes in [
        &b"\xff\xfe/\0a\0"[..],
        b"\xff",
        b"",
        b"\0",
        b"[[[",
        b"/a /b \xe2\x82",
    ] {
        for file in RuleFile::ALL {
            SiteRules::compile([(file, bytes)]);
        }
    }
}

fn a_line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "/a",
        "/*",
        "/:x",
        "/a/*",
        ":splat",
        "https://",
        "x.example",
        "/b/:x",
        "301",
        "200!",
        "=",
        "Language=de",
        "#",
        "!",
        ":",
        "X-A",
        "%2F",
        "%zz",
        "//",
        "..",
        "\u{fc}",
        "\"",
        "[types]",
        "html",
        "\t",
        "ETag",
    ]);
    let space = prop::sample::select(vec!["", " ", "  ", "\t"]);
    prop::collection::vec((word, space), 0..8).prop_map(|words| {
        let words = words
            .into_iter()
            .map(|(word, space)| format!("{word}{space}"));
        words.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn compile_names_lines_of_any_text(lines in prop::collection::vec(a_line(), 0..12)) {
        let text = lines.join("\n");
        for file in RuleFile::ALL {
            let (rules, found) = SiteRules::compile([(file, text.as_bytes())]);
            for found in &found {
                prop_assert!((1..=lines.len().max(1) as u32).contains(&found.at.line), "{found}");
            }
            let again = SiteRules::compile([(file, text.as_bytes())]);
            prop_assert_eq!(&again.0, &rules);
            let kept = crate::rules::without_errors(file, text.as_bytes(), &found);
            if let Some(kept) = kept.filter(|_| file != RuleFile::Generated) {
                // What is left says the same without an error, unless the text is no file at all.
                let (left, found) = SiteRules::compile([(file, &kept[..])]);
                prop_assert!(file == RuleFile::Settings || !has_errors(&found), "{found:?}");
                prop_assert!(file == RuleFile::Settings || left.redirects == rules.redirects);
            }
        }
    }

    #[test]
    fn responses_are_legal(
        lines in prop::collection::vec(a_line(), 0..12),
        path in "/[a-z%/:.*!]{0,8}",
    ) {
        let text = lines.join("\n");
        let files = [RuleFile::Redirects, RuleFile::Headers].map(|file| (file, text.as_bytes()));
        let (rules, _) = SiteRules::compile(files);
        let request = request(&path, Some("x=1"));
        let action = rules.answer(&request).rule.map(|rule| rule.action);
        if let Some(MatchedAction::Redirect { location, .. }) = action {
            prop_assert!(http::HeaderValue::from_str(&location).is_ok(), "{location}");
            prop_assert!(location.is_ascii() && !location.contains(' '), "{location}");
        }
        for change in rules.header_changes(&request) {
            if let HeaderChange::Set { value, .. } = change {
                prop_assert!(http::HeaderValue::from_str(&value).is_ok(), "{value:?}");
            }
        }
    }
}
