//! Definitions of the sources: modules, items, and members of types, by name.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A name that a source file defines.
struct Definition {
    /// The modules around it, and the type of a method or of a variant.
    scope: Vec<String>,
    name: String,
    is_type: bool,
}

/// All definitions of the crates.
pub(super) struct Definitions(Vec<Definition>);

impl Definitions {
    /// Reads the sources of the crates in these folders.
    pub(super) fn read(root: &Path, crates: &[&str]) -> Self {
        let mut all = Vec::new();
        for krate in crates {
            for entry in ignore::WalkBuilder::new(root.join(krate)).build().flatten() {
                let path = entry.path().strip_prefix(root).unwrap().to_owned();
                if path.extension().is_some_and(|it| it == "rs") {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    let file = syn::parse_file(&text).unwrap();
                    let mut scope = modules(&path);
                    if let Some(name) = scope.pop() {
                        all.push(definition(&scope, &name, false));
                        scope.push(name);
                    }
                    let mut finder = Finder {
                        scope,
                        found: Vec::new(),
                    };
                    finder.visit_file(&file);
                    all.append(&mut finder.found);
                }
            }
        }
        Self(all)
    }

    /// Whether each name of `a::B::c` is defined in the one before it.
    pub(super) fn has(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split("::").collect();
        let mut pairs = names.windows(2);
        pairs.all(|pair| {
            let mut all = self.0.iter();
            all.any(|it| it.name == pair[1] && it.scope.iter().any(|outer| outer == pair[0]))
        })
    }

    /// Whether the last name of `a::B` is a type.
    pub(super) fn has_type(&self, path: &str) -> bool {
        let name = path.rsplit("::").next().unwrap_or(path);
        self.0.iter().any(|it| it.is_type && it.name == name)
    }
}

/// The crate's folder and the modules that a file's path names.
fn modules(path: &Path) -> Vec<String> {
    let path: PathBuf = path.with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    let is_module = |part: &String| !["src", "mod", "lib", "main"].contains(&part.as_str());
    parts.filter(is_module).collect()
}

fn definition(scope: &[String], name: &str, is_type: bool) -> Definition {
    Definition {
        scope: scope.to_vec(),
        name: name.to_owned(),
        is_type,
    }
}

struct Finder {
    scope: Vec<String>,
    found: Vec<Definition>,
}

impl Finder {
    fn add(&mut self, name: &syn::Ident, is_type: bool) {
        let made = definition(&self.scope, &name.to_string(), is_type);
        self.found.push(made);
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }

    /// Macros define types too, such as the ids.
    fn add_types_of(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(name) if name.to_string().starts_with(char::is_uppercase) => {
                    self.add(&name, true);
                }
                TokenTree::Group(group) => self.add_types_of(group.stream()),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.add(&item.ident, false);
        self.within(item.ident.to_string(), |it| visit::visit_item_mod(it, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.ident, true);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.ident, true);
        self.within(item.ident.to_string(), |it| {
            for variant in &item.variants {
                it.add(&variant.ident, false);
            }
        });
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.ident, true);
        self.within(item.ident.to_string(), |it| {
            visit::visit_item_trait(it, item);
        });
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.ident, true);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(path) = &*item.self_ty
            && let Some(last) = path.path.segments.last()
        {
            self.within(last.ident.to_string(), |it| {
                visit::visit_item_impl(it, item);
            });
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, false);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig.ident, false);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.add(&item.sig.ident, false);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(&item.ident, false);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        self.add_types_of(item.mac.tokens.clone());
    }
}
