//! Worker workload: times and costs of publishes and page views on local workerd. The peers are the
//! embedded host, and an upload of each file separately to the same R2.
//!
//! Client, workerd and its storage share this machine's cores. Miniflare has its own R2 and KV.
//! Those of Cloudflare are remote and distributed. So the times measure the Worker, not Cloudflare.
//! Operations are exact, as the Worker's log counts them, and Cloudflare bills them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bench::Bench;
use crate::blobs;
use crate::corpus;
use crate::get;
use crate::host::Host;
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::serve;
use crate::table::{Goal, Row, Unit};
use crate::workerd::{Build, Workerd};

/// Rounds of publishes that take several seconds.
const SLOW_ROUNDS: usize = 3;

/// Requests of a first publish.
const REQUESTS: f64 = 250.0;

/// Rows of SQLite that a first publish writes.
const FIRST_ROWS: f64 = 6000.0;

/// Rows of SQLite that a change of one file writes.
const CHANGE_ROWS: f64 = 25.0;

/// Memory of the module.
const MEMORY: f64 = 64.0 * 1024.0 * 1024.0;

/// Bytes of the Worker, compressed.
const MODULE: f64 = 1e6;

/// Time for a space's outbox to reach KV.
const SETTLED: Duration = Duration::from_millis(1500);

/// Path of the page that a page view requests.
const PAGE: &str = "/std/vec/";

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let build = Build::Deployed.make()?;
    let mut rows = first(bench, &build);
    rows.extend(later(bench, &build)?);
    rows.extend(upgrade(bench, &build));
    rows.extend(film(bench, &build)?);
    rows.push(module(&build));
    Ok(rows)
}

pub(crate) fn views(bench: &Bench) -> Result<Vec<Row>> {
    pages(bench, &Build::Deployed.make()?)
}

/// A host of either kind, and a client that publishes to it.
struct PublishTarget {
    client: Client,
    server: Server,
}

enum Server {
    Worker(Workerd),
    Embedded(Host),
}

impl PublishTarget {
    fn worker(bench: &Bench, build: &Path) -> Result<Self> {
        let server = Server::Worker(Workerd::start(build)?);
        let client = Client::new(bench.pmx()?)?;
        Ok(Self { client, server })
    }

    fn embedded(bench: &Bench) -> Result<Self> {
        let server = Server::Embedded(Host::start(bench.pmx()?)?);
        let client = Client::new(bench.pmx()?)?;
        Ok(Self { client, server })
    }

    /// Publishes, and adds the host's cost.
    fn sync(&mut self, folder: &Path) -> Result<Sample> {
        corpus::settle()?;
        if let Server::Worker(workerd) = &mut self.server {
            // Earlier operations do not count.
            workerd.op_counts()?;
        }
        let before = self.cpu()?;
        let (url, data) = match &self.server {
            Server::Worker(workerd) => (workerd.url(), workerd.data()),
            Server::Embedded(host) => (host.url(), host.data()),
        };
        let sample = self.client.sync_at((&url, data), folder, "bench")?;
        let cpu = self.cpu()? - before;
        let sample = sample.with("server cpu", cpu);
        match &mut self.server {
            Server::Embedded(host) => Ok(sample.with("server peak", host.peak_bytes()?)),
            Server::Worker(workerd) => {
                thread::sleep(SETTLED);
                let op_counts = workerd.op_counts()?;
                let sample = sample.with("server peak", workerd.peak_bytes()?);
                Ok(with_op_counts(sample, &op_counts, cpu))
            }
        }
    }

    fn cpu(&self) -> Result<f64> {
        match &self.server {
            Server::Worker(workerd) => workerd.cpu(),
            Server::Embedded(host) => host.cpu(),
        }
    }
}

