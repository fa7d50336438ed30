//! Local Worker: runs it on this machine, on Cloudflare's runtime.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::worker::{self, Kind, Shrink};
use crate::{root, target_folder};

/// Builds the Worker and runs it until it is interrupted.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let mut port = "8787".to_owned();
    let mut data = target_folder().join("worker-data");
    for option in options.chunks(2) {
        match *option {
            ["--port", value] => value.clone_into(&mut port),
            ["--data", value] => data = std::env::current_dir()?.join(value),
            _ => bail!("dev-worker does not know {}", option.join(" ")),
        }
    }
    worker::build(Kind::Deployed, Shrink::No)?;
    let mut node = Command::new("node");
    node.arg(script())
        .args(["--port", &port, "--data"])
        .arg(&data)
        .stdin(Stdio::null());
    let status = node.status().context("starting node")?;
    ensure!(status.success(), "the Worker ended: {status}");
    Ok(())
}

fn script() -> PathBuf {
    root().join("worker/local.js")
}
