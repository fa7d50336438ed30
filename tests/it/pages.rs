//! Documentation pages: the files and types that they name exist, and their bounds hold.

mod definitions;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use definitions::Definitions;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Texts between backticks, outside of code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let blocks = text.split("```").step_by(2);
    blocks
        .flat_map(|block| block.split('`').skip(1).step_by(2))
        .collect()
}

const PAGES: [&str; 17] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "benches/README.md",
    "docs/ARCHITECTURE.md",
    "docs/GLOSSARY.md",
    "docs/cloudflare.md",
    "docs/domains.md",
    "docs/hosting.md",
    "docs/live-pages.md",
    "docs/operations.md",
    "docs/publishing.md",
    "docs/unkind.md",
    "fuzz/README.md",
    "streams/DESIGN.md",
    "streams/README.md",
    "sync/DESIGN.md",
];

const CRATES: [&str; 9] = [
    "benches", "cli", "core", "fuzz", "streams", "sync", "tests", "worker", "xtask",
];

/// Source folders: a quoted path below one of them is a file.
const FOLDERS: [&str; 9] = [
    "benches/src/",
    "cli/src/",
    "core/src/",
    "docs/",
    "streams/src/",
    "sync/src/",
    "tests/it/",
    "worker/",
    "xtask/src/",
];

#[test]
fn pages_name_files_that_exist() {
    let (mut missing, mut found) = (Vec::new(), 0);
    for name in PAGES {
        for path in quoted(&page(name)) {
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder));
            // The Worker's build is generated, and no file of the project.
            if is_path && !path.contains(' ') && !path.starts_with("worker/build") {
                found += 1;
                if !root().join(path).exists() {
                    missing.push(format!("{name}: {path}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 40, "{found} files are named");
}

#[test]
fn links_between_pages_lead_to_files() {
    let (mut missing, mut found) = (Vec::new(), 0);
    for name in PAGES {
        let text = page(name);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let folder = Path::new(name).parent().unwrap_or(Path::new(""));
            if !target.is_empty() && !target.contains("://") {
                found += 1;
                if !root().join(folder).join(target).exists() {
                    missing.push(format!("{name}: {target}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 20, "{found} links");
}

#[test]
fn readme_has_at_most_1500_words() {
    let words = page("README.md").split_whitespace().count();
    assert!(words <= 1500, "{words} words");
}

#[test]
fn glossary_has_at_most_40_terms_and_their_types_exist() {
    let glossary = page("docs/GLOSSARY.md");
    let rows = glossary.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).skip(1).collect();
    assert!((1..=40).contains(&rows.len()), "{} terms", rows.len());
    let (defined, mut wrong) = (Definitions::read(&root(), &CRATES), Vec::new());
    let (mut terms, mut carriers) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let term = row[0].trim_start_matches("| ");
        let carrier = row.last().and_then(|cell| cell.split('`').nth(1));
        let carrier = carrier.unwrap_or_else(|| panic!("{row:?} names no type"));
        let is_type = defined.has(carrier) && defined.has_type(carrier);
        if !(is_type && terms.insert(term) && carriers.insert(carrier)) {
            wrong.push(format!("{term}: {carrier}"));
        }
    }
    assert!(wrong.is_empty(), "no types, or named twice: {wrong:#?}");
}

/// Names of other crates and of Rust.
const FOREIGN: [&str; 1] = ["axum::serve"];

#[test]
fn names_in_pages_are_defined_in_the_sources() {
    let (defined, mut missing, mut found) = (Definitions::read(&root(), &CRATES), Vec::new(), 0);
    for name in PAGES {
        let text = page(name);
        for path in quoted(&text).into_iter().filter(|it| is_path_of_names(it)) {
            found += 1;
            if !FOREIGN.contains(&path) && !defined.has(path) {
                missing.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 70, "{found} names");
}

/// Whether a quoted text is spelled `a::B::c`.
fn is_path_of_names(text: &str) -> bool {
    let of_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let mut names = text.split("::");
    text.contains("::") && names.all(|name| !name.is_empty() && name.chars().all(of_name))
}
