//! Import cycles: no two files of a crate import each other, directly or through others.
//!
//! A module and the modules inside it may import each other. A name that a module re-exports counts
//! for the file that defines it. The check ignores test code, and method calls, which need no
//! import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

/// Crates whose modules are checked: the folder of each.
const CRATES: [&str; 7] = [
    "core", "streams", "sync", "cli", "worker", "benches", "xtask",
];

/// Known cycles, and the reason for each. The list may only get shorter.
const EXCEPTIONS: &[(&str, &[&str], &str)] = &[];

#[test]
fn modules_import_each_other_in_no_circle() {
    let mut found = Vec::new();
    for folder in CRATES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let circles = Modules::read(&root.join(folder).join("src")).circles();
        found.extend(circles.into_iter().map(|it| (folder.to_owned(), it)));
    }
    let excepted = EXCEPTIONS.iter().map(|(folder, names, _)| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        ((*folder).to_owned(), names)
    });
    let excepted: Vec<(String, Vec<String>)> = excepted.collect();
    let show = |(folder, names): &(String, Vec<String>)| format!("\n{folder}: {names:?}");
    let fresh: Vec<_> = found.iter().filter(|it| !excepted.contains(it)).collect();
    let gone: Vec<_> = excepted.iter().filter(|it| !found.contains(it)).collect();
    let fresh: String = fresh.into_iter().map(show).collect();
    let gone: String = gone.into_iter().map(show).collect();
    assert!(fresh.is_empty(), "circles of imports:{fresh}");
    assert!(gone.is_empty(), "no circles any more, but excepted:{gone}");
}

/// A module's path: the names from the crate's root.
type Name = Vec<String>;

/// The files of a crate, each a module, and their imports.
#[derive(Default)]
struct Modules {
    imports: BTreeMap<Name, Vec<Name>>,
    /// What a module re-exports: the name there, and the path that the name refers to.
    exports: BTreeMap<Name, BTreeMap<String, Name>>,
}

impl Modules {
    fn read(source: &Path) -> Self {
        let mut modules = Self::default();
        let root = ["lib.rs", "main.rs"].map(|name| source.join(name));
        let root = root.iter().find(|path| path.exists());
        modules.add_file(Name::new(), root.expect("a crate has a root"), source);
        modules
    }

    /// Adds a file, and the files of the modules that it declares, which are in `folder`.
    fn add_file(&mut self, name: Name, path: &Path, folder: &Path) {
        let text = fs::read_to_string(path).unwrap();
        for child in self.add(&name, &text) {
            let inside = folder.join(&child);
            let files = [folder.join(format!("{child}.rs")), inside.join("mod.rs")];
            let file = files.iter().find(|path| path.exists());
            let name = [&name[..], std::slice::from_ref(&child)].concat();
            self.add_file(name, file.expect("a module has a file"), &inside);
        }
    }

    /// Adds a module by its text, and returns the names of the modules that it declares.
    fn add(&mut self, name: &Name, text: &str) -> Vec<String> {
        let file = syn::parse_file(text).expect("the compiler reads it as well");
        let mut imports = Imports::new(name.clone());
        imports.visit_file(&file);
        self.imports.insert(name.clone(), imports.paths);
        self.exports.insert(name.clone(), imports.exports);
        imports.children
    }

    /// The module in whose file a path is defined.
    fn home(&self, path: &[String], depth: usize) -> Name {
        let lengths = (0..=path.len()).rev();
        let mut prefixes = lengths.map(|length| path[..length].to_vec());
        let module = prefixes.find(|it| self.imports.contains_key(it));
        let module = module.expect("the root is a module");
        let Some(name) = path.get(module.len()) else {
            return module;
        };
        match self.exports[&module].get(name) {
            Some(target) if depth < 8 && target[..] != path[..=module.len()] => {
                let rest = &path[module.len() + 1..];
                self.home(&[&target[..], rest].concat(), depth + 1)
            }
            _ => module,
        }
    }

    /// The files that each file imports, without the files that contain it.
    fn graph(&self) -> BTreeMap<Name, BTreeSet<Name>> {
        let edges = self.imports.iter().map(|(from, paths)| {
            let homes = paths.iter().map(|path| self.home(path, 0));
            let others = homes.filter(|to| !from.starts_with(to) && !to.starts_with(from));
            (from.clone(), others.collect())
        });
        edges.collect()
    }

    /// The cycles: sets of files each of which reaches all others.
    fn circles(&self) -> Vec<Vec<String>> {
        let graph = self.graph();
        let reached: BTreeMap<_, _> = graph
            .keys()
            .map(|from| (from, reached(&graph, from)))
            .collect();
        let mut circles = BTreeSet::new();
        for (from, ends) in &reached {
            let mutual = ends.iter().filter(|to| reached[to].contains(*from));
            let circle: Vec<String> = mutual.map(|it| it.join("/")).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }
}

fn reached(graph: &BTreeMap<Name, BTreeSet<Name>>, from: &Name) -> BTreeSet<Name> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = graph[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module.clone()) {
            next.extend(&graph[module]);
        }
    }
    reached
}

