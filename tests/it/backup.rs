//! Backups: a folder has the whole history of a space, and a restored space is the same one.

mod broken;
mod refused;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{Ran, World, eventually, noise, on_both_hosts};

on_both_hosts!(
    restored_space_has_the_history_and_serves_at_once,
    second_backup_fetches_only_what_is_new,
    backup_is_whole_while_publishing_goes_on,
    restore_to_a_deleted_name_moves_the_numbers,
);

const BIG: usize = 20 * 1024 * 1024;

/// Eight deploys of `docs`: two were given up, two are previews, and the last is a rollback.
fn history(world: &World) {
    let pages = |text: &str| {
        world.write(&[
            ("index.html", &format!("<body>{text}</body>")),
            ("a/b/deep \u{e9}.txt", "deep"),
        ]);
    };
    world.write_bytes("film.mp4", &noise(1, BIG));
    pages("1");
    world.sync("docs", &["-m", "the \"first\"\none"]).ok();
    fs::remove_file(world.site().join("film.mp4")).unwrap();
    pages("2");
    world.sync("docs", &[]).ok();
    pages("3");
    let preview = ["--preview", "pr-7", "--expires", "7d"];
    world.sync("docs", &preview).ok();
    pages("4");
    world.sync("docs", &["--live"]).ok();
    pages("5");
    world.sync("docs", &["--preview", "gone"]).ok();
    let docs = |args: &[&str]| world.pmx(&[args, &["--space", "docs"]].concat()).ok();
    docs(&["preview", "rm", "gone"]);
    pages("6");
    world.sync("docs", &["--preview", "pr-7"]).ok();
    pages("7");
    world.sync("docs", &[]).ok();
    docs(&["deploys", "rm", "2", "--yes"]);
    docs(&["deploys", "pin", "1"]);
    docs(&["retention", "--keep-last", "9"]);
    docs(&["rollback", "4"]);
}

pub(super) fn backup(world: &World, dir: &Path, args: &[&str]) -> Ran {
    let dir = dir.to_str().unwrap();
    let args = if args.is_empty() {
        &["--space", "docs"]
    } else {
        args
    };
    world.pmx(&[&["backup", dir, "--json"], args].concat())
}

pub(super) fn restore(world: &World, dir: &Path, args: &[&str]) -> Ran {
    let dir = dir.to_str().unwrap();
    world.pmx(&[&["restore", dir, "--json"], args].concat())
}

/// The line of the saved space.
pub(super) fn saved(ran: &Ran) -> Value {
    let lines = ran.stdout.lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let saved = lines.find(|line| line["type"] == "saved");
    saved.unwrap_or_else(|| panic!("nothing was saved: {ran:?}"))
}

/// The history of a space, without addresses.
fn listed(world: &World, space: &str) -> Value {
    let mut list = world
        .pmx(&["deploys", "--space", space, "--json"])
        .ok()
        .last();
    let of_server = ["url", "space", "time"];
    let list = list.as_object_mut().unwrap();
    list.retain(|name, _| !of_server.contains(&&**name));
    for deploy in list["deploys"].as_array_mut().unwrap() {
        deploy.as_object_mut().unwrap().remove("url");
    }
    json!(list)
}

/// Files of a folder with their bytes; none if it does not exist.
pub(super) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), Vec::new());
    folders.extend(folder.exists().then(|| folder.to_owned()));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Every object of a space is sound.
pub(super) fn verified(world: &World, space: &str) {
    let ran = world.pmx(&["verify", "--space", space, "--read-data", "--json"]);
    ran.ok();
}

/// Asserts that a space is that of [`history`].
fn is_restored(world: &World, space: &str) {
    let shows = |host: &str, text: &str| {
        let host = host.replace("docs", space);
        let expected = format!("<body>{text}</body>");
        eventually(&format!("{host} shows {text}"), || {
            world.get(&host, "/").text().contains(&expected)
        });
    };
    for (host, text) in [
        ("docs", "4"),
        ("pr-7--docs", "6"),
        ("7--docs", "7"),
        ("3--docs", "3"),
    ] {
        shows(host, text);
    }
    let film = world.get(&format!("1--{space}"), "/film.mp4");
    assert!(film.body == noise(1, BIG), "the film, in parts");
    assert_eq!(world.get(&format!("2--{space}"), "/").status, 410);
    let previews = world
        .pmx(&["preview", "list", "--space", space, "--json"])
        .ok();
    assert_eq!(previews.at("/previews/0/name"), "pr-7");
    assert_eq!(previews.at("/previews/0/deploy/number"), 6);
    assert!(previews.at("/previews/0/expires").is_u64());
    assert_eq!(previews.at("/previews").as_array().unwrap().len(), 1);
    let policy = world.pmx(&["retention", "--space", space, "--json"]).ok();
    assert_eq!(policy.at("/policy"), json!({ "keep_last": 9 }));
    verified(world, space);
}

