//! Many open pages and deploys: each page gets each deploy once and in order, whatever breaks in
//! between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::socket::Socket;
use crate::world::{Host, World, skipped, worker_lacks};

#[test]
fn sockets_receive_two_hundred_deploys() {
    let world = World::with_settings(Host::Embedded, &[]);
    check_each_receives_all_in_order(&world, 1_000, 200);
}

#[test]
fn sockets_of_a_worker_receive_each_deploy() {
    match worker_lacks() {
        None => {
            let world = World::with_settings(Host::Worker, &[]);
            check_each_receives_all_in_order(&world, 200, 40);
        }
        Some(lack) => skipped("the Worker", lack),
    }
}

/// Publishes two deploys; each rollback makes the other active.
fn publish(world: &World) {
    world.write(&[("index.html", "1"), ("a.html", "a")]);
    world.sync("docs", &[]).ok();
    world.write(&[("index.html", "2")]);
    world.sync("docs", &[]).ok();
}

/// Makes the next deploy without starting a process.
fn deploy(world: &World, number: u64) {
    let to = 2 - (number % 2);
    let body = json!({"v": 1, "space": "docs", "to": to, "key": format!("k{number}")});
    let token = world.token();
    let headers = [
        ("authorization", &*token),
        ("content-type", "application/json"),
    ];
    let body = body.to_string();
    let answer = world.request(
        "POST",
        "",
        "/api/publish/rollback",
        &headers,
        body.as_bytes(),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["deploy"]["number"], number, "{answer:?}");
}

fn check_each_receives_all_in_order(world: &World, sockets: usize, deploys: u64) {
    publish(world);
    let (port, token) = (world.server.port, world.token());
    let ready = Arc::new(Barrier::new(sockets + 1));
    let last = 2 + deploys;
    let listeners = (0..sockets).map(|_| {
        let (ready, token) = (Arc::clone(&ready), token.clone());
        let listen = move || {
            let mut socket = Socket::held(port, "docs", &token).unwrap();
            socket.say(r#"{"all":true}"#);
            let mut at = socket.frame()["deploy"].as_u64().unwrap();
            assert_eq!(at, 2);
            ready.wait();
            while at < last {
                at = follow(&socket.frame(), at);
            }
        };
        let thread = thread::Builder::new().stack_size(256 * 1024);
        thread.spawn(listen).unwrap()
    });
    let listeners: Vec<_> = listeners.collect();
    ready.wait();
    for number in 3..=last {
        deploy(world, number);
    }
    for listener in listeners {
        listener.join().expect("each deploy once and in order");
    }
}

/// The deploy after `at` that a frame reports: none is missing, and none is repeated.
fn follow(frame: &Value, at: u64) -> u64 {
    let deploy = frame["deploy"].as_u64().unwrap();
    let since = frame["since"].as_u64().unwrap_or(deploy - 1);
    assert_eq!(since, at, "{frame}");
    deploy
}

/// The server is killed repeatedly, and a page that resumes at its offset has no gap.
#[test]
fn sockets_resume_without_a_gap_after_a_kill() {
    let mut world = World::with_settings(Host::Embedded, &[]);
    publish(&world);
    let port = world.server.port;
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let listeners = (0..20).map(|number| {
        let (last, token) = (Arc::clone(&last), world.token());
        thread::spawn(move || listen_on(port, &token, number % 2 == 0, &last))
    });
    let listeners: Vec<_> = listeners.collect();
    let mut number = 3;
    for _ in 0..4 {
        for _ in 0..10 {
            deploy(&world, number);
            number += 1;
        }
        world.server.kill();
        world.restart();
    }
    last.store(number, Ordering::Relaxed);
    deploy(&world, number);
    for listener in listeners {
        assert_eq!(listener.join().expect("no gap"), number);
    }
}

/// Reads frames until the last deploy, and reconnects whenever the server is gone.
fn listen_on(port: u16, token: &str, compact: bool, last: &AtomicU64) -> u64 {
    let mut at = 2;
    while let Some(mut socket) = reopened(port, token) {
        let wish = json!({"all": true, "compact": compact, "offset": format!("0_{at}")});
        socket.say(&wish.to_string());
        while let Ok(text) = socket.text() {
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["events"] == json!([]) {
                // The frame only confirms the reader's offset.
                assert_eq!(frame["deploy"], at);
            } else {
                at = follow(&frame, at);
            }
            if at >= last.load(Ordering::Relaxed) {
                return at;
            }
        }
    }
    at
}

fn reopened(port: u16, token: &str) -> Option<Socket> {
    for _ in 0..600 {
        if let Ok(socket) = Socket::held(port, "docs", token) {
            return Some(socket);
        }
        thread::sleep(Duration::from_millis(50));
    }
    None
}
