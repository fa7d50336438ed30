//! Workload context: the corpora, the `pmx` to measure, and the number of rounds.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::args::Options;
use crate::corpus::Corpus;
use crate::program::{self, Pmx};
use crate::{peer_programs, run, temporary};

/// Everything that a workload may use, created once.
pub(crate) struct Bench {
    /// Measured rounds of a comparison.
    pub(crate) rounds: usize,
    /// The site.
    pub(crate) v1: Corpus,
    /// The next version of the site, if this machine has it.
    pub(crate) v2: Option<Corpus>,
    pmx: Result<Pmx, String>,
}

impl Bench {
    /// Finds corpora and peers and builds `pmx`. It fails only on a machine without v1 or without a
    /// way to measure processes. It reports other missing programs, which cost only their own rows.
    pub(crate) fn prepare(options: Options) -> Result<Self> {
        run::check()?;
        temporary::choose_folder();
        let v1 = Corpus::first()?;
        let v2 = Corpus::second()
            .inspect_err(|error| eprintln!("no v2, so no rows about it: {error:#}"))
            .ok();
        peer_programs::print_missing();
        let pmx = program::locate(options.pmx).map_err(|error| format!("{error:#}"));
        if let Err(error) = &pmx {
            eprintln!("no pmx, so only the peers are measured: {error}");
        }
        Ok(Self {
            rounds: options.rounds,
            v1,
            v2,
            pmx,
        })
    }

    /// The `pmx` under test, or the reason why it is missing.
    pub(crate) fn pmx(&self) -> Result<&Pmx> {
        self.pmx.as_ref().map_err(|reason| anyhow!("{reason}"))
    }

    /// The path of the `pmx` under test, for the head of the report.
    pub(crate) fn pmx_path(&self) -> Option<&Path> {
        self.pmx.as_ref().ok().map(Pmx::path)
    }
}
