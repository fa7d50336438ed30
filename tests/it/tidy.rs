//! Tree tidiness, which no reviewer has to check. It covers sizes of files and functions, words of
//! unfinished work, undeclared modules, and platform imports of the pure crates. The only
//! exceptions are the data folders of earlier versions.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use proc_macro2::{LineColumn, Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// Most lines of a function outside tests, from its name to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Most lines of the median function outside tests.
const FUNCTION_LINES_MEDIAN: usize = 9;

/// Lines of a file.
const FILE_LINES_MAX: usize = 500;

/// Characters of a line of Rust. A string or a table may be longer, because a reader could not
/// search a broken one.
const LINE_CHARS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    FileLength,
    FunctionLength,
    LineLength,
    Text,
    Unfinished,
    MachinePath,
    Wall,
    Undeclared,
}

/// One broken rule.
#[derive(Debug)]
struct Finding {
    rule: Rule,
    path: String,
    what: String,
}

#[test]
fn the_tree_is_tidy() {
    let tree = Tree::read(&root());
    let findings = tree.findings();
    assert!(findings.is_empty(), "{}", listed(&findings));
}

#[test]
fn functions_are_short_in_the_median() {
    let mut findings = Findings::default();
    let tree = Tree::read(&root());
    for (path, bytes) in &tree.0 {
        if has_extension(path, "rs") && !is_test(path) {
            check_functions(&String::from_utf8_lossy(bytes), &mut findings);
        }
    }
    let mut lines = findings.function_lines;
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    println!("{} functions, of {median} lines in the median", lines.len());
    assert!(median <= FUNCTION_LINES_MEDIAN, "{median} lines");
}

fn listed(findings: &[Finding]) -> String {
    let line = |it: &Finding| format!("\n{}: {:?}: {}", it.path, it.rule, it.what);
    findings.iter().map(line).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of the project, by path from its root, with `/` between names.
pub(crate) struct Tree(Vec<(String, Vec<u8>)>);

impl Tree {
    /// Reads all files that git does not ignore.
    pub(crate) fn read(root: &Path) -> Self {
        let mut walk = ignore::WalkBuilder::new(root);
        walk.hidden(false).require_git(false).parents(false);
        walk.git_global(false).git_exclude(false).ignore(false);
        walk.filter_entry(|entry| entry.file_name() != ".git");
        let mut files = Vec::new();
        for entry in walk.build() {
            let entry = entry.expect("the tree can be walked");
            if entry.file_type().is_some_and(|kind| kind.is_file()) {
                let path = entry.path().strip_prefix(root);
                let path = path.expect("the walk stays below the root");
                let names = path.iter().map(|it| it.to_str().expect("names are UTF-8"));
                let names = names.collect::<Vec<_>>().join("/");
                // Databases and objects as earlier versions wrote them.
                if names.starts_with("tests/fixtures/data-") {
                    continue;
                }
                let bytes = std::fs::read(entry.path()).expect("files can be read");
                files.push((names, bytes));
            }
        }
        files.sort();
        assert!(files.iter().any(|(path, _)| path == "tests/it/tidy.rs"));
        Self(files)
    }

    /// Paths and contents.
    pub(crate) fn files(&self) -> &[(String, Vec<u8>)] {
        &self.0
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Findings::default();
        for (path, bytes) in &self.0 {
            findings.path.clone_from(path);
            match std::str::from_utf8(bytes) {
                Ok(text) => check(path, text, &mut findings),
                Err(error) => findings.add(Rule::Text, error),
            }
        }
        self.check_declared(&mut findings);
        findings.all
    }

    /// Finds files of a test binary that no `mod` declares: cargo would never compile them.
    fn check_declared(&self, findings: &mut Findings) {
        for (path, _) in &self.0 {
            let Some(parents) = parents(path) else {
                continue;
            };
            let declared = parents.iter().any(|(parent, module)| {
                let found = self.0.iter().find(|(path, _)| path == parent);
                let text = found.map(|(_, text)| String::from_utf8_lossy(text));
                text.is_some_and(|text| declares(&text, module))
            });
            if !declared {
                findings.path.clone_from(path);
                findings.add(Rule::Undeclared, "no module declares this file");
            }
        }
    }
}

#[derive(Default)]
struct Findings {
    path: String,
    all: Vec<Finding>,
    /// The lines of each function outside tests.
    function_lines: Vec<usize>,
}

impl Findings {
    fn add(&mut self, rule: Rule, what: impl Display) {
        let (path, what) = (self.path.clone(), what.to_string());
        self.all.push(Finding { rule, path, what });
    }
}

/// Checks one file against all rules.
fn check(path: &str, text: &str, findings: &mut Findings) {
    check_words(text, findings);
    if has_extension(path, "rs") {
        check_rust(path, text, findings);
    }
}

fn check_words(text: &str, findings: &mut Findings) {
    // Split in two halves, so that this file does not contain the words.
    let unfinished = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    let machine = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/Use", "rs/"),
        concat!(r"C:\Use", "rs"),
    ];
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if unfinished.contains(&word) {
                findings.add(Rule::Unfinished, format!("line {number}: {word}"));
            }
        }
        for start in machine {
            if holds_path(line, start) {
                findings.add(Rule::MachinePath, format!("line {number}: {line}"));
            }
        }
    }
}

