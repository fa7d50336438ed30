//! Interrupts before the first request: during the scan, the name lookup or the connect.

use std::path::Path;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::{ended, hashes, large};
use crate::namespaces::{Own, within};
use crate::scripted_servers::command;
use crate::world::{World, eventually};

#[test]
fn interrupt_ends_a_scan_at_once() {
    for (signal, more) in [("-INT", None), ("-TERM", Some("--watch"))] {
        let world = World::new();
        large(&world.site());
        let mut args = vec!["sync", "site", "--space", "docs", "--json"];
        args.extend(more);
        let mut command = world.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        hashes(&mut child);
        let ran = ended(child, signal);
        assert_eq!(ran.at("/code"), "E_INTERRUPTED");
    }
}

/// An address that never answers: packets to it are lost.
const NOWHERE: &str = "192.0.2.53";

/// The same address in the spelling of the system's socket tables.
const NOWHERE_HEX: &str = "350200C0";

/// A network that loses every packet to [`NOWHERE`], which is also its name server.
const LOST: &str = "ip link set lo up
    ip route add 192.0.2.53 dev lo
    echo 'nameserver 192.0.2.53' > resolv.conf
    echo 'hosts: files dns' > nsswitch.conf
    mount --bind resolv.conf /etc/resolv.conf
    mount --bind nsswitch.conf /etc/nsswitch.conf";

/// Publishes to a server from a network that loses every packet.
fn lost(home: &Path, server: &str) -> Option<Child> {
    std::fs::create_dir_all(home.join("site")).unwrap();
    std::fs::write(home.join("site/index.html"), "home").unwrap();
    let args = ["sync", "site", "--space", "docs", "--server", server];
    let mut command = within(Own::MountsAndNetwork, LOST, &command(home, &args, &[]))?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(child.spawn().unwrap())
}

/// Waits until a process has a socket to [`NOWHERE`], by the socket table of its network.
fn waits(child: &Child, table: &str, port: u16, state: &str) {
    let table = format!("/proc/{}/net/{table}", child.id());
    let socket = format!("{NOWHERE_HEX}:{port:04X} {state} ");
    eventually("it waits for the network", || {
        let sockets = std::fs::read_to_string(&table).unwrap_or_default();
        sockets.contains(&socket)
    });
}

#[test]
fn interrupt_ends_a_name_lookup_at_once() {
    let home = TempDir::new().unwrap();
    for signal in ["-INT", "-TERM"] {
        let Some(child) = lost(home.path(), "https://sites.example.org") else {
            return;
        };
        waits(&child, "udp", 53, "01");
        let ran = ended(child, signal);
        assert!(ran.stderr.contains("interrupted"), "{ran:?}");
    }
}

#[test]
fn interrupt_ends_a_connection_attempt_at_once() {
    let home = TempDir::new().unwrap();
    for signal in ["-INT", "-TERM"] {
        let Some(child) = lost(home.path(), &format!("http://{NOWHERE}:8787")) else {
            return;
        };
        // The client sent the first packet of a connection, and got no answer.
        waits(&child, "tcp", 8787, "02");
        let ran = ended(child, signal);
        assert!(ran.stderr.contains("interrupted"), "{ran:?}");
    }
}
