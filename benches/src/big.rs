//! Big-file workload: cost of the next version of an incompressible file of 64 MiB, for the client
//! that sent the version before. No time is measured, so one run is enough.

use anyhow::Result;

use crate::bench::Bench;
use crate::host::Host;
use crate::made::{SEED, noise};
use crate::pmx::Client;
use crate::round::{Contender, Measure, Sample, interleave};
use crate::table::{Row, Unit};

const MEBIBYTE: usize = 1024 * 1024;

/// An edit of the file.
type Edit = fn(&mut Vec<u8>);

/// An edit, and the bytes that it may cost.
const EDITS: [(&str, Edit, f64); 4] = [
    ("one byte", |file| file[30_000_000] ^= 1, 40e3),
    (
        "100 bytes inserted in front",
        |file| drop(file.splice(5_000..5_000, noise(SEED + 1, 100))),
        40e3,
    ),
    (
        "1 MiB moved to the front",
        |file| {
            let block: Vec<u8> = file.drain(50 * MEBIBYTE..51 * MEBIBYTE).collect();
            drop(file.splice(3 * MEBIBYTE..3 * MEBIBYTE, block));
        },
        150e3,
    ),
    ("its end cut off", |file| file.truncate(45_000_000), 40e3),
];

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let old = noise(SEED, 64 * MEBIBYTE);
    let row = |(what, edit, limit): (&str, Edit, f64)| {
        let mut new = old.clone();
        edit(&mut new);
        let client = bench.pmx().and_then(Client::new);
        let ours = Contender::from_setup("pmx sync", client, |client, _| {
            publish(bench, client, &old, &new)
        });
        let [ours] = interleave(1, [ours]);
        let sent = (Measure::Fact("sent"), Unit::Bytes);
        let what = format!("64 MiB that nothing compresses, {what}: sent");
        Row::limit(what, &ours, sent, Some(limit))
    };
    Ok(EDITS.into_iter().map(row).collect())
}

/// Publishes one version and then another.
fn publish(bench: &Bench, client: &Client, old: &[u8], new: &[u8]) -> Result<Sample> {
    let host = Host::start(bench.pmx()?)?;
    let folder = tempfile::Builder::new().prefix("pmx-big-").tempdir()?;
    let file = folder.path().join("film.bin");
    let version = |bytes: &[u8]| -> Result<Sample> {
        std::fs::write(&file, bytes)?;
        client.sync(&host, folder.path(), "bench")
    };
    client.forget()?;
    version(old)?;
    version(new)
}