fn restored_space_has_the_history_and_serves_at_once(world: World) {
    history(&world);
    let dir = world.temp.path().join("backup");
    let ran = backup(&world, &dir, &[]).ok();
    assert_eq!(saved(&ran)["deploys"], 6, "{ran:?}");
    assert_eq!(saved(&ran)["left_out"], json!([]));
    let whole = world.pmx(&["backup", dir.to_str().unwrap(), "--check"]);
    whole.ok();
    // Another server, where nothing is known of the site.
    let other = World::new();
    let ran = restore(&other, &dir, &["--space", "docs"]).ok();
    assert_eq!((ran.number("/deploys"), ran.number("/shift")), (8, 0));
    assert_eq!(ran.number("/active"), 8);
    assert_eq!(listed(&other, "docs"), listed(&world, "docs"));
    is_restored(&other, "docs");
    other.write(&[("index.html", "<body>new</body>")]);
    other.sync("docs", &[]).fails(6, "E_HELD");
    // A second restore finds all of it.
    let again = restore(&other, &dir, &["--space", "docs"]).ok();
    assert_eq!((again.number("/deploys"), again.number("/before")), (0, 8));
    // And back, under another name.
    let copy = other.temp.path().join("copy");
    backup(&other, &copy, &[]).ok();
    let ran = restore(&world, &copy, &["--space", "moved", "--from", "docs"]).ok();
    assert_eq!(ran.number("/deploys"), 8);
    assert_eq!(listed(&world, "moved"), listed(&world, "docs"));
    is_restored(&world, "moved");
    // The next deploy follows, and its difference is the whole change.
    other.pmx(&["resume", "--space", "docs"]).ok();
    let next = other.sync("docs", &["--force", "--live"]).ok();
    assert_eq!(next.number("/deploy"), 9);
    let events = other.get("docs", "/_events?offset=-1");
    let events = events.json();
    let numbers = events.as_array().unwrap().iter();
    let numbers: Vec<_> = numbers.map(|message| message["deploy"].clone()).collect();
    assert_eq!(numbers, [1, 2, 4, 7, 8, 9].map(|number| json!(number)));
}

fn second_backup_fetches_only_what_is_new(world: World) {
    let many = |version: u8| {
        for number in 0..120 {
            world.write(&[(&format!("{number}.html"), &format!("<p>{number}</p>"))]);
        }
        world.write(&[("index.html", &format!("<body>{version}</body>"))]);
        world.sync("docs", &[]).ok();
    };
    many(1);
    let dir = world.temp.path().join("backup");
    let first = saved(&backup(&world, &dir, &[]).ok());
    assert_eq!(
        (&first["files"], &first["snapshot"]),
        (&json!(121), &json!(1))
    );
    let before = files(&dir);
    let same = saved(&backup(&world, &dir, &[]).ok());
    assert_eq!((&same["files"], &same["nodes"]), (&json!(0), &json!(0)));
    many(2);
    let next = saved(&backup(&world, &dir, &[]).ok());
    assert_eq!((&next["files"], &next["bytes"]), (&json!(1), &json!(14)));
    let nodes = next["nodes"].as_u64().unwrap();
    assert!((1..=3).contains(&nodes), "a leaf and what is above: {next}");
    let after = files(&dir);
    assert_eq!(after.len(), before.len() + 2 + 1 + nodes as usize);
    for (path, bytes) in &before {
        assert_eq!(
            after.get(path),
            Some(bytes),
            "{} did not change",
            path.display()
        );
    }
    // Each snapshot stays, and so does the first version of the page.
    let other = World::new();
    let old = ["--space", "docs", "--snapshot", "1"];
    assert_eq!(restore(&other, &dir, &old).ok().number("/deploys"), 1);
    eventually("the first version", || {
        other.get("docs", "/").text() == "<body>1</body>"
    });
    // Another backup goes on from there: the space is a prefix of the newer snapshot.
    let ran = restore(&other, &dir, &["--space", "docs"]).ok();
    assert_eq!((ran.number("/before"), ran.number("/deploys")), (1, 1));
    eventually("the second version", || {
        other.get("docs", "/").text() == "<body>2</body>"
    });
    // All spaces at once.
    world.sync("blog", &[]).ok();
    let all = backup(&world, &dir, &["--all"]).ok();
    assert_eq!(all.stdout.matches("\"saved\"").count(), 2, "{all:?}");
    restore(&other, &dir, &["--space", "blog"]).ok();
    let none = ["--space", "nothing"];
    restore(&other, &dir, &none).fails(1, "E_NOT_FOUND");
}

