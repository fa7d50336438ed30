//! Stream registry: the stream that lists all streams, on both hosts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::streaming::{Home, ask};
use crate::world::{Answer, Host, eventually, started_on_both_hosts};

started_on_both_hosts! {
    registry_has_each_creation_and_end_of_a_stream_once,
    registry_is_readable_and_refuses_writes,
    registry_is_true_after_every_kill,
    registry_is_matched_by_no_pattern,
}

/// A server of streams, and the content of its registry.
struct Registry(Home);

impl Registry {
    fn new(host: Host) -> Self {
        Self(Home::new(host, &[]))
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.0.ask(method, path, headers, body.as_bytes())
    }

    fn create(&self, name: &str, headers: &[(&str, &str)]) {
        let created = self.ask("PUT", name, headers, "");
        assert_eq!(created.status, 201, "{created:?}");
    }

    /// All entries of the registry.
    fn entries(&self) -> Vec<Value> {
        let (mut entries, mut offset) = (Vec::new(), "-1".to_owned());
        loop {
            let page = self.ask("GET", &format!("__registry__?offset={offset}"), &[], "");
            if page.status == 404 {
                return entries;
            }
            assert_eq!(page.status, 200, "{page:?}");
            entries.extend(page.json().as_array().unwrap().clone());
            let next = page.header("stream-next-offset").unwrap();
            next.clone_into(&mut offset);
            if page.header("stream-up-to-date") == Some("true") {
                return entries;
            }
        }
    }

    /// The existing streams, according to the registry.
    fn registered(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for entry in self.entries() {
            assert_eq!(entry["type"], "stream");
            assert!(entry["headers"]["timestamp"].is_string(), "{entry}");
            let key = entry["key"].as_str().unwrap().to_owned();
            match entry["headers"]["operation"].as_str() {
                Some("insert") => {
                    let before = all.insert(key, entry["value"].clone());
                    assert_eq!(before, None, "made twice: {entry}");
                }
                Some("delete") => {
                    assert_eq!(entry.get("value"), None);
                    assert!(all.remove(&key).is_some(), "ended twice: {entry}");
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    fn names(&self) -> Vec<String> {
        self.registered().into_keys().collect()
    }
}

fn registry_has_each_creation_and_end_of_a_stream_once(host: Host) {
    let home = Registry::new(host);
    home.create("a", &[("content-type", "text/plain")]);
    home.create(
        "b/c",
        &[
            ("content-type", "application/json"),
            ("stream-ttl", "86400"),
        ],
    );
    home.create("short", &[("stream-ttl", "1")]);
    home.create("fork", &[("stream-forked-from", "/v1/stream/a")]);
    let again = home.ask("PUT", "a", &[("content-type", "text/plain")], "");
    assert_eq!(again.status, 200);
    assert_eq!(home.ask("DELETE", "a", &[], "").status, 204);
    eventually("what expired stands there, and all before it", || {
        home.names() == ["b/c", "fork"]
    });
    let registered = home.registered();
    assert_eq!(registered["b/c"]["contentType"], "application/json");
    assert_eq!(registered["b/c"]["ttlSeconds"], 86400);
    // As in the reference implementation's hook and UI.
    assert_eq!(registered["b/c"]["path"], "b/c");
    assert!(registered["b/c"]["createdAt"].as_u64() > Some(1_700_000_000_000));
    assert_eq!(registered["fork"]["contentType"], "text/plain");
    // The deleted source's name becomes free when its fork ends.
    assert_eq!(home.ask("DELETE", "fork", &[], "").status, 204);
    eventually("the name is free", || {
        home.ask("PUT", "a", &[("content-type", "image/png")], "")
            .status
            == 201
    });
    eventually("it is there again", || home.names() == ["a", "b/c"]);
    assert_eq!(home.registered()["a"]["contentType"], "image/png");
}

fn registry_is_readable_and_refuses_writes(host: Host) {
    let home = Registry::new(host);
    home.create("a", &[]);
    eventually("the registry has it", || home.names() == ["a"]);
    for method in ["PUT", "POST", "DELETE"] {
        let json = [("content-type", "application/json")];
        let refused = home.ask(method, "__registry__", &json, "[1]");
        assert_eq!(refused.status, 405, "{method}");
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
    let head = home.ask("HEAD", "__registry__", &[], "");
    assert_eq!(head.header("content-type"), Some("application/json"));
    let next = head.header("stream-next-offset").unwrap().to_owned();
    let port = home.0.server.port;
    let waiting = thread::spawn(move || {
        let path = format!("__registry__?live=long-poll&offset={next}");
        ask(port, "GET", &path, &[], b"").unwrap().json()
    });
    // The reader gets the next entry whether it waits already or not.
    home.create("b", &[]);
    assert_eq!(waiting.join().unwrap()[0]["key"], "b");
}

fn registry_is_matched_by_no_pattern(host: Host) {
    let home = Registry::new(host);
    home.create("a", &[]);
    eventually("the registry has it", || home.names() == ["a"]);
    let subscribe = |id: &str, config: Value| {
        let path = format!("__ds/subscriptions/{id}");
        let made = home.ask("PUT", &path, &[], &config.to_string());
        assert_eq!(made.status, 201, "{made:?}");
        let shown = home.ask("GET", &path, &[], "").json();
        let paths = shown["streams"].as_array().unwrap().iter();
        paths.map(|it| it["path"].clone()).collect::<Vec<_>>()
    };
    let config = json!({"type": "pull-wake", "pattern": "**", "wake_stream": "w"});
    assert_eq!(subscribe("all", config), ["a"]);
    let config = json!({"type": "pull-wake", "streams": ["__registry__"], "wake_stream": "w"});
    assert_eq!(subscribe("one", config), ["__registry__"]);
    home.create("b", &[]);
    eventually("there is work", || {
        let claim = "__ds/subscriptions/one/claim";
        let claimed = home.ask("POST", claim, &[], r#"{"worker":"w"}"#);
        claimed.status == 200
    });
}

/// Names of streams that are created and deleted while the server is killed.
const NAMES: [&str; 4] = ["k/a", "k/b", "k/c", "k/d"];

fn registry_is_true_after_every_kill(host: Host) {
    let mut home = Registry::new(host);
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
    let port = home.0.server.port;
    let actors = NAMES.map(|name| {
        let (over, count) = (Arc::clone(&over), Arc::clone(&count));
        thread::spawn(move || {
            for turn in 0.. {
                let method = if turn % 2 == 0 { "PUT" } else { "DELETE" };
                match ask(port, method, name, &[], b"") {
                    Some(_) => *count.lock().unwrap() += 1,
                    None => thread::sleep(Duration::from_millis(10)),
                }
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        })
    });
    for _ in 0..3 {
        let before = *count.lock().unwrap();
        eventually("streams come and go", || {
            *count.lock().unwrap() > before + 12
        });
        home.0.server.kill();
        home.0.restart();
    }
    over.store(true, Ordering::Relaxed);
    for actor in actors {
        actor.join().unwrap();
    }
    eventually("the registry says what exists", || {
        let exists = |name: &&str| home.ask("HEAD", name, &[], "").status == 200;
        let there: Vec<_> = NAMES.into_iter().filter(exists).collect();
        home.names() == there
    });
}
