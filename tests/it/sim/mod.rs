//! Seeded simulation of publishers, readers and servers over faulty ports.
//!
//! Every effect of a server yields first, so tasks interleave only at their awaits, in an order
//! that the seed decides. Objects, pointers and ledgers survive a crash; a server's caches and
//! tasks do not. `PMX_SEED=<n>` replays a seed and prints its events; `PMX_SEEDS=<n>` runs that
//! many.

mod account;
mod actors;
mod bugs;
mod chaos;
mod check;
mod compaction;
mod decay;
mod exhaustive;
mod lifecycle;
pub(crate) mod model;
mod mutant;
mod operators;
pub(crate) mod platform;
mod regressions;
mod run;
mod schedule;
mod steps;
mod store;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use mutant::Flaw;
use schedule::{Report, simulate};

/// Schedules of a test run.
const SCHEDULES: u64 = 10_000;

/// Sums over many schedules.
#[derive(Debug, Default)]
struct Sum {
    schedules: u64,
    steps: u64,
    faults: u64,
    crashes: u64,
    deploys: u64,
    /// Publishes that met a hold, and passed it legitimately.
    holds: u64,
    /// Builds that changed nothing.
    unchanged: u64,
    /// Objects that collections deleted.
    collected: u64,
    /// Schedules in which a compaction copied an object.
    repacking: u64,
    /// The first seed that broke an invariant, and the invariant.
    broken: Option<(u64, String)>,
}

/// Runs schedules from seed 0, on two threads, until one breaks an invariant.
fn run(schedules: u64, bug: Option<Bug>) -> Sum {
    run_of(simulate, schedules, bug)
}

type Simulate = fn(u64, Option<Bug>, bool) -> Report;

