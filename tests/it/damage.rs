//! Damaged stream segments: readers get an error and never wrong bytes, and no other stream
//! suffers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::streaming::Home;
use crate::world::{Host, eventually};

/// The host moves everything to segments, two messages in each.
const SETTINGS: &[(&str, &str)] = &[
    ("PMX_STREAM_SEGMENT_MESSAGES", "2"),
    ("PMX_STREAM_CHUNK_BYTES", "4096"),
];

const JSON: &str = "application/json";

/// A way to damage a file: from its content and that of another segment to the damaged content.
type Damage = fn(&[u8], &[u8]) -> Option<Vec<u8>>;

/// After the messages, a segment has an index for an operator who lost the database. A reader has
/// the index already, and reads only the messages.
const HARMLESS: &[&str] = &["cut by a byte", "longer by a byte"];

const DAMAGES: &[(&str, Damage)] = &[
    ("lost", |_, _| None),
    ("empty", |_, _| Some(Vec::new())),
    ("cut in the middle", |whole, _| {
        Some(whole[..whole.len() / 2].to_vec())
    }),
    ("cut by a byte", |whole, _| {
        Some(whole[..whole.len() - 1].to_vec())
    }),
    ("longer by a byte", |whole, _| Some([whole, b"x"].concat())),
    ("a bit of a message turned", |whole, _| {
        let mut changed = whole.to_vec();
        changed[whole.len() / 3] ^= 4;
        Some(changed)
    }),
    ("another segment", |_, other| Some(other.to_vec())),
];

#[test]
fn segment_damage_is_an_error_of_its_stream_alone() {
    let mut home = Home::new(Host::Embedded, SETTINGS);
    home.create("whole", JSON);
    home.create("hurt", JSON);
    for number in 0..8u32 {
        let message = format!("{{\"number\":{number},\"text\":\"{}\"}}", "a".repeat(300));
        assert_eq!(home.append("hurt", JSON, message.as_bytes()).status, 204);
    }
    for message in ["1", "2"] {
        let appended = home.append("whole", JSON, message.as_bytes());
        assert_eq!(appended.status, 204);
    }
    let segments = settled(&home.temp.path().join("data/streams"), 4 + 1);
    let before = numbers(&home);
    assert_eq!(before, (0..8).collect::<Vec<_>>());
    let mut long: Vec<&PathBuf> = segments.iter().filter(|path| size(path) > 400).collect();
    long.sort_unstable();
    let (file, other) = (long[1], long[2]);
    let (content, foreign) = (fs::read(file).unwrap(), fs::read(other).unwrap());
    for (what, damage) in DAMAGES {
        match damage(&content, &foreign) {
            Some(left) => fs::write(file, left).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        if HARMLESS.contains(what) {
            assert_eq!(numbers(&home), before, "{what}");
        } else {
            let page = home.ask("GET", "hurt?offset=-1", &[], b"");
            assert_eq!(page.status, 500, "{what}: {page:?}");
            assert!(page.text().contains("\"code\":\"E_"), "{what}: {page:?}");
        }
        assert_eq!(home.read_all("whole")[0].text(), "[1,2]", "{what}");
        assert_eq!(home.ask("HEAD", "hurt", &[], b"").status, 200, "{what}");
        fs::write(file, &content).unwrap();
        assert_eq!(numbers(&home), before, "{what}, and mended");
    }
    home.server.kill();
    home.restart();
    assert_eq!(numbers(&home), before);
}

/// The numbers of all messages.
fn numbers(home: &Home) -> Vec<u64> {
    let pages = home.read_all("hurt");
    let messages = pages
        .iter()
        .flat_map(|page| page.json().as_array().unwrap().clone());
    messages
        .map(|message| message["number"].as_u64().unwrap())
        .collect()
}

/// The files of all segments, once there are `count`.
fn settled(folder: &Path, count: usize) -> Vec<PathBuf> {
    let mut files = Vec::new();
    eventually("the segments are written", || {
        let lives = fs::read_dir(folder).unwrap().map(|life| life.unwrap());
        let all = lives
            .filter(|life| life.file_name() != "scratch")
            .flat_map(|life| fs::read_dir(life.path()).unwrap())
            .map(|file| file.unwrap().path());
        files = all.collect();
        files.len() >= count
    });
    files
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
