//! Fuzzing: runs each format from outside under libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{root, say, target_folder};

/// Formats that are fuzzed at once: one for each core of the smallest machine.
const AT_ONCE: usize = 2;

/// The longest input: a longer one adds no new cases, and takes longer.
const INPUT_BYTES_MAX: u32 = 64 * 1024;

/// How long each format is fuzzed.
#[derive(Debug, Clone, Copy)]
enum Until {
    Seconds(u64),
    Executions(u64),
}

/// Fuzzes all formats. If a format fails, prints its name and the input that makes it fail.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let until = match *options {
        [] => Until::Seconds(20),
        ["--seconds", count] => Until::Seconds(count.parse()?),
        ["--executions", count] => Until::Executions(count.parse()?),
        _ => bail!("cargo xtask fuzz takes --seconds N or --executions N"),
    };
    let place = target_folder().join("fuzz");
    let program = build(&place)?;
    let formats = seeds(&place.join("seeds"))?;
    let fuzzer = Fuzzer {
        place,
        program,
        until,
    };
    let failed = fuzzer.all(formats)?;
    if !failed.is_empty() {
        bail!("these formats do not hold: {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the fuzzer's one binary, with the stable compiler: without a sanitizer it needs no other.
fn build(place: &Path) -> Result<PathBuf> {
    let mut command = cargo(&["fuzz", "build", "--sanitizer", "none"]);
    command
        .args(["--features", "fuzzer", "--target-dir"])
        .arg(place)
        .arg("formats")
        // These settings halve the build time, and the code is nearly as fast.
        .envs([
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ]);
    let built = command.status().context("starting cargo fuzz")?;
    if !built.success() {
        bail!("the fuzzer was not built; has `cargo install cargo-fuzz` run here?");
    }
    let mut folders = fs::read_dir(place)?.flatten();
    let program = folders.find_map(|folder| {
        let program = folder.path().join("release/formats");
        program.is_file().then_some(program)
    });
    program.context("finding the fuzzer that was built")
}

/// Writes the seeds of all formats, and returns the formats' names.
fn seeds(folder: &Path) -> Result<Vec<String>> {
    let mut command = cargo(&["run", "--package", "pmx-fuzz", "--bin", "seeds", "--"]);
    let wrote = command.arg(folder).status().context("writing the seeds")?;
    if !wrote.success() {
        bail!("the seeds were not written: {wrote}");
    }
    let names = fs::read_dir(folder)?.flatten();
    let names = names.map(|entry| entry.file_name().into_string());
    let mut names: Vec<String> = names
        .collect::<Result<_, _>>()
        .map_err(|name| anyhow!("{} is no format", name.display()))?;
    names.sort();
    names.reverse();
    Ok(names)
}

struct Fuzzer {
    place: PathBuf,
    program: PathBuf,
    until: Until,
}

impl Fuzzer {
    /// Fuzzes formats, some at once. Returns the names of those that failed.
    fn all(&self, formats: Vec<String>) -> Result<Vec<String>> {
        let (waiting, failed) = (Mutex::new(formats), Mutex::new(Vec::new()));
        let next = || waiting.lock().ok()?.pop();
        let work = || -> Result<()> {
            while let Some(format) = next() {
                if !self.one(&format)?
                    && let Ok(mut failed) = failed.lock()
                {
                    failed.push(format);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                let done = worker.join();
                done.map_err(|_| anyhow!("a thread of the fuzzer ended"))?
            })
        })?;
        failed.into_inner().map_err(|_| anyhow!("a thread ended"))
    }

    fn one(&self, format: &str) -> Result<bool> {
        let corpus = self.place.join("corpus").join(format);
        fs::create_dir_all(&corpus)?;
        let log = self.place.join(format!("{format}.log"));
        let artifacts = self.place.join(format!("{format}-"));
        let mut command = Command::new(&self.program);
        command
            .arg(&corpus)
            .arg(self.place.join("seeds").join(format))
            .arg(match self.until {
                Until::Seconds(seconds) => format!("-max_total_time={seconds}"),
                Until::Executions(runs) => format!("-runs={runs}"),
            })
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .args(["-timeout=10", "-rss_limit_mb=1024"])
            .arg(format!("-artifact_prefix={}", artifacts.display()))
            .env("PMX_FUZZ_FORMAT", format)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let held = command.status().context("starting the fuzzer")?.success();
        let said = fs::read_to_string(&log)?;
        let done = said.lines().find(|line| line.starts_with("Done"));
        match (held, done) {
            (true, Some(done)) => say(&format!("{format}: {done}")),
            (true, None) => bail!("{format}: {} does not say what ran", log.display()),
            (false, _) => say(&format!("{format}: failed\n{said}")),
        }
        Ok(held)
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null());
    command
}
