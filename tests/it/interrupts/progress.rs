//! Progress objects: bytes that a server received, at the line's rate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::noise;
use crate::scripted_servers::ScriptedServer;
use crate::world::World;

/// The most bytes of four uploads in flight and in the server's own buffers.
const AHEAD_MAX: u64 = 256 * 1024;

/// Relays the bytes of each connection at a limited rate, and counts them.
pub(crate) fn throttled(
    port: u16,
    bytes_per_second: usize,
    passed: Arc<Mutex<u64>>,
) -> ScriptedServer {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = listener.unwrap();
    // Bytes in this system's buffers count as not received.
    listener.set_recv_buffer_size(8 * 1024).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(64).unwrap();
    ScriptedServer::handling_on(listener.into(), move |mut client| {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
            return;
        };
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut piece, mut since) = (vec![0; bytes_per_second / 20], 0);
        while let Ok(read @ 1..) = client.read(&mut piece) {
            *passed.lock().unwrap() += read as u64;
            if server.write_all(&piece[..read]).is_err() {
                return;
            }
            since += read;
            if since >= piece.len() {
                since = 0;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // The other thread has the connection as well: without this, the server would wait for the
        // rest of a body whose client is gone.
        let _gone = server.shutdown(Shutdown::Both);
    })
}

/// A progress object of an upload, and the bytes that the server had received by then.
#[derive(Debug, Clone, Copy, Default)]
struct ProgressSample {
    done: u64,
    bytes: u64,
    received: u64,
}

/// Progress objects of a publish over a slow line.
fn seen() -> Vec<ProgressSample> {
    let (world, home) = (World::new(), TempDir::new().unwrap());
    noise(&home, 4, 1_000_000);
    let received = Arc::new(Mutex::new(0));
    let line = throttled(world.server.port, 500_000, Arc::clone(&received));
    let (url, site) = (line.url("http", "127.0.0.1"), home.path().join("site"));
    let site = site.to_str().unwrap();
    let args = ["sync", site, "--space", "docs", "--json", "--server", &url];
    let mut child = world.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    for text in BufReader::new(child.stdout.take().unwrap()).lines() {
        let object: Value = serde_json::from_str(&text.unwrap()).unwrap();
        if object["type"] != "progress" || object["phase"] == "scan" {
            continue;
        }
        assert_eq!(object["v"], 1, "{object}");
        let number = |name: &str| object[name].as_u64().unwrap();
        let (done, bytes) = (number("done"), number("bytes"));
        assert!(
            object["total"].as_u64().is_none_or(|total| done <= total),
            "{object}"
        );
        let received = *received.lock().unwrap();
        seen.push(ProgressSample {
            done,
            bytes,
            received,
        });
    }
    assert!(child.wait().unwrap().success());
    seen
}

#[test]
fn progress_objects_say_what_the_server_received() {
    let seen = seen();
    assert!((1..40).contains(&seen.len()), "{seen:?}");
    let mut last = ProgressSample::default();
    for now in &seen {
        assert!(now.bytes >= last.bytes, "{now:?} after {last:?}");
        assert!(now.bytes <= now.received + AHEAD_MAX, "{now:?}");
        assert!(now.done <= now.received + AHEAD_MAX, "{now:?}");
        last = *now;
    }
    assert!(last.bytes > 1_000_000, "{last:?}");
}
