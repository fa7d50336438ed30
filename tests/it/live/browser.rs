//! Live pages in a real browser, on both hosts. The stories are in `tests/browser/stories.mjs`, and
//! in `uses.mjs` for a server whose pages are all live.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::conformance::install_in;
use crate::world::{Host, World, pmx_path, skipped, without_store, worker_lacks};

/// The number of stories in `tests/browser/stories.mjs`.
const STORIES: usize = 10;

/// The number of stories in `tests/browser/uses.mjs`.
const USES: usize = 3;

/// The number of stories of build tools and editors in `tests/browser/tools.mjs`.
const TOOLS: usize = 13;

#[test]
fn live_pages_work_in_a_real_browser() {
    let passed = [("DICTIONARIES", "passed")];
    check(Host::Embedded, &passed, &["stories.mjs"], STORIES);
}

#[test]
fn live_pages_work_in_a_real_browser_through_the_worker() {
    let passed = [("DICTIONARIES", "passed")];
    check(Host::Worker, &passed, &["stories.mjs"], STORIES);
}

#[test]
fn assets_of_every_kind_are_replaced_in_a_real_browser() {
    check(Host::Embedded, &[("LIVE", "all")], &["uses.mjs"], USES);
}

/// The script finds the files that a page uses, on every host. The host notices a first deploy.
#[test]
fn first_deploy_is_shown_in_a_real_browser_through_the_worker() {
    let story = "site_is_shown_that_was_opened_before_its_first_deploy";
    check(Host::Worker, &[("LIVE", "all")], &["uses.mjs", story], 1);
}

#[test]
fn build_tools_and_editors_are_followed_in_a_real_browser() {
    let chromium = match chromium() {
        Ok(chromium) => chromium,
        Err(lack) => return skipped("build tools", &lack),
    };
    let temp = tempfile::tempdir().unwrap();
    let mut stories = Command::new("node");
    stories
        .arg("tools.mjs")
        .args([pmx_path(), temp.path(), &chromium]);
    stories.env("PMX_CACHE", temp.path().join("cache"));
    stories.env("HOME", temp.path());
    for name in ["PMX_SERVER", "PMX_DATA", "PMX_TOKEN", "PMX_SPACE", "CI"] {
        stories.env_remove(name);
    }
    check_stories(stories, TOOLS);
}

/// Runs stories against a host with these settings: a file of stories, and optionally one of them.
fn check(host: Host, settings: &[(&str, &str)], which: &[&str], count: usize) {
    let lack = match host {
        Host::Embedded => None,
        Host::Worker | Host::Unkind => worker_lacks(),
    };
    let chromium = match lack.map_or_else(chromium, |lack| Err(lack.to_owned())) {
        Ok(chromium) => chromium,
        Err(lack) => return skipped("live pages", &lack),
    };
    let world = World::with_settings(host, settings);
    let port = world.server.port.to_string();
    let mut stories = node(&world);
    stories.args(&which[..1]).arg(port);
    stories.args([pmx_path(), &world.site(), &chromium]);
    stories.args(&which[1..]);
    check_stories(stories, count);
}

/// `node` with the environment of the world's `pmx`.
pub(crate) fn node(world: &World) -> Command {
    let mut node = Command::new("node");
    for (name, value) in world.command(&[]).get_envs() {
        match value {
            Some(value) => node.env(name, value),
            None => node.env_remove(name),
        };
    }
    node
}

/// Runs stories and checks that `count` passed.
pub(crate) fn check_stories(mut stories: Command, count: usize) {
    without_store(&mut stories);
    let ran = stories
        .current_dir(folder())
        .stdin(Stdio::null())
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let results: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let failed: Vec<&Value> = results
        .iter()
        .filter(|story| story["passed"] != true)
        .collect();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(failed.is_empty(), "{failed:#?}\n{stderr}");
    assert_eq!(results.len(), count, "{said}\n{stderr}");
}

fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/browser")).to_owned()
}

/// Installs the browser driver, and finds a browser: `CHROMIUM`, or an installed one.
pub(crate) fn chromium() -> Result<PathBuf, String> {
    install_in(&folder())?;
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let programs = ["chromium", "chromium-browser", "google-chrome"];
    let all = programs
        .iter()
        .flat_map(|name| folders.iter().map(move |f| f.join(name)));
    let mut found = all.filter(|program| program.is_file());
    let lack = "there is no Chromium (Debian: apt install chromium; or name it in CHROMIUM)";
    found.next().ok_or_else(|| lack.to_owned())
}
