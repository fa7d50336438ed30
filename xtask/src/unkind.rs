//! Fault stories on an unkind platform, by chance: other seeds than those of the test command, and
//! more faults of every kind.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::worker::{self, Kind, Shrink};
use crate::{root, say};

/// Runs all stories of the unkind platform several times, each with a seed. Prints the first seed
/// that fails, with which a run has the same faults again.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let (mut runs, mut seed) = (1, None);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().and_then(|value| value.parse::<u64>().ok());
        match (*option, value) {
            ("--runs", Some(value)) => runs = value,
            ("--seed", Some(value)) => seed = Some(value),
            _ => bail!("{option} is no option of `cargo xtask unkind`, or has no number"),
        }
    }
    worker::build(Kind::Deployed, Shrink::No)?;
    let first = seed.unwrap_or_else(by_chance);
    for seed in (first..).take(usize::try_from(runs)?) {
        say(&format!("\n=== an unkind platform, seed {seed} ==="));
        if !stories(seed)? {
            bail!("a story failed; again: cargo xtask unkind --seed {seed}");
        }
    }
    Ok(())
}

fn stories(seed: u64) -> Result<bool> {
    let mut tests = Command::new("cargo");
    tests
        .args(["nextest", "run", "--workspace", "--no-fail-fast"])
        .args(["--run-ignored", "all", "-E", "test(unkind::)"])
        .env("PMX_UNKIND_SEED", seed.to_string())
        .current_dir(root())
        .stdin(Stdio::null());
    let status = tests.status().context("starting cargo nextest")?;
    Ok(status.success())
}

fn by_chance() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()))
}
