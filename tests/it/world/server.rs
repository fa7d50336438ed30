//! Server process of a story, and the hosts that it can run on.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::http::{self, Answer};
use super::{pmx_command, root};

/// Host of a story's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// `pmx serve`.
    Embedded,
    /// The Worker, on workerd.
    Worker,
    /// The Worker in several isolates, with KV lag and occasional failures of bindings.
    Unkind,
}

impl Host {
    /// Whether it is the Worker.
    pub(crate) fn is_worker(self) -> bool {
        self != Self::Embedded
    }

    fn command(self, data: &Path, port: u16) -> Command {
        match self {
            Self::Embedded => {
                let mut command = pmx_command();
                command
                    .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
                    .arg(data)
                    .env("PMX_CACHE", data.join("no-cache"))
                    .env_remove("PUBLISH_SECRET");
                command
            }
            Self::Worker | Self::Unkind => {
                let mut command = Command::new("node");
                let script = if self == Self::Unkind {
                    "worker/unkind.js"
                } else {
                    "worker/local.js"
                };
                command
                    .arg(root().join(script))
                    .args(["--until-stdin-ends", "--port", &port.to_string(), "--data"])
                    .arg(data)
                    // The server is never in local mode, so its streams would be closed without
                    // this.
                    .env("STREAM_ACCESS", "open")
                    .envs(unkind())
                    // One signal can then kill node and the workerd that it starts.
                    .process_group(0);
                command
            }
        }
    }
}

/// Faults of the unkind platform, unless the environment sets them. KV's lag of up to 60 s is 1 s
/// here.
const UNKIND: [(&str, &str); 4] = [
    ("PMX_UNKIND_SEED", "1"),
    ("PMX_UNKIND_LAG", "0.0167"),
    ("PMX_UNKIND_FAULTS", "0"),
    ("PMX_UNKIND_RESETS", "0"),
];

fn unkind() -> impl Iterator<Item = (&'static str, String)> {
    let said = |name: &str| std::env::var(name).ok();
    UNKIND
        .map(|(name, value)| (name, said(name).unwrap_or_else(|| value.to_owned())))
        .into_iter()
}

/// The port in the address that a server prints.
pub(crate) fn port_in(line: &str) -> u16 {
    let port = line.trim().trim_end_matches('/').rsplit(':').next();
    let port = port.and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("the server said {line:?}, not where it listens"))
}

/// A command that prints its address and runs until it is killed, and the port of that address.
pub(crate) struct Running {
    process: Child,
    pub(crate) address: String,
    pub(crate) port: u16,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = process.expect("the command starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Self {
            process,
            port: port_in(&line),
            address: line.trim().to_owned(),
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// GET of a path at a site.
    pub(crate) fn get(&self, site: &str, path: &str) -> Option<Answer> {
        let host = format!("{site}.localhost:{}", self.port);
        http::get(self.port, &host, path)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A server process that is killed when it goes out of scope.
pub(crate) struct Server {
    process: Child,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server over a data folder, on a free or a given port.
    pub(crate) fn start(host: Host, data: &Path, port: u16) -> Self {
        Self::start_with(host, data, port, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_with(
        host: Host,
        data: &Path,
        port: u16,
        settings: &[(&str, &str)],
    ) -> Self {
        fs::create_dir_all(data).expect("a data folder");
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(data.with_extension("log"));
        let log = log.expect("a file for what the server says");
        let mut more = log.try_clone().expect("two may write to it");
        let mut process = host
            .command(data, port)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        // The server prints its address on stdout.
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        stdout
            .read_line(&mut line)
            .expect("the server says where it listens");
        // Reads all later output, so that the server never blocks on it.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut more));
        Self {
            process,
            host,
            port: port_in(&line),
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        match self.host {
            Host::Embedded => drop(self.process.kill()),
            Host::Worker | Host::Unkind => {
                let group = format!("kill -9 -{}", self.process.id());
                let mut kill = Command::new("sh");
                let _gone = kill.args(["-c", &group]).stderr(Stdio::null()).status();
            }
        }
        let _reaped = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
