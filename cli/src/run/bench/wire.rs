//! Counting relay: a TCP relay between a client and a server. It counts bytes and requests, heads
//! included.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Ends the first line of a request's head. Compressed bodies contain it by chance once in 2^88.
const REQUEST_LINE_END: &[u8] = b" HTTP/1.1\r\n";

/// Time for the last bytes of a connection after its client has finished.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// Relayed traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Bytes from client to server.
    pub(super) sent: u64,
    /// Bytes from server to client.
    pub(super) received: u64,
    /// HTTP requests.
    pub(super) requests: u64,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    requests: AtomicU64,
    /// Open directions of connections.
    open: AtomicU64,
}

/// A relay to one address. Its threads end with the process.
pub(super) struct Wire {
    port: u16,
    counters: Arc<Counters>,
}

impl Wire {
    /// Starts relaying.
    pub(super) fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The relay closes a connection that it can't establish, and the client reports
                // that.
                let _ = relay(client, server, &counted);
            }
        });
        Ok(Self { port, counters })
    }

    /// The port that clients connect to.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The address of the HTTP server behind the relay.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The traffic since the last call. All clients must have finished; it waits for bytes that are
    /// still in transit.
    pub(super) fn take(&self) -> Passed {
        let began = Instant::now();
        while self.counters.open.load(Ordering::Acquire) > 0 && began.elapsed() < QUIET_TIME {
            thread::sleep(Duration::from_millis(1));
        }
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Passed {
            sent: take(&self.counters.sent),
            received: take(&self.counters.received),
            requests: take(&self.counters.requests),
        }
    }
}

fn relay(client: TcpStream, server: SocketAddr, counters: &Arc<Counters>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = (client.try_clone()?, client);
    let (from_server, to_server) = (server.try_clone()?, server);
    let (up, down) = (Arc::clone(counters), Arc::clone(counters));
    counters.open.fetch_add(2, Ordering::Release);
    thread::spawn(move || {
        let mut lines = LineEnds::default();
        pump(from_client, to_server, |bytes| {
            up.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            up.requests.fetch_add(lines.count(bytes), Ordering::Relaxed);
        });
        up.open.fetch_sub(1, Ordering::Release);
    });
    thread::spawn(move || {
        pump(from_server, to_client, |bytes| {
            let bytes = bytes.len() as u64;
            down.received.fetch_add(bytes, Ordering::Relaxed);
        });
        down.open.fetch_sub(1, Ordering::Release);
    });
    Ok(())
}

/// Copies until one end closes, then closes the other.
fn pump(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The connection may be closed already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Counts request lines in a stream that arrives in pieces.
#[derive(Default)]
struct LineEnds {
    tail: Vec<u8>,
}

impl LineEnds {
    fn count(&mut self, piece: &[u8]) -> u64 {
        self.tail.extend_from_slice(piece);
        let windows = self.tail.windows(REQUEST_LINE_END.len());
        let found = windows.filter(|window| *window == REQUEST_LINE_END).count();
        let kept = self.tail.len().min(REQUEST_LINE_END.len() - 1);
        self.tail.drain(..self.tail.len() - kept);
        found as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_are_counted_wherever_the_stream_is_cut() {
        let stream = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPUT /y HTTP/1.1\r\n\r\nbody";
        for cut in 0..stream.len() {
            let mut lines = LineEnds::default();
            let counted = lines.count(&stream[..cut]) + lines.count(&stream[cut..]);
            assert_eq!(counted, 2, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_pass_unchanged_and_are_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Wire::to(listener.local_addr().unwrap()).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            stream.write_all(b"answer").unwrap();
            asked
        });
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, wire.port())).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
        assert_eq!(server.join().unwrap(), b"GET / HTTP/1.1\r\n\r\n");
        drop(client);
        let expected = Passed {
            sent: 18,
            received: 6,
            requests: 1,
        };
        assert_eq!(wire.take(), expected);
        assert_eq!(wire.take(), Passed::default());
    }
}
