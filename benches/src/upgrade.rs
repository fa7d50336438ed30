//! Upgrade workload: the cost of v2 over v1, by a client without a cache (a fresh CI machine) and
//! by the client that published v1. The peers are `rsync -az` and the usual way, each new file
//! compressed and sent once. It also checks the reported changes.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use crate::bench::Bench;
use crate::corpus;
use crate::echo::Echo;
use crate::host::Host;
use crate::naive::{self, Difference};
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, Series, interleave};
use crate::rsync::Daemon;
use crate::table::{Goal, Row, Unit};

/// Each round publishes v1 first, so a few are enough; bytes are exact.
const ROUNDS_MAX: usize = 3;

/// Bytes sent without local packs.
const SENT: f64 = 34e6;

/// Bytes sent without local packs, as a share of the bytes that the usual way sends.
const SENT_PART: f64 = 0.25;

/// How much faster than `rsync -z` the client is. `rsync` has the cores to itself there as well,
/// because its other end does little.
const FASTER: f64 = 2.0;

const WHAT: &str = "v1 to v2";

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let Some(v2) = &bench.v2 else {
        return Ok(vec![Row::skipped(WHAT, "this machine has no v2")]);
    };
    eprintln!("   comparing every byte of v1 and v2");
    let naive = naive::compare(&bench.v1, v2)?;
    let pmx = || bench.pmx().cloned();
    let (old, new) = (bench.v1.folder(), v2.folder());
    let [fresh, kept, alone, rsync] = interleave(
        bench.rounds.min(ROUNDS_MAX),
        [
            Contender::from_setup("pmx sync", pmx(), |_, _| {
                publish(bench, old, new, Client::forget)
            }),
            Contender::from_setup("pmx sync, v1 kept", pmx(), |_, _| {
                publish(bench, old, new, |_| Ok(()))
            }),
            Contender::from_setup(
                "pmx sync, v1 kept, the client alone",
                Alone::new(bench, old, new),
                |alone, _| alone.publish(old, new),
            ),
            Contender::from_setup("rsync -az", Daemon::start(), |daemon, _| {
                daemon.hold(old)?;
                let sample = daemon.sync(new)?;
                let both = sample.facts["sent"] + sample.facts["received"];
                Ok(sample.with("both ways", both))
            }),
        ],
    );
    let mut rows = sizes(&fresh, &kept, naive.whole_files_zstd as f64);
    rows.extend(beside_rsync(&fresh, &kept, &rsync));
    rows.push(Row::compare(
        format!("{WHAT} with local packs: the client alone"),
        (&alone, &rsync),
        Measure::Wall,
        Goal::TimesFaster(FASTER),
    ));
    rows.push(classified("without local packs", &fresh, naive));
    rows.push(classified("with them", &kept, naive));
    Ok(rows)
}

/// Publishes `old` to a new host, changes the client's state, and publishes `new`.
fn publish(
    bench: &Bench,
    old: &Path,
    new: &Path,
    between: impl Fn(&Client) -> Result<()>,
) -> Result<Sample> {
    let host = Host::start(bench.pmx()?)?;
    let client = Client::new(bench.pmx()?)?;
    client.sync(&host, old, "bench")?;
    between(&client)?;
    corpus::settle()?;
    let sample = client.sync(&host, new, "bench")?;
    let sent = sample.facts.get("sent").zip(sample.facts.get("received"));
    let both = sent.map(|(sent, received)| sent + received);
    let both = both.ok_or_else(|| anyhow!("the summary has no bytes"))?;
    Ok(sample.with("both ways", both))
}

/// A client with the cache of v1, whose server takes no time.
struct Alone {
    client: Client,
    echo: Echo,
    /// Holds the folder with the secret.
    host: Host,
}

impl Alone {
    /// Publishes both to a real host, to record its answers.
    fn new(bench: &Bench, old: &Path, new: &Path) -> Result<Self> {
        let client = bench.pmx().and_then(Client::new)?;
        let host = Host::start(bench.pmx()?)?;
        let echo = Echo::of(host.port())?;
        let alone = Self { client, echo, host };
        alone.publish(old, new)?;
        Ok(alone)
    }

    fn publish(&self, old: &Path, new: &Path) -> Result<Sample> {
        let sync = |folder| {
            corpus::settle()?;
            self.client
                .sync_through(&self.echo.url(), &self.host, folder, "bench")
        };
        self.client.forget()?;
        sync(old)?;
        let sample = sync(new)?;
        self.echo.repeat();
        ensure!(
            sample.facts.get("published") == Some(&1.0),
            "the echo of a publish is none"
        );
        Ok(sample)
    }
}

fn sizes(fresh: &Series, kept: &Series, whole_files: f64) -> Vec<Row> {
    let row = |what: String, series, limit| {
        let sent = (Measure::Fact("sent"), Unit::Bytes);
        Row::limit(format!("{WHAT}{what}"), series, sent, limit)
    };
    let usual = format!("{:.1} MB", whole_files / 1e6);
    vec![
        row(" without local packs: sent".to_owned(), fresh, Some(SENT)),
        row(
            format!(" without local packs: sent, a quarter of whole files with zstd ({usual})"),
            fresh,
            Some(whole_files * SENT_PART),
        ),
        row(" with local packs: sent".to_owned(), kept, None),
    ]
}

fn beside_rsync(fresh: &Series, kept: &Series, rsync: &Series) -> Vec<Row> {
    let both = Measure::Fact("both ways");
    let names = [(fresh, "without local packs"), (kept, "with local packs")];
    names
        .into_iter()
        .flat_map(|(ours, how)| {
            let pair = (ours, rsync);
            let bytes = format!("{WHAT} {how}: bytes both ways");
            let time = format!("{WHAT} {how}: wall");
            [
                Row::compare_in(Unit::Bytes, bytes, pair, both, Goal::Known),
                Row::compare(time, pair, Measure::Wall, Goal::Known),
            ]
        })
        .collect()
}

/// Whether the summary counts the same changes as the naive comparison.
fn classified(how: &str, ours: &Series, naive: Difference) -> Row {
    let expected = [
        ("added", naive.added),
        ("modified", naive.modified),
        ("removed", naive.removed),
        ("unchanged", naive.unchanged),
        ("total", naive.added + naive.modified + naive.unchanged),
    ];
    let said = expected.map(|(name, _)| (name, ours.median(Measure::Fact(name))));
    let holds = || {
        expected
            .iter()
            .zip(said)
            .all(|((_, a), (_, b))| b == Some(*a as f64))
    };
    let show = |name: &str, count: Option<f64>| match count {
        Some(count) => format!("{count:.0} {name}"),
        None => format!("– {name}"),
    };
    Row::claim(
        format!("{WHAT} {how}: files classified"),
        said.map(|(name, count)| show(name, count)).join(", "),
        format!(
            "naive: {}",
            expected
                .map(|(name, count)| show(name, Some(count as f64)))
                .join(", ")
        ),
        ours.absent().map_or_else(|| Ok(holds()), Err),
    )
}
