//! Collection: deploys that are given up answer 410, and their content is deleted.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{Host, Ran, World, eventually, on_both_hosts};

on_both_hosts!(
    deploy_that_was_removed_is_gone_and_others_stay,
    purged_content_is_deleted_and_can_be_published_again,
    policy_keeps_what_it_names_and_what_readers_use,
    preview_that_was_removed_frees_its_content,
    mostly_dead_pack_is_repacked_and_pages_stay_as_they_are,
);

/// A file that no compression makes smaller, different for each `seed`.
fn noise(seed: u64) -> String {
    let mut rng = pmx_tests::rng::Rng::new(seed);
    let letter = |_| char::from(b'a' + rng.below(26) as u8);
    (0..4_000).map(letter).collect()
}

/// Deploys of `docs` with one page, each with another one.
fn publishes(world: &World, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        world.write(&[("index.html", &noise(seed))]);
        world.sync("docs", &[]).ok();
    }
}

fn pmx(world: &World, args: &[&str]) -> Ran {
    let server = ["--space", "docs", "--json"];
    world.pmx(&[args, &server[..]].concat())
}

/// Runs a collection to its end, and returns what it did.
fn collects(world: &World) -> Value {
    pmx(world, &["gc"]).ok().last().clone()
}

fn status(world: &World, host: &str) -> u16 {
    world.get(host, "/").status
}

/// The object files of the embedded host.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else if path.extension() != Some(OsStr::new("tmp")) {
            found.push(path);
        }
    }
    found
}

