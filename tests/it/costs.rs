//! What page views and publishes cost on Cloudflare: operations of R2, KV and SQLite, as the Worker
//! counts them in its journal.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::world::{World, eventually};

/// Operations by name.
type Costs = BTreeMap<String, u64>;

/// Reads what was added to the Worker's journal since the last time.
struct Journal {
    read: usize,
    marks: usize,
}

impl Journal {
    fn new(world: &World) -> Self {
        let mut journal = Self { read: 0, marks: 0 };
        journal.lines(world);
        journal
    }

    /// The new lines, to that of a request which is sent to mark the end. It costs nothing, and its
    /// line has what alarms did meanwhile.
    fn lines(&mut self, world: &World) -> Vec<Value> {
        self.marks += 1;
        let marker = format!("/marker-{}\"", self.marks);
        world.get("", marker.trim_end_matches('"'));
        let mut text = String::new();
        eventually("the journal reaches its marker", || {
            text = fs::read_to_string(world.temp.path().join("data.log")).unwrap();
            text.find(&marker)
                .is_some_and(|at| text[at..].contains('\n'))
        });
        let at = text.find(&marker).unwrap();
        let end = at + text[at..].find('\n').unwrap();
        let new = text[self.read..end].lines();
        let new = new.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        self.read = end;
        new.collect()
    }

    /// The operations of the new lines.
    fn costs(&mut self, world: &World) -> Costs {
        let mut costs = Costs::new();
        for line in self.lines(world) {
            for (name, count) in line["ops"].as_object().into_iter().flatten() {
                *costs.entry(name.clone()).or_default() += count.as_u64().unwrap();
            }
        }
        costs
    }
}

/// Waits until readers are told of a deploy; that may take a second, for KV's sake.
fn announced(journal: &mut Journal, world: &World) -> Costs {
    let mut all = Costs::new();
    eventually("KV is written", || {
        for (name, count) in journal.costs(world) {
            *all.entry(name).or_default() += count;
        }
        all.contains_key("kv_write")
    });
    all
}

fn costs(of: &[(&str, u64)]) -> Costs {
    of.iter()
        .map(|(name, n)| ((*name).to_owned(), *n))
        .collect()
}

fn page(number: u64) -> String {
    format!("<h1>{number}</h1>{}", "<p>words of a page</p>".repeat(20))
}

fn site(world: &World, pages: u64) {
    for number in 0..pages {
        world.write(&[(&format!("{}/{number}.html", number % 40), &page(number))]);
    }
    world.sync("docs", &[]).ok();
}

#[test]
fn a_page_costs_a_pointer_its_index_and_its_blob_and_never_a_space() {
    let Some(mut world) = World::worker() else {
        return;
    };
    site(&world, 2000);
    // A cold isolate.
    world.server.kill();
    world.restart();
    let mut journal = Journal::new(&world);
    let read = |path: &str| {
        let answer = world.get("docs", path);
        assert_eq!(answer.status, 200, "{path}");
    };
    read("/7/7");
    let cold = journal.costs(&world);
    assert_eq!(cold.get("kv_read"), Some(&1), "{cold:?}");
    // A leaf, what lies above it, and the page.
    assert!(cold["r2_read"] <= 4, "{cold:?}");
    assert_eq!(cold.len(), 2, "nothing but KV and R2: {cold:?}");
    read("/7/7");
    let warm = journal.costs(&world);
    assert_eq!(warm, costs(&[("kv_read", 1)]), "neither index nor blob");
    read("/7/47");
    let beside = journal.costs(&world);
    assert!(beside["r2_read"] <= 2, "{beside:?}");
    assert_eq!(beside.len(), 2, "{beside:?}");
}

#[test]
fn a_change_costs_a_write_and_a_few_rows() {
    let Some(world) = World::worker() else {
        return;
    };
    let mut journal = Journal::new(&world);
    site(&world, 2000);
    announced(&mut journal, &world);
    world.write(&[("7/7.html", "changed")]);
    world.sync("docs", &[]).ok();
    let costs = announced(&mut journal, &world);
    println!("a one-file change: {costs:?}");
    assert_eq!(costs["r2_write"], 1, "{costs:?}");
    assert_eq!(costs["kv_write"], 1, "{costs:?}");
    assert!(costs["row_written"] <= 25, "{costs:?}");
    assert!(!costs.contains_key("r2_head"), "{costs:?}");
    let rollback = world.pmx(&["rollback", "--space", "docs", "--json"]);
    rollback.ok();
    let costs = announced(&mut journal, &world);
    println!("a rollback: {costs:?}");
    assert!(!costs.contains_key("r2_write"), "{costs:?}");
    assert!(costs["row_written"] <= 25, "{costs:?}");
}

#[test]
fn a_first_publish_writes_a_row_for_many_files() {
    let Some(world) = World::worker() else {
        return;
    };
    let mut journal = Journal::new(&world);
    site(&world, 51_900);
    let costs = announced(&mut journal, &world);
    println!("a first publish of 51,900 files: {costs:?}");
    assert!(costs["row_written"] <= 6_000, "{costs:?}");
    assert!(!costs.contains_key("r2_head"), "{costs:?}");
    assert!(costs["r2_write"] <= 40, "{costs:?}");
}
