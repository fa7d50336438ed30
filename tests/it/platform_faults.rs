//! Single platform failures on the Worker: which ones a client sees, and which ones the Worker
//! retries.

use crate::world::{Answer, Host, World};

/// The isolate that gets the requests: the objects are in another.
const ISOLATE: &str = "1";

fn world() -> Option<World> {
    let world = World::of_worker(Host::Unkind, &[])?;
    world.write(&[("index.html", "home")]);
    world.sync("docs", &[]).ok();
    world.get("docs", "/");
    Some(world)
}

fn asked(world: &World, host: &str, path: &str) -> Answer {
    let token = world.token();
    let headers = [
        ("x-unkind-isolate", ISOLATE),
        ("authorization", token.as_str()),
    ];
    world.ask("GET", host, path, &headers, b"")
}

#[test]
fn r2_read_failures_are_retried() {
    let Some(world) = world() else {
        return;
    };
    let words = "get: We encountered an internal error. Please try again. (10001)";
    for times in [1, 2] {
        // A page that this isolate has not read yet.
        let text = format!("{times} hiccups");
        world.write(&[(&format!("{times}.html"), &text)]);
        world.sync("docs", &[]).ok();
        world.get("docs", "/");
        let before = world.counted("planned: r2 get");
        world.fail(ISOLATE, "r2 get", times, words, "none");
        let page = asked(&world, "docs", &format!("/{times}"));
        assert_eq!((page.status, page.text()), (200, text));
        assert_eq!(world.counted("planned: r2 get"), before + u64::from(times));
    }
}

#[test]
fn overloaded_object_is_not_asked_again_at_once() {
    let Some(world) = world() else {
        return;
    };
    let deploys = || asked(&world, "", "/api/deploys?space=docs");
    let calls = |flag: &str| {
        let before = world.counted("asked: stub space");
        world.fail(ISOLATE, "stub space", 1, "it fails", flag);
        let answer = deploys();
        (answer, world.counted("asked: stub space") - before)
    };
    let (answer, count) = calls("overloaded");
    assert_eq!((answer.status, count), (503, 1), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    // The Worker retries a failure that only lost the connection.
    let (answer, count) = calls("retryable");
    assert_eq!((answer.status, count), (200, 2), "{answer:?}");
}
