//! Fan-out chains: each object calls the next, and the platform ends a chain at sixteen calls.

use serde_json::{Value, json};

use crate::world::{Host, World, eventually};

/// Streams after the first.
const CHAIN: usize = 20;

/// Three calls from the hub, which sends up to a depth of 5, and the Worker at the front.
const DEPTH_MAX: u64 = 9;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn send(world: &World, method: &str, path: &str, body: &Value) -> u16 {
    let (path, body) = (format!("/v1/stream/{path}"), body.to_string());
    world.ask(method, "", &path, &JSON, body.as_bytes()).status
}

/// Payloads of a stream's messages, each inside one envelope per copy.
fn messages(world: &World, stream: &str, copied: usize) -> Vec<Value> {
    let all = world
        .ask("GET", "", &format!("/v1/stream/{stream}"), &[], b"")
        .json();
    let opened = |message: &Value| (0..copied).fold(message.clone(), |it, _| it["payload"].clone());
    all.as_array().unwrap().iter().map(opened).collect()
}

/// The platform counts the depth of a fan-out chain, and refuses a call beyond its bound.
#[test]
fn fan_out_chain_of_any_length_copies_everything() {
    let Some(world) = World::of_worker(Host::Unkind, &[]) else {
        return;
    };
    for number in 0..=CHAIN {
        assert_eq!(send(&world, "PUT", &format!("s/{number}"), &json!([])), 201);
    }
    for number in 0..CHAIN {
        let (from, to) = (format!("s/{number}"), format!("s/{}", number + 1));
        let config = json!({"type": "fan-out", "streams": [from], "target_stream": to});
        let id = format!("__ds/subscriptions/f{number}");
        assert_eq!(send(&world, "PUT", &id, &config), 201);
    }
    for message in 0..3 {
        assert_eq!(send(&world, "POST", "s/0", &json!([message])), 204);
    }
    let last = format!("s/{CHAIN}");
    eventually("the last stream has all", || {
        messages(&world, &last, CHAIN) == [json!(0), json!(1), json!(2)]
    });
    assert_eq!(world.counted("too deep"), 0);
    let deepest = world.counted("depth");
    // The client's append reaches its stream and the hub, so not every chain begins with an alarm.
    assert!((4..=DEPTH_MAX).contains(&deepest), "{deepest}");
}
