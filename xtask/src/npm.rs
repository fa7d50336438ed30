//! npm tools: exactly those of a folder's `package-lock.json`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{root, say};

/// Installs the Worker's tools in `worker/node_modules`.
pub(crate) fn install() -> Result<()> {
    install_in(Path::new("worker"))
}

/// Installs a folder's tools in its `node_modules`, from its lock file.
pub(crate) fn install_in(folder: &Path) -> Result<()> {
    let place = root().join(folder);
    let wanted = fs::read(place.join("package-lock.json"))?;
    let installed = place.join("node_modules/installed-lock.json");
    if fs::read(&installed).is_ok_and(|lock| lock == wanted) {
        return Ok(());
    }
    let folder = folder.display();
    say(&format!("installing what {folder}/package-lock.json names"));
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&place)
        .stdin(Stdio::null());
    let status = npm.status();
    let status = status.context("starting npm; is Node.js 20 or newer installed?")?;
    if !status.success() {
        bail!("npm ci did not succeed: {status}");
    }
    Ok(fs::write(installed, wanted)?)
}

/// The path of a package's program.
pub(crate) fn program(name: &str) -> PathBuf {
    root().join("worker/node_modules/.bin").join(name)
}