/// Collects the paths of one file, from the crate's root.
struct Imports {
    /// The module that the visitor is in: that of the file, or one inside it.
    here: Name,
    file: Name,
    paths: Vec<Name>,
    exports: BTreeMap<String, Name>,
    children: Vec<String>,
}

impl Imports {
    fn new(file: Name) -> Self {
        Self {
            here: file.clone(),
            file,
            paths: Vec::new(),
            exports: BTreeMap::new(),
            children: Vec::new(),
        }
    }

    /// A path from the crate's root. `None` if it names another crate or a local name.
    fn absolute(&self, path: &[String]) -> Option<Name> {
        let mut base = match path.first()?.as_str() {
            "crate" => Name::new(),
            "self" | "super" => self.here.clone(),
            child if self.children.iter().any(|it| it == child) && self.here == self.file => {
                return Some([&self.here[..], path].concat());
            }
            _ => return None,
        };
        let ups = path.iter().filter(|name| *name == "super").count();
        base.truncate(base.len().checked_sub(ups)?);
        let names = path.iter();
        let names = names.skip_while(|it| ["crate", "self", "super"].contains(&it.as_str()));
        base.extend(names.cloned());
        Some(base)
    }

    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String], is_export: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident), is_export),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before, is_export);
                }
            }
            syn::UseTree::Glob(_) => self.paths.extend(self.absolute(before)),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.paths.extend(self.absolute(before));
            }
            syn::UseTree::Name(name) => {
                self.add_name(&with(&name.ident), &name.ident, is_export);
            }
            syn::UseTree::Rename(rename) => {
                let path = if rename.ident == "self" {
                    before.to_vec()
                } else {
                    with(&rename.ident)
                };
                self.add_name(&path, &rename.rename, is_export);
            }
        }
    }

    fn add_name(&mut self, path: &[String], name: &syn::Ident, is_export: bool) {
        if let Some(path) = self.absolute(path) {
            if is_export && self.here == self.file {
                self.exports.insert(name.to_string(), path.clone());
            }
            self.paths.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_file(&mut self, file: &'ast syn::File) {
        // A path may occur before the module that it names.
        for item in &file.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
                && !is_test_code(&module.attrs)
            {
                self.children.push(module.ident.to_string());
            }
        }
        visit::visit_file(self, file);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test_code(&module.attrs) {
            self.here.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test_code(&item.attrs) {
            let is_export = !matches!(item.vis, syn::Visibility::Inherited);
            self.add_tree(&item.tree, &[], is_export);
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test_code(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test_code(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test_code(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|it| it.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.paths.extend(self.absolute(&names));
        }
        visit::visit_path(self, path);
    }
}

fn is_test_code(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.parse_args::<syn::Path>();
        attribute.path().is_ident("cfg") && condition.is_ok_and(|it| it.is_ident("test"))
    })
}

/// The cycles of a crate, given the names and texts of its modules.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let mut modules = Modules::default();
    for (name, text) in files {
        let name = name.split('/').filter(|it| !it.is_empty());
        modules.add(&name.map(str::to_owned).collect(), text);
    }
    modules.circles()
}

#[test]
fn circles_are_found_and_families_are_none() {
    let root = ("", "mod a; mod b; mod c; pub use a::A;");
    let b = ("b", "use super::c::C; pub struct B;");
    let none: &[&[&str]] = &[];
    for (a, c, expected) in [
        ("pub struct A;", "", none),
        ("use crate::b::B;", "", none),
        ("use crate::b::B;", "use crate::a::A;", &[&["a", "b", "c"]]),
        ("use crate::b::B;", "use crate::A;", &[&["a", "b", "c"]]),
        ("", "fn f() -> super::b::B {}", &[&["b", "c"]]),
        ("", "#[cfg(test)] mod tests { use crate::b::B; }", none),
        ("", "#[cfg(test)] use crate::b::B;", none),
        ("", "mod inside { use super::super::b::B; }", &[&["b", "c"]]),
    ] {
        let found = circles_of(&[root, ("a", a), b, ("c", c)]);
        assert_eq!(found, expected, "{a} {c}");
    }
    let parent = ("a", "mod child; pub use child::Child; pub struct A;");
    let child = ("a/child", "use super::A; use crate::b::B;");
    let root = ("", "mod a; mod b; use a::A;");
    assert_eq!(circles_of(&[root, parent, child, ("b", "")]).len(), 0);
    let b = ("b", "use crate::a::A;");
    assert_eq!(circles_of(&[root, parent, child, b]).len(), 0);
    let b = ("b", "use crate::a::Child;");
    let circle = vec![vec!["a/child".to_owned(), "b".to_owned()]];
    assert_eq!(circles_of(&[root, parent, child, b]), circle);
}
