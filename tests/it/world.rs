//! A world of its own for each story: a folder, a server process, caches, and the real `pmx`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

/// The `pmx` binary, built as these tests were.
pub(crate) fn pmx_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let me = std::env::current_exe().expect("a test knows where it is");
        let folder = me
            .parent()
            .and_then(Path::parent)
            .expect("tests lie in deps")
            .to_owned();
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bin", "pmx"]);
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // A test has it and a shell has not; some build scripts would be run again each time.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
                build.env_remove(name);
            }
        }
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build.env(
            "CARGO_TARGET_DIR",
            folder.parent().expect("profiles lie in the target folder"),
        );
        assert!(
            build.status().expect("cargo runs").success(),
            "pmx does not build"
        );
        folder.join(format!("pmx{}", std::env::consts::EXE_SUFFIX))
    })
}

/// What answers a story's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// `pmx serve`.
    Embedded,
    /// The Worker, on workerd.
    Worker,
}

impl Host {
    fn command(self, data: &Path, port: u16) -> Command {
        match self {
            Self::Embedded => {
                let mut command = Command::new(pmx_path());
                command
                    .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
                    .arg(data)
                    .env("PMX_CACHE", data.join("no-cache"))
                    .env_remove("PUBLISH_SECRET");
                command
            }
            Self::Worker => {
                let mut command = Command::new("node");
                command
                    .arg(root().join("worker/local.js"))
                    .args(["--until-stdin-ends", "--port", &port.to_string(), "--data"])
                    .arg(data)
                    // It is never in local mode, so its streams are closed without this.
                    .env("STREAM_ACCESS", "open")
                    // node and the workerd that it starts can then be killed at one blow.
                    .process_group(0);
                command
            }
        }
    }
}

/// A server process that is killed when it goes out of scope.
pub(crate) struct Server {
    process: Child,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server over a data folder, on a free port or on a given one.
    pub(crate) fn start(host: Host, data: &Path, port: u16) -> Self {
        Self::start_with(host, data, port, &[])
    }

    /// The same with variables of the environment.
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
        // The server says on stdout where it listens.
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        stdout
            .read_line(&mut line)
            .expect("the server says where it listens");
        // What it says later must not hold it up.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut more));
        let port = line
            .trim()
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .and_then(|p| p.parse().ok());
        let port = port.unwrap_or_else(|| panic!("the server said {line:?}, not where it listens"));
        Self {
            process,
            host,
            port,
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        match self.host {
            Host::Embedded => drop(self.process.kill()),
            Host::Worker => {
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

/// Tells each story twice: to the embedded host and to the Worker.
macro_rules! on_both_hosts {
    ($($story:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[test]
                fn $story() {
                    super::$story($crate::world::World::new());
                }
            )+
        }

        mod worker {
            $(
                #[test]
                fn $story() {
                    if let Some(world) = $crate::world::World::worker() {
                        super::$story(world);
                    }
                }
            )+
        }
    };
}

pub(crate) use on_both_hosts;

/// The same for stories that start their servers themselves, with settings of their own.
macro_rules! started_on_both_hosts {
    ($($story:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[test]
                fn $story() {
                    super::$story($crate::world::Host::Embedded);
                }
            )+
        }

        mod worker {
            $(
                #[test]
                fn $story() {
                    match $crate::world::worker_lacks() {
                        None => super::$story($crate::world::Host::Worker),
                        Some(lack) => $crate::world::skipped("the Worker", lack),
                    }
                }
            )+
        }
    };
}

pub(crate) use started_on_both_hosts;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What is missing here for the Worker to run.
pub(crate) fn worker_lacks() -> Option<&'static str> {
    static LACK: OnceLock<Option<&str>> = OnceLock::new();
    *LACK.get_or_init(|| {
        let node = Command::new("node").arg("--version").output();
        if !node.is_ok_and(|node| node.status.success()) {
            return Some("there is no node");
        }
        if !root().join("worker/node_modules/miniflare").exists() {
            return Some("workerd is not installed: cargo xtask worker");
        }
        let built = fs::metadata(root().join("worker/build/stamp"));
        let Ok(built) = built.and_then(|stamp| stamp.modified()) else {
            return Some("the Worker is not built: cargo xtask worker");
        };
        let changed = ["sync/src", "worker/src", "worker/shim.js", "Cargo.lock"];
        let changed = changed.map(|part| newest(&root().join(part)));
        let is_old = changed.into_iter().flatten().any(|time| time > built);
        is_old.then_some("the Worker is older than its source: cargo xtask worker")
    })
}

/// When something in a folder changed last.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        let entries = fs::read_dir(path).ok()?.flatten();
        return entries.filter_map(|entry| newest(&entry.path())).max();
    }
    fs::metadata(path).ok()?.modified().ok()
}

/// One story's world.
pub(crate) struct World {
    pub(crate) temp: TempDir,
    pub(crate) server: Server,
}

