//! Retired words: refuses those that `docs/GLOSSARY.md` replaced, in code, comments and pages.
//!
//! [`WORDS`] are refused everywhere, also within an identifier. [`NAMES`] are refused only as names
//! of Rust modules, types and functions, because they are ordinary English words.

use std::collections::BTreeMap;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::tidy::Tree;

/// Words that leave their subject or meaning to the reader's guess.
const WORDS: [&str; 12] = [
    "told", "tells", "whoever", "nobody", "somebody", "heed", "tidings", "kin", "hears", "heard",
    "lend", "lent",
];

/// Names that mean less than the standard term, as spelled in a module.
const NAMES: &[&str] = &[
    "adopt",
    "aftermath",
    "agenda",
    "ahead",
    "bell",
    "brief",
    "busy",
    "circle",
    "claims",
    "converse",
    "copied",
    "copies",
    "courier",
    "counter",
    "crew",
    "crossed",
    "desk",
    "differences",
    "draft",
    "dress",
    "errand",
    "ground",
    "guard",
    "happened",
    "heeding",
    "hear",
    "heard",
    "heap",
    "inbound",
    "journal",
    "keyed",
    "kin",
    "listening",
    "loan",
    "measured",
    "moment",
    "nearby",
    "nearest",
    "neighbours",
    "news",
    "obliged",
    "opened",
    "outbound",
    "patience",
    "patient",
    "peers",
    "pieces",
    "pile",
    "place",
    "ready",
    "ring",
    "said",
    "shelf",
    "sleepers",
    "spelt",
    "spot",
    "stitch",
    "survey",
    "tally",
    "telling",
    "thrown",
    "tidings",
    "told",
    "turn",
    "twin",
    "vain",
    "wakes",
    "wish",
    "woken",
];

/// Of these names, those that are the standard term of what a function does or returns.
const FUNCTIONS: &[&str] = &[
    "busy", "claims", "copied", "copies", "keyed", "measured", "opened", "pieces", "place",
    "ready", "wakes",
];

/// Remaining uses: by file or folder, the most words and the most names. A use counts for the
/// longest entry that its path begins with. The numbers may only get smaller.
const LEFT: &[(&str, usize, usize)] = &[
    // SQL columns and wire names of stored data and other versions, and the claims of a JWT.
    ("streams/", 8, 1),
    ("worker/src/streams/", 5, 0),
];

const EXTENSIONS: [&str; 9] = ["css", "html", "js", "md", "mjs", "py", "rs", "sql", "toml"];

/// Files that have to spell the words.
const SPELLED_HERE: [&str; 2] = ["docs/GLOSSARY.md", "tests/it/retired_words.rs"];

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Uses {
    words: usize,
    names: usize,
}

#[test]
fn retired_words_get_fewer() {
    let mut found: BTreeMap<&str, (Uses, Vec<String>)> = BTreeMap::new();
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (path, bytes) in tree.files() {
        if !is_checked(path) {
            continue;
        }
        let uses = uses(path, &String::from_utf8_lossy(bytes));
        if uses == Uses::default() {
            continue;
        }
        let entries = LEFT.iter().map(|(start, ..)| *start);
        let entry = entries.filter(|start| path.starts_with(start));
        let entry = entry.max_by_key(|start| start.len()).unwrap_or_default();
        let (sum, files) = found.entry(entry).or_default();
        sum.words += uses.words;
        sum.names += uses.names;
        files.push(format!("{path}: {uses:?}"));
    }
    let mut more = String::new();
    for (entry, (uses, files)) in found {
        let left = LEFT.iter().find(|(start, ..)| *start == entry);
        let (words, names) = left.map_or((0, 0), |(_, words, names)| (*words, *names));
        if uses.words != words || uses.names != names {
            let listed = files.join("\n  ");
            more +=
                &format!("\n{entry:?} is listed with {words} and {names}: {uses:?}\n  {listed}");
        }
    }
    assert!(more.is_empty(), "words or names that are retired:{more}");
}

fn is_checked(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS.contains(&extension) && !SPELLED_HERE.contains(&path)
}

fn uses(path: &str, text: &str) -> Uses {
    let mut names = Names::default();
    if path.ends_with(".rs") {
        let folders = path
            .rsplit('/')
            .next()
            .and_then(|it| it.strip_suffix(".rs"));
        names.check(folders.unwrap_or_default());
        if let Ok(file) = syn::parse_file(text) {
            names.visit_file(&file);
        }
    }
    Uses {
        words: words(text).filter(|it| WORDS.contains(&&**it)).count(),
        names: names.retired,
    }
}

/// The words of a text in lower case, and each word of an identifier.
fn words(text: &str) -> impl Iterator<Item = String> {
    let runs = text.split(|c: char| !c.is_ascii_alphabetic());
    runs.flat_map(|run| {
        let mut words = vec![String::new()];
        let mut before = 'A';
        for c in run.chars() {
            if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
                words.push(String::new());
            }
            before = c;
            words.last_mut().unwrap().push(c.to_ascii_lowercase());
        }
        words
    })
}

/// Counts retired names of modules, types and functions where they are defined.
#[derive(Default)]
struct Names {
    retired: usize,
}

impl Names {
    fn check(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.retired += usize::from(NAMES.contains(&&*name));
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // A module with a file counts by the file's name.
        if module.content.is_some() {
            self.check(&module.ident.to_string());
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.check(&item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.check(&item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.check(&item.ident.to_string());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.check(&item.ident.to_string());
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let name = signature.ident.to_string();
        if !FUNCTIONS.contains(&&*name) {
            self.check(&name);
        }
    }
}

#[test]
fn uses_are_counted_in_words_identifiers_and_definitions() {
    for (path, text, words, names) in [
        ("a/x.md", "The hub hears; Tells, told.", 3, 0),
        ("a/x.rs", "fn is_told() {} // kind, kinship", 1, 0),
        ("a/x.rs", "struct SinkTold; enum Tidings {}", 2, 1),
        ("a/kin.rs", "mod news;", 0, 1),
        ("a/x.rs", "mod news {} type Place = u8; trait Turn {}", 0, 3),
        ("a/x.rs", "fn news() { let place = 1; }", 0, 1),
        ("a/x.rs", "impl A { fn turn() { fn lend() {} } }", 1, 1),
        ("a/x.rs", "trait A { fn twin(); }", 0, 1),
        ("a/x.js", "class Place {}", 0, 0),
    ] {
        assert_eq!(uses(path, text), Uses { words, names }, "{path}: {text}");
    }
    assert!(is_checked("sync/DESIGN.md") && !is_checked("Cargo.lock"));
}