/// Whether a line contains a path that begins with `start`; `https://host/home/x` does not.
fn holds_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '/'))
    })
}

fn check_rust(path: &str, text: &str, findings: &mut Findings) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.add(Rule::FileLength, format!("{lines} lines"));
    }
    let strings = Strings::of(text);
    for (number, line) in text.lines().enumerate() {
        let (number, chars) = (number + 1, line.chars().count());
        let is_table = ["//! |", "/// |"].iter().any(|it| line.starts_with(it));
        if chars > LINE_CHARS_MAX && !is_table && !strings.reach_over_the_edge(number) {
            findings.add(Rule::LineLength, format!("line {number}: {chars}"));
        }
    }
    if ["core/src/", "streams/src/", "sync/src/"]
        .iter()
        .any(|it| path.starts_with(it))
    {
        for word in ["target_family", "worker::", "tokio"] {
            if text.contains(word) {
                findings.add(Rule::Wall, word);
            }
        }
    }
    if !is_test(path) {
        check_functions(text, findings);
    }
}

/// Spans of the strings in a file, without comments.
struct Strings(Vec<Span>);

impl Strings {
    fn of(text: &str) -> Self {
        let mut strings = Self(Vec::new());
        if let Ok(tokens) = text.parse() {
            strings.collect(tokens);
        }
        strings
    }

    fn collect(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.collect(group.stream()),
                TokenTree::Literal(literal) => {
                    let source = literal.span().source_text().unwrap_or_default();
                    if source.ends_with(['"', '#']) {
                        self.0.push(literal.span());
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    fn reach_over_the_edge(&self, line: usize) -> bool {
        let edge = LineColumn {
            line,
            column: LINE_CHARS_MAX - 1,
        };
        self.0
            .iter()
            .any(|span| span.start() <= edge && edge <= span.end())
    }
}

/// Whether a whole file is test code.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn check_functions(text: &str, findings: &mut Findings) {
    match syn::parse_file(text) {
        Ok(file) => Functions { findings }.visit_file(&file),
        Err(error) => findings.add(Rule::Text, error),
    }
}

/// Measures every function that is not only compiled for tests.
struct Functions<'a> {
    findings: &'a mut Findings,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, whole: Span) {
        let lines = whole.end().line - name.span().start().line + 1;
        self.findings.function_lines.push(lines);
        if lines > FUNCTION_LINES_MAX {
            let what = format!("{name} has {lines} lines");
            self.findings.add(Rule::FunctionLength, what);
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !for_tests(&function.attrs) {
            self.measure(&function.sig.ident, function.span());
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !for_tests(&function.attrs) {
            self.measure(&function.sig.ident, function.span());
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        self.measure(&function.sig.ident, function.span());
        visit::visit_trait_item_fn(self, function);
    }
}

fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.parse_args::<syn::Path>();
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && condition.is_ok_and(|it| it.is_ident("test"))
    })
}

/// Test binaries of many files: the folder of each, and its root file.
const BINARIES: [(&str, &str); 2] = [("tests/it", "it"), ("streams/tests/engine", "main")];

