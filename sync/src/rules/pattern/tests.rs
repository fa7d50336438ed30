use super::*;

fn values(source: &str, host: &str, path: &str) -> Option<Vec<String>> {
    let pattern = SourcePattern::parse(source).unwrap();
    let path = ComparedPath::parse(path)?;
    let values = pattern.values(host, &path)?;
    Some(values.0.into_iter().map(str::to_owned).collect())
}

#[test]
fn values_of_names_and_splats() {
    for (source, path, expected) in [
        ("/a", "/a", Some(vec![])),
        ("/a", "/a/", Some(vec![])),
        ("/a/", "/a", Some(vec![])),
        ("/a", "/b", None),
        ("/", "/", Some(vec![])),
        ("/*", "/", Some(vec![""])),
        ("/x/*", "/x", Some(vec![""])),
        ("/x/*", "/x/", Some(vec![""])),
        ("/x/*", "/x/a/b/", Some(vec!["a/b/"])),
        ("/x/*", "/xa", None),
        ("/x/*", "/x/a%2fb", Some(vec!["a%2fb"])),
        ("/a/*/c", "/a/b/c", Some(vec!["b"])),
        ("/a/*/c", "/a/b/d/c/", Some(vec!["b/d"])),
        ("/a/*/c", "/a/c", None),
        ("/img*.png", "/img/a/b.png", Some(vec!["/a/b"])),
        ("/u/:id/p/:post", "/u/7/p/hi", Some(vec!["7", "hi"])),
        ("/u/:id/p/:post", "/u/7/p/", None),
        (
            "/d/:y-:m-:d",
            "/d/2024-01-02",
            Some(vec!["2024", "01", "02"]),
        ),
        ("/d/:y-:m-:d", "/d/2024-01", None),
        ("/f/:name.html", "/f/a.b.html", Some(vec!["a.b"])),
        ("/w/:a:b", "/w/xyz", Some(vec!["xy", "z"])),
        ("/x/:a/:ab", "/x/1/2", Some(vec!["1", "2"])),
        ("/time/12:30", "/time/12:30", Some(vec![])),
        ("/n/:1a", "/n/:1a", Some(vec![])),
        ("/m/:_a", "/m/q", None),
        ("/l%6Fng", "/long", Some(vec![])),
        ("/a%2Fb", "/a%2fb", Some(vec![])),
        ("/a%2Fb", "/a/b", None),
        ("/ünï", "/%C3%BCn%C3%AF", Some(vec![])),
        ("/c+", "/cc", None),
        ("/a*2", "/a%20b", None),
    ] {
        let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
        assert_eq!(values(source, "", path), expected, "{source} {path}");
    }
}

#[test]
fn values_of_a_host() {
    for (source, host, expected) in [
        ("https://a.example/x", "a.example", Some(vec![])),
        ("https://a.example/x", "b.example", None),
        ("HTTPS://A.example/x", "a.example", Some(vec![])),
        ("https://:sub.example/x", "a.example", Some(vec!["a"])),
        ("https://:sub.example/x", "a.b.example", None),
        ("https://*/x", "a.b", Some(vec!["a.b"])),
    ] {
        let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
        assert_eq!(values(source, host, "/x"), expected, "{source} {host}");
    }
}

#[test]
fn sources_that_match_no_request_are_refused() {
    for (source, code) in [
        ("a", RuleCode::Source),
        ("./a", RuleCode::Source),
        ("", RuleCode::Source),
        ("//a", RuleCode::Source),
        ("/a//b", RuleCode::Source),
        ("/a/../b", RuleCode::Source),
        ("/a\\b", RuleCode::Source),
        ("/%zz", RuleCode::Source),
        ("/*/b/*", RuleCode::Source),
        ("/*/:splat", RuleCode::Source),
        ("/:splat/*", RuleCode::Source),
        ("/:a/:a", RuleCode::Name),
        ("https://a.example:8080/x", RuleCode::Source),
        ("https:///x", RuleCode::Source),
        ("https://a b/x", RuleCode::Source),
    ] {
        let refused = SourcePattern::parse(source).map_err(|fault| fault.code);
        assert_eq!(refused, Err(code), "{source}");
    }
}

#[test]
fn matching_takes_bounded_time() {
    let source = format!("/{}x", ":a-:b-:c-:d-:e-:f-:g-:h-:i-");
    let path = format!("/{}", "-a".repeat(2_000));
    assert_eq!(values(&source, "", &path), None);
}

#[test]
fn covers_is_right_where_it_says_yes() {
    for (one, other, expected) in [
        ("/a", "/a", true),
        ("/a", "/a/", false),
        ("/b/*", "/b/*", true),
        ("/b/*", "/b/c/*", true),
        ("/*", "/a/:b", true),
        ("/a/*", "/ab", false),
        ("/:a", "/b", false),
    ] {
        let (one, other) = (
            SourcePattern::parse(one).unwrap(),
            SourcePattern::parse(other).unwrap(),
        );
        assert_eq!(one.covers(&other), expected, "{one:?} {other:?}");
    }
}

impl SourcePattern {
    /// The text of the pattern, if what it matches has only characters that stay as they are, or
    /// are always encoded.
    pub(in super::super) fn written(&self) -> String {
        let mut names = self.names.iter();
        let mut name = || names.next().expect("a name for each token");
        let mut text = Vec::new();
        if let Some(host) = &self.host {
            text.push("https://".to_owned());
            text.extend(host.iter().map(|token| match token {
                Token::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Token::Name | Token::Splat => format!(":{}", name()),
            }));
        }
        text.extend(self.path.iter().map(|token| match token {
            Token::Text(bytes) => {
                let parts = bytes.split(|&byte| byte == ENCODED_SLASH);
                let parts = parts.map(|part| percent_encode(part, PATH).to_string());
                parts.collect::<Vec<_>>().join("%2F")
            }
            Token::Name => format!(":{}", name()),
            Token::Splat => {
                name();
                "*".to_owned()
            }
        }));
        text.concat()
    }
}
