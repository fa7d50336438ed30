//! The tools that npm brings: exactly those of `worker/package-lock.json`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{root, say};

/// Has the tools in `worker/node_modules`, as the lock file names them.
pub(crate) fn install() -> Result<()> {
    let worker = root().join("worker");
    let wanted = fs::read(worker.join("package-lock.json"))?;
    let installed = worker.join("node_modules/installed-lock.json");
    if fs::read(&installed).is_ok_and(|lock| lock == wanted) {
        return Ok(());
    }
    say("installing what worker/package-lock.json names");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&worker)
        .stdin(Stdio::null());
    let status = npm.status();
    let status = status.context("starting npm; is Node.js 20 or newer installed?")?;
    if !status.success() {
        bail!("npm ci did not succeed: {status}");
    }
    Ok(fs::write(installed, wanted)?)
}

/// A program that a package brings.
pub(crate) fn program(name: &str) -> PathBuf {
    root().join("worker/node_modules/.bin").join(name)
}
