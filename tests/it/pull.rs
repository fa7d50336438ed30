//! Pulled deploys: a folder gets what it lacks of a deploy, whole files only and nothing outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::world::{Ran, World, noise, on_both_hosts};

on_both_hosts!(
    pull_writes_a_deploy_and_then_only_what_differs,
    pull_leaves_what_is_not_of_the_deploy_and_follows_no_link,
    get_reads_one_file_of_a_deploy,
);

/// Two deploys and a preview.
fn published(world: &World) {
    world.write(&[
        ("index.html", "<body>1</body>"),
        ("a/b/c & d%20\u{e9}.txt", "deep"),
        ("empty", ""),
        ("same-1", "same"),
        ("same-2", "same"),
        ("_redirects", "/x /index.html 301\n"),
    ]);
    world.sync("docs", &[]).ok();
    world.write(&[("index.html", "<body>2</body>")]);
    world.sync("docs", &["--preview", "next"]).ok();
    world.sync("docs", &[]).ok();
}

fn pull(world: &World, args: &[&str]) -> Ran {
    world.pmx(&[&["pull"], args, &["--space", "docs", "--json"]].concat())
}

/// Written, unchanged and other files.
fn counts(ran: &Ran) -> [u64; 3] {
    ["/written", "/unchanged", "/others"].map(|name| ran.number(name))
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    found
}

fn collect(top: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(top, &path, found);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read(&path).unwrap());
        }
    }
}

fn pull_writes_a_deploy_and_then_only_what_differs(world: World) {
    published(&world);
    let copy = world.temp.path().join("copy");
    let ran = pull(&world, &["copy"]).ok();
    assert_eq!(counts(&ran), [6, 0, 0]);
    assert_eq!(ran.number("/deploy"), 3);
    assert!(
        files(&copy) == files(&world.site()),
        "the folder that was published"
    );
    let hashed = world.pmx(&["hash", "copy", "--json"]).ok();
    assert_eq!(hashed.at("/root"), ran.at("/root"));
    // What is lost, of another size, or of the same size with other bytes is written again.
    fs::remove_file(copy.join("empty")).unwrap();
    fs::write(copy.join("same-1"), "longer").unwrap();
    fs::write(copy.join("same-2"), "SAME").unwrap();
    fs::create_dir(copy.join(".pmx-pull")).unwrap();
    fs::write(copy.join(".pmx-pull/left"), "of a killed one").unwrap();
    assert_eq!(counts(&pull(&world, &["copy"]).ok()), [3, 3, 0]);
    assert!(files(&copy) == files(&world.site()), "whole again");
    assert_eq!(counts(&pull(&world, &["next", "copy"]).ok()), [0, 6, 0]);
    // An earlier deploy, which no site shows any more.
    assert_eq!(counts(&pull(&world, &["1", "copy"]).ok()), [1, 5, 0]);
    assert_eq!(
        fs::read(copy.join("index.html")).unwrap(),
        b"<body>1</body>"
    );
    pull(&world, &["9", "copy"]).fails(1, "E_DEPLOY_UNKNOWN");
    pull(&world, &["gone", "copy"]).fails(1, "E_NOT_FOUND");
}

fn pull_leaves_what_is_not_of_the_deploy_and_follows_no_link(world: World) {
    published(&world);
    let copy = world.temp.path().join("copy");
    fs::create_dir_all(&copy).unwrap();
    fs::write(copy.join("mine"), "mine").unwrap();
    let ran = world.pmx(&["pull", "copy", "--space", "docs"]).ok();
    let warned = "the folder also has 1 file of its own, left as is";
    assert!(ran.stderr.contains(warned), "{ran:?}");
    assert_eq!(fs::read(copy.join("mine")).unwrap(), b"mine");
    // A file that is a link is replaced, and where it leads nothing changes.
    let outside = world.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "same").unwrap();
    fs::remove_file(copy.join("same-1")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), copy.join("same-1")).unwrap();
    assert_eq!(counts(&pull(&world, &["copy"]).ok()), [1, 5, 1]);
    assert!(!copy.join("same-1").is_symlink());
    // No folder that is a link is entered.
    fs::remove_dir_all(copy.join("a")).unwrap();
    std::os::unix::fs::symlink(&outside, copy.join("a")).unwrap();
    pull(&world, &["copy"]).fails(1, "E_LOCAL");
    assert_eq!(files(&outside).len(), 1, "nothing was written there");
    fs::remove_file(copy.join("a")).unwrap();
    fs::remove_file(copy.join("empty")).unwrap();
    fs::create_dir(copy.join("empty")).unwrap();
    let ran = pull(&world, &["copy"]).fails(1, "E_LOCAL");
    assert!(
        ran.stdout.contains("a folder, and a file in the deploy"),
        "{ran:?}"
    );
}

fn get_reads_one_file_of_a_deploy(world: World) {
    published(&world);
    let get = |args: &[&str]| world.pmx(&[&["get"], args, &["--space", "docs"]].concat());
    assert_eq!(get(&["index.html"]).ok().stdout, "<body>2</body>");
    assert_eq!(
        get(&["/index.html", "--deploy", "1"]).ok().stdout,
        "<body>1</body>"
    );
    assert_eq!(get(&["_redirects"]).ok().stdout, "/x /index.html 301\n");
    assert_eq!(get(&["empty"]).ok().stdout, "");
    // More than an answer of the API may have.
    let big = noise(7, 25 * 1024 * 1024);
    world.write_bytes("big", &big);
    world.sync("docs", &[]).ok();
    get(&["big", "-o", "copy-of-big"]).ok();
    assert!(fs::read(world.temp.path().join("copy-of-big")).unwrap() == big);
    get(&["missing"]).fails(1, "E_NOT_FOUND");
    get(&["a/../b"]).fails(3, "E_PATH_INVALID");
    get(&["index.html", "--json"]).fails(2, "E_USAGE");
}
