//! Round trip of rule files: text in one spelling is parsed, and written as it was.

use proptest::prelude::*;

use super::condition::Condition;
use super::diagnostic::{Diagnostic, Diagnostics, RuleCode, RuleFile};
use super::headers::{self, HeaderBlock};
use super::redirects::{self, RedirectRule, RuleAction};

fn redirect(rule: &RedirectRule) -> String {
    let names = rule.pattern.names();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    // Names of the query follow those of the path.
    let of_query = |it: &&Condition| matches!(it, Condition::NamedParameter(_));
    let from = names.len() - rule.conditions.iter().filter(of_query).count();
    let mut own = names[from..].iter();
    for condition in &rule.conditions {
        match condition {
            Condition::Language(all) => after.push(format!(" Language={}", all.join(","))),
            Condition::Country(all) => after.push(format!(" Country={}", all.join(","))),
            Condition::Cookie(all) => after.push(format!(" Cookie={}", all.join(","))),
            Condition::Parameter(key, value) => before.push(format!(" {key}={value}")),
            Condition::NamedParameter(key) => {
                before.push(format!(" {key}=:{}", own.next().expect("a name")));
            }
        }
    }
    let (RuleAction::Redirect(status) | RuleAction::Rewrite(status)) = rule.action;
    let forced = if rule.is_forced { "!" } else { "" };
    let (source, target) = (rule.pattern.written(), rule.target.written(names));
    let (before, after, status) = (before.concat(), after.concat(), status.as_u16());
    format!("{source}{before} {target} {status}{forced}{after}\n")
}

fn block(block: &HeaderBlock) -> String {
    let names = block.pattern.names();
    let path = format!("{}\n", block.pattern.written());
    let set = block.set.iter();
    let set = set.map(|(name, value)| format!("  {name}: {}\n", value.written(names)));
    let removed = block.removed.iter().map(|name| format!("  ! {name}\n"));
    [path].into_iter().chain(set).chain(removed).collect()
}

/// A segment: text, a name, or text before one. `at` makes its name unique.
fn segment(at: usize) -> impl Strategy<Value = String> {
    let text = "[a-z0-9_.~-]{0,4}[a-z](%20|%C3%BC|%2F|%25)?";
    prop_oneof![
        3 => text.prop_map(|text| text),
        1 => Just(format!(":n{at}")),
        1 => "[a-z]{1,3}[._~-]".prop_map(move |text| format!("{text}:n{at}")),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let segments = (0..4usize).prop_flat_map(|count| (0..count).map(segment).collect::<Vec<_>>());
    let end = prop_oneof![3 => Just(""), 1 => Just("/"), 1 => Just("/*")];
    (segments, end).prop_map(|(segments, end)| {
        let path = segments.iter().map(|segment| format!("/{segment}"));
        let path = path.collect::<String>();
        match (path.is_empty(), end) {
            (true, "") => "/".to_owned(),
            _ => format!("{path}{end}"),
        }
    })
}

fn host() -> impl Strategy<Value = String> {
    let hosts = ["", "", "https://example.com", "https://:label.example.com"];
    prop::sample::select(hosts.to_vec()).prop_map(str::to_owned)
}

/// A target with some of the names of its source.
fn target(names: Vec<String>) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        2 => "[a-z0-9-]{1,5}".prop_map(|text| text).boxed(),
        1 => if names.is_empty() {
            Just("x".to_owned()).boxed()
        } else {
            prop::sample::select(names).prop_map(|name| format!(":{name}")).boxed()
        },
    ];
    let host = prop::sample::select(vec!["", "", "https://other.example:8080"]);
    let query = prop_oneof![2 => Just(""), 1 => Just("?x=1&y"), 1 => Just("?x#top")];
    let parts = prop::collection::vec(part, 1..4);
    (host, parts, query).prop_map(|(host, parts, query)| {
        let path = parts.join("/");
        format!("{host}/{path}{query}")
    })
}

fn redirect_line() -> impl Strategy<Value = String> {
    let parameter = prop::sample::select(vec!["", " id=1", " id=:id", " a=1 b=:b"]);
    let status = prop::sample::select(vec!["301", "302", "303", "307", "308", "301!"]);
    let page = prop::sample::select(vec!["200", "404", "410", "200!"]);
    let condition = prop::sample::select(vec![
        "",
        " Language=de,en-gb",
        " Country=us Cookie=a,B",
        " Cookie=x",
    ]);
    let words = (host(), path(), parameter, status, page, condition);
    words.prop_flat_map(|(host, path, parameter, status, page, condition)| {
        let source = format!("{host}{path}{parameter}");
        let words = source.split(['/', '.', '=', ' ', '_', '~', '-']);
        let names = words.filter_map(|word| word.strip_prefix(':'));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.extend(source.contains('*').then(|| "splat".to_owned()));
        target(names).prop_map(move |target| {
            let is_page = target.starts_with('/');
            let status = if is_page && source.len() % 2 == 0 {
                page
            } else {
                status
            };
            format!("{source} {target} {status}{condition}\n")
        })
    })
}

fn header_block() -> impl Strategy<Value = String> {
    let header = prop::sample::select(vec![
        "  x-a: 1\n",
        "  cache-control: public, max-age=3600\n",
        "  x-slug: a :n0 b\n",
        "  link: </a.css>; rel=preload\n",
        "  link: </*.css>\n",
    ]);
    let removed = prop::sample::select(vec!["", "  ! referrer-policy\n"]);
    let headers = prop::collection::vec(header, 1..4);
    (host(), path(), headers, removed).prop_map(|(host, path, headers, removed)| {
        format!("{host}{path}\n{}{removed}", headers.concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn redirects_are_written_as_they_were(lines in prop::collection::vec(redirect_line(), 0..5)) {
        let text = lines.concat();
        let mut diagnostics = Diagnostics::of(RuleFile::Redirects);
        let rules = redirects::parse(&text, &mut diagnostics);
        let found = diagnostics.into_all();
        // A rule that leads to its own source is none.
        let loops: Vec<_> = found.iter().map(|found| found.at.line as usize).collect();
        let kept = lines.iter().enumerate().filter(|(index, _)| !loops.contains(&(index + 1)));
        let kept: String = kept.map(|(_, line)| line.as_str()).collect();
        let is_loop = |it: &Diagnostic| it.code == RuleCode::Loop;
        prop_assert!(found.iter().all(is_loop), "{found:?} of {text}");
        prop_assert_eq!(rules.iter().map(redirect).collect::<String>(), kept);
    }

    #[test]
    fn headers_are_written_as_they_were(lines in prop::collection::vec(header_block(), 0..5)) {
        let text = lines.concat();
        let mut diagnostics = Diagnostics::of(RuleFile::Headers);
        let parsed = headers::parse(&text, &mut diagnostics);
        prop_assert_eq!(diagnostics.into_all(), []);
        prop_assert_eq!(parsed.iter().map(block).collect::<String>(), text);
    }
}