fn run_of(simulate: Simulate, schedules: u64, bug: Option<Bug>) -> Sum {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= schedules || sum.lock().unwrap().broken.is_some() {
            return;
        }
        let report = caught(simulate, seed, bug);
        let mut sum = sum.lock().unwrap();
        sum.schedules += 1;
        sum.steps += report.steps;
        sum.faults += report.faults;
        sum.crashes += report.crashes;
        sum.deploys += report.deploys;
        sum.holds += report.holds;
        sum.unchanged += report.unchanged;
        sum.collected += report.collected;
        sum.repacking += u64::from(report.repacked > 0);
        let is_first = sum.broken.as_ref().is_none_or(|(first, _)| seed < *first);
        if let Some(violation) = report.violation
            && is_first
        {
            sum.broken = Some((seed, violation));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    sum.into_inner().unwrap()
}

/// Runs a seed; a panic counts as a broken invariant.
fn caught(simulate: Simulate, seed: u64, bug: Option<Bug>) -> Report {
    let run = || simulate(seed, bug, false);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let violation = format!("a panic: {}", text.unwrap_or("of another kind"));
        Report {
            violation: Some(violation),
            ..Report::default()
        }
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a seed is a number"))
}

#[test]
fn schedules_keep_the_invariants() {
    if let Some(seed) = from_environment("PMX_SEED") {
        let report = simulate(seed, None, true);
        println!("{}", report.trace.join("\n"));
        assert_eq!(report.violation, None, "PMX_SEED={seed}");
        return;
    }
    let sum = run(from_environment("PMX_SEEDS").unwrap_or(SCHEDULES), None);
    if let Some((seed, violation)) = &sum.broken {
        let trace = catch_unwind(|| simulate(*seed, None, true).trace.join("\n"));
        let trace = trace.unwrap_or_default();
        panic!("{violation}\n\n{trace}\n\nreplay: PMX_SEED={seed} cargo test -p pmx-tests sim");
    }
    println!("{sum:?}");
    // A simulation without activity would find no bug.
    assert!(sum.deploys > 2 * sum.schedules, "{sum:?}");
    assert!(sum.crashes > sum.schedules, "{sum:?}");
    assert!(sum.faults > 4 * sum.schedules, "{sum:?}");
    assert!(sum.holds > sum.schedules / 20, "{sum:?}");
    assert!(sum.unchanged > sum.schedules / 20, "{sum:?}");
}

/// Lifecycle schedules of a test run.
const LIFECYCLES: u64 = 1_000;

#[test]
fn lifecycles_keep_the_invariants() {
    let simulate = lifecycle::simulate;
    if let Some(seed) = from_environment("PMX_LIFECYCLE") {
        let report = simulate(seed, None, true);
        println!("{}", report.trace.join("\n"));
        assert_eq!(report.violation, None, "PMX_LIFECYCLE={seed}");
        return;
    }
    let schedules = from_environment("PMX_LIFECYCLES").unwrap_or(LIFECYCLES);
    let sum = run_of(simulate, schedules, None);
    if let Some((seed, violation)) = &sum.broken {
        panic!("{violation}\n\nreplay: PMX_LIFECYCLE={seed} cargo test -p pmx-tests lifecycles");
    }
    println!("{sum:?}");
    // A simulation without activity would find no bug.
    assert!(sum.deploys > 2 * sum.schedules, "{sum:?}");
    assert!(sum.crashes > sum.schedules / 2, "{sum:?}");
    assert!(sum.collected > sum.schedules / 2, "{sum:?}");
    assert!(sum.repacking > sum.schedules / 2, "{sum:?}");
}

#[test]
fn planted_bugs_of_collections_are_found() {
    let mut missed = Vec::new();
    for flaw in [
        Flaw::CompactionDeletesAtOnce,
        Flaw::CompactionNotAnnounced,
        Flaw::MovesUnnoticed,
        Flaw::RootsNotReadAgain,
        Flaw::SubtreeNotWalked,
        Flaw::GarbageFound,
        Flaw::PackSurvives,
        Flaw::NodesSurvive,
        Flaw::PointerNotAwaited,
        Flaw::AnnouncementForgets,
        Flaw::NoGrace,
        Flaw::LateArrivalAccepted,
        Flaw::PreviewsAreNoRoots,
        Flaw::EarlierAreNoRoots,
        Flaw::GoneIsServed,
    ] {
        let sum = run_of(lifecycle::simulate, LIFECYCLES, Some(Bug::Collection(flaw)));
        let found = sum.broken;
        println!("{flaw:?}: {found:?}");
        missed.extend(found.is_none().then_some(flaw));
    }
    assert_eq!(missed, [], "not found");
}

#[test]
fn seed_means_one_schedule() {
    for seed in 0..40 {
        let (one, two) = (simulate(seed, None, true), simulate(seed, None, true));
        assert!(one.trace.len() > 10, "nothing happened");
        assert_eq!(one.trace, two.trace, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for (bug, signs) in [
        (Bug::NoCompareAndSwap, &["but expected"][..]),
        (Bug::PointerInline, &["points to"]),
        // A reader gets no such content, or the check of the store finds it first.
        (
            Bug::NoVerification,
            &["Stored bytes are lost", "believes that"],
        ),
        (Bug::UnchangedForgetsOrder, &["found its site live"]),
        (Bug::ReplacesWhatItMeets, &["never saw"]),
        (Bug::HoldIgnored, &["broke the hold"]),
        // Numbers of two sequences are compared: a build is refused, or it replaces another.
        (
            Bug::OrdersOfOneSequence,
            &["was refused by E_OLDER_BUILD without", "never saw"],
        ),
        (Bug::MaxDeleteUnchecked, &["but allowed"]),
        (Bug::CacheTrusted, &["not what its folder holds"]),
        (Bug::LossUnnoticed, &["is not healed"]),
    ] {
        let sum = run(SCHEDULES, Some(bug));
        let (seed, violation) = sum
            .broken
            .unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?} is found by seed {seed}: {violation}");
        let is_its_own = signs.iter().any(|sign| violation.contains(sign));
        assert!(is_its_own, "{bug:?}: {violation}");
    }
}
