//! Program under test: a given `pmx`, or the one of this workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run;

/// A `pmx` to measure.
#[derive(Clone, Debug)]
pub(crate) struct Pmx(PathBuf);

/// The `pmx` at `path`, or else that of this workspace, which is built in release mode now.
pub(crate) fn locate(path: Option<PathBuf>) -> Result<Pmx> {
    let path = match path {
        Some(path) => path,
        None => build()?,
    };
    ensure!(path.is_file(), "{} is not a program", path.display());
    let pmx = Pmx(path);
    let version = run::quietly(Command::new(pmx.path()).arg("--version"))?;
    // A program without output is a placeholder of an early version.
    ensure!(
        !version.trim().is_empty(),
        "{} has no version",
        pmx.path().display()
    );
    Ok(pmx)
}

impl Pmx {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Builds `pmx` and returns the path that cargo prints.
fn build() -> Result<PathBuf> {
    eprintln!("building pmx");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "-p", "pmx", "--bin", "pmx"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo build -p pmx ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let messages = text.lines().map(serde_json::from_str::<Value>);
    for message in messages {
        if let Some(executable) = message?["executable"].as_str() {
            return Ok(executable.into());
        }
    }
    bail!("cargo named no executable")
}
