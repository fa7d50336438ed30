//! git: a commit of the folder, pushed to a bare repository through a counting relay.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::program::{Programs, run};
use super::report::Cost;
use super::wire::Wire;
use super::{Contender, Version};
use crate::error::Failure;

/// Time limit until the daemon listens.
const START_TIME: Duration = Duration::from_secs(10);

/// A repository beside the folder, and the remote that it pushes to.
pub(super) struct Git {
    program: PathBuf,
    store: PathBuf,
    wire: Wire,
    _daemon: Daemon,
}

impl Git {
    /// Creates two empty repositories.
    pub(super) fn prepare(programs: &Programs<'_>) -> Result<Self, String> {
        let program = programs.find("git")?;
        let served = programs.folder("git/served")?;
        let store = programs.folder("git/store")?;
        let init = |folder: &Path| {
            let mut init = command(&program);
            run(init.args(["init", "--quiet", "--bare"]).arg(folder))
        };
        let made = init(&served.join("site.git")).and_then(|_| init(&store));
        made.map_err(|failure| failure.message)?;
        let started = Daemon::start(&program, &served).and_then(|daemon| {
            let wire = Wire::to(daemon.address)?;
            Ok((daemon, wire))
        });
        let (daemon, wire) = started.map_err(|error| format!("git daemon: {error}"))?;
        Ok(Self {
            program,
            store,
            wire,
            _daemon: daemon,
        })
    }

    fn run(&self, folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
        let mut git = command(&self.program);
        git.arg("--git-dir").arg(&self.store);
        // A bare repository has no work tree, so each command names it.
        git.args(["-c", "core.bare=false", "--work-tree"])
            .arg(folder);
        run(git.args(arguments).current_dir(folder))
    }
}

impl Contender for Git {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        self.run(version.folder, &["add", "--all"])?;
        let changed = self.run(version.folder, &["status", "--porcelain"])?;
        if !changed.is_empty() {
            let commit = ["commit", "--quiet", "--message", "site"];
            self.run(version.folder, &commit)?;
        }
        self.wire.take();
        let address = format!("git://127.0.0.1:{}/site.git", self.wire.port());
        let push = ["push", "--quiet", &address, "HEAD:refs/heads/site"];
        self.run(version.folder, &push)?;
        let passed = self.wire.take();
        Ok(Cost {
            sent: passed.sent,
            received: passed.received,
            ..Cost::default()
        })
    }
}

/// git, independent of the user's settings.
fn command(program: &Path) -> Command {
    let mut command = plain(program);
    for setting in [
        // The commit's background work might still run when the folder changes.
        "gc.auto=0",
        "maintenance.auto=false",
        // Every file counts, unchanged.
        "core.excludesFile=",
        "core.attributesFile=",
        "core.autocrlf=false",
    ] {
        command.args(["-c", setting]);
    }
    command
}

fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    for person in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{person}_NAME"), "bench");
        command.env(format!("GIT_{person}_EMAIL"), "bench@localhost");
    }
    command
}

/// `git daemon`, until it is dropped.
struct Daemon {
    process: Child,
    address: SocketAddr,
}

impl Daemon {
    fn start(program: &Path, served: &Path) -> io::Result<Self> {
        let folder = Command::new(program).arg("--exec-path").output()?;
        let folder = String::from_utf8_lossy(&folder.stdout).trim().to_owned();
        // If `git` started the daemon, it would outlive the child process known here.
        let mut daemon = plain(&Path::new(&folder).join("git-daemon"));
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = free.local_addr()?;
        drop(free);
        let process = daemon
            .args(["--listen=127.0.0.1", "--reuseaddr", "--export-all"])
            .arg(format!("--port={}", address.port()))
            .arg("--enable=receive-pack")
            .arg(format!("--base-path={}", served.display()))
            .arg(served)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut daemon = Self { process, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = daemon.process.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            if began.elapsed() > START_TIME {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
