//! Ctrl-C: the command says so and ends within a second, whatever it waits for. And progress that
//! is true: what the line took, at the rate of the line.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::canned::{Canned, command, http, read_request};
use crate::world::{Ran, World, eventually};

/// What an orderly end may take. Other tests run beside this one.
const SOON: Duration = Duration::from_millis(1_500);

/// What a space answers that lacks the 24 files of a site.
fn lacking() -> Vec<u8> {
    let body = r#"{"state":"blobs","active":0,"blobs":[[0,24]],
        "summary":{"added":24,"modified":0,"removed":0,"unchanged":0}}"#;
    http("200 OK\r\nContent-Type: application/json", body)
}

/// A folder of bytes that no codec makes smaller.
fn noise(home: &TempDir, megabytes: u32) {
    std::fs::create_dir(home.path().join("site")).unwrap();
    for file in 0..megabytes {
        let mut bytes = Vec::new();
        let mut reader = blake3::Hasher::new()
            .update(&file.to_le_bytes())
            .finalize_xof();
        reader
            .by_ref()
            .take(1_000_000)
            .read_to_end(&mut bytes)
            .unwrap();
        let path = home.path().join(format!("site/{file}.bin"));
        std::fs::write(&path, bytes).unwrap();
        // A file that was just written is read again before it is sent.
        let file = std::fs::File::options().append(true).open(path).unwrap();
        let long_ago = SystemTime::now() - Duration::from_mins(10);
        file.set_modified(long_ago).unwrap();
    }
}

fn start(home: &TempDir, server: &Canned, more: &[&str]) -> Child {
    let url = server.url("http", "127.0.0.1");
    let args = [&["sync", "site", "--space", "docs", "--server", &url], more].concat();
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

/// Interrupts, and waits for the end, which has to come soon.
fn ended(child: Child, signal: &str) -> Ran {
    let since = Instant::now();
    interrupt(&child, signal);
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert!(since.elapsed() < SOON, "{:?}: {ran:?}", since.elapsed());
    ran.fails(130, "E_INTERRUPTED")
}

/// A server that never reads the bodies of uploads, and says when one has begun.
fn stuck() -> (Canned, Arc<AtomicBool>) {
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    let server = Canned::conversing(move |stream| answer_all_but_uploads(stream, &flag));
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
fn an_upload_that_is_stuck_ends_at_once() {
    let home = TempDir::new().unwrap();
    noise(&home, 24);
    for (signal, more) in [("-INT", &["--json"][..]), ("-TERM", &[])] {
        let (server, begun) = stuck();
        let child = start(&home, &server, more);
        eventually("an upload begins", || begun.load(Ordering::SeqCst));
        // The buffers of the system are full by then.
        std::thread::sleep(Duration::from_millis(200));
        let ran = ended(child, signal);
        if more.is_empty() {
            assert!(ran.stderr.contains("interrupted"), "{ran:?}");
        } else {
            assert_eq!(ran.at("/type"), "error");
            assert_eq!(ran.at("/code"), "E_INTERRUPTED");
        }
    }
}

#[test]
fn waiting_for_an_answer_and_for_the_next_attempt_end_at_once() {
    let home = TempDir::new().unwrap();
    noise(&home, 1);
    let silent: fn(TcpStream) = |stream| {
        let _request = read_request(&mut BufReader::new(stream.try_clone().unwrap()));
        std::thread::sleep(Duration::from_mins(1));
    };
    let busy: fn(TcpStream) = |mut stream| {
        use std::io::Write as _;
        let _request = read_request(&mut BufReader::new(stream.try_clone().unwrap()));
        let _gone = stream.write_all(&http("503 Busy\r\nRetry-After: 60", ""));
    };
    for converse in [silent, busy] {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let server = Canned::conversing(move |stream| {
            flag.store(true, Ordering::SeqCst);
            converse(stream);
        });
        let child = start(&home, &server, &[]);
        eventually("the server is asked", || asked.load(Ordering::SeqCst));
        ended(child, "-INT");
    }
}

#[test]
fn a_watch_ends_with_the_exit_code_of_an_interrupt() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    let args = ["sync", "site", "--space", "docs", "--watch"];
    let mut command = world.command(&args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("http://docs."), "{line}");
    let ran = ended(child, "-TERM");
    assert!(ran.stderr.contains("interrupted"), "{ran:?}");
}

/// Passes bytes on at a rate, and counts them.
fn throttled(port: u16, bytes_per_second: usize, passed: Arc<Mutex<u64>>) -> Canned {
    Canned::conversing(move |client| {
        use std::io::Write as _;
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
            return;
        };
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut client, mut server) = (client, server);
        let mut piece = vec![0; bytes_per_second / 20];
        while let Ok(read @ 1..) = client.read(&mut piece) {
            if server.write_all(&piece[..read]).is_err() {
                return;
            }
            *passed.lock().unwrap() += read as u64;
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

#[test]
fn progress_objects_say_what_the_line_took() {
    let world = World::new();
    let home = TempDir::new().unwrap();
    noise(&home, 24);
    let passed = Arc::new(Mutex::new(0));
    let line = throttled(world.server.port, 4_000_000, Arc::clone(&passed));
    let url = line.url("http", "127.0.0.1");
    let site = home.path().join("site");
    let args = [
        "sync",
        site.to_str().unwrap(),
        "--space",
        "docs",
        "--json",
        "--server",
        &url,
    ];
    let mut child = world.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut last = (0, 0);
    let mut objects = 0;
    for text in stdout.lines() {
        let object: Value = serde_json::from_str(&text.unwrap()).unwrap();
        if object["type"] != "progress" {
            continue;
        }
        assert_eq!(object["v"], 1, "{object}");
        if object["phase"] == "scan" {
            continue;
        }
        objects += 1;
        let (done, bytes) = (
            object["done"].as_u64().unwrap(),
            object["bytes"].as_u64().unwrap(),
        );
        assert!(bytes >= last.1, "{object}");
        let ahead = bytes.saturating_sub(*passed.lock().unwrap());
        // What the buffers of the system hold, of four connections.
        assert!(ahead < 16_000_000, "{ahead} bytes ahead: {object}");
        if let Some(total) = object["total"].as_u64() {
            assert!(done <= total, "{object}");
        }
        last = (done, bytes);
    }
    assert!(child.wait().unwrap().success());
    assert!((1..20).contains(&objects), "{objects}");
    assert!(last.1 > 1_000_000, "{last:?}");
}
