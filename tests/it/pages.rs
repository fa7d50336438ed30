//! Documentation pages: the files and types that they name exist, and their bounds hold.

use std::fs;
use std::path::{Path, PathBuf};

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

const PAGES: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "benches/README.md",
    "docs/ARCHITECTURE.md",
    "docs/GLOSSARY.md",
    "docs/operations.md",
    "fuzz/README.md",
    "streams/README.md",
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
    for row in rows {
        let carrier = row.last().and_then(|cell| cell.split('`').nth(1));
        let carrier = carrier.unwrap_or_else(|| panic!("{row:?} names no type"));
        assert!(exists(carrier), "{carrier} of {row:?}");
    }
}

/// Whether the sources of a crate contain this name as a word, or a folder or file has it.
fn exists(carrier: &str) -> bool {
    let Some((krate, path)) = carrier.split_once("::") else {
        return root().join(carrier).exists();
    };
    let name = path.rsplit("::").next().unwrap_or(path);
    let is_of_word = |character: char| character.is_alphanumeric() || character == '_';
    let sources = ignore::WalkBuilder::new(root().join(krate).join("src")).build();
    let mut texts = sources
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.any(|text| text.split(|it| !is_of_word(it)).any(|word| word == name))
}
