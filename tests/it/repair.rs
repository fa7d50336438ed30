//! Repair of lost objects: readers get an error and never wrong bytes, and the next publish of the
//! folder sends the lost content.

use std::fs;
use std::path::{Path, PathBuf};

use crate::world::{Host, World, noise, on_both_hosts};

on_both_hosts!(
    rotten_page_is_an_error_until_the_next_sync,
    rotten_serving_index_is_written_anew,
    put_of_one_file_names_what_the_server_lost,
    ranges_of_one_page_take_bounded_memory,
);

/// The kind of an object, by its last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pack,
    Index,
    Part,
}

fn kind(object: &[u8]) -> Kind {
    match object.get(object.len().saturating_sub(5)..) {
        Some(b"PMXR\x01") => Kind::Pack,
        Some(b"PMXX\x01") => Kind::Index,
        _ => Kind::Part,
    }
}

/// Restarts the server after it lost all objects.
pub(crate) fn lose_all_objects(world: &mut World) {
    world.server.kill();
    for file in objects(world) {
        fs::remove_file(file).unwrap();
    }
    world.restart();
}

/// The files of all objects.
pub(crate) fn objects(world: &World) -> Vec<PathBuf> {
    let data = world.temp.path().join("data");
    let mut files = Vec::new();
    match world.server.host {
        Host::Embedded => collect(&data.join("objects/spaces"), &mut files),
        Host::Worker | Host::Unkind => {
            collect(&data.join("r2"), &mut files);
            files.retain(|file| file.components().any(|part| part.as_os_str() == "blobs"));
        }
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Flips a bit in all objects of a kind, while the server is stopped.
pub(crate) fn rot(world: &mut World, of: Kind, at: usize) {
    world.server.kill();
    let mut count = 0;
    for file in objects(world) {
        let mut object = fs::read(&file).unwrap();
        if kind(&object) == of {
            object[at] ^= 1;
            fs::write(&file, object).unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "there is no object of kind {of:?}");
    world.restart();
}

pub(crate) fn page(name: &str) -> String {
    format!("<h1>{name}</h1>{}", "<p>words of a page</p>".repeat(50))
}

pub(crate) fn publish(world: &World) {
    for name in ["a", "b", "c"] {
        world.write(&[(&format!("{name}.html"), &page(name))]);
    }
    world.sync("docs", &[]).ok();
}

pub(crate) fn lost(world: &World, host: &str, path: &str) {
    let answer = world.get(host, path);
    assert_eq!(answer.status, 500, "{host}{path}: {}", answer.text());
    assert_eq!(answer.json()["code"], "E_CORRUPT");
}

pub(crate) fn whole(world: &World, host: &str, path: &str, content: &str) {
    let answer = world.get(host, path);
    assert_eq!(
        (answer.status, &*answer.text()),
        (200, content),
        "{host}{path}"
    );
}

fn rotten_page_is_an_error_until_the_next_sync(mut world: World) {
    publish(&world);
    rot(&mut world, Kind::Pack, 9);
    lost(&world, "docs", "/a");
    let zstd = world.get_with("docs", "/a", &[("accept-encoding", "zstd")]);
    assert_eq!(zstd.status, 500);
    whole(&world, "docs", "/b", &page("b"));
    // The server requests this page, and no other, from a client that would report no change.
    let healed = world.sync("docs", &[]).ok();
    assert_eq!(healed.at("/outcome"), "published", "{healed:?}");
    whole(&world, "docs", "/a", &page("a"));
    whole(&world, "1--docs", "/a", &page("a"));
    let again = world.sync("docs", &[]).ok();
    assert_eq!(again.at("/outcome"), "unchanged", "{again:?}");
}

fn rotten_serving_index_is_written_anew(mut world: World) {
    publish(&world);
    rot(&mut world, Kind::Index, 9);
    lost(&world, "docs", "/a");
    lost(&world, "1--docs", "/b");
    world.sync("docs", &["--no-cache"]).ok();
    for name in ["a", "b", "c"] {
        whole(&world, "docs", &format!("/{name}"), &page(name));
        whole(&world, "1--docs", &format!("/{name}"), &page(name));
    }
}

fn put_of_one_file_names_what_the_server_lost(mut world: World) {
    publish(&world);
    rot(&mut world, Kind::Pack, 9);
    lost(&world, "docs", "/a");
    fs::write(world.temp.path().join("new"), "new").unwrap();
    let put = || world.pmx(&["put", "new.txt", "new", "--space", "docs", "--json"]);
    let ran = put().fails(7, "E_CORRUPT");
    assert!(ran.stdout.contains("pmx sync"), "{ran:?}");
    world.sync("docs", &[]).ok();
    put().ok();
    whole(&world, "docs", "/a", &page("a"));
    whole(&world, "docs", "/new.txt", "new");
}

/// The resident memory of a process in bytes.
fn resident(world: &World) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{}/statm", world.server.id())).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn ranges_of_one_page_take_bounded_memory(world: World) {
    const CACHE_BYTES: u64 = 48 * 1024 * 1024;
    let text = "Words of a page. ".repeat(15_000);
    world.write(&[("a.txt", &text)]);
    world.sync("docs", &[]).ok();
    let read = |at: usize| {
        let range = format!("bytes={at}-{at}");
        let answer = world.get_with("docs", "/a.txt", &[("range", &range)]);
        assert_eq!(answer.status, 206);
        assert_eq!(answer.body, text.as_bytes()[at..=at]);
    };
    match world.server.host {
        Host::Embedded => {
            read(0);
            let before = resident(&world);
            (0..2_000).for_each(read);
            let grown = resident(&world).saturating_sub(before);
            assert!(grown < CACHE_BYTES, "{grown} bytes for 2,000 ranges");
        }
        Host::Worker | Host::Unkind => {
            let mut log = crate::access_log::AccessLog::new(&world);
            (0..600).for_each(read);
            log.costs(&world);
            assert!(
                (1..CACHE_BYTES).contains(&log.memory),
                "{} bytes",
                log.memory
            );
        }
    }
}

#[test]
fn sync_restores_a_site_that_lost_all_objects() {
    let mut world = World::new();
    let film = noise(0, 9 * 1024 * 1024);
    world.write_bytes("film.mp4", &film);
    publish(&world);
    world.write(&[("old.html", "only in deploy 2")]);
    world.sync("docs", &[]).ok();
    fs::remove_file(world.site().join("old.html")).unwrap();
    world.write(&[("c.html", "changed")]);
    world.sync("docs", &[]).ok();
    lose_all_objects(&mut world);
    lost(&world, "docs", "/a");
    // The folder changed too: the client sends the lost blobs with the patch.
    world.write(&[("d.html", "new")]);
    world.sync("docs", &[]).ok();
    whole(&world, "docs", "/a", &page("a"));
    whole(&world, "docs", "/c", "changed");
    whole(&world, "docs", "/d", "new");
    assert!(world.get("docs", "/film.mp4").body == film, "the film");
    // Deploys that share the content are whole again. Content that only they had stays lost.
    for deploy in ["1--docs", "2--docs"] {
        whole(&world, deploy, "/b", &page("b"));
    }
    lost(&world, "2--docs", "/old");
    lost(&world, "1--docs", "/c");
    let again = world.sync("docs", &[]).ok();
    assert_eq!(again.at("/outcome"), "unchanged", "{again:?}");
}

#[test]
fn rotten_part_of_a_big_file_is_never_sent() {
    let mut world = World::new();
    let film = noise(0, 9 * 1024 * 1024);
    world.write_bytes("film.mp4", &film);
    world.sync("docs", &[]).ok();
    rot(&mut world, Kind::Part, 99);
    let range = [("range", "bytes=8388708-8388710")];
    let last = world.get_with("docs", "/film.mp4", &range);
    assert_eq!(last.status, 500, "{}", last.text());
    lost(&world, "docs", "/film.mp4");
    world.sync("docs", &[]).ok();
    assert!(world.get("docs", "/film.mp4").body == film, "the film");
}
