//! `pmx doctor`: its checks find each planted fault, and report no fault on a correct server.

mod front;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use self::front::{Front, FrontFault};
use crate::scripted_servers::{ScriptedServer, http, tls};
use crate::world::{Host, Ran, World, skipped, worker_lacks};

/// The shortest run.
const SHORT: [&str; 6] = ["--watch", "1", "--sockets", "5", "--mib", "1"];

/// Streams require a secret.
const CLOSED: (&str, &str) = ("STREAM_SECRET", "another-secret-of-32-bytes-or-more");

fn doctor(world: &World, url: &str, more: &[&str]) -> Ran {
    let args = ["doctor", "--json", "--cloudflare", url];
    world.pmx(&[&args[..], &SHORT[..], more].concat())
}

/// The state and the finding of each check.
fn states(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let lines = ran.stdout.lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = lines.filter(|line| line["type"] == "check");
    let states = checks.map(|it| (text(&it["check"]), (text(&it["state"]), text(&it["saw"]))));
    states.collect()
}

/// The checks that failed.
fn failed(ran: &Ran) -> Vec<String> {
    let states = states(ran).into_iter();
    let failed = states.filter(|(_, (state, _))| state == "failed");
    failed.map(|(name, _)| name).collect()
}

#[test]
fn doctor_finds_no_fault_of_a_worker() {
    if let Some(lack) = worker_lacks() {
        return skipped("the Worker", lack);
    }
    let settings = [CLOSED, ("DICTIONARIES", "passed")];
    let world = World::with_settings(Host::Worker, &settings);
    let url = format!("http://127.0.0.1:{}", world.server.port);
    let ran = doctor(&world, &url, &[]).ok();
    let states = states(&ran);
    for (check, expected) in [
        ("edge", "skipped"),
        ("hosts", "ok"),
        ("http", "skipped"),
        ("streams", "ok"),
        ("publish", "ok"),
        ("encodings", "ok"),
        ("revalidation", "ok"),
        ("head", "ok"),
        ("dictionary", "ok"),
        ("preview", "ok"),
        ("update", "ok"),
        ("load", "ok"),
        ("sockets", "ok"),
        ("redeploy", "skipped"),
    ] {
        assert_eq!(states[check].0, expected, "{check}: {ran:?}");
    }
    assert_eq!(states.len(), 14, "{ran:?}");
    let summary = ran.last();
    assert_eq!(
        (&summary["ok"], &summary["failed"]),
        (&11.into(), &0.into())
    );
    let token = world.token();
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!said.contains(&token[7..]), "the secret is printed");
    // Also as text for people, and once more: existing objects are no fault.
    let args = [&["doctor", "--cloudflare", &url][..], &SHORT[..]].concat();
    let ran = world.pmx(&args).ok();
    assert!(
        ran.stdout.contains("ok      encodings     zstd: 200, zstd"),
        "{ran:?}"
    );
    assert!(
        ran.stdout.ends_with("11 ok, 0 failed, 3 skipped\n"),
        "{ran:?}"
    );
}

/// Runs the doctor through a front with a fault, before a host with closed streams.
fn behind(fault: FrontFault) -> (World, Ran) {
    let world = World::with_settings(Host::Embedded, &[CLOSED]);
    let front = Front::plain(world.server.port, fault);
    let url = format!("http://127.0.0.1:{}", front.port);
    let ran = doctor(&world, &url, &[]);
    (world, ran)
}

#[test]
fn doctor_finds_no_fault_through_a_front_without_one() {
    let (_world, ran) = behind(FrontFault::None);
    assert_eq!(
        (failed(&ran), ran.code),
        (Vec::<String>::new(), 0),
        "{ran:?}"
    );
}

#[test]
fn doctor_finds_each_planted_fault() {
    let faults: [(FrontFault, &[&str]); 10] = [
        (FrontFault::RewritesHtml, &["encodings"]),
        (FrontFault::DropsTags, &["encodings", "revalidation"]),
        (FrontFault::IgnoresTags, &["revalidation"]),
        (FrontFault::WrongLength, &["head"]),
        (FrontFault::LatePreview, &["preview"]),
        (FrontFault::MissingAsset, &["update"]),
        (FrontFault::RefusesPacks, &["load"]),
        (FrontFault::RefusesSockets, &["sockets"]),
        (FrontFault::ClosesSockets, &["sockets"]),
        (FrontFault::NoApex, &["hosts"]),
    ];
    // The runs mostly wait.
    std::thread::scope(|scope| {
        for (fault, expected) in faults {
            scope.spawn(move || {
                let (_world, ran) = behind(fault);
                assert_eq!(failed(&ran), expected, "{fault:?}: {ran:?}");
                assert_eq!(ran.code, 1, "{fault:?}: {ran:?}");
            });
        }
    });
}

