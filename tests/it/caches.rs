//! Damaged client caches: `pmx` publishes the folder as it is, whatever the cache contains.

use std::fs;
use std::path::{Path, PathBuf};

use pmx_tests::rng::Rng;

use crate::world::{Ran, World, sync_args};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// Damages about half of the cache's files: flipped bits, truncation, zeros, and files in each
/// other's place. Returns how many it wrote.
fn damage(cache: &Path, rng: &mut Rng) -> usize {
    let mut damaged = 0;
    let mut all = Vec::new();
    files(cache, &mut all);
    for path in &all {
        let mut bytes = fs::read(path).unwrap();
        match rng.below(8) {
            0 if !bytes.is_empty() => {
                for _ in 0..3 {
                    let at = rng.below(bytes.len());
                    bytes[at] ^= 1 << rng.below(8);
                }
            }
            1 if !bytes.is_empty() => bytes.truncate(rng.below(bytes.len())),
            2 => bytes.fill(0),
            3 => bytes = fs::read(&all[rng.below(all.len())]).unwrap(),
            _ => continue,
        }
        fs::write(path, bytes).unwrap();
        damaged += 1;
    }
    damaged
}

fn root_of_folder(world: &World) -> String {
    let ran = world.pmx(&["hash", "site", "--no-cache", "--json"]).ok();
    ran.at("/root").as_str().unwrap().to_owned()
}

fn active_root(world: &World) -> String {
    let args = ["status", "site", "--space", "docs", "--no-cache", "--json"];
    let ran = world.pmx(&args).ok();
    ran.at("/active/root").as_str().unwrap().to_owned()
}

#[test]
fn publish_ignores_damage_of_the_cache() {
    let world = World::new();
    let big = (0..2_250_000_u32).flat_map(|at| (at ^ (at >> 9)).to_le_bytes());
    let big: Vec<u8> = big.collect();
    world.write_bytes("v.bin", &big);
    for number in 0..40 {
        world.write(&[(&format!("p{number}.html"), &format!("page {number}"))]);
    }
    world.sync("docs", &[]).ok();
    let cache = world.temp.path().join("cache");
    let mut damaged = 0;
    for seed in 1..=10_u64 {
        let mut rng = Rng::new(seed);
        damaged += damage(&cache, &mut rng);
        let page = format!("p{}.html", rng.below(40));
        world.write(&[(&page, &format!("version {seed}"))]);
        if seed % 3 == 0 {
            let mut more = big.clone();
            more.extend_from_slice(&seed.to_le_bytes());
            world.write_bytes("v.bin", &more);
        }
        let ran = world.sync("docs", &[]);
        assert_eq!(ran.code, 0, "seed {seed}: {ran:?}");
        let root = root_of_folder(&world);
        assert_eq!(active_root(&world), root, "seed {seed}");
        damaged += damage(&cache, &mut rng);
        let again = world.sync("docs", &[]).ok();
        assert_eq!(again.at("/outcome"), "unchanged", "seed {seed}");
        assert_eq!(again.at("/root"), root.as_str(), "seed {seed}");
    }
    assert!(damaged >= 20, "{damaged} files of the cache were damaged");
}

#[test]
fn cache_without_its_key_reads_every_file_and_sends_the_difference() {
    let world = World::new();
    let page = |number: u32, text: &str| {
        let lines = (0..400).map(|line| format!("page {number} line {}\n", line * 7 % 311));
        [&lines.collect::<String>(), text].concat()
    };
    for number in 0..50 {
        world.write(&[(&format!("p{number}.html"), &page(number, ""))]);
    }
    world.sync("docs", &[]).ok();
    world.write(&[("p7.html", &page(7, "changed"))]);
    // The cache's folder is restored, and the home folder is new.
    let elsewhere = world.temp.path().join("elsewhere");
    let mut command = world.command(&sync_args("docs", &["--json", "-v"]));
    command.env("HOME", &elsewhere).env_remove("XDG_STATE_HOME");
    let ran: Ran = command.output().unwrap().into();
    let ran = ran.ok();
    assert!(ran.stderr.contains("50 read"), "{ran:?}");
    assert_eq!(ran.number("/files/modified"), 1);
    assert!(ran.number("/bytes/sent") < 2_000, "{ran:?}");
    assert_eq!(active_root(&world), root_of_folder(&world));
}
