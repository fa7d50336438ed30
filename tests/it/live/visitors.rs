//! Rate limit of event visitors, as the Worker's platform applies it.

use super::site;
use super::socket::Socket;
use crate::world::{Host, World, skipped, worker_lacks};

const LIMIT: usize = 5;

#[test]
fn event_reads_of_one_address_are_limited() {
    if let Some(lack) = worker_lacks() {
        return skipped("the Worker", lack);
    }
    let limit = LIMIT.to_string();
    let world = World::with_settings(Host::Worker, &[("PMX_EVENTS_LIMIT", &limit)]);
    site(&world);
    world.sync("open", &["--live"]).ok();
    let events = |site: &str| world.get(site, "/_events?offset=-1");
    let mut passed = 0;
    for _ in 0..LIMIT * 8 {
        let answer = events("open");
        match answer.status {
            200 => passed += 1,
            429 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
    }
    // The counter resets every ten seconds, so perhaps once during this test.
    assert!((1..=LIMIT * 2).contains(&passed), "{passed} passed");
    let opened = (0..LIMIT * 8).map(|_| Socket::open(world.server.port, "open", None));
    let refused = opened.filter_map(Result::err).collect::<Vec<_>>();
    assert!(
        refused.contains(&429),
        "sockets are counted too: {refused:?}"
    );
    // The limit affects neither pages, nor other sites, nor clients with the secret.
    assert_eq!(world.get("open", "/a").status, 200);
    assert_eq!(events("docs").status, 403);
    let secret = [("authorization", &*world.token())];
    let answer = world.get_with("open", "/_events?offset=-1", &secret);
    assert_eq!(answer.status, 200);
}
