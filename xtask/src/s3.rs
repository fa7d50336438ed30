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
    if fs::read(&installed).is_ok_and(|list| list == wanted) {
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
    run(Command::new(place.join("bin/python"))
        .args(install)
        .arg(&list))?;
    Ok(fs::write(installed, wanted)?)
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