/// Operations: name in the table, name in the log, dollars a million. The prices are Cloudflare's
/// list prices of R2 class A and B, KV, Durable Objects and Workers of July 2026.
const PRICES: [(&str, &str, f64); 9] = [
    ("R2 writes", "r2_write", 4.50),
    ("R2 reads", "r2_read", 0.36),
    ("R2 heads", "r2_head", 0.36),
    ("KV reads", "kv_read", 0.50),
    ("KV writes", "kv_write", 5.00),
    ("calls of the space", "space_call", 0.15),
    ("rows read", "row_read", 0.001),
    ("rows written", "row_written", 1.00),
    ("requests of the Worker", "requests", 0.30),
];

/// Dollars a million milliseconds of processor.
const CPU_PRICE: f64 = 0.02;

fn with_op_counts(sample: Sample, op_counts: &BTreeMap<String, f64>, cpu: f64) -> Sample {
    let mut sample = sample;
    let mut dollars = cpu * 1e3 * CPU_PRICE / 1e6;
    for (name, counted, price) in PRICES {
        let count = op_counts.get(counted).copied().unwrap_or_default();
        dollars += count * price / 1e6;
        sample = sample.with(name, count);
    }
    let memory = op_counts.get("memory").copied().unwrap_or_default();
    sample.with("dollars", dollars).with("memory", memory)
}

/// The first publish of v1.
fn first(bench: &Bench, build: &Path) -> Vec<Row> {
    let folder = bench.v1.folder();
    let [ours, embedded, blobs] = interleave(
        bench.rounds.min(SLOW_ROUNDS),
        [
            Contender::new("Worker", |_| {
                PublishTarget::worker(bench, build)?.sync(folder)
            }),
            Contender::new("embedded host", |_| {
                PublishTarget::embedded(bench)?.sync(folder)
            }),
            Contender::new("one PUT per blob", |_| blobs::publish(folder)).at_most(1),
        ],
    );
    let what = "Worker: first publish of v1";
    let mut rows = beside(what, &ours, &embedded);
    rows.push(Row::compare(
        format!("{what}, verified and stored as frames"),
        (&ours, &blobs),
        Measure::Wall,
        Goal::TimesFaster(5.0),
    ));
    rows.push(Row::compare_in(
        Unit::Seconds,
        format!("{what}: processor time of workerd"),
        (&ours, &blobs),
        Measure::Fact("server cpu"),
        Goal::Known,
    ));
    rows.push(Row::compare_in(
        Unit::Bytes,
        format!("{what}: bytes sent"),
        (&ours, &blobs),
        Measure::Fact("sent"),
        Goal::Known,
    ));
    let limit = |text: &str, name, unit, limit| {
        let measure = (Measure::Fact(name), unit);
        Row::limit(format!("{what}: {text}"), &ours, measure, limit)
    };
    rows.extend([
        limit("requests", "requests", Unit::Count, Some(REQUESTS)),
        limit("memory of the module", "memory", Unit::Memory, Some(MEMORY)),
        limit("memory of workerd", "server peak", Unit::Memory, None),
    ]);
    rows.extend(operations(what, &ours, Some(FIRST_ROWS)));
    let each = price_of_object_per_file(bench.v1.files().len());
    rows.push(Row::compare_in(
        Unit::Dollars,
        format!("{what}: at list prices"),
        (&ours, &each),
        Measure::Fact("dollars"),
        Goal::Known,
    ));
    rows
}

/// Price of writing one object for each file.
fn price_of_object_per_file(files: usize) -> Series {
    let dollars = files as f64 * PRICES[0].2 / 1e6;
    let sample = move |_| Ok(Sample::default().with("dollars", dollars));
    let [series] = interleave(1, [Contender::new("an object a file, its writes", sample)]);
    series
}

/// Rows of the wall time here and on the embedded host, and of the processor time of both.
fn beside(what: &str, ours: &Series, embedded: &Series) -> Vec<Row> {
    vec![
        Row::compare(what, (ours, embedded), Measure::Wall, Goal::Known),
        Row::compare_in(
            Unit::Seconds,
            format!("{what}: processor time of the host"),
            (ours, embedded),
            Measure::Fact("server cpu"),
            Goal::Known,
        ),
    ]
}

