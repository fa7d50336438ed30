//! Excluded files, which are never content: pmx's own folders, private keys, settings.

use std::fs;

use crate::world::{Running, World, eventually, on_both_hosts, sync_args};

on_both_hosts!(
    data_folder_inside_a_site_is_left_out,
    settings_files_are_not_served
);

fn data_folder_inside_a_site_is_left_out(world: World) {
    // The world's folder contains the site, the server's data and the cache of `pmx`.
    world.write(&[("index.html", "home")]);
    let before = fs::read_dir(world.temp.path().join("cache")).is_ok();
    assert!(!before, "pmx makes its cache while it publishes");
    let sync = [
        "sync",
        ".",
        "--space",
        "all",
        "--exclude",
        "*.log",
        "--json",
    ];
    let ran = world.pmx(&sync).ok();
    assert_eq!(ran.number("/files/total"), 1, "{ran:?}");
    assert!(ran.stdout.contains("\"warning\""), "{ran:?}");
    let text = world
        .pmx(&["sync", ".", "--space", "all", "--exclude", "*.log"])
        .ok();
    let is_named = text.stderr.contains("data") && text.stderr.contains("left out");
    assert!(is_named, "{text:?}");
    assert_eq!(world.pmx(&sync).ok().at("/outcome"), "unchanged");
    for path in ["/data/secret", "/data/host.db", "/cache/v1/CACHEDIR.TAG"] {
        assert_eq!(world.get("all", path).status, 404, "{path}");
    }
    assert_eq!(world.get("all", "/site/").text(), "home");
    world
        .pmx(&["sync", "data/spaces", "--space", "x"])
        .fails(2, "E_USAGE");
}

fn settings_files_are_not_served(world: World) {
    world.write(&[
        ("index.html", "home"),
        ("_headers", "/*"),
        (".pmxignore", "*.map"),
        ("pmx.toml", "space = \"x\""),
    ]);
    world.write(&[("_redirects", "/a /b"), ("a/_headers", "a page")]);
    world.sync("docs", &[]).ok();
    for path in ["/_headers", "/_redirects", "/pmx.toml", "/.pmxignore"] {
        assert_eq!(world.get("docs", path).status, 404, "{path}");
    }
    assert_eq!(world.get("docs", "/a/_headers").text(), "a page");
}

#[test]
fn dev_publishes_neither_its_data_nor_its_cache() {
    let world = World::new();
    world.write(&[("index.html", "first")]);
    let (site, errors) = (world.site(), world.temp.path().join("errors"));
    let listen = ["--data", "./data", "--listen", "127.0.0.1:0"];
    let mut command = world.command(&[&["dev", ".", "--space", "docs"], &listen[..]].concat());
    command.current_dir(&site).env("PMX_CACHE", "./cache");
    command.stderr(fs::File::create(&errors).expect("a file"));
    let dev = Running::start(command);
    let shows = |text: &str| {
        let page = dev.get("docs", "/");
        page.is_some_and(|page| page.text().starts_with(text))
    };
    eventually("dev serves the folder", || shows("first"));
    // Each publish writes to both folders. If the watcher counted these writes, it would never
    // stop.
    for text in ["second", "third", "fourth"] {
        world.write(&[("index.html", text)]);
        eventually("dev serves the change", || shows(text));
    }
    for path in ["/data/secret", "/data/host.db", "/cache/v1/CACHEDIR.TAG"] {
        let status = dev.get("docs", path).map(|answer| answer.status);
        assert_eq!(status, Some(404), "{path}");
    }
    drop(dev);
    let said = fs::read_to_string(errors).expect("what dev said");
    assert!(
        (1..=4).contains(&said.matches("published").count()),
        "{said}"
    );
    assert_eq!(said.matches("left out").count(), 2, "{said}");
}

#[test]
fn private_key_is_not_published() {
    let world = World::new();
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n";
    world.write(&[
        ("index.html", "home"),
        ("a/notes.txt", key),
        ("id_rsa", "x"),
    ]);
    let ran = world.sync("docs", &[]).fails(3, "E_SECRET");
    assert_eq!(ran.last()["items"][0], "a/notes.txt", "{ran:?}");
    assert_eq!(world.get("docs", "/").status, 404);
    let text = world.pmx(&sync_args("docs", &[])).fails(3, "E_SECRET");
    assert!(text.stderr.contains("a/notes.txt"), "{text:?}");
    let ran = world.sync("docs", &["--exclude", "notes.txt"]).ok();
    let first: serde_json::Value =
        serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["type"], &first["items"][0]),
        (&"warning".into(), &"id_rsa".into())
    );
    world.sync("docs", &["--allow-secrets"]).ok();
    assert_eq!(world.get("docs", "/a/notes.txt").text(), key);
}

#[test]
fn path_collisions_by_case_are_published_with_one_warning() {
    let world = World::new();
    world.write(&[
        ("A.txt", "upper"),
        ("a.txt", "lower"),
        ("e\u{301}.txt", "nfd"),
    ]);
    world
        .sync("docs", &["--strict"])
        .fails(3, "E_PATH_COLLISION");
    let ran = world.pmx(&sync_args("docs", &[])).ok();
    assert!(ran.stderr.contains("A.txt and a.txt"), "{ran:?}");
    assert_eq!(world.get("docs", "/A.txt").text(), "upper");
    assert_eq!(world.get("docs", "/a.txt").text(), "lower");
    assert_eq!(world.get("docs", "/%C3%A9.txt").text(), "nfd");
}
