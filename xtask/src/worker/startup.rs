//! Module start-up time on workerd, compared with that of an empty Worker.
//!
//! Cloudflare refuses a Worker whose global scope takes more than a second. This module measures
//! the time from the start of the runtime to the first answer, and subtracts the empty Worker's
//! time.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{root, target_folder};

/// Runs of each Worker. The fastest counts, because the others measure how busy the machine is.
const RUNS: usize = 3;

/// A Worker with the required classes, all empty.
const EMPTY: &str = "\
export class HubDO {}
export class DomainsDO {}
export class SpaceDO {}
export class StreamDO {}
export default { fetch: () => new Response() };
";

/// The additional start-up time of the module in a folder, over that of an empty one.
pub(super) fn measure(build: &Path) -> Result<Duration> {
    let work = target_folder().join("worker-startup");
    let empty = work.join("empty");
    fs::create_dir_all(&empty)?;
    fs::write(empty.join("index.js"), EMPTY)?;
    let data = work.join("data");
    let fastest = |build: &Path| -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            times.push(first_answer(build, &data)?);
        }
        times.into_iter().min().context("there is a run")
    };
    let (ours, others) = (fastest(build)?, fastest(&empty)?);
    Ok(ours.saturating_sub(others))
}

/// The time from the start of the runtime to its first answer.
fn first_answer(build: &Path, data: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut node = Command::new("node");
    node.arg(root().join("worker/local.js"))
        .arg("--until-stdin-ends")
        .arg("--data")
        .arg(data)
        .arg("--build")
        .arg(build)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut runtime = node.spawn().context("starting node")?;
    let took = answered(&mut runtime).map(|()| started.elapsed());
    // The runtime ends when its standard input closes.
    drop(runtime.stdin.take());
    runtime.wait()?;
    took
}

fn answered(runtime: &mut Child) -> Result<()> {
    let stdout = runtime.stdout.take().context("node has an output")?;
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address)?;
    let host = address.trim().trim_start_matches("http://");
    let host = host.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).context("connecting to workerd")?;
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut first = [0];
    stream.read_exact(&mut first).context("asking workerd")
}