/// A row of the counted operations that occurred.
fn operations(what: &str, ours: &Series, rows_max: Option<f64>) -> Vec<Row> {
    let row = |(name, _, _): &(&'static str, &str, f64)| {
        let measure = Measure::Fact(name);
        let limit = rows_max.filter(|_| *name == "rows written");
        let occurred = ours.worst(measure).is_some_and(|count| count > 0.0);
        let what = format!("{what}: {name}");
        (occurred || limit.is_some()).then(|| Row::limit(what, ours, (measure, Unit::Count), limit))
    };
    PRICES.iter().filter_map(row).collect()
}

/// Syncs without a change and with one changed page.
fn later(bench: &Bench, build: &Path) -> Result<Vec<Row>> {
    let copy = bench.v1.copy()?;
    let folder = copy.path();
    let page = folder.join("std/vec/index.html");
    let published = |place: Result<PublishTarget>| {
        let mut place = place?;
        place.sync(folder)?;
        // The second sync uses the cache of the first.
        place.sync(folder)?;
        Ok(place)
    };
    let edit = |place: &mut PublishTarget, round| {
        edit(&page, round)?;
        place.sync(folder)
    };
    let worker = || published(PublishTarget::worker(bench, build));
    let embedded = || published(PublishTarget::embedded(bench));
    let [noop, noop_embedded] = interleave(
        bench.rounds,
        [
            Contender::from_setup("Worker", worker(), |place, _| place.sync(folder)),
            Contender::from_setup("embedded host", embedded(), |place, _| place.sync(folder)),
        ],
    );
    let [one, one_embedded] = interleave(
        bench.rounds,
        [
            Contender::from_setup("Worker", worker(), edit),
            Contender::from_setup("embedded host", embedded(), edit),
        ],
    );
    let what = "Worker: sync of v1, nothing changed";
    let mut rows = beside(what, &noop, &noop_embedded);
    rows.extend(operations(what, &noop, None));
    let what = "Worker: one changed page";
    rows.extend(beside(what, &one, &one_embedded));
    rows.extend(operations(what, &one, Some(CHANGE_ROWS)));
    Ok(rows)
}

/// Edits the page differently in each round.
fn edit(page: &Path, round: usize) -> Result<()> {
    let mut text = fs::read(page)?;
    let now = Instant::now();
    text.extend_from_slice(format!("<!-- {round} {now:?} -->\n").as_bytes());
    Ok(fs::write(page, &text)?)
}

/// From v1 to v2 by a client without local packs of v1.
fn upgrade(bench: &Bench, build: &Path) -> Vec<Row> {
    let what = "Worker: v1 to v2";
    let Some(v2) = &bench.v2 else {
        return vec![Row::skipped(what, "this machine has no v2")];
    };
    let publish = |place: Result<PublishTarget>| {
        let mut place = place?;
        place.sync(bench.v1.folder())?;
        place.client.forget()?;
        place.sync(v2.folder())
    };
    let [ours, embedded] = interleave(
        bench.rounds.min(SLOW_ROUNDS),
        [
            Contender::new("Worker", |_| publish(PublishTarget::worker(bench, build))),
            Contender::new("embedded host", |_| publish(PublishTarget::embedded(bench))),
        ],
    );
    let mut rows = beside(what, &ours, &embedded);
    let memory = (Measure::Fact("memory"), Unit::Memory);
    rows.push(Row::limit(
        format!("{what}: memory of the module, both publishes"),
        &ours,
        memory,
        Some(MEMORY),
    ));
    rows.extend(operations(what, &ours, None));
    rows
}

