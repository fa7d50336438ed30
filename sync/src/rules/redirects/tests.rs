use super::super::diagnostic::Severity;
use super::*;

fn codes(text: &str) -> Vec<(u32, u32, RuleCode)> {
    let mut diagnostics = Diagnostics::of(RuleFile::Redirects);
    parse(text, &mut diagnostics);
    let all = diagnostics.into_all().into_iter();
    let errors = all.filter(|diagnostic| diagnostic.severity == Severity::Error);
    errors
        .map(|error| (error.at.line, error.column, error.code))
        .collect()
}

fn statuses(text: &str) -> Vec<(u32, RuleAction, bool)> {
    let mut diagnostics = Diagnostics::of(RuleFile::Redirects);
    let rules = parse(text, &mut diagnostics).into_iter();
    rules
        .map(|rule| (rule.at.line, rule.action, rule.is_forced))
        .collect()
}

#[test]
fn parse_reads_statuses() {
    let text = "/a /b\n/c /d 301\n# x\n/e /f 200!\n/g /h 404\n/i /j 308 # k\n";
    let expected = [
        (1, RuleAction::Redirect(StatusCode::FOUND), false),
        (
            2,
            RuleAction::Redirect(StatusCode::MOVED_PERMANENTLY),
            false,
        ),
        (4, RuleAction::Rewrite(StatusCode::OK), true),
        (5, RuleAction::Rewrite(StatusCode::NOT_FOUND), false),
        (
            6,
            RuleAction::Redirect(StatusCode::PERMANENT_REDIRECT),
            false,
        ),
    ];
    assert_eq!(statuses(text), expected);
}

#[test]
fn parse_refuses_each_bad_line_with_its_place() {
    for (line, column, code) in [
        ("/e /new 999", 9, RuleCode::Status),
        ("/f /new abc", 9, RuleCode::Status),
        ("/two /new 301 extra", 15, RuleCode::Syntax),
        ("/one", 1, RuleCode::Syntax),
        ("/j #/new", 1, RuleCode::Syntax),
        ("foo /new", 1, RuleCode::Source),
        ("\"/five\" /new", 1, RuleCode::Source),
        ("/six -> /new", 6, RuleCode::Target),
        ("/c https://example.com 200", 4, RuleCode::Target),
        ("/e http//x 301", 4, RuleCode::Target),
        ("/r/* /new 200! Role=admin", 16, RuleCode::Condition),
        ("/r /new 302 Country=", 13, RuleCode::Condition),
        ("/u/:id /p/:other", 8, RuleCode::Name),
        ("/l0 /l0 301", 1, RuleCode::Loop),
        ("/s/* /s/:splat", 1, RuleCode::Loop),
        ("/l4 /l4?x=1", 1, RuleCode::Loop),
        ("/l5 /l5#x", 1, RuleCode::Loop),
        ("https://a.example:8080/x /new", 1, RuleCode::Source),
    ] {
        assert_eq!(codes(line), [(1, column, code)], "{line}");
    }
}

#[test]
fn parse_accepts_what_other_hosts_accept() {
    for line in [
        "/store id=:id /new/:id 301",
        "/shop id=1 /new",
        "/q?id=1 /new",
        "/r?id=:id /new/:id",
        "/ /new 302 Language=de",
        "/c /new 302 Country=us,ca Cookie=x",
        "/x /x/ 301",
        "/y/ /y 301",
        "/l3 /l3 200",
        "/i?j /new",
        "\u{feff}/a /new",
        "/h /new 301.0",
        "/h#x /new",
        "/a/*/b/* /x/:splat",
    ] {
        assert_eq!(codes(line), [], "{line}");
    }
}

#[test]
fn parse_bounds_rules_and_lines() {
    let many = "/a /b\n".repeat(REDIRECT_RULES_MAX + 2);
    let limit = REDIRECT_RULES_MAX as u32 + 1;
    assert_eq!(codes(&many), [(limit, 1, RuleCode::Limit)]);
    let long = format!("/a /{}", "b".repeat(RULE_LINE_BYTES_MAX));
    assert_eq!(codes(&long), [(1, 1, RuleCode::Limit)]);
}
