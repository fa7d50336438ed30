//! Page-view workload: the processor time of a warm page view on the Worker. The peer is a Worker
//! that reads one key of KV and answers the same bytes.
//!
//! The bench sends requests in sequence over one connection, directly to the Worker, without
//! Miniflare's own Worker in front. The other rows explain the difference: a Worker without KV, the
//! shortest answer of the PathMX Worker, and a page that the client has already.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::get;
use crate::host;
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::table::{Goal, Row, Unit};
use crate::workerd::{self, Build, Node, Workerd};

/// Requests of a turn: so many that a request of the system in between counts for little.
const REQUESTS: usize = 1500;

const ROUNDS: usize = 5;

/// Unmeasured turns before the first measured one.
const WARM_TURNS: usize = 3;

/// Lines of the page: 16 KB.
const LINES: usize = 490;

/// Seconds of processor time for one request.
pub(crate) const CPU: &str = "cpu";

/// Processor time of a warm page, as a multiple of the bare Worker's.
const GOAL: f64 = 1.5;

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let folder = tempfile::Builder::new().prefix("pmx-views-").tempdir()?;
    let file = folder.path().join("index.html");
    fs::write(&file, page())?;
    let ours = ours(bench, folder.path())?;
    let bare = Bare::start(&file, &[])?;
    let empty = Bare::start(&file, &["--no-kv"])?;
    let etag = etag(ours.port())?;
    for view in [View::page(ours.port()), View::known(ours.port(), &etag)] {
        view.warm()?;
    }
    for port in [bare.node.port, empty.node.port] {
        View::page(port).warm()?;
    }
    let [view, known, short, bare, empty] = interleave(
        bench.rounds.min(ROUNDS),
        [
            Contender::new("pmx", |_| {
                View::page(ours.port()).measure(REQUESTS, || ours.cpu())
            }),
            Contender::new("pmx, a page the client has", |_| {
                View::known(ours.port(), &etag).measure(REQUESTS, || ours.cpu())
            }),
            Contender::new("pmx, its shortest answer", |_| {
                View::short(ours.port()).measure(REQUESTS, || ours.cpu())
            }),
            Contender::new("a bare Worker", |_| {
                View::page(bare.node.port).measure(REQUESTS, || bare.node.cpu())
            }),
            Contender::new("a bare Worker without KV", |_| {
                View::page(empty.node.port).measure(REQUESTS, || empty.node.cpu())
            }),
        ],
    );
    let cpu = Measure::Fact(CPU);
    let row = |what: &str, ours: &Series, goal| {
        let what = format!("Worker: {what}: processor time");
        Row::compare_in(Unit::Seconds, what, (ours, &bare), cpu, goal)
    };
    Ok(vec![
        row("a warm page", &view, Goal::AtMost(GOAL)),
        row("a page that the client has", &known, Goal::Known),
        Row::compare_in(
            Unit::Seconds,
            "Worker: a warm page, beside a bare Worker without KV: processor time".to_owned(),
            (&view, &empty),
            cpu,
            Goal::Known,
        ),
        row("its shortest answer, without KV", &short, Goal::Known),
        row("a bare Worker without KV", &empty, Goal::Known),
    ])
}

/// A page that compresses like ordinary pages.
pub(crate) fn page() -> String {
    let head = "<!doctype html><html><head><title>A page</title></head><body>\n".to_owned();
    let lines = (0..LINES).map(|line| format!("<p id=\"p{line}\">Paragraph {line}.</p>\n"));
    head + &lines.collect::<Vec<_>>().concat()
}

/// The PathMX Worker, with a site of the one page.
fn ours(bench: &Bench, folder: &Path) -> Result<Workerd> {
    let workerd = Workerd::start_directly(&Build::Deployed.make()?)?;
    let client = Client::new(bench.pmx()?)?;
    client.sync_at((&workerd.url(), workerd.data()), folder, "bench")?;
    Ok(workerd)
}

fn etag(port: u16) -> Result<String> {
    let answer = get::get(port, "bench.localhost", "/", &[])?;
    ensure!(answer.status == 200, "the page answered {}", answer.status);
    let etag = answer.header("etag").context("the page has no ETag")?;
    Ok(etag.to_owned())
}

/// A minimal Worker, and its folder.
struct Bare {
    node: Node,
    _folder: TempDir,
}

impl Bare {
    fn start(page: &Path, more: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pmx-bare-").tempdir()?;
        let mut command = Command::new("node");
        command
            .arg(workerd::root().join("benches/pages/bare.js"))
            .args(["--port", &host::free_port()?.to_string()])
            .arg("--data")
            .arg(folder.path())
            .arg("--page")
            .arg(page)
            .args(more);
        let node = Node::start(&mut command, &folder.path().join("log"))?;
        Ok(Self {
            node,
            _folder: folder,
        })
    }
}

/// The repeated request, and its answer.
pub(crate) struct View {
    port: u16,
    request: String,
    status: u16,
    bytes: usize,
}

impl View {
    fn page(port: u16) -> Self {
        Self::of(port, "bench.localhost", "/", "", (200, page().len()))
    }

    fn known(port: u16, etag: &str) -> Self {
        let header = format!("If-None-Match: {etag}\r\n");
        Self::of(port, "bench.localhost", "/", &header, (304, 0))
    }

    fn short(port: u16) -> Self {
        Self::of(port, "127.0.0.1", "/healthz", "", (200, 3))
    }

    pub(crate) fn of(
        port: u16,
        host: &str,
        path: &str,
        header: &str,
        answer: (u16, usize),
    ) -> Self {
        let host = format!("Host: {host}:{port}\r\n");
        Self {
            port,
            request: format!("GET {path} HTTP/1.1\r\n{host}{header}\r\n"),
            status: answer.0,
            bytes: answer.1,
        }
    }

    /// Sends requests until V8 has compiled the Worker.
    pub(crate) fn warm(&self) -> Result<()> {
        (0..WARM_TURNS).try_for_each(|_| self.measure(REQUESTS, || Ok(0.0)).map(drop))
    }

    /// Sends `requests`, and returns the processor time of one.
    pub(crate) fn measure(&self, requests: usize, cpu: impl Fn() -> Result<f64>) -> Result<Sample> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let before = cpu()?;
        for _ in 0..requests {
            stream.get_mut().write_all(self.request.as_bytes())?;
            let (status, bytes) = answer(&mut stream)?;
            ensure!(
                (status, bytes) == (self.status, self.bytes),
                "{:?} was answered {status} with {bytes} bytes",
                self.request
            );
        }
        let each = (cpu()? - before) / requests as f64;
        Ok(Sample::default().with(CPU, each))
    }
}

/// Reads an answer: its status, and the bytes of its body.
fn answer(stream: &mut BufReader<TcpStream>) -> Result<(u16, usize)> {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
        let text = line.trim_end();
        if let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
            status = rest.get(..3).context("no status")?.parse()?;
        } else if let Some((name, value)) = text.split_once(": ") {
            if name.eq_ignore_ascii_case("content-length") && status != 304 {
                length = value.parse()?;
            }
            let is_chunked = name.eq_ignore_ascii_case("transfer-encoding");
            ensure!(!is_chunked, "an answer in chunks is not read here");
        } else if text.is_empty() {
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            return Ok((status, length));
        }
    }
}
