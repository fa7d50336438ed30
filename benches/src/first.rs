//! First-publish workload: a client without a cache publishes v1 to an empty host, in each round.
//! The peers compress the same bytes without any other work, or copy a folder for the first time.
//!
//! Client and server share this machine's cores. So two numbers judge the client alone: its
//! processor time, and its wall time with the answers of an [`Echo`]. The wall time of both is
//! compared with peers whose servers also run here.

use std::path::Path;

use anyhow::Result;

use crate::backup::{Repository, Tool};
use crate::bench::Bench;
use crate::echo::Echo;
use crate::host::Host;
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::rsync::Daemon;
use crate::table::{Goal, Row, Unit};
use crate::{corpus, floor};

/// Rounds of contenders that take ten seconds.
const SLOW_ROUNDS: usize = 3;

/// Bytes sent, as a share of the raw bytes.
const SENT_PART: f64 = 0.065;

const REQUESTS: f64 = 250.0;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let folder = bench.v1.folder();
    let client = bench.pmx().and_then(Client::new);
    let restic = Repository::new(Tool::Restic);
    let rustic = Repository::new(Tool::Rustic);
    let alone = Alone::new(bench);
    let [ours, alone, packs, rsync, restic, rustic] = interleave(
        bench.rounds,
        [
            Contender::from_setup("pmx sync", client, |client, _| {
                publish(bench, client, folder)
            }),
            Contender::from_setup("pmx sync, server's answers repeated", alone, |alone, _| {
                alone.publish(folder)
            }),
            floor::contender("zstd -3 of 4 MiB packs", "zstd-packs", folder),
            Contender::from_setup("rsync -az", Daemon::start(), |daemon, _| {
                daemon.empty()?;
                daemon.sync(folder)
            }),
            Contender::from_setup("restic backup", restic, |restic, _| {
                restic.clear()?;
                restic.backup(folder)
            })
            .at_most(SLOW_ROUNDS),
            Contender::from_setup("rustic backup", rustic, |rustic, _| {
                rustic.clear()?;
                rustic.backup(folder)
            })
            .at_most(SLOW_ROUNDS),
        ],
    );
    let mut rows = times([&ours, &alone], [&packs, &rsync, &restic, &rustic]);
    rows.extend(limits(&ours, bench.v1.bytes() as f64));
    rows.extend(bytes(&ours, &packs, &rsync));
    Ok(rows)
}

/// Publishes once, and then reads the host's cost before it stops.
fn publish(bench: &Bench, client: &Client, folder: &Path) -> Result<Sample> {
    client.forget()?;
    let host = Host::start(bench.pmx()?)?;
    corpus::settle()?;
    let sample = client.sync(&host, folder, "bench")?;
    let sample = sample
        .with("server peak", host.peak_bytes()?)
        .with("server cpu", host.cpu()?);
    drop(host);
    corpus::settle()?;
    Ok(sample)
}

/// A client whose server takes no time.
struct Alone {
    client: Client,
    echo: Echo,
    /// Holds the folder with the secret.
    host: Host,
}

impl Alone {
    /// Publishes once to a real host, to record its answers.
    fn new(bench: &Bench) -> Result<Self> {
        let client = bench.pmx().and_then(Client::new)?;
        let host = Host::start(bench.pmx()?)?;
        let echo = Echo::of(host.port())?;
        let alone = Self { client, echo, host };
        alone.publish(bench.v1.folder())?;
        Ok(alone)
    }

    fn publish(&self, folder: &Path) -> Result<Sample> {
        self.client.forget()?;
        corpus::settle()?;
        let sample = self
            .client
            .sync_through(&self.echo.url(), &self.host, folder, "bench")?;
        self.echo.repeat();
        anyhow::ensure!(
            sample.facts.get("published") == Some(&1.0),
            "the echo of a publish is none"
        );
        Ok(sample)
    }
}

fn times([ours, alone]: [&Series; 2], [packs, rsync, restic, rustic]: [&Series; 4]) -> Vec<Row> {
    let what = "first publish of v1";
    vec![
        Row::compare(
            format!("{what}: processor time of the client"),
            (ours, packs),
            Measure::Cpu,
            Goal::AtMost(1.5),
        ),
        Row::compare(
            format!("{what}: wall, the server's work on the same cores included"),
            (ours, packs),
            Measure::Wall,
            Goal::Known,
        ),
        Row::compare(
            format!("{what}: the client alone"),
            (alone, rsync),
            Measure::Wall,
            Goal::TimesFaster(2.5),
        ),
        Row::compare(
            format!("{what}: the server's work on the same cores included"),
            (ours, rsync),
            Measure::Wall,
            Goal::Known,
        ),
        Row::compare(what, (ours, restic), Measure::Wall, Goal::TimesFaster(5.0)),
        Row::compare(what, (ours, rustic), Measure::Wall, Goal::Known),
    ]
}

fn limits(ours: &Series, raw: f64) -> Vec<Row> {
    let row = |what: &str, measure, unit, limit| {
        Row::limit(
            format!("first publish of v1: {what}"),
            ours,
            (measure, unit),
            limit,
        )
    };
    let fact = Measure::Fact;
    vec![
        row(
            "bytes sent",
            fact("sent"),
            Unit::Bytes,
            Some(raw * SENT_PART),
        ),
        row("requests", fact("requests"), Unit::Count, Some(REQUESTS)),
        row(
            "client memory",
            Measure::Peak,
            Unit::Memory,
            Some(128.0 * MEBIBYTE),
        ),
        row(
            "server memory",
            fact("server peak"),
            Unit::Memory,
            Some(256.0 * MEBIBYTE),
        ),
        row(
            "processor time of the server",
            fact("server cpu"),
            Unit::Seconds,
            None,
        ),
    ]
}

/// Rows of the bytes that peers send for the same folder.
fn bytes(ours: &Series, packs: &Series, rsync: &Series) -> Vec<Row> {
    let row = |peer| {
        Row::compare_in(
            Unit::Bytes,
            "first publish of v1: bytes",
            (ours, peer),
            Measure::Fact("sent"),
            Goal::Known,
        )
    };
    vec![row(packs), row(rsync)]
}
