//! Command line of the benches.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Default rounds of a comparison: an uneven number, so that a median is a measurement.
const ROUNDS: usize = 11;

const USAGE: &str = "usage: pmx-benches [--rounds N] [--only NAME]... [--pmx PATH]\n\
                     \u{20}      pmx-benches zstd-packs DIR | walk DIR | put-blobs DIR PORT";

/// Task of this process.
pub(crate) enum Task {
    /// Measure and print the table.
    Compare(Options),
    /// Run as the contender that compresses a folder as solid packs.
    ZstdPacks(PathBuf),
    /// Run as the contender that uploads each file in its own request, to a port.
    PutBlobs(PathBuf, u16),
    /// Run as the contender that lists a folder with each file's status.
    Walk(PathBuf),
}

/// Options of a comparison.
pub(crate) struct Options {
    /// Measured rounds of each comparison.
    pub(crate) rounds: usize,
    /// The workloads to run; all of them when empty.
    pub(crate) only: Vec<String>,
    /// The `pmx` to measure instead of building one.
    pub(crate) pmx: Option<PathBuf>,
}

/// Reads the arguments after the program's name; `workloads` are the names `--only` may take.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>, workloads: &[&str]) -> Result<Task> {
    let mut arguments = arguments;
    let mut options = Options {
        rounds: ROUNDS,
        only: Vec::new(),
        pmx: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().context(USAGE);
        match argument.to_str() {
            Some("zstd-packs") => return Ok(Task::ZstdPacks(value()?.into())),
            Some("walk") => return Ok(Task::Walk(value()?.into())),
            Some("put-blobs") => return Ok(Task::PutBlobs(value()?.into(), port(&value()?)?)),
            Some("--rounds") => options.rounds = rounds(&value()?)?,
            Some("--only") => options.only.push(workload(&value()?, workloads)?),
            Some("--pmx") => options.pmx = Some(std::path::absolute(value()?)?),
            _ => bail!("{USAGE}\nworkloads: {}", workloads.join(" ")),
        }
    }
    Ok(Task::Compare(options))
}

fn port(value: &OsString) -> Result<u16> {
    let port = value.to_str().and_then(|text| text.parse().ok());
    port.with_context(|| format!("{} is not a port", value.display()))
}

fn rounds(value: &OsString) -> Result<usize> {
    match value.to_str().and_then(|text| text.parse().ok()) {
        Some(rounds) if rounds > 0 => Ok(rounds),
        _ => bail!("--rounds {} is not a positive number", value.display()),
    }
}

fn workload(value: &OsString, workloads: &[&str]) -> Result<String> {
    match value.to_str() {
        Some(name) if workloads.contains(&name) => Ok(name.to_owned()),
        _ => bail!(
            "--only {} is not a workload; they are: {}",
            value.display(),
            workloads.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(line: &str) -> Result<Options> {
        match parse(
            line.split_whitespace().map(OsString::from),
            &["scan", "noop"],
        )? {
            Task::Compare(options) => Ok(options),
            Task::ZstdPacks(_) | Task::Walk(_) | Task::PutBlobs(..) => bail!("not a comparison"),
        }
    }

    #[test]
    fn options_are_read() {
        let options = compare("--only scan --rounds 3 --only noop").unwrap();
        assert_eq!((options.rounds, options.only.len()), (3, 2));
        assert_eq!(compare("").unwrap().rounds, ROUNDS);
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "--rounds 0",
            "--rounds x",
            "--rounds",
            "--only all",
            "-x",
            "walk",
        ] {
            assert!(compare(line).is_err(), "{line} was accepted");
        }
    }
}
