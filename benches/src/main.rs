//! Benchmarks: all workloads and their peers, side by side.
//!
//! ```text
//! cargo run --release -p pmx-benches -- [--rounds N] [--only NAME]... [--pmx PATH]
//! ```
//!
//! One run prints one Markdown table on standard output, and progress on standard error. It
//! measures `pmx` as a whole process, because people wait for the process. The command builds that
//! `pmx` first, unless `--pmx` names one. Peers are measured in the same run: on a shared machine,
//! absolute times drift by tens of per cent, but ratios do not. Contenders take turns (A B C, A B
//! C, ...) after one unmeasured round. A ratio is the median of the ratios of single rounds. Bytes
//! and requests are exact, so the table shows their worst round. A missed goal is marked `missed`,
//! and does not fail the run.
//!
//! The corpora are the Rust documentation that rustup installs: v1 is the default toolchain's, v2
//! is nightly's. Peers are found on `PATH` (Debian: `rsync restic casync nginx wrk zstd b3sum git
//! time`; crates.io: `rustic-rs`). The run reports a missing one, also in its rows. Contenders
//! write to memory (`/dev/shm`), unless `TMPDIR` names another folder: see `machine.rs`.
//!
//! | workload | asks |
//! |---|---|
//! | `scan` | how fast a folder becomes a root, warm and cold |
//! | `noop` | what a sync costs when nothing changed |
//! | `page` | what a sync costs when one page changed |
//! | `first` | what the first publish of a site costs |
//! | `upgrade` | what the next version of a site costs |
//! | `serve` | how fast a published page and asset are served |
//! | `patch` | how many bytes of manifest a change costs |
//! | `bytes` | how many bytes the next version of a site costs, by every way: `pmx bench` |
//! | `worker` | the same publishes and pages through the Worker on workerd; needs Node.js |
//! | `pages` | page views through the Worker, cold, warm and under load |
//! | `views` | what a warm page costs the Worker's processor, beside a bare Worker |
//! | `rules` | what a page costs a site with 5,000 redirects, on both hosts, beside a site without |
//! | `packs` | what taking in a pack costs the Worker's module |
//! | `streams` | what appends, catch-ups and live readers cost; needs `npm install` in `benches/streams` |
//!
//! Three subcommands are contenders, which run as separate processes. `zstd-packs DIR` compresses
//! the folder as solid 4 MiB packs, the floor of a first publish. `walk DIR` lists it and reads
//! each file's status, the floor of a sync without changes. `put-blobs DIR PORT` uploads each file
//! separately.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the result of this program, and its progress goes to the terminal"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "bytes and counts here stay far below 2^52"
)]
#![allow(
    clippy::unnecessary_wraps,
    reason = "every workload has one type, whether or not its set-up can fail"
)]

mod args;
mod backup;
mod bench;
mod big;
mod blobs;
mod bytes;
mod corpus;
mod echo;
mod files;
mod first;
mod floor;
mod get;
mod git;
mod host;
mod live;
mod machine;
mod made;
mod naive;
mod nginx;
mod noop;
mod packs;
mod page;
mod patch;
mod peer_programs;
mod pmx;
mod program;
mod round;
mod rsync;
mod rules;
mod run;
mod scan;
mod serve;
mod streams;
mod table;
mod temporary;
mod upgrade;
mod views;
mod worker;
mod workerd;

use anyhow::Result;
use args::Task;
use bench::Bench;
use table::{Row, Table};

/// A workload: its name for `--only`, and its function.
type Workload = (&'static str, fn(&Bench) -> Result<Vec<Row>>);

const WORKLOADS: [Workload; 16] = [
    ("scan", scan::rows),
    ("noop", noop::rows),
    ("page", page::rows),
    ("first", first::rows),
    ("upgrade", upgrade::rows),
    ("serve", serve::rows),
    ("patch", patch::rows),
    ("bytes", bytes::rows),
    ("big", big::rows),
    ("worker", worker::rows),
    ("pages", worker::views),
    ("views", views::rows),
    ("rules", rules::rows),
    ("packs", packs::rows),
    ("streams", streams::rows),
    ("live", live::rows),
];

fn main() -> Result<()> {
    match args::parse(
        std::env::args_os().skip(1),
        &WORKLOADS.map(|(name, _)| name),
    )? {
        Task::Compare(options) => compare(options),
        Task::ZstdPacks(folder) => floor::zstd_packs(&folder),
        Task::Walk(folder) => floor::walk(&folder),
        Task::PutBlobs(folder, port) => blobs::put(&folder, port),
    }
}

fn compare(options: args::Options) -> Result<()> {
    let only = options.only.clone();
    let bench = Bench::prepare(options)?;
    let mut table = Table::default();
    for (name, rows) in WORKLOADS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            eprintln!("== {name}");
            // If a workload's setup fails, its row gives the reason; the others still run.
            let rows = rows(&bench).unwrap_or_else(|error| vec![Row::failed(name, &error)]);
            table.extend(rows);
        }
    }
    println!("{}\n{table}", machine::describe(&bench));
    Ok(())
}
