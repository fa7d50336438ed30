//! Durable Streams client as applications use it: a producer, three live modes, resuming readers,
//! and Yjs documents.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::conformance;
use crate::world::{Host, Server, skipped, started_on_both_hosts};

started_on_both_hosts! {
    durable_streams_client_is_served,
    yjs_documents_converge_over_a_compaction,
}

/// The number of the client's stories, so that no story is left out unnoticed.
const STORIES: usize = 11;

fn durable_streams_client_is_served(host: Host) {
    if let Err(lack) = conformance::install() {
        return skipped("the protocol's own client", &lack);
    }
    let temp = TempDir::new().unwrap();
    let data = temp.path().join("data");
    let mut server = Server::start_with(host, &data, 0, &[]);
    let port = server.port;
    let mut client = Command::new("node")
        .arg("client.mjs")
        .current_dir(conformance::folder())
        .env("SERVER_URL", format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut answers = client.stdin.take().expect("a pipe");
    let stdout = BufReader::new(client.stdout.take().expect("a pipe"));
    let (mut held, mut kills) = (0, 0);
    for line in stdout.lines() {
        let line = line.expect("text");
        if line == "kill" {
            server.kill();
            server = Server::start_with(host, &data, port, &[]);
            answers.write_all(b"back\n").expect("the client listens");
            kills += 1;
        } else {
            println!("{line}");
            held += usize::from(line.starts_with("held: "));
        }
    }
    let ended = client.wait().expect("the client ends");
    assert!(ended.success(), "{ended}");
    assert_eq!((held, kills), (STORIES, 3));
}

fn yjs_documents_converge_over_a_compaction(host: Host) {
    if let Err(lack) = conformance::install() {
        return skipped("documents of Yjs", &lack);
    }
    let temp = TempDir::new().unwrap();
    let server = Server::start_with(host, &temp.path().join("data"), 0, &[]);
    let ran = Command::new("node")
        .arg("yjs.mjs")
        .current_dir(conformance::folder())
        .env("SERVER_URL", format!("http://127.0.0.1:{}", server.port))
        .output()
        .expect("node runs");
    assert!(ran.status.success(), "{ran:?}");
    let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
    let held = stdout.lines().filter(|line| line.starts_with("held: "));
    assert_eq!(held.count(), 2, "{stdout}");
}
