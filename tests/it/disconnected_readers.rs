//! Disconnected event readers: the object drops the state that it kept for them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::world::{Host, World, eventually};

/// Two ticks of sixteen seconds. A session whose reader stays lasts four.
const TWO_TICKS_MS: u64 = 2 * 16_000;

/// Readers that leave at once.
const READERS: u64 = 6;

/// When a reader's task ends, the object writes a data point and no longer counts the reader.
///
/// The object probes by pieces whether a reader is there. On a machine without time the pieces of a
/// probe meet in one buffer, and its reader is noticed later; so several are asked, and the first
/// counts.
#[test]
fn one_of_six_readers_that_left_is_dropped_within_two_ticks() {
    let Some(world) = World::of_worker(Host::Unkind, &[("PMX_STREAM_ANALYTICS", "1")]) else {
        return;
    };
    let media = [("content-type", "text/plain")];
    let made = world.ask("PUT", "", "/v1/stream/a", &media, b"one");
    assert_eq!(made.status, 201, "{made:?}");
    for _ in 0..READERS {
        drop(reader(world.server.port));
    }
    eventually("their tasks end", || world.counted("point live") == READERS);
    let shortest = world.counted("shortest live");
    // A second of tolerance for timers of the runtime.
    assert!(shortest <= TWO_TICKS_MS + 1_000, "{shortest} ms");
}

/// A reader that has received the first event.
fn reader(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request =
        format!("GET /v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    lines
        .find(|line| line.as_ref().is_ok_and(|line| line.contains("one")))
        .unwrap()
        .unwrap();
    socket
}
