//! TCP sockets in the system's tables: bytes that wait to be sent or read.

use std::fs;

use super::eventually;

/// A connection: its ports in hexadecimal, and the bytes that wait on this side.
struct Connection {
    local: u16,
    remote: u16,
    unsent: u64,
    unread: u64,
}

const ESTABLISHED: &str = "01";

/// All connections of this system.
fn connections() -> Vec<Connection> {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    let tables = tables.into_iter().flatten().collect::<String>();
    tables.lines().filter_map(connection).collect()
}

/// A row of a table: number, local and remote address, state, bytes to send and to read.
fn connection(row: &str) -> Option<Connection> {
    let columns: Vec<&str> = row.split_whitespace().collect();
    let [_, local, remote, ESTABLISHED, queues, ..] = columns[..] else {
        return None;
    };
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let bytes = |queue| u64::from_str_radix(queue, 16).ok();
    let (unsent, unread) = queues.split_once(':')?;
    Some(Connection {
        local: port(local)?,
        remote: port(remote)?,
        unsent: bytes(unsent)?,
        unread: bytes(unread)?,
    })
}

/// Waits until a server has `count` connections, and has read all bytes that arrived.
pub(crate) fn all_read(port: u16, count: usize) {
    eventually("the server reads what was sent", || {
        let all = connections();
        let own: Vec<_> = all.iter().filter(|it| it.local == port).collect();
        own.len() >= count && own.iter().all(|it| it.unread == 0)
    });
}

/// Waits until the clients of a server that reads nothing can send no more.
pub(crate) fn none_sent(port: u16) {
    let mut before = 0;
    eventually("the buffers of the system are full", || {
        let all = connections();
        let own = all.iter().filter(|it| it.remote == port);
        let unsent = own.map(|it| it.unsent).sum();
        let is_same = unsent == before;
        before = unsent;
        unsent > 0 && is_same
    });
}
