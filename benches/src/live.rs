//! Live pages: how soon a browser shows a saved file, which pages receive an edit, and the cost of
//! a deploy to thousands of sockets.
//!
//! The browser is a real Chromium. The time runs from before the write of the file to the first
//! paint that shows it. So it includes the watcher, the scan, the publish, the socket and the page.
//! A page that changed itself is loaded again; a load without changes measures the browser's own
//! time for that. Receivers are counted over open sockets, each of which names the paths that its
//! page of the real site loads. They are compared with a server that would send each event to every
//! socket.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::host::{self, Host};
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::run;
use crate::table::{Row, Unit};
use crate::workerd::{Build, Workerd, root};

/// Saves of a stylesheet and of a page in one turn; the first of each is unmeasured.
const SAVES: &str = "8";

/// From a save to the repaint, on the embedded host.
const DEV_GOAL: f64 = 0.1;

/// From a save to the repaint, through the Worker.
const WORKER_GOAL: f64 = 0.25;

/// Seconds from a stylesheet's save to its first paint, and the browser's own share in loading a
/// page.
const STYLESHEET: &str = "stylesheet";
const PAGE: &str = "page";
const LOAD: &str = "load";
const REST: &str = "rest";

/// Sockets that receive each deploy, and how many deploys there are.
const CROWD: [&str; 2] = ["5000", "20"];

/// The site of all parts.
const SPACE: &str = "docs";

/// A separately measured part.
type Part = (&'static str, fn(&Bench) -> Result<Vec<Row>>);

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let installed = home().join("node_modules/ws").is_dir();
    ensure!(installed, "npm ci in benches/live");
    let mut rows = Vec::new();
    let parts: [Part; 4] = [
        ("a save through pmx dev", dev),
        ("a save through the Worker", worker),
        ("pages that receive an edit", receivers),
        ("sockets that receive a deploy", crowd),
    ];
    for (name, part) in parts {
        eprintln!("{name}");
        rows.extend(part(bench).unwrap_or_else(|error| vec![Row::failed(name, &error)]));
    }
    Ok(rows)
}

fn home() -> PathBuf {
    root().join("benches/live")
}

/// A folder that `pmx` publishes after each change.
struct Followed {
    child: Child,
    _client: Client,
}