/// One incompressible file of 1 GB.
fn film(bench: &Bench, build: &Path) -> Result<Vec<Row>> {
    const MEBIBYTES: usize = 954;
    let folder = tempfile::Builder::new().prefix("pmx-film-").tempdir()?;
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut file = fs::File::create(folder.path().join("film.mp4"))?;
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..MEBIBYTES {
        noise.fill(&mut chunk);
        file.write_all(&chunk)?;
    }
    drop(file);
    let publish = |_| PublishTarget::worker(bench, build)?.sync(folder.path());
    let [ours] = interleave(1, [Contender::new("Worker", publish)]);
    let what = "Worker: a file of 1 GB";
    let limit =
        |text: &str, measure, limit| Row::limit(format!("{what}: {text}"), &ours, measure, limit);
    let memory = (Measure::Fact("memory"), Unit::Memory);
    let mut rows = vec![
        limit("published in", (Measure::Wall, Unit::Seconds), None),
        limit("memory of the module", memory, Some(MEMORY)),
    ];
    rows.extend(operations(what, &ours, None));
    Ok(rows)
}

/// Page views: by a fresh isolate, by a warm one, and under load.
fn pages(bench: &Bench, build: &Path) -> Result<Vec<Row>> {
    let mut place = PublishTarget::worker(bench, build)?;
    place.sync(bench.v1.folder())?;
    let Server::Worker(mut workerd) = place.server else {
        return Err(anyhow!("not a Worker"));
    };
    let (cold, warm) = (
        view(&mut workerd, build, View::Cold),
        view(&mut workerd, build, View::Warm),
    );
    let mut rows = Vec::new();
    for (what, series) in [("cold page", cold), ("warm page", warm)] {
        let what = format!("Worker: a {what}");
        let wall = (Measure::Wall, Unit::Seconds);
        rows.push(Row::limit(
            format!("{what}: latency, the slowest"),
            &series,
            wall,
            None,
        ));
        rows.extend(operations(&what, &series, None));
    }
    rows.extend(serve::load(bench, ("Worker", workerd.port()))?);
    let peak = workerd.peak_bytes()?;
    let [held] = interleave(
        1,
        [Contender::new("workerd", |_| {
            Ok(Sample::default().with("peak", peak))
        })],
    );
    rows.push(Row::limit(
        "Worker: memory of workerd under load",
        &held,
        (Measure::Fact("peak"), Unit::Memory),
        None,
    ));
    Ok(rows)
}

#[derive(Clone, Copy)]
enum View {
    Cold,
    Warm,
}

fn view(workerd: &mut Workerd, build: &Path, view: View) -> Series {
    let turn = |_| {
        match view {
            // The load of the module does not count: an isolate does it once for all sites.
            View::Cold => {
                workerd.restart(build)?;
                get::get(workerd.port(), "127.0.0.1", "/healthz", &[])?;
            }
            View::Warm => drop(page(workerd)?),
        }
        workerd.op_counts()?;
        let wall = page(workerd)?;
        let op_counts = workerd.op_counts()?;
        let sample = Sample {
            wall: wall.as_secs_f64(),
            ..Sample::default()
        };
        Ok(with_op_counts(sample, &op_counts, 0.0))
    };
    let [series] = interleave(5, [Contender::new("a page", turn)]);
    series
}

fn page(workerd: &Workerd) -> Result<Duration> {
    let started = Instant::now();
    let takes = ["Accept-Encoding: gzip, zstd"];
    let answer = get::get(workerd.port(), "bench.localhost", PAGE, &takes)?;
    ensure!(answer.status == 200, "{PAGE} answered {}", answer.status);
    Ok(started.elapsed())
}

fn module(build: &Path) -> Row {
    let weigh = |_| {
        let files = ["index.js", "glue.js", "glue_bg.wasm"];
        let sizes = files.map(|file| gzipped(&build.join(file)));
        let sizes = sizes.into_iter().collect::<Result<Vec<_>>>()?;
        let sum: usize = sizes.iter().sum();
        Ok(Sample::default().with("bytes", sum as f64))
    };
    let [series] = interleave(1, [Contender::new("module", weigh)]);
    let bytes = (Measure::Fact("bytes"), Unit::Bytes);
    Row::limit("Worker: its size, gzipped", &series, bytes, Some(MODULE))
}

fn gzipped(file: &PathBuf) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.len())
}
