//! S3 server of the stories: moto, in exactly the versions of `tests/s3/requirements.txt`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{root, say};

/// Installs the server in `target/s3`, wherever cargo builds, because the stories look there.
pub(crate) fn install() -> Result<()> {
    let place = root().join("target/s3");
    let list = root().join("tests/s3/requirements.txt");
    let wanted = fs::read(&list)?;
    let installed = place.join("installed.txt");
    let python = place.join("bin/python");
    if fs::read(&installed).is_ok_and(|list| list == wanted) && has_moto(&python) {
        return Ok(());
    }
    say("installing what tests/s3/requirements.txt names");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&place))?;
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--requirement",
    ];
    run(Command::new(python).args(install).arg(&list))?;
    Ok(fs::write(installed, wanted)?)
}

/// Whether the environment works: its Python may have moved since.
fn has_moto(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import moto"]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let program = Path::new(&program).display();
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("starting {program}; is Python 3 installed?"))?;
    if !status.success() {
        bail!("{program} did not succeed: {status}");
    }
    Ok(())
}
