//! Protocol conformance: the official suite of Durable Streams, complete. It runs against both
//! hosts with default settings, and against hosts with tiny segments, so that most reads use
//! segments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Host, Server, skipped, worker_lacks};

/// The number of the suite's tests, with those of subscriptions.
const TESTS: usize = 338;

/// The suite waits for the timeout of several long polls, for five seconds each.
const LONG_POLL: (&str, &str) = ("STREAM_LONG_POLL_MS", "700");

/// The suite receives webhooks on this machine.
const WEBHOOKS: (&str, &str) = ("STREAM_WEBHOOKS", "loopback");

/// The suite sends no credentials.
const ACCESS: (&str, &str) = ("STREAM_ACCESS", "open");

/// Most reads use segments.
const TINY_SEGMENTS: &[(&str, &str)] = &[
    ("PMX_STREAM_CHUNK_BYTES", "4096"),
    ("PMX_STREAM_SEGMENT_MESSAGES", "2"),
];

/// Most reads take many pages.
const TINY_PAGES: &[(&str, &str)] = &[
    ("PMX_STREAM_CHUNK_BYTES", "16"),
    ("PMX_STREAM_READ_BYTES", "4096"),
];

/// All reads use segments.
const COLD: &[(&str, &str)] = &[
    ("PMX_STREAM_SEGMENT_MESSAGES", "1"),
    ("PMX_STREAM_COLD_READS", "1"),
];

/// Tests that run the suite against a host with settings.
macro_rules! suites {
    ($($name:ident: $host:ident, $settings:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check(Host::$host, $settings);
            }
        )*
    };
}

suites! {
    official_suite_passes: Embedded, &[];
    official_suite_passes_on_tiny_segments: Embedded, TINY_SEGMENTS;
    official_suite_passes_on_tiny_pages: Embedded, TINY_PAGES;
    official_suite_passes_from_cold_storage: Embedded, COLD;
    official_suite_passes_on_the_worker: Worker, &[];
    official_suite_passes_on_tiny_segments_on_the_worker: Worker, TINY_SEGMENTS;
    official_suite_passes_from_cold_storage_on_the_worker: Worker, COLD;
}

fn check(host: Host, settings: &[(&str, &str)]) {
    let lack = match host {
        Host::Embedded => None,
        Host::Worker | Host::Unkind => worker_lacks(),
    };
    if let Err(lack) = lack.map_or_else(install, |lack| Err(lack.to_owned())) {
        return skipped("the official suite", &lack);
    }
    let temp = TempDir::new().unwrap();
    let mut all = vec![LONG_POLL, WEBHOOKS, ACCESS];
    all.extend(settings);
    let server = Server::start_with(host, &temp.path().join("data"), 0, &all);
    let report = run(host, server.port, temp.path());
    let outcome = outcome(&report);
    assert_eq!(outcome.failed, [] as [String; 0], "{settings:?}");
    assert_eq!((outcome.passed, outcome.left_out), (TESTS, 0));
}

struct Outcome {
    passed: usize,
    left_out: usize,
    failed: Vec<String>,
}

fn outcome(report: &Value) -> Outcome {
    let mut sum = Outcome {
        passed: 0,
        left_out: 0,
        failed: Vec::new(),
    };
    let files = report["testResults"].as_array().expect("a list of files");
    for test in files
        .iter()
        .flat_map(|file| file["assertionResults"].as_array().unwrap())
    {
        match test["status"].as_str() {
            Some("passed") => sum.passed += 1,
            Some("pending" | "skipped") => sum.left_out += 1,
            _ => sum
                .failed
                .push(format!("{}: {}", test["fullName"], test["failureMessages"])),
        }
    }
    sum
}

pub(crate) fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance")).to_owned()
}

/// Installs the suite in `node_modules`, as the lock file names it; or returns what is missing.
pub(crate) fn install() -> Result<(), String> {
    install_in(&folder())
}

/// Installs what a folder's `package-lock.json` names in its `node_modules`; or returns what is
/// missing.
pub(crate) fn install_in(folder: &Path) -> Result<(), String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let said = |error: std::io::Error| error.to_string();
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = fs::File::create(folder.join(".installing")).map_err(said)?;
    // Each test of a run is a separate process.
    lock.lock().map_err(said)?;
    let wanted = fs::read(folder.join("package-lock.json")).map_err(said)?;
    let installed = folder.join("node_modules/installed-lock.json");
    if fs::read(&installed).is_ok_and(|lock| lock == wanted) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .stdin(Stdio::null());
    let ran = npm
        .output()
        .map_err(|error| format!("there is no npm: {error}"))?;
    if !ran.status.success() {
        return Err(format!("npm ci: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    fs::write(installed, wanted).map_err(said)
}

/// Runs the suite against a server and returns its report.
fn run(host: Host, port: u16, temp: &Path) -> Value {
    let report = temp.join("report.json");
    let fresh = match host {
        Host::Embedded => "0",
        Host::Worker | Host::Unkind => "1",
    };
    let mut suite = Command::new("node");
    suite
        .args(["node_modules/vitest/vitest.mjs", "run", "--reporter=json"])
        .arg(format!("--outputFile={}", report.display()))
        .current_dir(folder())
        .env("CONFORMANCE_TEST_URL", format!("http://127.0.0.1:{port}"))
        .env("FRESH_CONNECTIONS", fresh)
        .env("SUBSCRIPTIONS", "1")
        .stdin(Stdio::null());
    let ran = suite.output().expect("node runs");
    let stderr = || String::from_utf8_lossy(&ran.stderr).into_owned();
    let text = fs::read(report).unwrap_or_else(|error| panic!("no report: {error}\n{}", stderr()));
    serde_json::from_slice(&text).expect("a report is JSON")
}
