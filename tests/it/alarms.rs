//! Alarms of the Worker's objects under faults: an invalid variable, or an object without a name.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::world::{Host, World, eventually};

const LOOPBACK: (&str, &str) = ("STREAM_WEBHOOKS", "loopback");

/// Makes every object of streams fail to open.
const BAD: (&str, &str) = ("STREAM_RATE_READS", "a b");

fn put(world: &World, path: &str, ttl: Option<&str>, body: &Value) {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(ttl.map(|ttl| ("stream-ttl", ttl)));
    let (path, body) = (format!("/v1/stream/{path}"), body.to_string());
    let made = world.ask("PUT", "", &path, &headers, body.as_bytes());
    assert_eq!(made.status, 201, "{made:?}");
}

/// The operations of the registry for a stream, in order. Reading the registry wakes no other
/// stream.
fn registered(world: &World, stream: &str) -> Vec<String> {
    let all = world.ask("GET", "", "/v1/stream/__registry__", &[], b"");
    if all.status == 404 {
        return Vec::new();
    }
    let all = all.json();
    let own = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["key"] == stream);
    own.map(|it| it["headers"]["operation"].as_str().unwrap().to_owned())
        .collect()
}

/// A host that refuses webhooks until the test opens it, and counts those that it accepted.
fn refusing(is_open: &Arc<AtomicBool>, taken: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (is_open, taken) = (Arc::clone(is_open), Arc::clone(taken));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _some = socket.read(&mut vec![0; 65_536]);
            let is_open = is_open.load(Ordering::SeqCst);
            let status = if is_open { "200" } else { "503" };
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n");
            let _left = socket.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
            taken.fetch_add(usize::from(is_open), Ordering::SeqCst);
        }
    });
    url
}

fn millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

#[test]
fn jobs_resume_by_alarm_alone_once_a_bad_variable_is_good_again() {
    let Some(mut world) = World::of_worker(Host::Worker, &[LOOPBACK]) else {
        return;
    };
    let (is_open, taken) = (Arc::default(), Arc::default());
    let url = refusing(&is_open, &taken);
    let config = json!({"type": "webhook", "streams": ["jobs"], "webhook": {"url": url}});
    put(&world, "__ds/subscriptions/s", None, &config);
    put(&world, "jobs", None, &json!([1]));
    put(&world, "brief", Some("5"), &json!([1]));
    eventually("the registry knows", || {
        registered(&world, "brief") == ["insert"]
    });
    world.reborn(&[LOOPBACK, BAD], |_| {});
    // Far later than the platform's own retry.
    let is_late = |name: &str| world.objects().alarm(name) > Some(millis() + 200_000);
    eventually("the stream's alarm is late", || is_late("brief"));
    eventually("the hub's alarm is late", || is_late("hub"));
    is_open.store(true, Ordering::SeqCst);
    assert_eq!(taken.load(Ordering::SeqCst), 0);
    world.reborn(&[LOOPBACK], |objects| objects.wake_all(true));
    eventually("the hub sends the webhook", || {
        taken.load(Ordering::SeqCst) > 0
    });
    eventually("the stream expired", || {
        registered(&world, "brief") == ["insert", "delete"]
    });
}

#[test]
fn alarm_without_name_reports_what_its_stream_did_not() {
    let Some(mut world) = World::of_worker(Host::Unkind, &[]) else {
        return;
    };
    let words = "Network connection lost.";
    world.fail("0", "stub hub", 1_000, words, "none");
    put(&world, "jobs", None, &json!([1]));
    assert!(world.counted("planned: stub hub") > 0);
    assert_eq!(registered(&world, "jobs"), [""; 0]);
    world.reborn(&[], |objects| objects.wake_all(false));
    eventually("the registry knows", || {
        registered(&world, "jobs") == ["insert"]
    });
}

#[test]
fn alarm_without_name_writes_waiting_pointers() {
    let Some(mut world) = World::of_worker(Host::Unkind, &[]) else {
        return;
    };
    world.fail(
        "0",
        "kv put",
        1_000,
        "KV PUT failed: 429 Too Many Requests",
        "none",
    );
    world.write(&[("index.html", "home")]);
    world.sync("docs", &[]).ok();
    eventually("KV refuses", || world.counted("planned: kv put") > 1);
    world.reborn(&[], |objects| {
        assert!(objects.alarm("docs").is_some(), "the pointer waits");
        objects.wake_all(false);
    });
    eventually("the pointer is written", || {
        world.counted("asked: kv put") > 0
    });
    eventually("nothing waits", || world.objects().alarm("docs").is_none());
    assert_eq!(world.get("docs", "/").text(), "home");
}
