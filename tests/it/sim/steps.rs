//! Steps of a collection: publishes between them succeed at once.

use std::rc::Rc;

use pmx_sync::serve::Spaces as _;
use pmx_sync::space::{Command, Reply};
use pmx_sync::testing::host::block_on;
use pmx_sync::wire::Repack;
use pmx_tests::rng::Rng;

use super::actors::{Promises, Publisher};
use super::chaos::Chaos;
use super::check::{ask, settle};
use super::lifecycle::collect_everything;
use super::model::Catalogue;
use super::platform::space;
use super::world::World;

/// A world without faults, and a publisher.
fn calm() -> (Rc<World>, Publisher) {
    let mut rng = Rng::new(11);
    let catalogue = Catalogue::grow(&mut rng.fork(), 40);
    let world = World::new(Chaos::new(rng.fork(), false), catalogue, None);
    let publisher = Publisher {
        world: Rc::clone(&world),
        promises: Promises::default(),
        space: space("docs"),
        alias: None,
        name: "calm".to_owned(),
        tries: 1,
    };
    (world, publisher)
}

#[test]
fn publishes_succeed_between_all_steps_of_a_collection() {
    let (world, publisher) = calm();
    let docs = space("docs");
    let sites: Vec<_> = world.catalogue.sites.iter().map(|site| site.root).collect();
    let publish = |at: usize| {
        let root = sites[at % sites.len()];
        let mut intent = publisher.wants(root, None, None, None, format!("calm.{at}"));
        intent.replace = pmx_sync::wire::Replace::Any;
        ask(&world, publisher.publish(intent)).expect("a publish without faults")
    };
    for at in 0..20 {
        publish(at);
    }
    let command = |command| block_on(world.spaces.call(&docs, command, world.now()));
    for number in 1..8 {
        let purge = false;
        command(Command::RemoveDeploy { number, purge }).unwrap();
    }
    let (mut at, mut doomed) = (20, 0);
    loop {
        let start = at == 20;
        let step = command(Command::Collect {
            start,
            dry: false,
            repack: Repack {
                max_unused: 0,
                min_freed: 1,
                ..Repack::default()
            },
        })
        .unwrap();
        let Reply::Collected(step) = step else {
            panic!("{step:?}");
        };
        doomed += step.doomed;
        // New content, or content of deploys that were given up.
        publish(at);
        at += 7;
        if !step.more {
            break;
        }
    }
    assert!(doomed > 0, "nothing was given up");
    settle(&world, &docs, &publisher.promises.borrow()).unwrap();
    collect_everything(&world, &docs).unwrap();
    settle(&world, &docs, &publisher.promises.borrow()).unwrap();
}
