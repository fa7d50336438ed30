//! Report head: corpora, machine and versions.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench::Bench;
use crate::corpus::Corpus;
use crate::{peer_programs, run};

/// A Markdown list of the facts that a reader needs to judge or repeat the table.
pub(crate) fn describe(bench: &Bench) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- {what}: {value}");
    };
    line(
        "machine",
        format!("{}, {}", read("/proc/sys/kernel/hostname"), processor()),
    );
    line(
        "kernel",
        format!(
            "{}, memory {}",
            read("/proc/sys/kernel/osrelease"),
            memory()
        ),
    );
    line("temporary files", temporary_files());
    let disk = Path::new(crate::streams::DISK);
    line(
        "what streams must keep",
        format!("{} ({})", disk.display(), file_system(disk)),
    );
    line(
        "commit",
        output_of("git", &["describe", "--always", "--dirty"]),
    );
    line(
        "rounds",
        format!("{} interleaved, after one unmeasured", bench.rounds),
    );
    line("v1", corpus(&bench.v1));
    line(
        "v2",
        bench.v2.as_ref().map_or_else(|| "none".to_owned(), corpus),
    );
    let pmx = bench.pmx_path().map(|path| output_of(path, &["--version"]));
    line("pmx", pmx.unwrap_or_else(|| "none".to_owned()));
    for (peer, version) in peer_programs::versions() {
        line(peer, version);
    }
    text
}

fn temporary_files() -> String {
    let folder = tempfile::env::temp_dir();
    format!("{} ({})", folder.display(), file_system(&folder))
}

fn corpus(corpus: &Corpus) -> String {
    format!(
        "{} files, {:.1} MB ({})",
        corpus.files().len(),
        corpus.bytes() as f64 / 1e6,
        corpus.toolchain()
    )
}

fn processor() -> String {
    let listing = read("/proc/cpuinfo");
    let models = listing
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<&str> = models
        .map(|line| line.trim_start_matches([' ', '\t', ':']))
        .collect();
    format!(
        "{} × {}",
        models.len(),
        models.first().unwrap_or(&"an unknown processor")
    )
}

fn memory() -> String {
    let listing = read("/proc/meminfo");
    let total = listing
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    total.unwrap_or("unknown").trim().to_owned()
}

fn file_system(folder: &Path) -> String {
    let path = folder.to_string_lossy();
    output_of("stat", &["--file-system", "--format=%T", &path])
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn output_of(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = run::quietly(
        command
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
    output.map_or_else(|_| "unknown".to_owned(), |output| output.trim().to_owned())
}
