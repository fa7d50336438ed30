//! Dependencies: each is used, has a licence of the list, is from crates.io, and has one version;
//! the crates form layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences of dependencies, as their manifests write them.
const LICENCES: &[&str] = &[
    "(Apache-2.0 OR MIT) AND Unicode-3.0",
    "(MIT OR Apache-2.0) AND NCSA",
    "(MIT OR Apache-2.0) AND Unicode-3.0",
    "0BSD OR MIT OR Apache-2.0",
    "Apache-2.0",
    "Apache-2.0 / MIT",
    "Apache-2.0 AND ISC",
    "Apache-2.0 OR BSL-1.0",
    "Apache-2.0 OR ISC OR MIT",
    "Apache-2.0 OR MIT",
    "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    "BSD-3-Clause",
    "BSD-3-Clause AND MIT",
    "BSD-3-Clause/MIT",
    "CC0-1.0",
    "CC0-1.0 OR Apache-2.0 OR Apache-2.0 WITH LLVM-exception",
    "CC0-1.0 OR MIT-0 OR Apache-2.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT AND BSD-3-Clause",
    "MIT OR Apache-2.0",
    "MIT OR Zlib OR Apache-2.0",
    "MIT/Apache-2.0",
    "Unlicense OR MIT",
    "Unlicense/MIT",
    "Zlib",
    "Zlib OR Apache-2.0 OR MIT",
];

/// Crates with several versions, and how many, because their dependents require different ones.
const SEVERAL_VERSIONS: &[(&str, usize)] = &[
    ("base64", 2),
    ("block-buffer", 2),
    ("cpufeatures", 2),
    ("crypto-common", 2),
    ("digest", 2),
    ("getrandom", 3),
    ("hashbrown", 2),
    ("syn", 2),
    ("wasm-streams", 2),
];

