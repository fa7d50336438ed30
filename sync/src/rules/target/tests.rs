use super::super::compared_path::ComparedPath;
use super::super::pattern::SourcePattern;
use super::*;

fn location(source: &str, target: &str, path: &str, query: Option<&str>) -> Option<String> {
    let pattern = SourcePattern::parse(source).unwrap();
    let target = RedirectTarget::parse(target, pattern.names()).unwrap();
    let path = ComparedPath::parse(path).unwrap();
    let values = pattern.values("", &path).unwrap();
    target.location(&values, query)
}

#[test]
fn location_of_a_request() {
    for (source, target, path, expected) in [
        ("/a", "/new", "/a", "/new"),
        ("/a", "/new?a=1#s", "/a", "/new?a=1#s"),
        ("/a", "/x/../new", "/a", "/new"),
        ("/a", "/x/./y/.", "/a", "/x/y/"),
        ("/a", "/ünï", "/a", "/%C3%BCn%C3%AF"),
        ("/a", "/100%", "/a", "/100%25"),
        ("/a", "/a\"b<c>", "/a", "/a%22b%3Cc%3E"),
        ("/a", "/a%2Fb", "/a", "/a%2Fb"),
        ("/a", "/a\\b", "/a", "/a/b"),
        ("/a", "https://example.com", "/a", "https://example.com/"),
        (
            "/a",
            "https://EXAMPLE.com:8443/A",
            "/a",
            "https://example.com:8443/A",
        ),
        (
            "/a",
            "https://example.com?x#y",
            "/a",
            "https://example.com/?x#y",
        ),
        (
            "/a",
            "https:///example.com/x",
            "/a",
            "https://example.com/x",
        ),
        ("/n/*", "/b/:splat", "/n/a%2fb/", "/b/a%2fb/"),
        ("/n/*", "/b/:splat", "/n", "/b/"),
        ("/n/*", "/b/*", "/n/x", "/b/*"),
        (
            "/p/:lang/*",
            "/q/:splat?lang=:lang",
            "/p/en/a",
            "/q/a?lang=en",
        ),
        ("/x/:a/:b", "/y/:a/:b", "/x/:b/2", "/y/:b/2"),
        ("/go*", "/:splat", "/go/evil.example", "/evil.example"),
        (
            "/h/:sub",
            "https://:sub.example.com/",
            "/h/a",
            "https://a.example.com/",
        ),
    ] {
        let found = location(source, target, path, None);
        assert_eq!(found.as_deref(), Some(expected), "{source} {target} {path}");
    }
}

#[test]
fn location_keeps_the_query_unless_the_target_has_one() {
    for (target, query, expected) in [
        ("/new", Some("x=1&y=%20"), "/new?x=1&y=%20"),
        ("/new?", Some("x=1"), "/new?x=1"),
        ("/new?a=1", Some("b=2"), "/new?a=1"),
        ("/new#s", Some("x=1"), "/new?x=1#s"),
        (
            "https://example.com",
            Some("x=1"),
            "https://example.com/?x=1",
        ),
    ] {
        let found = location("/a", target, "/a", query);
        assert_eq!(found.as_deref(), Some(expected), "{target} {query:?}");
    }
}

#[test]
fn location_has_no_host_that_the_rule_does_not_name() {
    for path in [
        "/h/evil.com%2F",
        "/h/evil.test%23",
        "/h/a.b",
        "/h/-a",
        "/h/%C3%BC",
    ] {
        let found = location("/h/:sub", "https://:sub.example.com/", path, None);
        assert_eq!(found, None, "{path}");
    }
}

#[test]
fn targets_that_lead_nowhere_are_refused() {
    for (source, target, code) in [
        ("/a", "//example.com/x", RuleCode::Target),
        ("/a", "/\\example.com", RuleCode::Target),
        ("/a", "mailto:a@example.com", RuleCode::Target),
        ("/a", "ftp://example.com/", RuleCode::Target),
        ("/a", "new", RuleCode::Target),
        ("/a", "/..", RuleCode::Target),
        ("/a", "/x/../../y", RuleCode::Target),
        ("/a", "/new/:splat", RuleCode::Name),
        ("/:id", "/:other", RuleCode::Name),
        ("/i/*", "https://example.com:splat", RuleCode::Host),
        ("/i/*", "https://:splat", RuleCode::Host),
        ("/i/:a", "https://x:a.example.com/", RuleCode::Host),
        ("/i/:a", "https://x-:a.example.com/", RuleCode::Host),
        ("/a", "https://user@example.com/", RuleCode::Host),
        ("/a", "https://example.com:0/", RuleCode::Host),
        ("/a", "https://", RuleCode::Host),
    ] {
        let pattern = SourcePattern::parse(source).unwrap();
        let refused = RedirectTarget::parse(target, pattern.names()).map_err(|fault| fault.code);
        assert_eq!(refused.unwrap_err(), code, "{source} {target}");
    }
}

impl RedirectTarget {
    /// The text of the target, if it has only characters that a URL can hold.
    pub(in super::super) fn written(&self, names: &[Box<str>]) -> String {
        let written = |pieces: &[TargetPart]| {
            let pieces = pieces.iter().map(|piece| match piece {
                TargetPart::Text(text) => text.to_string(),
                TargetPart::Value(index) => format!(":{}", names[*index]),
            });
            pieces.collect::<String>()
        };
        let part = |sign: &str, pieces: &Option<Vec<TargetPart>>| {
            let pieces = pieces.as_ref();
            pieces.map_or(String::new(), |pieces| format!("{sign}{}", written(pieces)))
        };
        let (origin, path) = (part("", &self.origin), written(&self.path));
        let (query, fragment) = (part("?", &self.query), part("#", &self.fragment));
        format!("{origin}{path}{query}{fragment}")
    }
}
