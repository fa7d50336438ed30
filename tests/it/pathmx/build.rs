//! Fixture: a build of today's form, as `pathmx build` writes it, of any size.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The lists of one Path, and the files on disk that they lead to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Build {
    artifacts: Map<String, Value>,
    routes: Map<String, Value>,
    files: BTreeMap<String, String>,
}

/// What a URL answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) cache: Option<&'static str>,
    pub(crate) body: Option<String>,
}

pub(crate) const IMMUTABLE: &str = "public, max-age=31536000, immutable";
pub(crate) const REVALIDATE: &str = "public, max-age=0, must-revalidate";

impl Expected {
    fn page(body: String, cache: &'static str) -> Self {
        Self {
            status: 200,
            location: None,
            cache: Some(cache),
            body: Some(body),
        }
    }

    fn redirect(status: u16, location: &str) -> Self {
        Self {
            status,
            location: Some(location.to_owned()),
            cache: None,
            body: None,
        }
    }

    pub(crate) const fn absent() -> Self {
        Self {
            status: 404,
            location: None,
            cache: None,
            body: None,
        }
    }
}

/// The URLs of a build with their answers.
pub(crate) type Table = BTreeMap<String, Expected>;

impl Build {
    /// A build with this many artifacts and routes, and what its URLs answer.
    pub(crate) fn sized(artifacts: usize, routes: usize) -> (Self, Table) {
        let (mut build, mut table) = (Self::default(), Table::new());
        for number in 0..artifacts {
            match number % 9 {
                0 | 3 | 6 => build.page(number, &mut table),
                1 | 4 => build.asset(number, &mut table),
                2 | 5 => build.markdown(number, &mut table),
                _ => build.publication(number, &mut table),
            }
        }
        build.add_routes(routes, &mut table);
        build.redirect("/", "/0.path", 308);
        table.insert("/".into(), Expected::redirect(308, "/0.path"));
        (build, table)
    }

    fn add_routes(&mut self, routes: usize, table: &mut Table) {
        for number in 0..routes {
            let page = number / 2 * 3;
            let (document, slash) = (format!("/{page}.path"), format!("/{page}.path/"));
            if number % 2 == 0 {
                self.document(&document, &format!("{page}.path.html"));
                let body = self.files[&format!("{page}.path.html")].clone();
                table.insert(document, Expected::page(body, REVALIDATE));
            } else {
                let status = [301, 302, 303, 307, 308][number / 2 % 5];
                self.redirect(&slash, &document, status);
                table.insert(slash, Expected::redirect(status, &document));
            }
        }
    }

    fn page(&mut self, number: usize, table: &mut Table) {
        let path = format!("{number}.path.html");
        let body = format!("<!doctype html><title>{number}</title>");
        self.artifact(&format!("/{path}"), &path, "revalidate", &body);
        table.insert(format!("/{path}"), Expected::page(body, REVALIDATE));
    }

    /// An asset whose public path differs from its file's.
    fn asset(&mut self, number: usize, table: &mut Table) {
        let (public, path) = (
            format!("/assets/{number}.js"),
            format!("assets/{number}.1234.js"),
        );
        let body = format!("export default {number};");
        self.artifact(&public, &path, "immutable", &body);
        table.insert(public, Expected::page(body.clone(), IMMUTABLE));
        table.insert(format!("/{path}"), Expected::page(body, IMMUTABLE));
    }

    fn markdown(&mut self, number: usize, table: &mut Table) {
        let path = format!("{number}.path.md");
        let body = format!("# {number}\n");
        self.artifact(&format!("/{path}"), &path, "revalidate", &body);
        table.insert(format!("/{path}"), Expected::page(body, REVALIDATE));
    }

    /// A publication, whose name has a literal `%2F`.
    fn publication(&mut self, number: usize, table: &mut Table) {
        let path = format!("__pathmx/publications/pathmx%2Fgraph{number}");
        let body = format!("{{\"graph\":{number}}}");
        self.artifact(&format!("/{path}"), &path, "revalidate", &body);
        table.insert(format!("/{path}"), Expected::page(body, REVALIDATE));
    }

    pub(crate) fn artifact(&mut self, public: &str, path: &str, mode: &str, body: &str) {
        let artifact = json!({"artifactPath": path, "cachePolicy": {"mode": mode}});
        self.artifacts.insert(public.to_owned(), artifact);
        self.files.insert(path.to_owned(), body.to_owned());
    }

    pub(crate) fn document(&mut self, url: &str, path: &str) {
        let route = json!({"type": "document", "artifactPath": path});
        self.routes.insert(url.to_owned(), route);
    }

    pub(crate) fn redirect(&mut self, url: &str, to: &str, status: u16) {
        let route = json!({"type": "redirect", "to": to, "status": status});
        self.routes.insert(url.to_owned(), route);
    }

    /// Writes the Path into a folder, with files that no list declares.
    pub(crate) fn write(&self, folder: &Path, id: &str) {
        let place = folder.join(id);
        for (path, body) in &self.files {
            write(&place.join(path), body);
        }
        let artifacts = json!({"version": 1, "artifacts": self.artifacts});
        write(&place.join("artifacts.json"), &artifacts.to_string());
        let routes = json!({"version": 1, "routes": self.routes});
        write(&place.join("serve-routes.json"), &routes.to_string());
        write(&place.join("sources.json"), "{}");
        write(&place.join("stale.html"), "stale");
    }
}

/// Writes the list of a build's Paths; the first is the default one.
pub(crate) fn write_paths(folder: &Path, ids: &[&str]) {
    let paths = ids.iter().map(|id| {
        let entry = json!({
            "outputPath": id,
            "artifactsPath": format!("{id}/artifacts.json"),
            "routesPath": format!("{id}/serve-routes.json"),
        });
        ((*id).to_owned(), entry)
    });
    let paths: Map<_, _> = paths.collect();
    let list = json!({"version": 1, "defaultPath": ids[0], "paths": paths});
    write(&folder.join("cache/graph.bin"), "not published");
    write(&folder.join("paths.json"), &list.to_string());
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("files are in folders")).expect("folders");
    fs::write(path, text).expect("a file");
}
