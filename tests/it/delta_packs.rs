//! Delta packs: a change on every page costs kilobytes. Loss or damage on either side costs bytes,
//! never a page.

use std::fs;
use std::path::PathBuf;

use crate::world::{Host, Ran, World, on_both_hosts};

on_both_hosts! {
    change_on_every_page_costs_kilobytes,
    change_of_one_byte_is_one_request_of_hundreds_of_bytes,
    publish_from_another_folder_sends_only_the_difference,
    asset_with_a_new_hash_in_its_name_costs_its_difference,
    publish_without_local_packs_sends_all_that_changed,
}

/// Words that two pages hardly share, so that only the old version of a page resembles the new one.
fn words(seed: u64, count: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{:x} ", state >> 40)
    };
    (0..count).map(|_| word()).collect()
}

const PAGES: u64 = 300;

fn page(number: u64, footer: &str) -> String {
    format!(
        "<h1>{number}</h1><p>{}</p><footer>{footer}</footer>",
        words(number, 1_000)
    )
}

/// Writes the pages of a site of about 2 MiB, and publishes them.
fn publish(world: &World, footer: &str) -> Ran {
    for number in 0..PAGES {
        world.write(&[(&format!("docs/{number}.html"), &page(number, footer))]);
    }
    world.sync("docs", &[]).ok()
}

fn check(world: &World, footer: &str) {
    for number in [0, 1, 7, PAGES / 2, PAGES - 1] {
        is_served(world, "docs", number, footer);
    }
}

fn is_served(world: &World, host: &str, number: u64, footer: &str) {
    let served = world.get(host, &format!("/docs/{number}")).text();
    assert!(
        served == page(number, footer),
        "page {number}: {served:.60}"
    );
}

fn change_on_every_page_costs_kilobytes(world: World) {
    let first = publish(&world, "version 1");
    assert!(first.number("/bytes/sent") > 700_000, "{first:?}");
    let second = publish(&world, "version 2");
    assert_eq!(second.number("/files/modified"), PAGES);
    assert!(second.number("/bytes/sent") < 15_000, "{second:?}");
    assert!(second.number("/requests") <= 3, "{second:?}");
    check(&world, "version 2");
    // A version that was sent as a delta serves as a base like one that was sent whole.
    let third = publish(&world, "version 3");
    assert!(third.number("/bytes/sent") < 15_000, "{third:?}");
    check(&world, "version 3");
    // The server still has the unchanged pages, two versions later.
    world.write(&[("docs/7.html", "another page")]);
    let fourth = world.sync("docs", &[]).ok();
    assert_eq!(fourth.number("/requests"), 1);
    is_served(&world, "docs", 8, "version 3");
    is_served(&world, "2--docs", 7, "version 2");
}

fn change_of_one_byte_is_one_request_of_hundreds_of_bytes(world: World) {
    publish(&world, "version 1");
    world.write(&[("docs/7.html", &page(7, "version 2"))]);
    let second = world.sync("docs", &[]).ok();
    assert_eq!(second.number("/requests"), 1);
    assert!(second.number("/bytes/sent") <= 600, "{second:?}");
    is_served(&world, "docs", 7, "version 2");
}

fn publish_from_another_folder_sends_only_the_difference(world: World) {
    publish(&world, "version 1");
    fs::rename(world.site(), world.temp.path().join("before")).unwrap();
    let elsewhere = world.temp.path().join("elsewhere");
    for number in 0..PAGES {
        world.write(&[(&format!("docs/{number}.html"), &page(number, "version 2"))]);
    }
    fs::rename(world.site(), &elsewhere).unwrap();
    let second = world
        .pmx(&["sync", "elsewhere", "--space", "docs", "--json"])
        .ok();
    assert!(second.number("/bytes/sent") < 15_000, "{second:?}");
    check(&world, "version 2");
}

fn asset_with_a_new_hash_in_its_name_costs_its_difference(world: World) {
    let script = |version: u32| format!("{} export const version = {version};", words(9, 20_000));
    world.write(&[("index.html", "<script src=a/main-0f3a9b1c.js></script>")]);
    world.write(&[("a/main-0f3a9b1c.js", &script(1))]);
    world.sync("docs", &[]).ok();
    world.write(&[("index.html", "<script src=a/main-77b2d0e4.js></script>")]);
    world.write(&[("a/main-77b2d0e4.js", &script(2))]);
    fs::remove_file(world.site().join("a/main-0f3a9b1c.js")).unwrap();
    let second = world.sync("docs", &[]).ok();
    assert!(second.number("/bytes/sent") < 1_500, "{second:?}");
    let served = world.get("docs", "/a/main-77b2d0e4.js").text();
    assert!(served == script(2), "{served:.60}");
}

fn publish_without_local_packs_sends_all_that_changed(world: World) {
    publish(&world, "version 1");
    for folder in local_packs(&world) {
        fs::remove_dir_all(folder).unwrap();
    }
    let second = publish(&world, "version 2");
    assert!(second.number("/bytes/sent") > 700_000, "{second:?}");
    check(&world, "version 2");
    // A damaged base has the same effect as a missing one.
    let mut spoilt = 0;
    for folder in local_packs(&world) {
        for file in folder.read_dir().unwrap() {
            let path = file.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some() {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
                spoilt += 1;
            }
        }
    }
    assert!(spoilt > 0, "no local pack was found");
    publish(&world, "version 3");
    check(&world, "version 3");
    assert!(publish(&world, "version 4").number("/bytes/sent") < 15_000);
    check(&world, "version 4");
}

fn local_packs(world: &World) -> Vec<PathBuf> {
    let sites = world.temp.path().join("cache/v1/sites").read_dir().unwrap();
    let paths = sites.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

#[test]
fn delta_base_that_rotted_on_the_server_is_not_referenced() {
    let world = World::with_settings(Host::Embedded, &[]);
    publish(&world, "version 1");
    let spoilt = spoil(&world.temp.path().join("data"), 300_000);
    assert!(spoilt > 0, "no object of pages was found");
    let second = publish(&world, "version 2");
    assert!(second.number("/bytes/sent") > 700_000, "{second:?}");
    check(&world, "version 2");
}

/// Flips a bit in every object with more than `above` bytes, and returns how many it damaged.
pub(crate) fn spoil(folder: &std::path::Path, above: u64) -> usize {
    let mut spoilt = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoilt += spoil(&path, above);
        } else if path.components().any(|part| part.as_os_str() == "spaces")
            && path.metadata().unwrap().len() > above
        {
            let mut bytes = fs::read(&path).unwrap();
            bytes[5_000] ^= 1;
            fs::write(&path, bytes).unwrap();
            spoilt += 1;
        }
    }
    spoilt
}