/// Dependencies that no source file names: the member, the dependency, and its purpose.
const UNNAMED: &[(&str, &str, &str)] = &[
    (
        "pmx",
        "idna_adapter",
        "keeps the version that does without the crates of ICU, which take long to build",
    ),
    (
        "pmx-worker",
        "blake3",
        "turns on the processor's own instructions in the hash",
    ),
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Cargo's metadata of all packages of the builds for Linux and for the Worker.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
        ])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args(["--filter-platform", "wasm32-unknown-unknown"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn dependencies_have_licences_sources_and_versions_of_the_list() {
    let metadata = metadata();
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut licences = BTreeSet::new();
    for package in list(&metadata, "packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        let all = versions.entry(name).or_default();
        all.insert(text(package, "version"));
        // Workspace members have no source, and have the project's licence.
        let source = &package["source"];
        if !source.is_null() && source != CRATES_IO {
            faults.push(format!("{name} comes from {source}"));
        }
        if !LICENCES.contains(&licence) {
            faults.push(format!("{name} has the licence {licence:?}"));
        }
        licences.insert(licence);
    }
    let unused = LICENCES.iter().filter(|it| !licences.contains(*it));
    faults.extend(unused.map(|it| format!("no package has the licence {it:?} any more")));
    versions.retain(|_, all| all.len() > 1);
    let several: BTreeMap<_, _> = SEVERAL_VERSIONS.iter().copied().collect();
    for (name, all) in &versions {
        if several.get(name) != Some(&all.len()) {
            faults.push(format!("{name} has the versions {all:?}"));
        }
    }
    let single = several.keys().filter(|it| !versions.contains_key(*it));
    faults.extend(single.map(|it| format!("{it} has one version now")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn dependencies_of_members_are_named_in_their_sources() {
    let metadata = metadata();
    let mut unnamed = BTreeSet::new();
    for package in list(&metadata, "packages") {
        if !package["source"].is_null() {
            continue;
        }
        let member = text(package, "name");
        let folder = Path::new(text(package, "manifest_path")).parent().unwrap();
        let mut names = BTreeSet::new();
        identifiers_below(folder, &mut names);
        for dependency in list(package, "dependencies") {
            let name = text(dependency, "name");
            let rename = dependency["rename"].as_str();
            if !names.contains(&rename.unwrap_or(name).replace('-', "_")) {
                unnamed.insert((member.to_owned(), name.to_owned()));
            }
        }
    }
    let known = UNNAMED.iter();
    let known: BTreeSet<_> = known
        .map(|(member, name, _)| ((*member).to_owned(), (*name).to_owned()))
        .collect();
    let fresh: Vec<_> = unnamed.difference(&known).collect();
    let gone: Vec<_> = known.difference(&unnamed).collect();
    assert!(fresh.is_empty(), "no source names these: {fresh:?}");
    assert!(
        gone.is_empty(),
        "a source names these, or they are gone: {gone:?}"
    );
}

#[test]
fn dependencies_of_the_workspace_have_a_member_that_uses_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let shared = manifest("Cargo.toml");
    let shared = section(&shared, "workspace.dependencies");
    let metadata = metadata();
    let mut used = BTreeSet::new();
    for package in list(&metadata, "packages") {
        if package["source"].is_null() {
            for dependency in list(package, "dependencies") {
                used.insert(text(dependency, "name").to_owned());
            }
        }
    }
    let unused: Vec<_> = shared
        .into_iter()
        .filter(|it| !used.contains(*it))
        .collect();
    assert!(unused.is_empty(), "no member uses these: {unused:?}");
}

/// The keys of a section of a TOML file.
fn section<'a>(manifest: &'a str, name: &str) -> BTreeSet<&'a str> {
    let (_, rest) = manifest.split_once(&format!("\n[{name}]\n")).unwrap();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let keys = lines.filter_map(|line| line.split([' ', '.', '=']).next());
    keys.filter(|key| !key.is_empty() && !key.starts_with(['#', ']']))
        .collect()
}

/// The members that each member and its tests are built from, itself left out.
const LAYERS: &[(&str, &[&str])] = &[
    ("pmx-core", &[]),
    ("pmx-streams", &["pmx-core", "pmx-tests"]),
    ("pmx-sync", &["pmx-core", "pmx-streams", "pmx-tests"]),
    ("pmx-worker", &["pmx-core", "pmx-streams", "pmx-sync"]),
];

#[test]
fn layers_are_built_from_the_layers_below() {
    let metadata = metadata();
    let packages = list(&metadata, "packages").iter();
    let members = packages.filter(|package| package["source"].is_null());
    let members: BTreeMap<_, _> = members.map(|it| (text(it, "name"), it)).collect();
    for (member, below) in LAYERS {
        let mut built_from = BTreeSet::new();
        // Tests of a dependency are not built, so its own tests' dependencies do not count.
        let mut next = vec![(*member, true)];
        while let Some((name, with_tests)) = next.pop() {
            let needed = list(members[name], "dependencies").iter();
            let needed = needed.filter(|it| with_tests || it["kind"] != "dev");
            let needed = needed.map(|it| text(it, "name"));
            for name in needed.filter(|name| members.contains_key(name)) {
                if name != *member && built_from.insert(name) {
                    next.push((name, false));
                }
            }
        }
        let expected: BTreeSet<_> = below.iter().copied().collect();
        assert_eq!(built_from, expected, "{member}");
    }
}

/// Collects the identifiers of the Rust files below a folder, comments and strings left out.
fn identifiers_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                identifiers_below(&path, names);
            }
        } else if name.ends_with(".rs") {
            let tokens: proc_macro2::TokenStream =
                fs::read_to_string(&path).unwrap().parse().unwrap();
            identifiers(tokens, names);
        }
    }
}

fn identifiers(tokens: proc_macro2::TokenStream, names: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Group(group) => identifiers(group.stream(), names),
            proc_macro2::TokenTree::Ident(name) => {
                names.insert(name.to_string());
            }
            proc_macro2::TokenTree::Punct(_) | proc_macro2::TokenTree::Literal(_) => {}
        }
    }
}
