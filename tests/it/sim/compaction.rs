//! Faults during a compaction: whatever fails, the site stays whole and no object is left over.

use std::rc::Rc;

use pmx_sync::serve::{Backend as _, Spaces as _};
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::host::block_on;
use pmx_sync::wire::{Repack, Replace};
use pmx_tests::rng::Rng;

use super::actors::{Promises, Publisher};
use super::chaos::{Chaos, How, Plan, Target};
use super::check::{ask, drain, rows, settle, text};
use super::lifecycle::collect_everything;
use super::model::Catalogue;
use super::platform::space;
use super::world::{Owner, World};

/// Objects of a schedule are tiny, and have hardly any garbage: they are copied all the same.
pub(super) const REPACK: Repack = Repack {
    max_unused: 0,
    max_bytes: 8_000,
    min_freed: 0,
    max_live: 1_000,
};

/// More steps than a collection of these sites takes.
const STEPS_MAX: usize = 100;

const fn step(start: bool) -> Command {
    Command::Collect {
        start,
        dry: false,
        repack: REPACK,
    }
}

/// The stage of the compaction, as its row has it: 0 is none, and 2 copies.
fn stage(world: &World) -> String {
    let select = "SELECT value FROM meta WHERE key = 'compaction'";
    let row = rows(world, &space("docs"), select).pop();
    let state = row.map_or_else(String::new, |row| text(&row[0]));
    state.split(' ').nth(1).unwrap_or("0").to_owned()
}

/// A world with deploys that were given up, and a collection that is about to copy.
fn about_to_copy() -> (Rc<World>, Promises) {
    let mut rng = Rng::new(11);
    let catalogue = Catalogue::grow(&mut rng.fork(), 12);
    let world = World::new(Chaos::new(rng.fork(), false), catalogue, None);
    let promises = Promises::default();
    let publisher = Publisher {
        world: Rc::clone(&world),
        promises: Rc::clone(&promises),
        space: space("docs"),
        alias: None,
        name: "calm".to_owned(),
        tries: 1,
    };
    for (at, site) in world.catalogue.sites.iter().take(10).enumerate() {
        let mut intent = publisher.wants(site.root, None, None, None, format!("calm.{at}"));
        intent.replace = Replace::Any;
        ask(&world, publisher.publish(intent)).expect("a publish without faults");
    }
    let docs = space("docs");
    let command = |command| block_on(world.spaces.call(&docs, command, world.now()));
    for number in 1..9 {
        let purge = false;
        command(Command::RemoveDeploy { number, purge }).unwrap();
    }
    // A sweep waits until readers have the newest pointers.
    drain(&world, &docs).unwrap();
    let mut start = true;
    for _ in 0..STEPS_MAX {
        command(step(start)).unwrap();
        start = false;
        if stage(&world) == "2" {
            break;
        }
    }
    assert_eq!(stage(&world), "2", "no object is to be copied");
    (world, promises)
}

/// Copies with a fault at the n-th place. Returns whether there was such a place, and how many
/// objects were copied.
fn play(target: Target, n: usize, how: How) -> Result<(bool, u64), String> {
    let (world, promises) = about_to_copy();
    let docs = space("docs");
    world.chaos.set(Plan::Nth(target, n, how));
    for _ in 0..STEPS_MAX {
        if stage(&world) == "0" {
            break;
        }
        let (server, now, docs) = (world.server(), world.now(), docs.clone());
        let in_world = Rc::clone(&world);
        world.spawn(Owner::Server, async move {
            let done = server
                .backend()
                .spaces()
                .call(&docs, step(false), now)
                .await;
            if let Ok(Reply::Collected(step)) = done {
                in_world.note_step(&step);
            }
        });
        world.run();
    }
    let struck = world.chaos.has_struck();
    settle(&world, &docs, &promises.borrow())?;
    collect_everything(&world, &docs)?;
    settle(&world, &docs, &promises.borrow())?;
    match world.chaos.violation() {
        Some(violation) => Err(violation),
        None => Ok((struck, world.repacked.get())),
    }
}

/// Strikes at every `stride`-th place, and returns the number of places.
fn strike(target: Target, how: How, stride: usize) -> usize {
    for n in (1..).step_by(stride) {
        match play(target, n, how) {
            Ok((true, _)) => {}
            Ok((false, copied)) => {
                assert!(copied > 0, "nothing was copied");
                return n - 1;
            }
            Err(why) => panic!("{how:?} at {target:?} {n}: {why}"),
        }
    }
    0
}

#[test]
fn fault_at_every_effect_of_a_compaction_keeps_the_site() {
    for how in [
        How::FailBefore,
        How::FailAfter,
        How::CrashBefore,
        How::CrashAfter,
    ] {
        let effects = strike(Target::Effect, how, 1);
        println!("{how:?}: {effects} effects");
        // A read and a write of an object, and the calls around them.
        assert!(effects >= 3, "a compaction has only {effects} effects");
    }
}

#[test]
fn faults_at_statements_of_a_compaction_keep_the_site() {
    // Each play takes a while, so a third of the statements fails, and a seventh ends the server.
    for (how, stride) in [(How::FailBefore, 3), (How::CrashBefore, 7)] {
        let statements = strike(Target::Statement, how, stride);
        println!("{how:?}: {statements} statements");
        assert!(statements > 30, "only {statements} statements");
    }
}
