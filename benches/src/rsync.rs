//! rsync to a daemon on the loopback: the peer of every transfer.

use std::fmt::Write;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::host::{self, Server};
use crate::round::Sample;
use crate::{corpus, peer_programs, run};

/// A running daemon with one writable module.
pub(crate) struct Daemon {
    server: Server,
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon whose module is empty.
    pub(crate) fn start() -> Result<Self> {
        let program = peer_programs::find("rsync")?;
        let folder = tempfile::Builder::new().prefix("pmx-rsync-").tempdir()?;
        let module = folder.path().join("module");
        fs::create_dir(&module)?;
        let settings = folder.path().join("rsyncd.conf");
        fs::write(&settings, configuration(&module)?)?;
        let port = host::free_port()?;
        let mut command = Command::new(program);
        command
            .args(["--daemon", "--no-detach", "--address=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--config={}", settings.display()));
        let ready = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let server = Server::start(&mut command, port, ready)?;
        Ok(Self { server, folder })
    }

    /// Empties the module.
    pub(crate) fn empty(&self) -> Result<()> {
        corpus::empty(&self.module())
    }

    /// Copies `folder` into the module.
    pub(crate) fn hold(&self, folder: &Path) -> Result<()> {
        self.empty()?;
        corpus::copy_into(folder, &self.module())?;
        corpus::settle()
    }

    /// Runs `rsync -az --delete` of `folder` to the module, as a whole process.
    pub(crate) fn sync(&self, folder: &Path) -> Result<Sample> {
        let mut command = Command::new("rsync");
        command
            .args(["-az", "--delete", "--stats", "--no-human-readable"])
            .arg(folder.join(""))
            .arg(format!("rsync://127.0.0.1:{}/module/", self.server.port()));
        let run = run::whole(&command)?;
        let stats = String::from_utf8_lossy(&run.stdout).into_owned();
        let number = |label| statistic(&stats, label).with_context(|| format!("rsync: no {label}"));
        Ok(Sample::from(&run)
            .with("sent", number("Total bytes sent: ")?)
            .with("received", number("Total bytes received: ")?))
    }

    fn module(&self) -> PathBuf {
        self.folder.path().join("module")
    }
}

/// The daemon's configuration. It runs as the user of the benchmark, even if that is root.
fn configuration(module: &Path) -> Result<String> {
    let mut text = "use chroot = no\n".to_owned();
    if run::quietly(Command::new("id").arg("-u"))?.trim() == "0" {
        text.push_str("uid = 0\ngid = 0\n");
    }
    write!(
        text,
        "[module]\npath = {}\nread only = no\n",
        module.display()
    )?;
    Ok(text)
}

fn statistic(stats: &str, label: &str) -> Option<f64> {
    let value = stats.lines().find_map(|line| line.strip_prefix(label))?;
    value.replace(',', "").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read() {
        let stats = "Number of files: 3\nTotal bytes sent: 1,234\nTotal bytes received: 5\n";
        assert_eq!(statistic(stats, "Total bytes sent: "), Some(1234.0));
        assert_eq!(statistic(stats, "Total bytes gained: "), None);
    }
}
