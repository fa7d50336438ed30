//! A world of its own for each story: a folder, a server process, caches, and the real `pmx`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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

/// A server process that is killed when it goes out of scope.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts `pmx serve` over a data folder, on a free port or on a given one.
    pub(crate) fn start(data: &Path, port: u16) -> Self {
        let mut process = Command::new(pmx_path())
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .env("PMX_CACHE", data.join("no-cache"))
            .env_remove("PUBLISH_SECRET")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pmx serve starts");
        // The server says on stdout where it listens.
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("pmx serve says where it listens");
        let port = line
            .trim()
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .and_then(|p| p.parse().ok());
        let port = port.unwrap_or_else(|| panic!("pmx serve said {line:?}, not where it listens"));
        Self { process, port }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
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
    /// A fresh world with a running server.
    pub(crate) fn new() -> Self {
        let temp = TempDir::new().expect("a temporary folder");
        fs::create_dir(temp.path().join("site")).expect("a folder for the site");
        let server = Server::start(&temp.path().join("data"), 0);
        Self { temp, server }
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
    let _end = stream.read_to_end(&mut bytes);
    Answer::parse(&bytes, is_head)
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
