//! Cloudflare costs of page views and publishes: operations of R2, KV and SQLite, as the Worker's
//! log counts them.

use crate::access_log::{AccessLog, Costs};
use crate::prices::{VIEW_KV_READS, VIEW_REQUESTS};
use crate::world::{World, noise, or_skip};

fn costs(of: &[(&str, u64)]) -> Costs {
    of.iter()
        .map(|(name, n)| ((*name).to_owned(), *n))
        .collect()
}

/// Bytes of the module's memory: half of what an isolate has.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

fn page(number: u64) -> String {
    format!("<h1>{number}</h1>{}", "<p>words of a page</p>".repeat(20))
}

fn site(world: &World, pages: u64) {
    for number in 0..pages {
        world.write(&[(&format!("{}/{number}.html", number % 40), &page(number))]);
    }
    world.sync("docs", &[]).ok();
}

/// A Worker with a cold isolate, after a publish of `pages` pages.
fn cold(pages: u64) -> Option<(World, AccessLog)> {
    let mut world = World::worker()?;
    site(&world, pages);
    world.server.kill();
    world.restart();
    let log = AccessLog::new(&world);
    Some((world, log))
}

#[test]
fn page_costs_a_pointer_its_index_and_its_blob_and_no_space_call() {
    let Some((mut world, mut log)) = cold(2000) else {
        return;
    };
    let read = |world: &World, path: &str| {
        let answer = world.get("docs", path);
        assert_eq!(answer.status, 200, "{path}");
    };
    read(&world, "/7/7");
    let cold = log.costs(&world);
    assert_eq!(cold.get("kv_read"), Some(&1), "{cold:?}");
    // A leaf, the nodes above it, and the page.
    assert!(cold["r2_read"] <= 4, "{cold:?}");
    assert_eq!(cold.len(), 2, "nothing but KV and R2: {cold:?}");
    read(&world, "/7/7");
    let warm = log.costs(&world);
    assert_eq!(warm, Costs::new(), "neither pointer nor index nor blob");
    read(&world, "/7/47");
    let beside = log.costs(&world);
    assert!(beside["r2_read"] <= 2, "{beside:?}");
    // A new isolate in the same data centre reads only the page.
    world.server.kill();
    world.restart();
    log.lines(&world);
    read(&world, "/7/7");
    let mut nearby = log.costs(&world);
    let nodes = nearby.remove("cache_read");
    assert_eq!(nodes, Some(cold["r2_read"] - 1), "{nearby:?}");
    assert_eq!(nearby, costs(&[("kv_read", 1), ("r2_read", 1)]));
}

#[test]
fn page_view_of_many_requests_costs_one_pointer() {
    let Some((world, mut log)) = cold(40) else {
        return;
    };
    for number in 0..VIEW_REQUESTS {
        let answer = world.get("docs", &format!("/{number}/{number}"));
        assert_eq!(answer.status, 200, "{number}");
    }
    let view = log.costs(&world);
    assert_eq!(view["kv_read"], u64::from(VIEW_KV_READS), "{view:?}");
    assert!(!view.contains_key("space_call"), "{view:?}");
}

#[test]
fn publish_of_one_change_costs_a_write_and_a_few_rows() {
    let world = or_skip!(World::worker());
    let mut log = AccessLog::new(&world);
    site(&world, 2000);
    log.announced(&world);
    world.write(&[("7/7.html", "changed")]);
    world.sync("docs", &[]).ok();
    let costs = log.announced(&world);
    println!("a one-file change: {costs:?}");
    assert_eq!(costs["r2_write"], 1, "{costs:?}");
    assert_eq!(costs["kv_write"], 1, "{costs:?}");
    assert!(costs["row_written"] <= 25, "{costs:?}");
    assert!(!costs.contains_key("r2_head"), "{costs:?}");
    let rollback = world.pmx(&["rollback", "--space", "docs", "--json"]);
    rollback.ok();
    let costs = log.announced(&world);
    println!("a rollback: {costs:?}");
    assert!(!costs.contains_key("r2_write"), "{costs:?}");
    assert!(costs["row_written"] <= 25, "{costs:?}");
}

#[test]
fn pack_upload_costs_one_call_of_its_space() {
    let world = or_skip!(World::worker());
    let mut log = AccessLog::new(&world);
    // A pack has at most 8 MiB of them.
    for number in 0..6 {
        let bytes = noise(number, 7 * 1024 * 1024);
        world.write_bytes(&format!("{number}.bin"), &bytes);
    }
    world.sync("docs", &[]).ok();
    let mut commands = Costs::new();
    let (mut calls, mut uploads) = (0, 0);
    for line in log.lines(&world) {
        if let Some(command) = line["command"].as_str() {
            *commands.entry(command.to_owned()).or_default() += 1;
        }
        let path = line["path"].as_str().unwrap_or_default();
        // An upload beyond the capacity reaches no space, and the client sends it again.
        let is_upload = path.starts_with("/api/publish/packs/") && line["status"] != 503;
        uploads += u64::from(is_upload);
        calls += line["ops"]["space_call"].as_u64().unwrap_or(0);
    }
    println!("{uploads} uploads: {commands:?}");
    assert!(uploads >= 6, "{uploads}");
    assert_eq!(commands["pack"], uploads, "{commands:?}");
    assert_eq!(commands["open"], 1, "{commands:?}");
    assert_eq!(calls, commands.values().sum::<u64>(), "{commands:?}");
}

#[test]
fn first_publish_of_65_500_files_writes_a_row_for_many() {
    let world = or_skip!(World::worker());
    let mut log = AccessLog::new(&world);
    site(&world, 65_500);
    let costs = log.announced(&world);
    println!("a first publish of 65,500 files: {costs:?}");
    assert!(costs["row_written"] <= 6_000, "{costs:?}");
    assert!(!costs.contains_key("r2_head"), "{costs:?}");
    assert!(costs["r2_write"] <= 40, "{costs:?}");
    assert!(
        (1..=MEMORY_MAX).contains(&log.memory),
        "{} bytes",
        log.memory
    );
}

#[test]
fn file_of_1_gb_passes_through_little_memory() {
    const PARTS: u64 = 120;
    let world = or_skip!(World::worker());
    let mut log = AccessLog::new(&world);
    let film = noise(0, PARTS as usize * 8 * 1024 * 1024 - 5);
    world.write_bytes("film.mp4", &film);
    world.sync("docs", &[]).ok();
    let whole = world.get("docs", "/film.mp4");
    assert!(
        whole.status == 200 && whole.body == film,
        "it is not what was published"
    );
    let costs = log.announced(&world);
    println!("a file of {PARTS} parts: {costs:?}, memory {}", log.memory);
    // The Worker writes each part, the index, and at most a table of the parts.
    let writes = PARTS + 1..=PARTS + 3;
    assert!(writes.contains(&costs["r2_write"]), "{costs:?}");
    assert!(
        (1..=MEMORY_MAX).contains(&log.memory),
        "{} bytes",
        log.memory
    );
}