fn backup_is_whole_while_publishing_goes_on(world: World) {
    let dir = world.temp.path().join("backup");
    let publish = |version: u64| {
        world.write_bytes("noise.bin", &noise(version, 100_000));
        world.write(&[("index.html", &format!("<body>{version}</body>"))]);
        world.sync("docs", &[]).ok();
    };
    publish(0);
    world
        .pmx(&["retention", "--keep-last", "1", "--space", "docs"])
        .ok();
    let path = dir.to_str().unwrap();
    let args = ["backup", path, "--space", "docs", "--json"];
    let mut saved_deploys = Vec::new();
    for round in 0..4 {
        let mut running = world.command(&args);
        running.stdout(std::process::Stdio::piped());
        let mut running = running.spawn().unwrap();
        let mut version = round * 1000 + 1;
        while running.try_wait().unwrap().is_none() {
            publish(version);
            world.pmx(&["gc", "--space", "docs", "--max-time", "1s"]);
            version += 1;
        }
        let ran = Ran::from(running.wait_with_output().unwrap()).ok();
        saved_deploys.push(saved(&ran)["deploys"].as_u64().unwrap());
    }
    assert!(saved_deploys.is_sorted(), "{saved_deploys:?}");
    world.pmx(&["backup", path, "--check"]).ok();
    let other = World::new();
    restore(&other, &dir, &["--space", "docs"]).ok();
    verified(&other, "docs");
    let shown = other.get("docs", "/").text();
    let active = listed(&other, "docs")["active"].clone();
    assert!(
        shown.starts_with("<body>"),
        "{shown} is that of deploy {active}"
    );
}

fn restore_to_a_deleted_name_moves_the_numbers(world: World) {
    for version in 1..=3 {
        world.write(&[("index.html", &format!("<body>{version}</body>"))]);
        world.sync("docs", &[]).ok();
    }
    world.pmx(&["rollback", "1", "--space", "docs"]).ok();
    let dir = world.temp.path().join("backup");
    backup(&world, &dir, &[]).ok();
    // Not in the place of deploys, even of an older state of the same site.
    let onto = restore(&world, &dir, &["--space", "docs"]).ok();
    assert_eq!((onto.number("/before"), onto.number("/deploys")), (4, 0));
    world.pmx(&["resume", "--space", "docs"]).ok();
    world.write(&[("index.html", "<body>5</body>")]);
    world.sync("docs", &["--force"]).ok();
    let taken = restore(&world, &dir, &["--space", "docs"]).fails(6, "E_CONFLICT");
    assert!(
        taken
            .stdout
            .contains("after 4 that are; nothing more is restored"),
        "{taken:?}"
    );
    assert!(taken.stdout.contains("pmx spaces delete docs"), "{taken:?}");
    let delete = ["spaces", "delete", "docs", "--yes"];
    world.pmx(&delete).ok();
    let ran = restore(&world, &dir, &["--space", "docs"]).ok();
    assert_eq!((ran.number("/deploys"), ran.number("/shift")), (4, 5));
    let list = listed(&world, "docs");
    let numbers = list["deploys"].as_array().unwrap().iter();
    let numbers: Vec<_> = numbers
        .map(|it| (it["number"].clone(), it["parent"].clone()))
        .collect();
    let expected = [(9, 8), (8, 7), (7, 6), (6, 0)];
    assert_eq!(
        numbers,
        expected.map(|(n, parent)| (json!(n), json!(parent)))
    );
    assert_eq!(list["deploys"][0]["restores"], 6);
    assert_eq!(list["hold"]["deploy"], 9);
    eventually("the restored site is served", || {
        world.get("docs", "/").text() == "<body>1</body>"
    });
    eventually("and its deploys", || {
        world.get("8--docs", "/").text() == "<body>3</body>"
    });
    verified(&world, "docs");
    let again = restore(&world, &dir, &["--space", "docs"]).ok();
    assert_eq!((again.number("/before"), again.number("/shift")), (4, 5));
}
