//! Interrupts (Ctrl-C): a command reports them and ends within a second, whatever it waits for. Its
//! progress reports the bytes that the server received.

mod early;
mod hosts;
pub(crate) mod progress;

use std::io::{BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::scripted_servers::{ScriptedServer, command, http, read_request};
use crate::world::{Ran, World, eventually, sync_args, tcp};

/// Time limit of an orderly end. Other tests run at the same time.
const SOON: Duration = Duration::from_millis(1_500);

/// The response of a space that lacks the site's 24 files.
fn lacking() -> Vec<u8> {
    let body = r#"{"state":"blobs","active":0,"blobs":[[0,24]],
        "summary":{"added":24,"modified":0,"removed":0,"unchanged":0}}"#;
    http("200 OK\r\nContent-Type: application/json", body)
}

/// A folder of files with incompressible bytes.
pub(crate) fn noise(home: &TempDir, files: u32, bytes: usize) {
    std::fs::create_dir(home.path().join("site")).unwrap();
    for file in 0..files {
        let path = home.path().join(format!("site/{file}.bin"));
        std::fs::write(&path, crate::world::noise(file.into(), bytes)).unwrap();
        // The client would read a recently written file again before it sends it.
        let file = std::fs::File::options().append(true).open(path).unwrap();
        let long_ago = SystemTime::now() - Duration::from_mins(10);
        file.set_modified(long_ago).unwrap();
    }
}

/// A sparse file that takes many seconds to hash.
fn large(site: &Path) {
    std::fs::create_dir_all(site).unwrap();
    let file = std::fs::File::create(site.join("large.bin")).unwrap();
    file.set_len(16_000_000_000).unwrap();
}

/// Waits until a command with `--json` hashes a large file.
fn hashes(child: &mut Child) {
    loop {
        let line = line(child);
        let object: Value = serde_json::from_str(&line).unwrap();
        if object["phase"] == "scan" && object["bytes"].as_u64() > Some(0) {
            return;
        }
    }
}

/// The next line of stdout. The rest stays unread.
fn line(child: &mut Child) -> String {
    let stdout = child.stdout.as_mut().unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        let read = stdout.read(&mut byte).unwrap();
        assert!(
            read > 0,
            "stdout ended after {:?}",
            String::from_utf8_lossy(&line)
        );
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

fn start(home: &TempDir, server: &ScriptedServer, more: &[&str]) -> Child {
    let url = server.url("http", "127.0.0.1");
    let args = [&sync_args("docs", &["--server", &url]), more].concat();
    let mut command = command(home.path(), &args, &[]);
    let started = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    started.expect("pmx starts")
}

fn interrupt(child: &Child, signal: &str) {
    let mut kill = std::process::Command::new("kill");
    let killed = kill.args([signal, &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
}

/// Interrupts a command, and waits for its end within the time limit.
fn ended(child: Child, signal: &str) -> Ran {
    ended_in_time(child, signal).fails(130, "E_INTERRUPTED")
}

fn ended_in_time(child: Child, signal: &str) -> Ran {
    let since = Instant::now();
    interrupt(&child, signal);
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert!(since.elapsed() < SOON, "{:?}: {ran:?}", since.elapsed());
    ran
}

/// A server that never reads the bodies of uploads, and a flag that is set when one begins.
fn stuck() -> (ScriptedServer, Arc<AtomicBool>) {
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    let server = ScriptedServer::handling(move |stream| answer_all_but_uploads(stream, &flag));
    (server, begun)
}

fn answer_all_but_uploads(mut stream: TcpStream, begun: &AtomicBool) {
    use std::io::Write as _;
    let mut first = [0; 3];
    stream.peek(&mut first).unwrap();
    if &first == b"PUT" {
        begun.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_mins(1));
        return;
    }
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    if read_request(&mut reader).is_some() {
        let _gone = stream.write_all(&lacking());
    }
}

#[test]
fn interrupt_ends_a_stuck_upload_at_once() {
    let home = TempDir::new().unwrap();
    noise(&home, 24, 1_000_000);
    for (signal, more) in [
        ("-INT", &["--json"][..]),
        ("-TERM", &[]),
        ("-TERM", &["--watch"]),
    ] {
        let (server, begun) = stuck();
        let child = start(&home, &server, more);
        eventually("an upload begins", || begun.load(Ordering::SeqCst));
        tcp::none_sent(server.port);
        let ran = ended(child, signal);
        if more == ["--json"] {
            assert_eq!(ran.at("/type"), "error");
            assert_eq!(ran.at("/code"), "E_INTERRUPTED");
        } else {
            assert_eq!(ran.stderr.matches("interrupted").count(), 1, "{ran:?}");
        }
    }
}

#[test]
fn interrupt_ends_waiting_at_once() {
    let home = TempDir::new().unwrap();
    noise(&home, 1, 1_000_000);
    let silent: fn(TcpStream) = |stream| {
        let _request = read_request(&mut BufReader::new(stream.try_clone().unwrap()));
        std::thread::sleep(Duration::from_mins(1));
    };
    let busy: fn(TcpStream) = |mut stream| {
        use std::io::Write as _;
        let _request = read_request(&mut BufReader::new(stream.try_clone().unwrap()));
        let _gone = stream.write_all(&http("503 Busy\r\nRetry-After: 60", ""));
    };
    for handle in [silent, busy] {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let server = ScriptedServer::handling(move |stream| {
            flag.store(true, Ordering::SeqCst);
            handle(stream);
        });
        let child = start(&home, &server, &[]);
        eventually("the server is asked", || asked.load(Ordering::SeqCst));
        ended(child, "-INT");
    }
}

#[test]
fn interrupt_of_a_watch_has_its_exit_code() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    let args = ["sync", "site", "--space", "docs", "--watch"];
    let mut command = world.command(&args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = line(&mut child);
    assert!(address.starts_with("http://docs."), "{address}");
    let ran = ended(child, "-TERM");
    assert!(ran.stderr.contains("interrupted"), "{ran:?}");
}