/// The files that can declare a file of a test binary, each with the module's name. `None` if the
/// file needs no declaration.
fn parents(path: &str) -> Option<Vec<(String, String)>> {
    let inside_of = |root: &str| path.strip_prefix(root)?.strip_prefix('/');
    let mut binaries = BINARIES.iter();
    let (root, main, inside) =
        binaries.find_map(|(root, main)| Some((root, main, inside_of(root)?)))?;
    let (folder, file) = match inside.rsplit_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, inside),
    };
    let stem = file.strip_suffix(".rs")?;
    match (folder, stem) {
        (None, stem) if stem == *main => None,
        (None, stem) => Some(vec![(format!("{root}/{main}.rs"), stem.to_owned())]),
        (Some(folder), "mod") => parents(&format!("{root}/{folder}.rs")),
        (Some(folder), stem) => {
            let parents = [format!("{folder}.rs"), format!("{folder}/mod.rs")];
            let parents = parents.map(|parent| (format!("{root}/{parent}"), stem.to_owned()));
            Some(parents.to_vec())
        }
    }
}

fn declares(text: &str, module: &str) -> bool {
    let Ok(file) = syn::parse_file(text) else {
        return false;
    };
    file.items.iter().any(|item| match item {
        syn::Item::Mod(declared) => declared.ident == module && declared.content.is_none(),
        _ => false,
    })
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|it| it == extension)
}

/// The rules that a tree with this file (beside `it.rs`) breaks.
fn broken(path: &str, text: &[u8]) -> Vec<Rule> {
    let it = (
        "tests/it/it.rs".to_owned(),
        b"mod declared; mod inline {}".to_vec(),
    );
    let tree = Tree(vec![it, (path.to_owned(), text.to_vec())]);
    tree.findings().iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_rule_can_fail() {
    let long = "    let _ = 1;\n".repeat(FUNCTION_LINES_MAX);
    let function = format!("fn long() {{\n{long}}}\n");
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n#[test]\n{function}}}\n");
    let method = format!("impl X {{\n{function}}}\n");
    let other_cfg = format!("#[cfg(unix)]\nmod x {{\n{function}}}\n");
    let file = "//\n".repeat(FILE_LINES_MAX + 1);
    let wide = format!("// {}", "\u{fc}".repeat(LINE_CHARS_MAX - 3));
    let marker = format!("# {}: later", concat!("TO", "DO"));
    let home = format!("x = \"{}me/x\"", "/ho");
    let none: &[Rule] = &[];
    for (path, text, expected) in [
        ("a/x.rs", function.as_str(), &[Rule::FunctionLength][..]),
        ("a/x.rs", &method, &[Rule::FunctionLength]),
        ("a/x.rs", &other_cfg, &[Rule::FunctionLength]),
        ("a/x.rs", &in_tests, none),
        ("a/tests.rs", &function, none),
        ("a/x.rs", &file, &[Rule::FileLength]),
        ("a/x.md", &file, none),
        ("a/x.rs", &wide, none),
        ("a/x.rs", &format!("{wide}x"), &[Rule::LineLength]),
        (
            "a/x.rs",
            &format!("/// {wide}\nfn x() {{}}"),
            &[Rule::LineLength],
        ),
        ("a/x.rs", &format!("//! | {wide} |"), none),
        ("a/x.rs", &format!("const X: &str = \"{wide}\";"), none),
        (
            "a/x.rs",
            &format!("const X: &str = \"\"; {wide}"),
            &[Rule::LineLength],
        ),
        ("a/x.rs", "fn (", &[Rule::Text]),
        ("a/x.toml", &marker, &[Rule::Unfinished]),
        ("a/x.toml", "# TODOS", none),
        ("a/x.toml", &home, &[Rule::MachinePath]),
        ("a/x.md", "https://example.com/home/x", none),
        ("core/src/x.rs", "use tokio::fs;", &[Rule::Wall]),
        ("streams/src/x.rs", "use tokio::fs;", &[Rule::Wall]),
        ("sync/src/x.rs", "use tokio::fs;", &[Rule::Wall]),
        ("sync/src/x.rs", "// worker::Env", &[Rule::Wall]),
        ("cli/src/x.rs", "use tokio::fs;", none),
        ("tests/it/declared.rs", "", none),
        ("tests/it/inline.rs", "", &[Rule::Undeclared]),
        ("tests/it/other.rs", "", &[Rule::Undeclared]),
        ("streams/tests/engine/other.rs", "", &[Rule::Undeclared]),
        ("streams/tests/engine/main.rs", "", none),
        ("tests/it/declared/mod.rs", "", none),
        ("tests/it/declared/part.rs", "", &[Rule::Undeclared]),
        ("tests/it/declared/x.json", "", none),
    ] {
        assert_eq!(broken(path, text.as_bytes()), expected, "{path}: {text}");
    }
    assert_eq!(broken("a/x.png", b"\x89PNG"), [Rule::Text]);
}
