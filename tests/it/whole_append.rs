//! Atomic appends: if the second row can't be written, the stream stores nothing of the append,
//! alone or in a batch.

use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};

use crate::streaming::ask;
use crate::world::{Answer, Host, World};

/// Refuses the row of the stream, the second that an append writes, if the append asks for it.
const PLANTED: &str = "CREATE TRIGGER planted BEFORE UPDATE ON stream WHEN NEW.seq = 'fails' \
     BEGIN SELECT RAISE(ABORT, 'planted'); END";

fn append(port: u16, message: u64, more: &[(&str, &str)]) -> Answer {
    let body = json!({"n": message}).to_string();
    let headers = [&[JSON][..], more].concat();
    ask(port, "POST", "jobs", &headers, body.as_bytes()).unwrap()
}

fn kept(port: u16) -> Vec<u64> {
    let all = ask(port, "GET", "jobs?offset=-1", &[], b"").unwrap();
    assert_eq!(all.status, 200, "{all:?}");
    let all: Vec<Value> = serde_json::from_slice(&all.body).unwrap();
    all.iter().map(|it| it["n"].as_u64().unwrap()).collect()
}

const JSON: (&str, &str) = ("content-type", "application/json");

const FAILS: (&str, &str) = ("stream-seq", "fails");

#[test]
fn append_whose_second_row_fails_keeps_nothing_on_the_worker() {
    let Some(mut world) = World::of_worker(Host::Worker, &[]) else {
        return;
    };
    let port = world.server.port;
    let made = ask(port, "PUT", "jobs", &[JSON], b"").unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(append(port, 0, &[]).status, 204);
    world.reborn(&[], |objects| objects.run_in("StreamDO", PLANTED));

    // Alone: by one statement, and by three.
    let producer = [
        ("producer-id", "p"),
        ("producer-epoch", "0"),
        ("producer-seq", "0"),
    ];
    for more in [&[FAILS][..], &[&[FAILS][..], &producer].concat()] {
        let failed = append(port, 1000, more);
        assert_eq!(failed.status, 500, "{failed:?}");
        assert_eq!(failed.json()["code"], "E_STORAGE");
        assert_eq!(kept(port), [0]);
    }
    assert_eq!(append(port, 1, &[]).status, 204);

    // In a batch with others.
    let (taken, failed) = (Mutex::new(vec![0, 1]), Mutex::new(0));
    thread::scope(|scope| {
        for writer in 1..=16 {
            let (taken, failed) = (&taken, &failed);
            scope.spawn(move || {
                for message in (0..8).map(|n| writer * 10 + n) {
                    let more: &[_] = if message % 4 == 0 { &[FAILS] } else { &[] };
                    match append(port, message, more).status {
                        204 => taken.lock().unwrap().push(message),
                        500 if message % 4 == 0 => *failed.lock().unwrap() += 1,
                        other => panic!("{message}: {other}"),
                    }
                }
            });
        }
    });
    assert_eq!(*failed.lock().unwrap(), 32);
    let mut taken = taken.into_inner().unwrap();
    let sorted = |mut all: Vec<u64>| {
        all.sort_unstable();
        all
    };
    assert_eq!(sorted(kept(port)), sorted(taken.clone()));

    // The client can repeat a failed append once the storage works, also as the same producer.
    world.reborn(&[], |objects| {
        objects.run_in("StreamDO", "DROP TRIGGER planted");
    });
    assert_eq!(append(port, 1000, &[FAILS]).status, 204);
    assert_eq!(append(port, 1001, &producer).status, 200);
    taken.extend([1000, 1001]);
    assert_eq!(sorted(kept(port)), sorted(taken));
}
