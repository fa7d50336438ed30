//! Process runner: wall time, processor time and peak memory of a whole process.
//!
//! This process measures wall time. GNU `time`, a small process in between, measures processor time
//! and peak memory. A direct child would start as a share of this process's memory, and Linux
//! counts that into its peak (`setmax_mm_hiwater_rss` in `exec`). GNU `time` costs every contender
//! the same millisecond.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

const TIME: &str = "/usr/bin/time";

/// Cost and output of a finished process.
#[derive(Debug)]
pub(crate) struct Run {
    /// From before its start to its end.
    pub(crate) wall: Duration,
    /// User and system time, of the process and of all children that it waited for.
    pub(crate) cpu: Duration,
    /// The largest resident set of the process or of any child that it waited for, in bytes.
    pub(crate) peak_bytes: u64,
    /// Its standard output.
    pub(crate) stdout: Vec<u8>,
}

/// Fails, with the program to install, if processes cannot be measured here.
pub(crate) fn check() -> Result<()> {
    ensure!(
        Path::new(TIME).exists(),
        "{TIME} measures the processes; install it (Debian: apt install time)"
    );
    Ok(())
}

/// Runs `command` to its end. A process that fails is an error with its message.
pub(crate) fn whole(command: &Command) -> Result<Run> {
    let mut report = NamedTempFile::new()?;
    let mut timed = with_gnu_time(command, report.path());
    let start = Instant::now();
    let output = timed
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let wall = start.elapsed();
    check_success(command, &output)?;
    let mut text = String::new();
    report.read_to_string(&mut text)?;
    let (cpu, peak_bytes) = parse(&text).with_context(|| format!("{TIME} reported {text:?}"))?;
    Ok(Run {
        wall,
        cpu,
        peak_bytes,
        stdout: output.stdout,
    })
}

/// Runs `command` to its end without measuring it, and returns its output.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", name(command)))?;
    check_success(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fails with the command's message, unless it succeeded.
fn check_success(command: &Command, output: &Output) -> Result<()> {
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        name(command),
        output.status,
        last_line(&output.stdout, &output.stderr)
    );
    Ok(())
}

/// The same command with GNU `time` in front, reporting to `report`.
fn with_gnu_time(command: &Command, report: &Path) -> Command {
    let mut timed = Command::new(TIME);
    timed.args(["-q", "-f", "%U %S %M", "-o"]).arg(report);
    timed.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(key, value),
            None => timed.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    timed.stdin(Stdio::null());
    timed
}

/// Reads `user system kibibytes`, the whole output of GNU `time`.
fn parse(report: &str) -> Option<(Duration, u64)> {
    let mut words = report.split_whitespace();
    let user: f64 = words.next()?.parse().ok()?;
    let system: f64 = words.next()?.parse().ok()?;
    let kibibytes: u64 = words.next()?.parse().ok()?;
    let cpu = Duration::try_from_secs_f64(user + system).ok()?;
    Some((cpu, kibibytes * 1024))
}

fn name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Most characters of a reason, which has to fit into a cell of the table.
const REASON_MAX: usize = 160;

/// The last line of a failed process's output, from stderr if it has one.
fn last_line(stdout: &[u8], stderr: &[u8]) -> String {
    [stderr, stdout]
        .into_iter()
        .map(String::from_utf8_lossy)
        .find_map(|text| {
            let last = text.trim().lines().last()?;
            Some(last.chars().take(REASON_MAX).collect())
        })
        .unwrap_or_else(|| "it said nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_report_is_read() {
        let (cpu, peak) = parse("0.25 0.50 2048\n").unwrap();
        assert_eq!((cpu, peak), (Duration::from_millis(750), 2 << 20));
        assert!(parse("Command exited with non-zero status 1").is_none());
    }

    #[test]
    fn a_run_keeps_its_output_and_environment() {
        let run = whole(shell("printf %s \"$WORD\"").env("WORD", "said")).unwrap();
        assert_eq!(run.stdout, b"said");
        assert!(run.peak_bytes > 0);
    }

    #[test]
    fn a_failure_says_why() {
        let error = whole(&shell("echo first >&2; echo the reason >&2; exit 3")).unwrap_err();
        assert!(error.to_string().contains("the reason"), "{error}");
    }
}