fn deploy_that_was_removed_is_gone_and_others_stay(world: World) {
    publishes(&world, 1..=3);
    let active = pmx(&world, &["deploys", "rm", "3", "--yes"]);
    active.fails(6, "E_DEPLOY_KEPT");
    pmx(&world, &["deploys", "pin", "2"]).ok();
    pmx(&world, &["deploys", "rm", "2", "--yes"]).fails(6, "E_DEPLOY_KEPT");
    pmx(&world, &["deploys", "rm", "1"]).fails(2, "E_USAGE");
    assert_eq!(status(&world, "1--docs"), 200);
    let removed = pmx(&world, &["deploys", "rm", "1", "--yes"]).ok();
    assert_eq!(removed.at("/content"), json!("dropped"));
    eventually("the removed deploy is gone", || {
        status(&world, "1--docs") == 410
    });
    let again = pmx(&world, &["deploys", "rm", "1", "--yes"]).ok();
    assert_eq!(again.at("/content"), json!("dropped"), "once more");
    pmx(&world, &["rollback", "1"]).fails(1, "E_DEPLOY_GONE");
    pmx(&world, &["diff", "1", "3"]).fails(1, "E_DEPLOY_GONE");
    pmx(&world, &["deploys", "rm", "9", "--yes"]).fails(1, "E_DEPLOY_UNKNOWN");
    let dry = pmx(&world, &["gc", "--dry-run"]).ok().last().clone();
    let done = collects(&world);
    assert_eq!(dry["doomed"], done["doomed"], "{dry} {done}");
    assert_eq!(dry["doomed_bytes"], done["doomed_bytes"], "{dry} {done}");
    // The pack of the first publish, and its index object.
    assert_eq!(done["doomed"], json!(2), "{done}");
    assert_eq!(done["waiting"], json!(2), "{done}");
    assert_eq!(done["deleted"], json!(0), "readers have a day: {done}");
    for host in ["2--docs", "3--docs", "docs"] {
        assert_eq!(status(&world, host), 200, "{host}");
    }
    let history = pmx(&world, &["deploys"]).ok().last().clone();
    let shown: Vec<_> = history["deploys"].as_array().unwrap().iter().collect();
    let of = |field: &str| {
        shown
            .iter()
            .map(|deploy| deploy[field].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("number"), [3, 2, 1]);
    assert_eq!(of("content"), [Value::Null, Value::Null, json!("dropped")]);
    assert_eq!(of("pinned"), [Value::Null, json!(true), Value::Null]);
    // The same content is a new deploy.
    publishes(&world, 1..=1);
    assert_eq!(status(&world, "4--docs"), 200);
    assert_eq!(status(&world, "1--docs"), 410);
}

fn purged_content_is_deleted_and_can_be_published_again(world: World) {
    publishes(&world, 1..=2);
    let folder = world.temp.path().join("data/objects");
    let before = objects(&folder);
    let purge = ["deploys", "rm", "1", "--yes", "--purge"];
    assert_eq!(pmx(&world, &purge).ok().at("/content"), json!("purged"));
    eventually("nothing of it waits", || {
        collects(&world)["waiting"] == json!(0)
    });
    if world.server.host == Host::Embedded {
        assert_eq!(objects(&folder).len() + 2, before.len(), "{before:?}");
    }
    assert_eq!(status(&world, "docs"), 200);
    publishes(&world, 1..=1);
    eventually("the content is shown again", || {
        world.get("docs", "/").text() == noise(1)
    });
    assert_eq!(world.get("3--docs", "/").text(), noise(1));
}

fn policy_keeps_what_it_names_and_what_readers_use(world: World) {
    let policy = |args: &[&str]| pmx(&world, &[&["retention"], args].concat());
    publishes(&world, 1..=1);
    assert_eq!(policy(&[]).ok().at("/policy"), Value::Null);
    policy(&["--keep-last", "0"]).fails(2, "E_USAGE");
    publishes(&world, 2..=14);
    pmx(&world, &["deploys", "pin", "1"]).ok();
    policy(&["--keep-last", "2"]).ok();
    assert_eq!(policy(&[]).ok().at("/policy/keep_last"), json!(2));
    let done = collects(&world);
    // The server may have applied the policy before.
    let history = pmx(&world, &["deploys"]).ok().last().clone();
    let gone: Vec<u64> = history["deploys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|deploy| deploy["content"] == json!("dropped"))
        .map(|deploy| deploy["number"].as_u64().unwrap())
        .collect();
    // The active one, ten before it, and the pinned one.
    assert_eq!(gone, [3, 2], "{done}");
    for (host, expected) in [("1--docs", 200), ("2--docs", 410), ("4--docs", 200)] {
        eventually("numbered deploys are as the policy says", || {
            status(&world, host) == expected
        });
    }
    policy(&["--never"]).ok();
    assert_eq!(policy(&[]).ok().at("/policy"), Value::Null);
}

fn preview_that_was_removed_frees_its_content(world: World) {
    publishes(&world, 1..=1);
    world.write(&[("index.html", &noise(2))]);
    world.sync("docs", &["--preview", "next"]).ok();
    let dry = || pmx(&world, &["gc", "--dry-run"]).ok().at("/doomed");
    assert_eq!(dry(), json!(0));
    world
        .pmx(&["preview", "rm", "next", "--space", "docs"])
        .ok();
    eventually("its deploy is gone", || status(&world, "2--docs") == 410);
    let done = collects(&world);
    assert_eq!(done["waiting"], json!(1), "{done}");
    assert_eq!(status(&world, "docs"), 200);
}

/// The site of a deploy: 40 files, of which each deploy after the first changed five more.
fn forty_files(deploy: u64) -> Vec<(String, String)> {
    let file = |at: u64| {
        let changed = 1 + (at / 5) + 1;
        let seed = if changed <= deploy {
            100 * changed + at
        } else {
            at
        };
        let text = [noise(seed), noise(seed + 5_000), noise(seed + 10_000)];
        (format!("page-{at}.html"), text.concat())
    };
    (0..40).map(file).collect()
}

fn mostly_dead_pack_is_repacked_and_pages_stay_as_they_are(world: World) {
    for deploy in 1..=8 {
        let files = forty_files(deploy);
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (&**path, &**text))
            .collect();
        world.write(&files);
        world.sync("docs", &[]).ok();
    }
    let folder = world.temp.path().join("data/objects");
    let stored = || -> u64 {
        let files = objects(&folder);
        files
            .iter()
            .map(|path| fs::metadata(path).map_or(0, |file| file.len()))
            .sum()
    };
    let before = stored();
    for number in 1..=7 {
        pmx(&world, &["deploys", "rm", &number.to_string(), "--yes"]).ok();
    }
    let none = ["gc", "--dry-run", "--max-repack-size", "0"];
    assert_eq!(pmx(&world, &none).ok().at("/repacked"), json!(0));
    let none = ["gc", "--dry-run", "--max-unused", "90%"];
    assert_eq!(pmx(&world, &none).ok().at("/repacked"), json!(0));
    let dry = pmx(&world, &["gc", "--dry-run"]).ok().last().clone();
    let done = collects(&world);
    // The pack of the first publish, of which five files are left.
    assert_eq!(done["repacked"], json!(1), "{done}");
    for field in ["repacked", "repacked_bytes"] {
        assert_eq!(dry[field], done[field], "{dry} {done}");
    }
    assert_eq!(
        collects(&world)["repacked"],
        json!(0),
        "nothing is left to copy"
    );
    shows_all_pages(&world);
    pmx(&world, &["verify", "--read-data"]).ok();
    // A purge ends the wait of what was given up before.
    pmx(&world, &["deploys", "rm", "7", "--yes", "--purge"]).ok();
    eventually("the old objects are gone", || {
        collects(&world)["waiting"] == json!(0)
    });
    if world.server.host == Host::Embedded {
        let after = stored();
        assert!(after * 10 < before * 7, "{before} bytes, then {after}");
    }
    shows_all_pages(&world);
    pmx(&world, &["verify", "--read-data"]).ok();
    assert_eq!(status(&world, "1--docs"), 410);
    // Content that was copied is not sent again, and content that was given up is.
    world.sync("docs", &["--preview", "again"]).ok();
    let first = forty_files(1);
    let first: Vec<_> = first
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    world.write(&first);
    world.sync("docs", &[]).ok();
    let page = world.get("docs", "/page-0");
    assert_eq!(page.text(), first[0].1);
    pmx(&world, &["verify", "--read-data"]).ok();
}

fn shows_all_pages(world: &World) {
    for (path, text) in forty_files(8) {
        let path = format!("/{}", path.trim_end_matches(".html"));
        for host in ["docs", "8--docs"] {
            let page = world.get(host, &path);
            assert_eq!(
                (page.status, page.text()),
                (200, text.clone()),
                "{host}{path}"
            );
        }
    }
}
