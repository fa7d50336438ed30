//! Lagging isolates over one space: each sees pointers, and their absence, late in its own way.

mod world;

use http::StatusCode;

use super::super::pointer_answers::SPAN;
use crate::limits::ASSET_RETENTION_DEPLOYS;

use world::{Underway, World, channel, poll};

/// Reads that missed existing content, 5 s or more after its publish.
fn losses(seed: u64, admits: bool) -> usize {
    let world = World::new(seed, 3, admits);
    let channels = ["docs", "pr-7--docs", "blog"].map(channel);
    let mut losses = 0;
    for _ in 0..120 {
        let channel = &channels[world.chance.below(3) as usize];
        world.pass(world.chance.below(9_000));
        match world.chance.below(6) {
            0 => world.publish(channel),
            1 => drop(world.get(world.any(), channel, "/nothing")),
            _ => {}
        }
        let Some((published, newest)) = world.ledger.newest(channel) else {
            drop(world.get(world.any(), channel, "/"));
            continue;
        };
        let is_due = published.after(SPAN) <= world.now.get();
        let page = world.get(world.any(), channel, "/");
        let shown = page.headers().get("x-pmx-deploy");
        let shown = shown.filter(|_| page.status() == 200);
        let shown = shown.map(|shown| shown.to_str().unwrap().parse::<u64>().unwrap());
        // The files that the page loads, and the page that its author looks at.
        let deploy = newest.deploy;
        let mut paths = vec![format!("/app-{deploy}.js"), format!("/post-{deploy}")];
        let deploys = world.ledger.deploys.borrow()[channel].clone();
        let kept = deploys.iter().rev().take(ASSET_RETENTION_DEPLOYS);
        let mut kept = kept.map(|(_, pointer)| pointer.deploy);
        if let Some(shown) = shown.filter(|shown| kept.any(|kept| kept == *shown)) {
            paths.push(format!("/app-{shown}.js"));
        }
        let is_lost = |path: &String| world.status(world.any(), channel, path) != 200;
        let lost = paths.iter().filter(|path| is_lost(path)).count();
        if is_due {
            losses += lost + usize::from(shown.is_none());
        }
    }
    losses
}

const SEEDS: u64 = 60;

#[test]
fn deploy_published_five_seconds_ago_is_found_on_every_isolate() {
    for seed in 0..SEEDS {
        assert_eq!(losses(seed, true), 0, "seed {seed}");
    }
}

/// The platform of the test above does lose content for a server that trusts it.
#[test]
fn servers_that_ask_no_space_lose_what_was_published() {
    let is_lossy = |seed: &u64| losses(*seed, false) > 0;
    assert_eq!((0..SEEDS).filter(is_lossy).count() as u64, SEEDS);
}

#[test]
fn space_is_asked_once_in_five_seconds_for_all_paths_of_a_channel() {
    for is_there in [true, false] {
        let world = World::new(1, 1, true);
        let docs = channel("docs");
        if is_there {
            world.publish(&docs);
            world.pass(100_000);
        }
        for number in 0..4_000 {
            let path = format!("/nothing-{number}");
            assert_eq!(world.status(0, &docs, &path), 404);
            world.pass(5);
        }
        assert_eq!(world.ledger.asked(), 4);
        // The server asks nothing about a path that no file can have.
        world.pass(5_000);
        for path in ["/_pmx/nothing", "/_events/nothing", "/%2f"] {
            assert_eq!(world.status(0, &docs, path), 404, "{path}");
        }
        assert_eq!(world.ledger.asked(), 4);
    }
}

#[test]
fn newer_pointer_ends_an_answer() {
    let world = World::new(1, 1, true);
    let docs = channel("docs");
    world.publish(&docs);
    world.pass(100_000);
    assert_eq!(world.status(0, &docs, "/app-2.js"), 404);
    world.publish(&docs);
    let (_, pointer) = world.ledger.newest(&docs).unwrap();
    assert_eq!(
        world.status(0, &docs, "/app-2.js"),
        404,
        "the answer counts"
    );
    let seen = &world.isolates[0].backend().pointers.seen;
    seen.borrow_mut().insert(docs.clone(), pointer);
    world.publish(&docs);
    assert_eq!(world.status(0, &docs, "/app-3.js"), 200);
    assert_eq!(world.ledger.asked(), 2);
}

/// Polls requests in turns until all have answers.
fn all(mut asking: Vec<Underway<'_>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..10_000 {
        asking.retain_mut(|asking| match poll(asking.as_mut()) {
            Some(answer) => {
                statuses.push(answer.status().as_u16());
                false
            }
            None => true,
        });
    }
    assert!(asking.is_empty(), "{} requests wait", asking.len());
    statuses
}

#[test]
fn space_is_asked_once_for_all_requests_that_wait() {
    let world = World::new(1, 1, true);
    let docs = channel("docs");
    assert_eq!(world.status(0, &docs, "/"), 404);
    world.publish(&docs);
    world.pass(5_000);
    world.ledger.is_slow.set(true);
    let mut asking: Vec<_> = (0..50)
        .map(|_| world.asking(0, &docs, "/app-1.js"))
        .collect();
    for asking in &mut asking {
        assert!(poll(asking.as_mut()).is_none());
    }
    world.ledger.is_slow.set(false);
    assert_eq!(all(asking), [200; 50]);
    assert_eq!(world.ledger.asked(), 2);
}

#[test]
fn request_that_is_gone_holds_up_no_other() {
    for is_dropped in [true, false] {
        let world = World::new(1, 1, true);
        let docs = channel("docs");
        world.publish(&docs);
        world.ledger.is_slow.set(true);
        let mut gone = world.asking(0, &docs, "/app-1.js");
        assert!(poll(gone.as_mut()).is_none());
        let asking = (0..50).map(|_| world.asking(0, &docs, "/app-1.js"));
        let mut asking: Vec<_> = asking.collect();
        for asking in &mut asking {
            assert!(poll(asking.as_mut()).is_none());
        }
        if is_dropped {
            drop(gone);
        } else {
            // An isolate does the same with a request whose client has left.
            std::mem::forget(gone);
        }
        world.ledger.is_slow.set(false);
        assert_eq!(all(asking), [200; 50]);
        assert_eq!(world.ledger.asked(), 2);
    }
}

#[test]
fn space_that_does_not_answer_is_asked_once_a_second() {
    let world = World::new(1, 1, true);
    let docs = channel("docs");
    world.publish(&docs);
    world.ledger.fails.set(true);
    let mut failed = 0;
    for _ in 0..3_000 {
        let answer = world.get(0, &docs, "/");
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(answer.headers().contains_key("retry-after"));
            }
            _ => failed += 1,
        }
        assert_ne!(answer.status(), 404);
        world.pass(1);
    }
    assert_eq!((failed, world.ledger.asked()), (3, 3));
    world.ledger.fails.set(false);
    world.pass(1_000);
    assert_eq!(world.status(0, &docs, "/"), 200);
}
