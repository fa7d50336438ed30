//! Blob-by-blob upload, the usual way to publish: each file compressed and sent under its hash, to
//! the same R2 on the same workerd. The Worker that receives them (`benches/blobs.js`) neither
//! checks nor decodes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::files::{self, File};
use crate::floor;
use crate::round::Sample;
use crate::run;
use crate::workerd::{Node, root};

/// Concurrent uploads, as many as browsers and deploy tools open.
const CONNECTIONS: usize = 8;

/// The subcommand `put-blobs`: uploads each content of `folder` once to the server on `port`.
pub(crate) fn put(folder: &Path, port: u16) -> Result<()> {
    let files = files::walk(folder)?;
    let (next, sent) = (AtomicUsize::new(0), AtomicU64::new(0));
    let known = Mutex::new(BTreeSet::new());
    let requests = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| upload(&files, (&next, &sent), &known, port)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.sum::<Result<u64>>()
    })?;
    let sent = sent.into_inner();
    println!("{}", json!({"requests": requests, "sent": sent}));
    Ok(())
}

type Known = Mutex<BTreeSet<[u8; 32]>>;

fn upload(
    files: &[File],
    (next, sent): (&AtomicUsize, &AtomicU64),
    known: &Known,
    port: u16,
) -> Result<u64> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    let mut context = zstd_safe::CCtx::create();
    let (mut room, mut requests) = (Vec::new(), 0);
    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
        let raw = fs::read(&file.path)?;
        let id = blake3::hash(&raw);
        let is_new = known
            .lock()
            .map_err(|_| anyhow!("another upload failed"))?
            .insert(*id.as_bytes());
        if !is_new {
            continue;
        }
        let len = floor::compress(&mut context, &mut room, &raw)?;
        let name = id.to_hex();
        let head =
            format!("PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len}\r\n\r\n");
        server.write_all(&[head.as_bytes(), &room[..len]].concat())?;
        answered(&mut server)?;
        sent.fetch_add((head.len() + len) as u64, Ordering::Relaxed);
        requests += 1;
    }
    Ok(requests)
}

/// Reads the head of an answer without a body.
fn answered(server: &mut TcpStream) -> Result<()> {
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    while !answer.ends_with(b"\r\n\r\n") {
        let read = server.read(&mut room)?;
        ensure!(read > 0, "the server closed the connection");
        answer.extend_from_slice(&room[..read]);
    }
    let is_created = answer.starts_with(b"HTTP/1.1 201");
    ensure!(is_created, "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Publishes once to an empty bucket.
pub(crate) fn publish(folder: &Path) -> Result<Sample> {
    let data: TempDir = tempfile::Builder::new().prefix("pmx-blobs-").tempdir()?;
    let mut node = Command::new("node");
    node.arg(root().join("benches/blobs.js"))
        .arg("--data")
        .arg(data.path());
    let node = Node::start(&mut node, &data.path().join("log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("put-blobs")
        .arg(folder)
        .arg(node.port.to_string());
    let run = run::whole(&command)?;
    let said: serde_json::Value = serde_json::from_slice(&run.stdout)?;
    let fact = |name: &str| said[name].as_f64().context("put-blobs said no numbers");
    Ok(Sample::from(&run)
        .with("requests", fact("requests")?)
        .with("sent", fact("sent")?)
        .with("server cpu", node.cpu()?)
        .with("server peak", node.peak_bytes()?))
}
