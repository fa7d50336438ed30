//! Bodies of appends: slow or silent clients delay no other client.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::streaming::Home;
use crate::world::Host;

/// Only the embedded host: on the Worker, the platform reads the bodies of each object.
#[test]
fn appends_that_announce_much_and_send_little_delay_no_other() {
    let home = Home::new(Host::Embedded, &[]);
    home.create("a", "text/plain");
    let head = "POST /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
                Content-Length: 16777216\r\n\r\nx";
    let silent = (0..8).map(|_| {
        let mut socket = TcpStream::connect(("127.0.0.1", home.server.port)).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket
    });
    let silent: Vec<_> = silent.collect();
    // The server has received these requests once it has answered a later one.
    for bytes in [1, 1_000_000, 16 << 20] {
        let begun = Instant::now();
        let body = vec![b'y'; bytes];
        assert_eq!(home.append("a", "text/plain", &body).status, 204);
        let limit = Duration::from_secs(2) + Duration::from_millis(bytes as u64 / 4_000);
        assert!(begun.elapsed() < limit, "{bytes}: {:?}", begun.elapsed());
    }
    drop(silent);
}
