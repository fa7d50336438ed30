//! The Worker on an unkind platform: what the bench does to it, and what holds nevertheless.

use crate::world::{Answer, Host, World, skipped, worker_lacks};

/// A world on an unkind platform with settings of its own; nothing if it can't run here.
fn world(settings: &[(&str, &str)]) -> Option<World> {
    match worker_lacks() {
        None => Some(World::with_settings(Host::Unkind, settings)),
        Some(lack) => {
            skipped("the Worker on an unkind platform", lack);
            None
        }
    }
}

const ISOLATES: usize = 3;

/// What one isolate answers, whatever it has seen.
fn at(world: &World, isolate: usize, host: &str, path: &str) -> Answer {
    let isolate = isolate.to_string();
    world.ask("GET", host, path, &[("x-unkind-isolate", &isolate)], b"")
}

/// How often something went wrong, by its name.
fn faults(world: &World, name: &str) -> u64 {
    let report = world.ask("GET", "", "/.unkind/report", &[], b"").json();
    let isolates = report.as_object().unwrap().values();
    let counts = isolates.flat_map(|isolate| isolate["faults"].as_object().unwrap());
    let counts = counts.filter(|(known, _)| known.starts_with(name));
    counts.filter_map(|(_, count)| count.as_u64()).sum()
}

#[test]
fn isolates_see_a_change_each_at_its_own_time() {
    let Some(world) = world(&[("PMX_UNKIND_LAG", "0.1")]) else {
        return;
    };
    world.write(&[("index.html", "one")]);
    world.sync("docs", &[]).ok();
    world.get("docs", "/");
    let texts = || -> Vec<String> {
        let answers = (0..ISOLATES).map(|isolate| at(&world, isolate, "docs", "/").text());
        answers.collect()
    };
    assert_eq!(texts(), ["one"; ISOLATES], "after it was waited for");
    world.write(&[("index.html", "two")]);
    world.sync("docs", &[]).ok();
    let seen = texts();
    let is_seen = |text: &str| seen.iter().any(|seen| seen == text);
    assert!(is_seen("one"), "an isolate lags: {seen:?}");
    world.get("docs", "/");
    assert_eq!(texts(), ["two"; ISOLATES]);
}

#[test]
fn operations_fail_before_and_after_their_effect() {
    let Some(world) = world(&[("PMX_UNKIND_FAULTS", "0.9")]) else {
        return;
    };
    world.write(&[("index.html", "one")]);
    let ran = world.sync("docs", &[]);
    assert!(faults(&world, "stub space") > 0, "{ran:?}");
}

#[test]
fn objects_end_in_the_middle_of_a_request() {
    let Some(world) = world(&[("PMX_UNKIND_RESETS", "0.9")]) else {
        return;
    };
    world.write(&[("index.html", "one")]);
    let ran = world.sync("docs", &[]);
    assert!(faults(&world, "reset SpaceDO") > 0, "{ran:?}");
}
