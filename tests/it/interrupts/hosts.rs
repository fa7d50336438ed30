//! Interrupts of hosts: a host ends within a second, whatever it reads and whatever clients keep
//! open.

use std::io::{Read as _, Write as _};
use std::iter;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::progress::throttled;
use super::{ended_in_time, hashes, large, line, noise};
use crate::live::socket::Socket;
use crate::scripted_servers::command;
use crate::world::{Ran, eventually, port_in};

const SECRET: &[(&str, &str)] = &[("PUBLISH_SECRET", "s3cret")];

fn start(home: &Path, args: &[&str], variables: &[(&str, &str)]) -> Child {
    let mut command = command(home, args, variables);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A host, and the port that it prints.
fn host(home: &Path, args: &[&str], port: u16) -> (Child, u16) {
    let listen = format!("127.0.0.1:{port}");
    let mut child = start(home, &[args, &["--listen", &listen]].concat(), SECRET);
    let address = line(&mut child);
    (child, port_in(&address))
}

/// Interrupts a host, and checks that it ends in time and without an error.
fn stopped(child: Child, signal: &str) -> Ran {
    let ran = ended_in_time(child, signal).ok();
    let said = ran.stderr.lines().filter(|line| *line == "stopped");
    assert_eq!(said.count(), 1, "{ran:?}");
    ran
}

/// A connection on which a request was sent, and `awaited` was received.
fn asked(port: u16, request: &str, awaited: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut got = vec![0; awaited.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), awaited, "{request}");
    stream
}

/// Connections that clients keep open: event readers, a stalled upload, a page that its client does
/// not read, half a request, and an idle connection.
fn kept_open(port: u16) -> Vec<TcpStream> {
    let site = format!("Host: docs.localhost:{port}\r\nAuthorization: Bearer s3cret\r\n");
    let api = format!("Host: api.localhost:{port}\r\nAuthorization: Bearer s3cret\r\n");
    let upload = format!(
        "PUT /api/publish/packs/{}?space=docs HTTP/1.1\r\n",
        "0".repeat(64)
    );
    let octets = "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n";
    let ok = "HTTP/1.1 200";
    let events = "GET /_events?offset=now&live";
    vec![
        asked(port, &format!("{events}=sse HTTP/1.1\r\n{site}\r\n"), ok),
        asked(
            port,
            &format!("{events}=long-poll HTTP/1.1\r\n{site}\r\n"),
            "",
        ),
        asked(
            port,
            &format!("{upload}{api}{octets}Expect: 100-continue\r\n\r\n"),
            "HTTP/1.1 100",
        ),
        asked(port, &format!("GET /0.bin HTTP/1.1\r\n{site}\r\n"), ok),
        asked(port, "GET / HTTP/1.1\r\nHo", ""),
        asked(port, &format!("GET /healthz HTTP/1.1\r\n{api}\r\n"), ok),
        asked(port, "", ""),
    ]
}

#[test]
fn interrupt_ends_a_host_with_open_connections() {
    let dev = ["dev", "site", "--space", "docs"];
    for (signal, args) in [
        ("-INT", &["serve"][..]),
        ("-TERM", &["serve"]),
        ("-TERM", &dev),
    ] {
        let home = TempDir::new().unwrap();
        noise(&home, 1, 16_000_000);
        let (child, port) = host(home.path(), args, 0);
        let server = format!("http://127.0.0.1:{port}");
        let sync = [
            "sync", "site", "--space", "docs", "--server", &server, "--json",
        ];
        let published = start(home.path(), &sync, &[]).wait_with_output();
        Ran::from(published.unwrap()).ok();
        let mut page = Socket::held(port, "docs", "Bearer s3cret").unwrap();
        let _open = kept_open(port);
        stopped(child, signal);
        // The close code asks the page to reconnect.
        let closed = iter::from_fn(|| Some(page.text())).find_map(Result::err);
        assert_eq!(closed, Some(1001));
    }
}

#[test]
fn publish_resumes_with_the_next_run_of_an_interrupted_host() {
    let home = TempDir::new().unwrap();
    noise(&home, 4, 1_000_000);
    let (server, port) = host(home.path(), &["serve"], 0);
    let passed = Arc::new(Mutex::new(0));
    let slow = throttled(port, 500_000, Arc::clone(&passed));
    let url = slow.url("http", "127.0.0.1");
    let sync = [
        "sync", "site", "--space", "docs", "--server", &url, "--json",
    ];
    let client = start(home.path(), &sync, &[]);
    eventually("uploads are under way", || {
        *passed.lock().unwrap() > 1_000_000
    });
    stopped(server, "-TERM");
    let (server, _) = host(home.path(), &["serve"], port);
    let ran = Ran::from(client.wait_with_output().unwrap()).ok();
    assert_eq!(ran.at("/outcome"), "published");
    stopped(server, "-INT");
}

#[test]
fn interrupt_ends_dev_while_it_reads_a_large_file() {
    for signal in ["-INT", "-TERM"] {
        let home = TempDir::new().unwrap();
        large(&home.path().join("site"));
        let args = [
            "dev",
            "site",
            "--space",
            "docs",
            "--json",
            "--listen",
            "127.0.0.1:0",
        ];
        let mut child = start(home.path(), &args, &[]);
        hashes(&mut child);
        let ran = ended_in_time(child, signal).ok();
        assert_eq!(ran.at("/type"), "stopped");
    }
}
