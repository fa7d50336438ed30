//! Scan workload: how fast a folder becomes a root. With a warm page cache, `pmx hash --no-cache`
//! is compared with reading the same bytes by `cat` and hashing them by `b3sum`. With a cold one,
//! it is compared with `cat`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench::Bench;
use crate::corpus;
use crate::peer_programs;
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, interleave};
use crate::run;
use crate::table::{Goal, Row, Unit};
use crate::workerd;

/// Cold rounds read everything from the disk each time, so a few are enough.
const COLD_ROUNDS_MAX: usize = 5;

/// Rounds with a peer that takes many seconds for each.
const SLOW_ROUNDS_MAX: usize = 3;

/// Limit of the peak memory of a scan.
const MEMORY: f64 = 64.0 * 1024.0 * 1024.0;

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = warm(bench);
    rows.extend(wrangler(bench));
    rows.extend(cold(bench));
    Ok(rows)
}

fn warm(bench: &Bench) -> Vec<Row> {
    let folder = bench.v1.folder();
    let [ours, cat, b3sum] = interleave(
        bench.rounds,
        [
            Contender::from_setup("pmx hash", client(bench), |client, _| hash(client, folder)),
            Contender::new("find | cat", |_| piped("cat", folder)),
            Contender::from_setup("find | b3sum", peer_programs::find("b3sum"), |_, _| {
                piped("b3sum", folder)
            }),
        ],
    );
    vec![
        Row::compare(
            "scan, hash and manifest of v1",
            (&ours, &cat),
            Measure::Wall,
            Goal::AtMost(0.40),
        ),
        Row::compare(
            "the same",
            (&ours, &b3sum),
            Measure::Wall,
            Goal::TimesFaster(2.3),
        ),
        Row::limit(
            "its peak memory",
            &ours,
            (Measure::Peak, Unit::Memory),
            Some(MEMORY),
        ),
    ]
}

/// Compares the scan with the hashes that wrangler computes before its first request.
fn wrangler(bench: &Bench) -> Vec<Row> {
    let folder = bench.v1.folder();
    let [ours, wrangler] = interleave(
        bench.rounds.min(SLOW_ROUNDS_MAX),
        [
            Contender::from_setup("pmx hash", client(bench), |client, _| hash(client, folder)),
            Contender::from_setup("wrangler's hashes", wrangler_script(), |script, _| {
                let mut command = Command::new("node");
                command.arg(script).arg(folder);
                Ok(Sample::from(&run::whole(&command)?))
            }),
        ],
    );
    vec![Row::compare(
        "scan, hash and manifest of v1",
        (&ours, &wrangler),
        Measure::Wall,
        Goal::TimesFaster(15.0),
    )]
}

fn wrangler_script() -> Result<PathBuf> {
    let home = workerd::root().join("benches/wrangler");
    ensure!(
        home.join("node_modules/blake3-wasm").is_dir(),
        "wrangler's hash is not installed (npm ci in benches/wrangler)"
    );
    Ok(home.join("hash.js"))
}

fn cold(bench: &Bench) -> Vec<Row> {
    let what = "scan of v1, cold page cache";
    if let Err(error) = drop_caches() {
        return vec![Row::skipped(what, format!("{error:#}"))];
    }
    let folder = bench.v1.folder();
    let [ours, cat] = interleave(
        bench.rounds.min(COLD_ROUNDS_MAX),
        [
            Contender::from_setup("pmx hash, cold", client(bench), |client, _| {
                drop_caches()?;
                hash(client, folder)
            }),
            Contender::new("find | cat, cold", |_| {
                drop_caches()?;
                piped("cat", folder)
            }),
        ],
    );
    vec![Row::compare(
        what,
        (&ours, &cat),
        Measure::Wall,
        Goal::AtMost(0.60),
    )]
}

fn client(bench: &Bench) -> Result<Client> {
    Client::new(bench.pmx()?)
}

fn hash(client: &Client, folder: &Path) -> Result<Sample> {
    let arguments = ["hash", "--no-cache"].map(OsStr::new);
    let run = client.run(&[arguments[0], arguments[1], folder.as_os_str()])?;
    Ok(Sample::from(&run))
}

/// Runs `find FOLDER -type f -print0 | xargs -0 PROGRAM > /dev/null`.
fn piped(program: &str, folder: &Path) -> Result<Sample> {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "find \"$1\" -type f -print0 | xargs -0 \"$2\" > /dev/null",
            "sh",
        ])
        .arg(folder)
        .arg(program);
    Ok(Sample::from(&run::whole(&command)?))
}

/// Drops the kernel's caches of pages, folders and inodes (needs root).
fn drop_caches() -> Result<()> {
    corpus::settle()?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")
}
