//! Embedded host: `pmx serve` in a temporary folder, stopped when dropped.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::get;
use crate::program::Pmx;

/// Time limit of a server's first answer.
const START: Duration = Duration::from_secs(10);

/// A running `pmx serve`.
pub(crate) struct Host {
    server: Server,
    data: TempDir,
}

impl Host {
    /// Starts a host without data, and waits until it answers.
    pub(crate) fn start(pmx: &Pmx) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("pmx-host-").tempdir()?;
        Self::start_in(pmx, data)
    }

    /// Starts a host over an existing folder.
    pub(crate) fn start_in(pmx: &Pmx, data: TempDir) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(pmx.path());
        command
            .args(["serve", "--domain", "localhost", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data")
            .arg(data.path())
            .env("HOME", data.path())
            .env_remove("PUBLISH_SECRET")
            .env_remove("STREAM_SECRET");
        let server = Server::start(&mut command, port, |port| {
            get::get(port, "127.0.0.1", "/healthz", &[]).is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self { server, data })
    }

    /// The address of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its data folder, which holds its secret.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Its peak memory so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<f64> {
        peak_of(self.server.id())
    }

    /// Its processor time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu_of(self.server.id())
    }
}

/// The peak memory of a process, in bytes.
pub(crate) fn peak_of(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: f64 = kibibytes.context("no VmHWM in /proc")?.trim().parse()?;
    Ok(kibibytes * 1024.0)
}

/// The processor time of a process's threads so far, in seconds. A thread that ended counts no
/// more, so a server has to keep its threads during a measurement.
pub(crate) fn cpu_of(process: u32) -> Result<f64> {
    const NANOSECONDS: f64 = 1e9;
    let mut seconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // Time on a processor, time in its queue, and turns (proc_schedstat in the kernel's pages).
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let time: f64 = text
            .split(' ')
            .next()
            .context("no time in /proc")?
            .parse()?;
        seconds += time / NANOSECONDS;
    }
    Ok(seconds)
}

/// A server of any kind as a child process, killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts `command`, which will listen on `port`, and waits until `ready` returns true.
    pub(crate) fn start(
        command: &mut Command,
        port: u16,
        ready: impl Fn(u16) -> bool,
    ) -> Result<Self> {
        let log = tempfile::NamedTempFile::new()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen()?)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut server = Self { child, port };
        let start = Instant::now();
        while !ready(port) {
            let ended = server.child.try_wait()?;
            if ended.is_some() || start.elapsed() > START {
                let said = fs::read_to_string(log.path())?;
                let last = said.trim().lines().last().unwrap_or("it said nothing");
                let program = command.get_program().display();
                bail!("{program} does not answer on port {port}: {last}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// The port that it was started for.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and then nothing remains to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that has no listener now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
