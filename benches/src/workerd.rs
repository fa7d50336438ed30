//! Worker on workerd: `worker/local.js` in a temporary folder, stopped when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::get;
use crate::host;

/// Time limit for the Worker's last log line about a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds of the Worker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Build {
    /// The deployed build.
    Deployed,
    /// The build with the pack benchmark.
    Measured,
}

impl Build {
    /// Builds it unless it exists, and returns its path.
    pub(crate) fn make(self) -> Result<PathBuf> {
        let (folder, more): (_, &[&str]) = match self {
            Self::Deployed => ("worker/build", &[]),
            Self::Measured => ("worker/build-measured", &["--measured"]),
        };
        eprintln!("building the Worker ({folder})");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut xtask = Command::new(cargo);
        xtask
            .args(["xtask", "worker"])
            .args(more)
            .current_dir(root());
        let output = xtask.stdin(Stdio::null()).output()?;
        ensure!(
            output.status.success(),
            "cargo xtask worker: {}",
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
        );
        Ok(root().join(folder))
    }
}

/// A running Worker.
pub(crate) struct Workerd {
    node: Node,
    data: TempDir,
    read: usize,
    marks: usize,
}

impl Workerd {
    /// Starts a Worker without data.
    pub(crate) fn start(build: &Path) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("pmx-workerd-").tempdir()?;
        Self::start_in(build, data)
    }

    /// Starts a Worker over an existing folder.
    pub(crate) fn start_in(build: &Path, data: TempDir) -> Result<Self> {
        let node = local(build, data.path(), 0, &[], ALL)?;
        Ok(Self::new(node, data))
    }

    /// Starts a Worker without Miniflare's own Worker in front, which applies encodings as
    /// Cloudflare's edge does. Its log has as many lines as that of a deployed Worker.
    pub(crate) fn start_directly(build: &Path) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("pmx-workerd-").tempdir()?;
        let node = local(build, data.path(), 0, &["--direct"], DEPLOYED)?;
        Ok(Self::new(node, data))
    }

    fn new(node: Node, data: TempDir) -> Self {
        Self {
            node,
            data,
            read: 0,
            marks: 0,
        }
    }

    /// Restarts the Worker over its folder, with empty memory.
    pub(crate) fn restart(&mut self, build: &Path) -> Result<()> {
        let port = self.node.port;
        self.node.stop();
        self.node = local(build, self.data.path(), port, &[], ALL)?;
        Ok(())
    }

    /// The address of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.node.port)
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.node.port
    }

    /// Its folder, which holds its secret.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The processor time of workerd so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.node.cpu()
    }

    /// The peak memory of workerd, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<f64> {
        self.node.peak_bytes()
    }

    /// The log since the last call: operations by name, and the module's peak memory as `memory`.
    pub(crate) fn op_counts(&mut self) -> Result<BTreeMap<String, f64>> {
        let mut op_counts = BTreeMap::new();
        for line in self.access_log()?.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            for (name, count) in line["ops"].as_object().into_iter().flatten() {
                *op_counts.entry(name.clone()).or_default() += count.as_f64().unwrap_or_default();
            }
            if line["type"] == "request" {
                *op_counts.entry("requests".to_owned()).or_default() += 1.0;
            }
            let memory = line["memory"].as_f64().unwrap_or_default();
            let most: &mut f64 = op_counts.entry("memory".to_owned()).or_default();
            *most = most.max(memory);
        }
        Ok(op_counts)
    }

    /// The new lines of the log, up to that of a request that marks the end.
    fn access_log(&mut self) -> Result<String> {
        self.marks += 1;
        let marker = format!("/end-of-round-{}", self.marks);
        get::get(self.node.port, "127.0.0.1", &marker, &[])?;
        let quoted = format!("{marker}\"");
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(log_of(self.data.path()))?;
            if let Some(end) = text.find(&quoted) {
                let start = text[..end].rfind('\n').unwrap_or_default();
                let new = text.get(self.read..start).unwrap_or_default().to_owned();
                self.read = end;
                return Ok(new);
            }
            ensure!(started.elapsed() < PATIENCE, "the journal has no {marker}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The share of page views with a log line: the default of `LOG_SAMPLE`, and all.
const DEPLOYED: &str = "0.01";
const ALL: &str = "1";

fn local(build: &Path, data: &Path, port: u16, more: &[&str], logged: &str) -> Result<Node> {
    let mut command = Command::new("node");
    command
        .arg(root().join("worker/local.js"))
        .args(["--until-stdin-ends", "--port", &port.to_string(), "--build"])
        .arg(build)
        .arg("--data")
        .arg(data)
        .args(more)
        .env("STREAM_ACCESS", "open")
        .env("LOG_SAMPLE", logged);
    Node::start(&mut command, &log_of(data))
}

fn log_of(data: &Path) -> PathBuf {
    data.join("journal")
}

/// A node process that runs workerd, and both process ids.
pub(crate) struct Node {
    child: Child,
    workerd: u32,
    pub(crate) port: u16,
}

impl Node {
    /// Starts a script that prints its address once it listens.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .process_group(0)
            .spawn()
            .context("starting node")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let port = port_said(stdout, log)?;
        let workerd = child_of(child.id()).context("node has started no workerd")?;
        Ok(Self {
            child,
            workerd,
            port,
        })
    }

    /// The processor time of workerd so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        host::cpu_of(self.workerd)
    }

    /// The peak memory of workerd, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<f64> {
        host::peak_of(self.workerd)
    }

    fn stop(&mut self) {
        // Its script ends with its stdin, and stops workerd.
        drop(self.child.stdin.take());
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn port_said(stdout: ChildStdout, mut log: fs::File) -> Result<u16> {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    // Its later output is the log.
    thread::spawn(move || std::io::copy(&mut stdout, &mut log));
    let port = line.trim().trim_end_matches('/').rsplit(':').next();
    match port.and_then(|port| port.parse().ok()) {
        Some(port) => Ok(port),
        None => bail!("node said {line:?}, not where it listens"),
    }
}

/// A child process of another process.
fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let is_ours = fields.split_whitespace().nth(1) == Some(parent.to_string().as_str());
        is_ours && stat.contains("(workerd)")
    })
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
