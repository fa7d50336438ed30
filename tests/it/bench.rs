//! `pmx bench` through the CLI: two versions of a site, and the cost of the step between them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::world::{Ran, World};

/// Pages of the site.
const PAGES: usize = 40;

/// A world with two versions in `a` and `b`: every footer differs, one page is removed, one is new.
fn world() -> World {
    let world = World::new();
    for (version, skipped) in [("a", PAGES - 1), ("b", 0)] {
        for number in (0..PAGES).filter(|number| *number != skipped) {
            let words: Vec<_> = (0..300)
                .map(|at| ((at * at + 7 * number) % 1009).to_string())
                .collect();
            let page = format!("<p>{}</p><footer>{version}</footer>", words.join(" "));
            let file = world.temp.path().join(version);
            let file = file.join(format!("part-{}/{number}.html", number % 3));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, page).unwrap();
        }
    }
    world
}

/// The result line of one way to transfer the site.
fn way(ran: &Ran, what: &str) -> Value {
    let lines = ran.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("each line is an object");
        line
    });
    let mut ways = lines.filter(|line| line["type"] == "way");
    ways.find(|line| line["what"] == what)
        .unwrap_or_else(|| panic!("no {what:?}: {ran:?}"))
}

/// Everything about the files of a folder that a program could have changed.
fn state(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(state(&path));
        } else {
            let written = fs::metadata(&path).unwrap().modified().unwrap();
            files.insert(path.clone(), (fs::read(&path).unwrap(), written));
        }
    }
    files
}

#[test]
fn bench_counts_of_pmx_are_what_a_host_sees() {
    let world = world();
    let bench = world.pmx(&["bench", "a", "b", "--json", "--only", "pmx"]);
    let counted = way(&bench.ok(), "pmx");
    // The same without `bench`, on a new server: A, then B in its place, then B again.
    for (step, version) in [("first", "a"), ("update", "b"), ("again", "b")] {
        let _ = fs::remove_dir_all(world.site());
        fs::rename(world.temp.path().join(version), world.site()).unwrap();
        let synced = world.sync("kept", &[]).ok();
        fs::rename(world.site(), world.temp.path().join(version)).unwrap();
        let cost = &counted[step];
        for (name, pointer) in [("sent", "/bytes/sent"), ("received", "/bytes/received")] {
            assert_eq!(cost["bodies"][name], synced.at(pointer), "{step}, {name}");
            let whole = cost[name].as_u64().unwrap();
            let heads = whole - synced.number(pointer);
            let requests = synced.number("/requests");
            assert!((100..1000).contains(&(heads / requests)), "{step}: {heads}");
        }
        assert_eq!(cost["requests"], synced.at("/requests"), "{step}");
    }
}

#[test]
fn bench_prints_a_line_for_each_method_and_writes_no_source() {
    let world = world();
    let before = [
        state(&world.temp.path().join("a")),
        state(&world.temp.path().join("b")),
    ];
    let ran = world
        .pmx(&["bench", "a", "b", "--json", "--svg", "cost.svg"])
        .ok();
    let after = [
        state(&world.temp.path().join("a")),
        state(&world.temp.path().join("b")),
    ];
    assert_eq!(before, after);
    assert_eq!(ran.at("/from/files"), PAGES as u64 - 1);
    assert_eq!(ran.at("/files/added"), 1);
    assert_eq!(ran.at("/files/modified"), PAGES as u64 - 2);
    assert_eq!(ran.at("/files/removed"), 1);
    let bytes = |what, step: &str| -> u64 {
        let cost = &way(&ran, what)[step];
        cost["sent"].as_u64().unwrap() + cost["received"].as_u64().unwrap()
    };
    for (small, large) in [
        ("pmx", "list, zstd -3 of each"),
        ("pmx, nothing kept here", "list, zstd -3 of each"),
        ("list, zstd -3 of each", "list, gzip -9 of each"),
        ("list, gzip -9 of each", "list, whole files"),
        ("list, whole files", "list, base64 in JSON"),
        ("chunks, zstd -3 of each", "list, whole files"),
    ] {
        assert!(bytes(small, "update") < bytes(large, "update"), "{small}");
    }
    assert_eq!(way(&ran, "pmx")["again"]["requests"], 1);
    assert_eq!(way(&ran, "list, zstd -3 of each")["ratio"], 1.0);
    assert_eq!(way(&ran, "list, base64 in JSON")["update"]["requests"], 3);
    // An installed program ran, and the line of a missing one says that it is missing.
    for what in ["git push", "restic backup", "casync make", "rsync -az"] {
        let line = way(&ran, what);
        match line["how"].as_str() {
            Some("run") => assert!(bytes(what, "update") > 100, "{line}"),
            Some("absent") => {
                let why = line["why"].as_str().unwrap();
                assert!(why.ends_with("is not installed"), "{why}");
            }
            _ => panic!("{line}"),
        }
    }
    let svg = fs::read_to_string(world.temp.path().join("cost.svg")).unwrap();
    assert_eq!(
        elements(&svg).iter().filter(|name| *name == "svg").count(),
        1
    );
    let bars = svg.matches("<rect class=\"update\"").count();
    assert!(bars > 6, "{bars} bars in {svg}");
}

/// The names of an XML document's elements, after a check that each has an end tag.
fn elements(xml: &str) -> Vec<String> {
    let (mut names, mut open) = (Vec::new(), Vec::new());
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("tags have their end");
        assert!(!text.contains('&') || text.contains(';'), "{text}");
        let name = tag.split_whitespace().next().unwrap_or_default();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else {
            names.push(name.trim_end_matches('/').to_owned());
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(name.to_owned());
            }
        }
    }
    assert_eq!(open, [""; 0]);
    names
}

#[test]
fn bench_table_has_a_line_for_each_absent_program() {
    let world = world();
    let mut command = world.command(&["bench", "a", "a", "--only", "pmx,zstd,git,rsync"]);
    let empty = world.temp.path().join("empty");
    let ran: Ran = command.env("PATH", empty).output().unwrap().into();
    let ran = ran.ok();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 7, "{ran:?}");
    assert!(lines[0].ends_with("0 added, 0 modified, 0 removed, 39 unchanged"));
    assert!(lines[1].contains("first publish") && lines[1].contains("nothing changed"));
    for (line, start, end) in [
        (2, "pmx ", "measured"),
        (3, "pmx, nothing kept here ", "measured"),
        (4, "list, zstd -3 of each ", "computed"),
        (5, "git push ", "git is not installed"),
        (6, "rsync -az ", "rsync is not installed"),
    ] {
        let line = lines[line];
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
    // The bench leaves no files, and reports errors before any work.
    let peers = world.pmx(&["bench", "a", "b", "--only", "git", "--no-peers"]);
    peers.fails(2, "E_USAGE");
    world
        .pmx(&["bench", "a", "nowhere"])
        .fails(3, "E_SOURCE_MISSING");
    world
        .pmx(&["bench", "a", "b", "--only", "svn"])
        .fails(2, "svn");
}
