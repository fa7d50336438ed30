//! Sites of generators in a real browser, on both hosts: Vite, VitePress, MkDocs, Hugo and PathMX.
//!
//! The outputs are in `tests/fixtures/sites`, or in the folder that `PMX_SITES` names, where
//! `cargo xtask sites` writes those of the newest generators. The stories are in
//! `tests/browser/sites.mjs`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::live::browser::{check_stories, chromium, node};
use crate::pathmx::build::{Build, write_paths};
use crate::world::{World, on_kind_hosts, pmx_path, skipped};

on_kind_hosts! {
    generated_sites_are_browsed,
}

/// The generators whose output is a folder of files.
const GENERATORS: [&str; 4] = ["vite", "vitepress", "mkdocs", "hugo"];

fn generated_sites_are_browsed(world: World) {
    let chromium = match chromium() {
        Ok(chromium) => chromium,
        Err(lack) => return skipped("sites of generators", &lack),
    };
    let mut stories = node(&world);
    stories.arg("sites.mjs").arg(world.server.port.to_string());
    stories.args([pmx_path(), &chromium]);
    let folder = outputs();
    for name in GENERATORS {
        stories.arg(named(name, &folder.join(name).join("site")));
    }
    stories.arg(named("pathmx", &pathmx_build(&world)));
    check_stories(stories, GENERATORS.len() + 1);
}

/// The folder of the outputs.
fn outputs() -> PathBuf {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sites");
    std::env::var_os("PMX_SITES").map_or(checked_in, PathBuf::from)
}

fn named(name: &str, folder: &Path) -> OsString {
    assert!(folder.is_dir(), "{} is no folder", folder.display());
    let mut argument = OsString::from(format!("{name}="));
    argument.push(folder);
    argument
}

/// A build of PathMX: two documents at their exact URLs, redirects, and a script.
fn pathmx_build(world: &World) -> PathBuf {
    let mut build = Build::default();
    let page = |text: &str| {
        format!(
            "<!doctype html><html><head><meta charset=\"utf-8\"><title>Course</title>\
             <link rel=\"icon\" href=\"data:,\"><script src=\"/assets/runtime.js\" defer></script>\
             </head><body><p>{text}</p><a href=\"/lesson-1.path\">Lesson one</a></body></html>"
        )
    };
    let pages = [
        ("index.path", "The course begins."),
        ("lesson-1.path", "The first lesson is about names."),
    ];
    for (name, text) in pages {
        let (url, file) = (format!("/{name}"), format!("{name}.html"));
        build.artifact(&format!("/{file}"), &file, "revalidate", &page(text));
        build.document(&url, &file);
    }
    let script = "document.documentElement.dataset.runtime = 'ready';";
    build.artifact(
        "/assets/runtime.js",
        "assets/runtime.1234.js",
        "immutable",
        script,
    );
    build.redirect("/", "/index.path", 308);
    build.redirect("/start", "/index.path", 302);
    let folder = world.temp.path().join("out/.pathmx");
    build.write(&folder, "index.path");
    write_paths(&folder, &["index.path"]);
    folder
}
