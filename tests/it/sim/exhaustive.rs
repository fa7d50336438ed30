//! Exhaustive single faults: at each statement, and before and after each effect.

use std::rc::Rc;

use pmx_sync::push::Intent;
use pmx_sync::wire::Replace;
use pmx_tests::rng::Rng;

use super::actors::{Promises, Publisher, reads};
use super::chaos::{Chaos, How, Plan, Target};
use super::check::{ask, chain, settle};
use super::model::Catalogue;
use super::platform::space;
use super::world::{Owner, World};

/// Operation during which the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// The first publish of a space: begin, packs, commit.
    First,
    /// A change in a single request.
    Small,
    /// A publish of a client without a base, over an older deploy.
    Fresh,
    /// A rollback to the deploy before.
    Rollback,
    /// Two concurrent publishes, with readers.
    Race,
}

fn publisher(world: &Rc<World>, promises: &Promises, name: &str, tries: usize) -> Publisher {
    Publisher {
        world: Rc::clone(world),
        promises: Rc::clone(promises),
        space: space("docs"),
        alias: None,
        name: name.to_owned(),
        tries,
    }
}

/// Runs a story with a fault at the n-th place. Returns whether there was such a place.
fn play(story: Story, target: Target, n: usize, how: How, seed: u64) -> Result<bool, String> {
    // The catalogue is the same for every n; the order of tasks differs.
    let catalogue = Catalogue::grow(&mut Rng::new(7), 6);
    let roots: Vec<_> = catalogue.sites.iter().map(|site| site.root).collect();
    let world = World::new(Chaos::new(Rng::new(seed), false), catalogue, None);
    let promises = Promises::default();
    let calm = publisher(&world, &promises, "calm", 1);
    let mut base = None;
    if story != Story::First {
        for (root, key) in [(roots[0], "before 1"), (roots[1], "before 2")] {
            let intent = calm.wants(root, base, None, None, key.into());
            let made = ask(&world, calm.publish(intent)).map_err(|e| format!("{e:?}"))?;
            base = Some(made);
        }
    }
    let before = chain(&world, &space("docs"));

    world.chaos.set(Plan::Nth(target, n, how));
    let one = publisher(&world, &promises, "one", 1);
    let known = base.filter(|_| story != Story::Fresh);
    let intent = one.wants(roots[2], known, None, None, "the key".into());
    match story {
        Story::First | Story::Small | Story::Fresh => {
            let _done = ask(&world, one.publish(intent.clone()));
        }
        Story::Rollback => {
            let _done = ask(&world, one.rollback(None, None, "the key".into()));
        }
        Story::Race => {
            let two = publisher(&world, &promises, "two", 3);
            let other = two.wants(roots[3], base, None, None, "two".into());
            let (first, intent) = (publisher(&world, &promises, "one", 3), intent.clone());
            let publish = |who: Publisher, intent| async move {
                let _done = who.publish(intent).await;
            };
            world.spawn(Owner::Outside, publish(first, intent));
            world.spawn(Owner::Outside, publish(two, other));
            for reader in 0..2 {
                let rng = Rng::new(seed + reader);
                world.spawn(
                    Owner::Outside,
                    reads(Rc::clone(&world), space("docs").into(), rng),
                );
            }
        }
    }
    world.run();
    let struck = world.chaos.has_struck();
    // The site is entirely in the old state or in the new one.
    settle(&world, &space("docs"), &promises.borrow())?;
    let after = chain(&world, &space("docs"));
    if !after.starts_with(&before) {
        return Err("the deploys before are not what they were".into());
    }
    let most = before.len() + if story == Story::Race { 2 } else { 1 };
    if after.len() > most {
        return Err(format!(
            "{} deploys came of {story:?}",
            after.len() - before.len()
        ));
    }
    // The same request arrives again.
    let again = match story {
        Story::Rollback => {
            let again = ask(&world, one.rollback(None, None, "the key".into()));
            again.map(|deploy| deploy.number)
        }
        // The publish that lost the race is refused, until it names the other's deploy to replace.
        Story::Race => {
            let intent = Intent {
                replace: Replace::Any,
                ..intent
            };
            ask(&world, one.publish(intent)).map(|active| active.deploy)
        }
        Story::First | Story::Small | Story::Fresh => {
            ask(&world, one.publish(intent)).map(|active| active.deploy)
        }
    };
    let number = again.map_err(|failure| format!("the retry failed: {failure:?}"))?;
    settle(&world, &space("docs"), &promises.borrow())?;
    let last = chain(&world, &space("docs"));
    let made = last.iter().find(|link| link.key == "the key");
    if made.map(|link| link.number) != Some(number) || last.len() > most {
        return Err(format!("the retry made {number} of {last:?}"));
    }
    match world.chaos.violation() {
        Some(violation) => Err(violation),
        None => Ok(struck),
    }
}

/// Strikes at every place of a story, and returns the number of places.
fn strike_everywhere(story: Story, target: Target, how: How, seed: u64) -> usize {
    for n in 1.. {
        match play(story, target, n, how, seed) {
            Ok(true) => {}
            Ok(false) => return n - 1,
            Err(why) => panic!("{story:?}, {how:?} at {target:?} {n}, seed {seed}: {why}"),
        }
    }
    0
}

#[test]
fn fault_at_every_statement_keeps_the_invariants() {
    for story in [Story::First, Story::Small, Story::Fresh, Story::Rollback] {
        for how in [How::FailBefore, How::CrashBefore] {
            let statements = strike_everywhere(story, Target::Statement, how, 1);
            println!("{story:?}, {how:?}: {statements} statements");
            assert!(
                statements > 10,
                "{story:?} has only {statements} statements"
            );
        }
    }
}

#[test]
fn fault_at_every_effect_keeps_the_invariants() {
    let hows = [
        How::FailBefore,
        How::FailAfter,
        How::CrashBefore,
        How::CrashAfter,
    ];
    for story in [Story::First, Story::Small, Story::Fresh, Story::Rollback] {
        for how in hows {
            let effects = strike_everywhere(story, Target::Effect, how, 1);
            println!("{story:?}, {how:?}: {effects} effects");
            assert!(effects >= 4, "{story:?} has only {effects} effects");
        }
    }
}

#[test]
fn fault_at_every_effect_of_a_race_keeps_the_invariants() {
    let hows = [
        How::FailBefore,
        How::FailAfter,
        How::CrashBefore,
        How::CrashAfter,
    ];
    for seed in 0..6 {
        for how in hows {
            let effects = strike_everywhere(Story::Race, Target::Effect, how, seed);
            assert!(effects >= 10, "the race has only {effects} effects");
        }
    }
}
