//! No-op workload: the cost of a sync without changes, compared with every other tool that answers
//! "did anything change?" about the same folder.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::backup::{Repository, Tool};
use crate::bench::Bench;
use crate::host::Host;
use crate::pmx::Client;
use crate::round::{Contender, Measure, Series, interleave};
use crate::rsync::Daemon;
use crate::table::{Goal, Row, Unit};
use crate::{floor, git};

/// Most bytes sent, and most bytes received.
const BYTES: f64 = 1000.0;

/// Rounds of contenders that take seconds.
const SLOW_ROUNDS: usize = 5;

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let copy = bench.v1.copy()?;
    let folder = copy.path();
    let repository = git::Repository::of(folder);
    let daemon = Daemon::start().and_then(|daemon| daemon.sync(folder).map(|_| daemon));
    let restic = Repository::holding(Tool::Restic, folder);
    let rustic = Repository::holding(Tool::Rustic, folder);
    let site = Site::of(bench, folder);
    let [ours, walk, git, rsync, restic, rustic] = interleave(
        bench.rounds,
        [
            Contender::from_setup("pmx sync", site, |site, _| site.sync(folder)),
            floor::contender("walk + statx", "walk", folder),
            Contender::from_setup("git status", repository, |repository, _| {
                repository.status()
            }),
            Contender::from_setup("rsync -az", daemon, |daemon, _| daemon.sync(folder)),
            Contender::from_setup("restic backup", restic, |restic, _| restic.backup(folder))
                .at_most(SLOW_ROUNDS),
            Contender::from_setup("rustic backup", rustic, |rustic, _| rustic.backup(folder))
                .at_most(SLOW_ROUNDS),
        ],
    );
    let what = "sync of v1, nothing changed";
    let mut rows = vec![
        Row::compare(what, (&ours, &git), Measure::Wall, Goal::TimesFaster(1.3)),
        Row::compare(what, (&ours, &walk), Measure::Wall, Goal::AtMost(1.4)),
        Row::compare(what, (&ours, &rsync), Measure::Wall, Goal::TimesFaster(4.0)),
        Row::compare(
            what,
            (&ours, &restic),
            Measure::Wall,
            Goal::TimesFaster(20.0),
        ),
        Row::compare(
            what,
            (&ours, &rustic),
            Measure::Wall,
            Goal::TimesFaster(20.0),
        ),
    ];
    rows.extend(bytes("its", &ours, 1.0, [BYTES, BYTES]));
    Ok(rows)
}

/// The rows about requests and bodies, each with its limit.
pub(crate) fn bytes(
    whose: &str,
    ours: &Series,
    requests: f64,
    [sent, received]: [f64; 2],
) -> [Row; 3] {
    let row = |what: &str, name, unit, limit| {
        Row::limit(
            format!("{whose} {what}"),
            ours,
            (Measure::Fact(name), unit),
            Some(limit),
        )
    };
    [
        row("requests", "requests", Unit::Count, requests),
        row("bytes sent", "sent", Unit::Bytes, sent),
        row("bytes received", "received", Unit::Bytes, received),
    ]
}

/// A folder on a host of its own, and the client that published it.
pub(crate) struct Site {
    pub(crate) host: Host,
    pub(crate) client: Client,
}

impl Site {
    /// Publishes `folder` twice: the second time fills the client's cache.
    pub(crate) fn of(bench: &Bench, folder: &Path) -> Result<Self> {
        let pmx = bench.pmx()?;
        let site = Self {
            host: Host::start(pmx)?,
            client: Client::new(pmx)?,
        };
        site.sync(folder)?;
        // If a file is as new as its cache entry, neither `pmx` nor git can trust it as unchanged.
        // So the copy must grow older than the clock's resolution.
        thread::sleep(Duration::from_secs(2));
        site.sync(folder)?;
        Ok(site)
    }

    /// One sync of `folder`, as a whole process.
    pub(crate) fn sync(&self, folder: &Path) -> Result<crate::round::Sample> {
        self.client.sync(&self.host, folder, "bench")
    }
}
