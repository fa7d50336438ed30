//! Deleted spaces: nothing of them is served, their names are free, and their objects go.

mod crossing;
mod ledger;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::live::socket::Socket;
use crate::world::{Host, World, eventually, on_both_hosts};

on_both_hosts!(
    deleted_space_is_served_nowhere_and_its_name_is_free,
    deletion_says_what_goes_and_asks_for_a_yes,
    objects_of_a_purged_space_go_and_no_others,
);

/// Three deploys of `docs`, the last of them a preview, and a site beside it.
fn spaces(world: &World) {
    world.write(&[("index.html", "<body>other</body>")]);
    world.sync("blog", &[]).ok();
    for (text, more) in [
        ("1", &[][..]),
        ("2", &["--live"]),
        ("3", &["--preview", "pr-7"]),
    ] {
        world.write(&[("a.html", &format!("<body>{text}</body>")), ("old.js", "1")]);
        world.sync("docs", more).ok();
    }
}

fn listed(world: &World) -> Vec<(String, Value)> {
    let spaces = world.pmx(&["spaces", "list", "--json"]).ok().at("/spaces");
    let of = |space: &Value| {
        let name = space["name"].as_str().unwrap().to_owned();
        (name, space["deploy"].clone())
    };
    spaces.as_array().unwrap().iter().map(of).collect()
}

/// Pointers may be late.
fn lists(world: &World, expected: &[(String, Value)]) {
    eventually("the list is right", || listed(world) == expected);
}

fn gone(world: &World, host: &str) {
    eventually("readers see no site", || {
        world.get(host, "/a").status == 404
    });
}

fn deleted_space_is_served_nowhere_and_its_name_is_free(world: World) {
    spaces(&world);
    // Other isolates may show it for half a minute more.
    if world.server.host != Host::Unkind {
        assert_eq!(world.get("2--docs", "/a").status, 200);
    }
    let both = [("blog".to_owned(), json!(1)), ("docs".to_owned(), json!(2))];
    lists(&world, &both);
    let listen = |host| Socket::listen(&world, host, r#"{"all":true}"#).0;
    let mut pages = [listen("docs"), listen("pr-7--docs")];
    let deleted = world
        .pmx(&["spaces", "delete", "docs", "--yes", "--json"])
        .ok();
    for (field, expected) in [("/deploys", 3), ("/previews", 1), ("/domains", 0)] {
        assert_eq!(deleted.number(field), expected, "{field}");
    }
    for host in ["docs", "pr-7--docs", "2--docs"] {
        gone(&world, host);
    }
    for page in &mut pages {
        assert_eq!(page.text(), Err(4404), "open pages learn of it");
    }
    lists(&world, &both[..1]);
    assert_eq!(world.get("blog", "/").status, 200);
    let lost = ["preview", "list", "--space", "docs"];
    world.pmx(&lost).fails(1, "E_NOT_FOUND");
    let again = ["spaces", "delete", "docs", "--yes"];
    world.pmx(&again).fails(1, "E_NOT_FOUND");

    // The next space of the name inherits nothing, and its numbers follow.
    let early = ["--preview", "early"];
    assert_eq!(world.sync("docs", &early).ok().number("/deploy"), 4);
    lists(&world, &[both[0].clone(), ("docs".to_owned(), Value::Null)]);
    fs::remove_file(world.site().join("old.js")).unwrap();
    world.write(&[("a.html", "<body>new</body>")]);
    assert_eq!(world.sync("docs", &["--live"]).ok().number("/deploy"), 5);
    eventually("the new site is shown", || {
        world.get("docs", "/a").text().contains("new")
    });
    assert_eq!(world.get("docs", "/old.js").status, 404, "no earlier asset");
    for host in ["pr-7--docs", "2--docs"] {
        assert_eq!(world.get(host, "/a").status, 404, "{host}");
    }
    let history = world.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    assert_eq!(history.at("/deploys/0/number"), json!(5));
    assert_eq!(history.at("/deploys/0/parent"), json!(0));
    assert_eq!(history.last()["deploys"].as_array().unwrap().len(), 2);
    events_begin_with_the_new_space(&world);
}

/// An offset of the deleted space is none of the next one.
fn events_begin_with_the_new_space(world: &World) {
    let events = |offset: &str| world.get("docs", &format!("/_events?offset={offset}"));
    let all = events("-1");
    assert_eq!(all.status, 200, "{all:?}");
    let messages = all.json();
    let numbers = messages.as_array().unwrap().iter();
    let numbers: Vec<&Value> = numbers.map(|message| &message["deploy"]).collect();
    assert_eq!(numbers, [5]);
    let next = all.header("stream-next-offset").unwrap();
    assert!(next.ends_with("0000000000000005"), "{next}");
    assert_eq!(events(next).status, 200);
    assert_eq!(events(&next.replace('5', "2")).status, 410);
    world.write(&[("a.html", "<body>newer</body>")]);
    world.sync("docs", &["--live"]).ok();
    eventually("readers go on from their offset", || {
        events(next).text().contains("\"deploy\":6")
    });
}

fn deletion_says_what_goes_and_asks_for_a_yes(world: World) {
    spaces(&world);
    let ran = world.pmx(&["spaces", "delete", "docs"]);
    assert!(
        ran.stderr
            .contains("deploys up to number 3, 1 preview and 0 domains; nothing was deleted"),
        "{ran:?}"
    );
    ran.fails(2, "E_USAGE");
    assert_eq!(world.get("docs", "/a").status, 200);
    // A deploy that came in between is not deleted unseen.
    let token = world.token();
    let delete = |expect: &str| {
        let path = format!("/api/spaces/docs?expect={expect}");
        world.request("DELETE", "", &path, &[("authorization", &token)], b"")
    };
    assert_eq!(delete("1").status, 409);
    assert_eq!(delete("").status, 400);
    assert_eq!(world.get("docs", "/a").status, 200);
    assert_eq!(delete("2").status, 200);
    gone(&world, "docs");
}

fn objects_of_a_purged_space_go_and_no_others(world: World) {
    world.write(&[("index.html", "<body>other</body>")]);
    world.sync("blog", &[]).ok();
    let before = objects(&world);
    spaces(&world);
    assert!(objects(&world) > before + 2);
    let purged = ["spaces", "delete", "docs", "--yes", "--purge"];
    let ran = world.pmx(&purged).ok();
    assert!(ran.stderr.contains("its content goes now"), "{ran:?}");
    eventually("the objects are deleted", || objects(&world) == before);
    gone(&world, "docs");
    assert_eq!(world.get("blog", "/").status, 200);
    if world.server.host == Host::Embedded {
        let left = world.temp.path().join("data/objects/spaces");
        assert_eq!(fs::read_dir(left).unwrap().count(), 1, "folders of spaces");
    }
}

/// The number of objects.
fn objects(world: &World) -> usize {
    let data = world.temp.path().join("data");
    match world.server.host {
        Host::Embedded => files(&data.join("objects/spaces")),
        Host::Worker | Host::Unkind => files(&data.join("r2")),
    }
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| {
        if path.is_dir() {
            return files(&path);
        }
        let parts = path.iter().filter_map(OsStr::to_str);
        usize::from(
            parts
                .into_iter()
                .any(|part| matches!(part, "blobs" | "objects")),
        )
    };
    entries.map(of).sum()
}
