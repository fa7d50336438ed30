//! Memory of compiled rules: what a cache charges covers what they keep.

use std::env::{current_exe, var};
use std::fmt::Write as _;
use std::fs::read_to_string;
use std::process::Command;

use pmx_sync::rules::{RuleFile, SiteRules};

const NAME: &str = "hosting::memory::charge_covers_what_compiled_rules_keep";

fn repeated(times: usize, line: impl Fn(usize) -> String) -> String {
    (0..times).fold(String::new(), |mut all, at| {
        write!(all, "{}", line(at)).unwrap();
        all
    })
}

/// Texts whose rules take much memory for their length.
fn shapes() -> Vec<(&'static str, RuleFile, String)> {
    use RuleFile::{Generated, Headers, Redirects};
    let parts = |at: usize, part: &str| format!("/{at}{part} /b 301\n");
    let route = |at: usize| format!("\"/{at:05}\":{{\"file\":\"{at}\"}},");
    let routes = repeated(20_000, route);
    let routes = routes.trim_end_matches(',');
    vec![
        (
            "short rules",
            Redirects,
            repeated(5_000, |at| parts(at, "")),
        ),
        (
            "names",
            Redirects,
            repeated(2_000, |at| parts(at, "/:a/:b/:c/:d/:e")),
        ),
        (
            "texts",
            Redirects,
            repeated(2_000, |at| format!("/{at} /{} 301\n", "é".repeat(100))),
        ),
        (
            "parameters",
            Redirects,
            repeated(100, |at| format!("/{at}?b{} /b\n", "&b".repeat(1_500))),
        ),
        (
            "prefixes",
            Redirects,
            repeated(4_000, |at| format!("/{at}/:a/x /b?c#d 301\n")),
        ),
        (
            "languages",
            Redirects,
            repeated(500, |at| {
                format!("/{at} /b 301 Language={}de\n", "en,".repeat(60))
            }),
        ),
        (
            "headers",
            Headers,
            repeated(500, |at| format!("/{at}\n{}", " a: b\n".repeat(40))),
        ),
        (
            "values",
            Headers,
            repeated(200, |at| format!("/:x/{at}\n a: {}\n", ":x:x".repeat(200))),
        ),
        (
            "routes",
            Generated,
            format!("{{\"cache\":{{}},\"routes\":{{{routes}}},\"version\":1}}"),
        ),
    ]
}

/// Each shape is measured in a process of its own, where nothing else takes memory.
#[test]
fn charge_covers_what_compiled_rules_keep() {
    if let Ok(name) = var("PMX_RULES_SHAPE") {
        return measure(&name);
    }
    for (name, ..) in shapes() {
        let mut child = Command::new(current_exe().unwrap());
        child.args(["--exact", NAME, "--nocapture"]);
        let output = child.env("PMX_RULES_SHAPE", name).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().find(|line| line.starts_with("kept "));
        println!("{name}: {said:?}");
        assert!(output.status.success() && said.is_some(), "{name}: {text}");
    }
}

/// Compiles ten times, and keeps the rules: what was allocated for a moment is used again.
fn measure(name: &str) {
    let shapes = shapes();
    let (_, file, text) = shapes.iter().find(|shape| shape.0 == name).unwrap();
    let (first, diagnostics) = SiteRules::compile([(*file, text.as_bytes())]);
    assert_eq!(diagnostics, [], "{name}");
    assert!(!first.is_empty(), "{name}");
    let before = resident();
    let compile = |_| SiteRules::compile([(*file, text.as_bytes())]).0;
    let all: Vec<SiteRules> = (0..10).map(compile).collect();
    let kept = (resident() - before) / all.len();
    println!("\nkept {kept} charged {}", first.charged_bytes());
    assert!(kept <= first.charged_bytes(), "{name}: {kept}");
    // A bound far above what is kept would refuse rules that fit.
    assert!(first.charged_bytes() <= 6 * kept, "{name}: {kept}");
}

fn resident() -> usize {
    let statm = read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