/// What a run of `pmx` gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The last line of `--json` output.
    pub(crate) fn last(&self) -> Value {
        let line = self
            .stdout
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// A field of the summary, by a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> Value {
        let last = self.last();
        last.pointer(pointer)
            .cloned()
            .unwrap_or_else(|| panic!("no {pointer} in {last}"))
    }

    /// A number of the summary.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        self.at(pointer)
            .as_u64()
            .unwrap_or_else(|| panic!("{pointer} is no number: {self:?}"))
    }

    /// Fails the story unless the command went well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Fails the story unless the command failed with this exit code and error code.
    pub(crate) fn fails(self, exit: i32, code: &str) -> Self {
        assert_eq!(self.code, exit, "{self:?}");
        let told = self.stdout.contains(code) || self.stderr.contains(code);
        assert!(told, "{code} is not named: {self:?}");
        self
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {}\n--- stdout\n{}\n--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl World {
    /// A fresh world with the embedded server.
    pub(crate) fn new() -> Self {
        Self::with(Host::Embedded)
    }

    /// A fresh world with the Worker; nothing, said aloud, if it can't run here.
    pub(crate) fn worker() -> Option<Self> {
        match worker_lacks() {
            None => Some(Self::with(Host::Worker)),
            Some(lack) => {
                skipped("the Worker", lack);
                None
            }
        }
    }

    fn with(host: Host) -> Self {
        Self::with_settings(host, &[])
    }

    /// A fresh world whose server has variables of the environment.
    pub(crate) fn with_settings(host: Host, settings: &[(&str, &str)]) -> Self {
        let temp = TempDir::new().expect("a temporary folder");
        fs::create_dir(temp.path().join("site")).expect("a folder for the site");
        let server = Server::start_with(host, &temp.path().join("data"), 0, settings);
        Self { temp, server }
    }

    /// Starts a server that was killed again, where it was.
    pub(crate) fn restart(&mut self) {
        let (host, port) = (self.server.host, self.server.port);
        self.server = Server::start(host, &self.temp.path().join("data"), port);
    }

    /// The folder to be published.
    pub(crate) fn site(&self) -> PathBuf {
        self.temp.path().join("site")
    }

    /// Writes files of the site.
    pub(crate) fn write(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            self.write_bytes(path, content.as_bytes());
        }
    }

    /// Writes a file of the site.
    pub(crate) fn write_bytes(&self, path: &str, content: &[u8]) {
        let path = self.site().join(path);
        fs::create_dir_all(path.parent().expect("files lie in folders")).expect("folders");
        fs::write(path, content).expect("a file");
    }

    /// A command with this world's server, caches and no other environment of pmx.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(pmx_path());
        command
            .args(args)
            .current_dir(self.temp.path())
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("PMX_") || name.starts_with("GITHUB_") || name.starts_with("CI") {
                command.env_remove(name);
            }
        }
        command
            .env_remove("PATHMX_PUBLISH_TOKEN")
            .env(
                "PMX_SERVER",
                format!("http://127.0.0.1:{}", self.server.port),
            )
            .env("PMX_DATA", self.temp.path().join("data"))
            .env("PMX_CACHE", self.temp.path().join("cache"))
            .env("HOME", self.temp.path())
            .env("NO_COLOR", "1");
        command
    }

    /// Runs `pmx`.
    pub(crate) fn pmx(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("pmx runs").into()
    }

    /// `pmx sync --json` of the site to a space.
    pub(crate) fn sync(&self, space: &str, more: &[&str]) -> Ran {
        let args = [&["sync", "site", "--space", space, "--json"], more].concat();
        self.pmx(&args)
    }

    /// GET of a page of a site.
    pub(crate) fn get(&self, host: &str, path: &str) -> Answer {
        self.request("GET", host, path, &[], b"")
    }

    /// A request as it is, to a host under `localhost` or, if empty, to the API.
    pub(crate) fn request(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let port = self.server.port;
        let host = if host.is_empty() {
            format!("127.0.0.1:{port}")
        } else {
            format!("{host}.localhost:{port}")
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        raw(port, &[head.as_bytes(), body].concat(), method == "HEAD")
    }

    /// The token of this world's server.
    pub(crate) fn token(&self) -> String {
        let secret = fs::read_to_string(self.temp.path().join("data/secret")).expect("a secret");
        format!("Bearer {}", secret.trim())
    }
}

/// Sends bytes as they are and reads the answer to the end.
pub(crate) fn raw(port: u16, request: &[u8], is_head: bool) -> Answer {
    try_raw(port, request, is_head).expect("the server answers")
}

/// Sends bytes as they are; `None` if the connection breaks before an answer.
pub(crate) fn try_raw(port: u16, request: &[u8], is_head: bool) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    // A refusal may come, and the connection close, before the whole body is sent.
    let _sent = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    // A server may keep the connection although it was asked to close it.
    while !is_whole(&bytes, is_head) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    Answer::parse(&bytes, is_head)
}

/// Whether an answer is there to its end; cheaper than parsing it after each read.
fn is_whole(bytes: &[u8], is_head: bool) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let body = &bytes[end + 4..];
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        _ if is_head || head.contains(" 204 ") || head.contains(" 304 ") => true,
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n") && unchunk(body).is_some(),
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8], is_head: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body)?;
        } else if !is_head && status != 304 && status != 204 {
            let length: usize = answer.header("content-length")?.parse().ok()?;
            // A body that is cut short is no answer.
            (answer.body.len() == length).then_some(())?;
        }
        Some(answer)
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = rest.get(end + 2..)?;
        if len == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..len)?);
        rest = rest.get(len + 2..)?;
    }
}

/// Says aloud that a test tests nothing here, and why. Where all must be tested, it fails.
pub(crate) fn skipped(what: &str, lack: &str) {
    let everything = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!everything, "{what} can't be tested: {lack}");
    let test = std::thread::current();
    let name = test.name().unwrap_or("a story");
    let said = format!("SKIPPED {name}: {lack}\n");
    // Past the test harness, which hides what is printed.
    let _told = std::io::stderr().write_all(said.as_bytes());
}

/// Waits until something holds, and fails the story if it does not within a generous while.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "it never happened: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