impl Followed {
    /// Starts `pmx` with a client's environment, and waits for the first publish.
    fn start(client: Client, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = client.command();
        configure(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let followed = Self {
            child,
            _client: client,
        };
        let mut lines = BufReader::new(stdout).lines();
        lines.next().context("pmx published nothing")??;
        // The rest of its output is discarded, so that it never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(followed)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn dev(bench: &Bench) -> Result<Vec<Row>> {
    let site = bench.v1.copy()?;
    let data = tempfile::Builder::new().prefix("pmx-dev-").tempdir()?;
    let port = host::free_port()?;
    let client = Client::new(bench.pmx()?)?;
    let _followed = Followed::start(client, |command| {
        command.arg("dev").arg(site.path()).args(["--space", SPACE]);
        command.arg("--data").arg(data.path());
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
    })?;
    Ok(saves(bench, &site, port, "pmx dev", DEV_GOAL))
}

fn worker(bench: &Bench) -> Result<Vec<Row>> {
    let site = bench.v1.copy()?;
    let workerd = Workerd::start(&Build::Deployed.make()?)?;
    let client = Client::new(bench.pmx()?)?;
    let _followed = Followed::start(client, |command| {
        command.arg("sync").arg(site.path());
        command.args(["--watch", "--live", "--space", SPACE]);
        command.args(["--server", &workerd.url()]);
        command.env("PMX_DATA", workerd.data());
    })?;
    let name = "pmx sync --watch, workerd";
    Ok(saves(bench, &site, workerd.port(), name, WORKER_GOAL))
}

/// Rows about saves in a folder that a server follows.
fn saves(bench: &Bench, site: &TempDir, port: u16, name: &str, goal: f64) -> Vec<Row> {
    let turn = |_| save(bench, site.path(), port);
    let [series] = interleave(1, [Contender::new("pmx", turn)]);
    let files = bench.v1.files().len();
    let row = |what, text: &str, goal| {
        let text = format!("{name}, {files} files: {text}");
        let measure = (Measure::Fact(what), Unit::Seconds);
        Row::limit(text, &series, measure, goal)
    };
    vec![
        row(
            STYLESHEET,
            "a stylesheet saved until Chromium shows it, median",
            Some(goal),
        ),
        row(PAGE, "a page saved until Chromium shows it, median", None),
        row(
            LOAD,
            "of that, what Chromium takes to load the page, median",
            None,
        ),
        row(REST, "a page saved, less that load", Some(goal)),
    ]
}

/// A page of average size.
fn subject(bench: &Bench) -> Result<&Path> {
    let pages = bench.v1.files().iter().filter(|file| {
        let is_page = file.path.extension().is_some_and(|kind| kind == "html");
        is_page && file.path.starts_with(bench.v1.folder().join("std"))
    });
    let mut pages: Vec<_> = pages.collect();
    pages.sort_by_key(|file| (file.len, &file.path));
    let page = pages.get(pages.len() / 2).context("no pages")?;
    Ok(page.path.strip_prefix(bench.v1.folder())?)
}

fn save(bench: &Bench, site: &Path, port: u16) -> Result<Sample> {
    let mut node = Command::new("node");
    node.arg(home().join("saves.mjs"))
        .arg(format!("http://{SPACE}.localhost:{port}"))
        .arg(site)
        .arg(subject(bench)?)
        .arg(SAVES)
        .arg(chromium()?);
    let said: Value = serde_json::from_str(run::quietly(&mut node)?.trim())?;
    let mut sample = Sample::default();
    for what in [STYLESHEET, PAGE, LOAD] {
        let took = said[what].as_array().into_iter().flatten();
        let mut took: Vec<f64> = took.filter_map(Value::as_f64).collect();
        took.sort_by(f64::total_cmp);
        let median = took.get(took.len() / 2).context("nothing was shown")?;
        sample = sample.with(what, median / 1e3);
    }
    let rest = sample.facts.get(PAGE).zip(sample.facts.get(LOAD));
    let (page, load) = rest.context("a number is missing")?;
    let rest = (page - load).max(0.0);
    Ok(sample.with(REST, rest))
}

/// The browser: `CHROMIUM`, or an installed one.
fn chromium() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    let found = programs.find(|program| program.is_file());
    found.context("there is no chromium (Debian: apt install chromium)")
}

/// Runs a crowd of sockets at a host; `client` is the environment for its publishes.
fn sockets(task: &str, client: &Client, host: &Host, more: &[&str]) -> Result<Value> {
    let mut node = client.command();
    let pmx = node.get_program().to_owned();
    let environment: Vec<_> = node
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    node = Command::new("node");
    for (name, value) in environment {
        match value {
            Some(value) => node.env(name, value),
            None => node.env_remove(name),
        };
    }
    node.env("PMX", pmx).env("PMX_DATA", host.data());
    node.arg(home().join("crowd.mjs"))
        .args([task, &host.port().to_string(), SPACE])
        .args(more);
    Ok(serde_json::from_str(run::quietly(&mut node)?.trim())?)
}

fn receivers(bench: &Bench) -> Result<Vec<Row>> {
    let (host, client) = (Host::start(bench.pmx()?)?, Client::new(bench.pmx()?)?);
    let site = bench.v1.copy()?;
    client.sync(&host, site.path(), SPACE)?;
    let folder = site.path().to_str().context("a folder's name is text")?;
    let said = sockets("receivers", &client, &host, &[folder, &host.url()])?;
    let said = said.as_array().context("nothing was counted")?;
    let rows = said.iter().map(|edit| {
        let what = edit["what"].as_str().unwrap_or_default();
        let (received, concerned) = (&edit["received"], &edit["concerned"]);
        Row::claim(
            format!("1,000 open pages, {what} edited: received, of {concerned} that it concerns"),
            received.to_string(),
            "broadcast: 1000",
            Ok(received == concerned),
        )
    });
    Ok(rows.collect())
}

fn crowd(bench: &Bench) -> Result<Vec<Row>> {
    let (host, client) = (Host::start(bench.pmx()?)?, Client::new(bench.pmx()?)?);
    let site = tempfile::Builder::new().prefix("pmx-site-").tempdir()?;
    for content in ["1", "2"] {
        std::fs::write(site.path().join("index.html"), content)?;
        client.sync(&host, site.path(), SPACE)?;
    }
    let secret = std::fs::read_to_string(host.data().join("secret"))?;
    let [count, deploys] = CROWD;
    let turn = |_| {
        let before = host.cpu()?;
        let said = sockets("many", &client, &host, &[secret.trim(), count, deploys])?;
        let number = |name: &str| said[name].as_f64().context("a number is missing");
        let sample = Sample::default()
            .with("share", number("share")?)
            .with("p50", number("p50")? / 1e3)
            .with("p99", number("p99")? / 1e3);
        let deploys: f64 = deploys.parse()?;
        Ok(sample.with("cpu", (host.cpu()? - before) / deploys))
    };
    let [series] = interleave(1, [Contender::new("pmx", turn)]);
    Ok(crowd_rows(&series))
}

fn crowd_rows(series: &Series) -> Vec<Row> {
    let [count, _] = CROWD;
    let what = format!("a deploy sent to {count} sockets of pmx serve");
    let share = series.least(Measure::Fact("share"));
    let mut rows = vec![Row::claim(
        format!("{what}: received, once and in order"),
        share.map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", share * 100.0)),
        "",
        share
            .map(|share| share >= 1.0)
            .ok_or(series.absent().unwrap_or("no numbers")),
    )];
    for (name, text) in [
        ("p50", "from the request to the socket, p50"),
        ("p99", "the same, p99"),
        ("cpu", "processor time"),
    ] {
        let measure = (Measure::Fact(name), Unit::Seconds);
        let text = format!("{what}: {text}");
        rows.push(Row::limit(text, series, measure, None));
    }
    rows
}
