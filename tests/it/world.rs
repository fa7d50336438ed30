//! Story world: a folder, a server process, caches, and the real `pmx`.

mod hosts;
pub(crate) mod http;
mod server;
pub(crate) mod tcp;
mod unkind;

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use hosts::{
    on_both_hosts, on_kind_hosts, started_on_both_hosts, started_on_kind_hosts,
};
pub(crate) use http::{Answer, raw, try_raw};
pub(crate) use server::{Host, Running, Server, port_in};

/// A command of `pmx` without the variables of an object store that the tests run with.
pub(crate) fn pmx_command() -> Command {
    let mut command = Command::new(pmx_path());
    without_store(&mut command);
    command
}

/// Removes the variables of an object store: a server of a story never writes to a real one.
pub(crate) fn without_store(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text == "OBJECTS_URL" || text == "TAKE_OVER" {
            command.env_remove(name);
        }
    }
}

/// The `pmx` binary of the same build as these tests.
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
        // A test process has these variables and a shell does not. With them, some build scripts
        // would run again each time.
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

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The reason why the Worker can't run here.
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
        let changed = [
            "core/src",
            "streams/src",
            "sync/src",
            "worker/src",
            "worker/shim.js",
            "Cargo.lock",
        ];
        let changed = changed.map(|part| newest(&root().join(part)));
        let is_old = changed.into_iter().flatten().any(|time| time > built);
        is_old.then_some("the Worker is older than its source: cargo xtask worker")
    })
}

/// The time of the last change in a folder.
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
    /// Environment variables of the server.
    settings: Vec<(String, String)>,
    /// Whether the story wrote something that not all readers see yet.
    unsettled: Cell<bool>,
}

/// Exit code and output of a `pmx` run.
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

    /// A field of the summary, by JSON pointer.
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

    /// Fails the story unless the command succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Fails the story unless the command failed with this exit code and error code.
    pub(crate) fn fails(self, exit: i32, code: &str) -> Self {
        assert_eq!(self.code, exit, "{self:?}");
        let is_named = self.stdout.contains(code) || self.stderr.contains(code);
        assert!(is_named, "{code} is not named: {self:?}");
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
    /// A new world with the embedded server.
    pub(crate) fn new() -> Self {
        Self::with(Host::Embedded)
    }

    /// A new world with the Worker; `None`, after a message, if it can't run here.
    pub(crate) fn worker() -> Option<Self> {
        Self::on_workerd(Host::Worker)
    }

    /// The same on an unkind platform.
    pub(crate) fn unkind() -> Option<Self> {
        Self::on_workerd(Host::Unkind)
    }

    fn on_workerd(host: Host) -> Option<Self> {
        match worker_lacks() {
            None => Some(Self::with(host)),
            Some(lack) => {
                skipped("the Worker", lack);
                None
            }
        }
    }

    /// A world whose site `docs` has a home page.
    pub(crate) fn published(home: &str) -> Self {
        let world = Self::new();
        world.write(&[("index.html", home)]);
        world.sync("docs", &[]).ok();
        world
    }

    fn with(host: Host) -> Self {
        Self::with_settings(host, &[])
    }

    /// A new world whose server has environment variables.
    pub(crate) fn with_settings(host: Host, settings: &[(&str, &str)]) -> Self {
        let temp = TempDir::new().expect("a temporary folder");
        fs::create_dir(temp.path().join("site")).expect("a folder for the site");
        let server = Server::start_with(host, &temp.path().join("data"), 0, settings);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            temp,
            server,
            settings: settings.iter().map(owned).collect(),
            unsettled: Cell::new(false),
        }
    }

    /// Waits until all readers see the written content: where KV lags, this is after the
    /// acknowledgement. Stories about the time in between use [`World::ask`], which does not wait.
    fn settle(&self) {
        if self.server.host == Host::Unkind && self.unsettled.take() {
            let settled = self.ask("GET", "", "/.unkind/settled", &[], b"");
            assert_eq!(settled.status, 200, "{settled:?}");
        }
    }

    /// Restarts a killed server with the same data folder and settings.
    pub(crate) fn restart(&mut self) {
        let (host, port) = (self.server.host, self.server.port);
        let settings = self
            .settings
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let settings: Vec<_> = settings.collect();
        let data = self.temp.path().join("data");
        self.server = Server::start_with(host, &data, port, &settings);
    }

    /// The folder that `pmx` publishes.
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

    /// A command with this world's server and caches, and no other variables of `pmx`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.unsettled.set(true);
        let mut command = pmx_command();
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
        let args = [&["--json"], more].concat();
        self.pmx(&sync_args(space, &args))
    }

    /// GET of a page of a site.
    pub(crate) fn get(&self, host: &str, path: &str) -> Answer {
        self.get_with(host, path, &[])
    }

    /// The same with headers.
    pub(crate) fn get_with(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", host, path, headers, b"")
    }

    /// Sends a request unchanged, to a host under `localhost` or, if empty, to the API.
    pub(crate) fn request(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        // GET requests fetch pages, and API requests change something.
        match method {
            "GET" | "HEAD" => self.settle(),
            _ if !host.is_empty() => self.settle(),
            _ => self.unsettled.set(true),
        }
        self.ask(method, host, path, headers, body)
    }

    /// The same, without waiting for all readers to see the written content.
    pub(crate) fn ask(
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

/// Reports that a test checks nothing here, and the reason. Where all tests are required, it fails.
pub(crate) fn skipped(what: &str, lack: &str) {
    let everything = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!everything, "{what} can't be tested: {lack}");
    let test = std::thread::current();
    let name = test.name().unwrap_or("a story");
    let said = format!("SKIPPED {name}: {lack}\n");
    // Bypasses the test harness, which captures output.
    let _written = std::io::stderr().write_all(said.as_bytes());
}

/// Incompressible bytes of a seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// The arguments of a sync of the site to a space.
pub(crate) fn sync_args<'a>(space: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["sync", "site", "--space", space], more].concat()
}

/// Ends a test whose platform is not installed, after a message: the value of an `Option`, or
/// `return`.
macro_rules! or_skip {
    ($platform:expr) => {
        match $platform {
            Some(platform) => platform,
            None => return,
        }
    };
}
pub(crate) use or_skip;

/// Waits until a condition holds, and fails the story after a generous time.
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