#[test]
fn doctor_reports_open_streams_and_a_missing_token() {
    let world = World::new();
    let url = format!("http://127.0.0.1:{}", world.server.port);
    let data = world.temp.path().join("none");
    let mut command = world.command(&["doctor", "--json", "--cloudflare", &url]);
    command.env("PMX_DATA", data);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(
        (failed(&ran), ran.code),
        (vec!["streams".to_owned()], 1),
        "{ran:?}"
    );
    let publish = states(&ran)["publish"].clone();
    assert_eq!(publish.0, "skipped");
    assert!(publish.1.contains("PMX_TOKEN"), "{publish:?}");
}

#[test]
fn doctor_refuses_plain_http_over_a_network() {
    let world = World::new();
    let ran = doctor(&world, "http://api.example.com", &[]).fails(2, "E_USAGE");
    assert!(ran.stdout.contains("plain http"), "{ran:?}");
}

/// Runs the doctor against a host behind TLS, and a plain-HTTP server beside it.
fn encrypted(world: &World, plain: &ScriptedServer, fault: FrontFault) -> Ran {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = world.temp.path().join("ca.pem");
    fs::write(&file, certificate.pem()).unwrap();
    let front = Front::encrypted(world.server.port, tls(&certificate, &key), fault);
    let url = format!("https://127.0.0.1:{}", front.port);
    let plain = plain.url("http", "127.0.0.1");
    let more = ["--cacert", file.to_str().unwrap(), "--http", &plain];
    doctor(world, &url, &more)
}

#[test]
fn doctor_finds_an_edge_that_answers_plain_http_and_sends_it_no_secret() {
    let world = World::with_settings(Host::Embedded, &[CLOSED]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    let plain = ScriptedServer::handling(move |stream| {
        let mut lines = String::new();
        let mut reader = BufReader::new(stream);
        while !lines.ends_with("\r\n\r\n") && reader.read_line(&mut lines).unwrap() > 0 {}
        record.lock().unwrap().push(lines);
        let answer = http("200 OK\r\nContent-Type: text/plain", "welcome");
        let _gone = reader.get_mut().write_all(&answer);
    });
    let ran = encrypted(&world, &plain, FrontFault::None);
    assert_eq!(
        (failed(&ran), ran.code),
        (vec!["edge".into(), "http".into()], 1),
        "{ran:?}"
    );
    let asked = asked.lock().unwrap().join("\n");
    let token = world.token();
    assert!(
        asked
            .to_ascii_lowercase()
            .contains("authorization: bearer not-a-token"),
        "{asked}"
    );
    assert!(!asked.contains(&token[7..]), "the secret travelled by http");
    let states = states(&ran);
    assert_eq!(states["sockets"].0, "ok", "over TLS: {ran:?}");
}

#[test]
fn doctor_accepts_an_edge_that_redirects_to_https() {
    let world = World::with_settings(Host::Embedded, &[CLOSED]);
    let plain = ScriptedServer::handling(move |stream| {
        let mut head = String::new();
        let mut reader = BufReader::new(stream);
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
        let is_token = head.to_ascii_lowercase().contains("authorization");
        let answer = if is_token {
            http("403 Forbidden", "{}")
        } else {
            http("308 Permanent Redirect\r\nLocation: https://a.example/", "")
        };
        let _gone = reader.get_mut().write_all(&answer);
    });
    let ran = encrypted(&world, &plain, FrontFault::AddsRay).ok();
    let states = states(&ran);
    assert_eq!(
        (&*states["edge"].0, &*states["http"].0),
        ("ok", "ok"),
        "{ran:?}"
    );
    assert!(states["edge"].1.contains("8f1-FRA"), "{ran:?}");
}

#[test]
fn doctor_counts_sockets_that_return_after_a_redeploy() {
    let mut world = World::with_settings(Host::Embedded, &[CLOSED]);
    let url = format!("http://127.0.0.1:{}", world.server.port);
    let args = ["doctor", "--cloudflare", &url, "--redeploy"];
    let mut command = world.command(&[&args[..], &SHORT[..]].concat());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("Now deploy") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it never waits");
    }
    world.server.kill();
    world.restart();
    let mut out = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{out}");
    assert!(out.contains("5 of 5 closed, 5 came back"), "{out}");
}
