//! Deployment checks of `xtask`: against a server of which they know only the address and the
//! secret.

use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::conformance::install;
use crate::world::{Host, Ran, Server, skipped};

const SECRET: &str = "a-secret-of-a-server-that-is-deployed";

/// The suite waits for the timeout of several long polls.
const LONG_POLL: (&str, &str) = ("STREAM_LONG_POLL_MS", "700");

/// A server whose streams require the secret.
fn server(temp: &TempDir) -> (Server, String) {
    // The suite also sends requests as a page of another origin.
    let settings = [
        ("STREAM_SECRET", SECRET),
        ("STREAM_ORIGINS", "*"),
        LONG_POLL,
    ];
    let data = temp.path().join("data");
    let server = Server::start_with(Host::Embedded, &data, 0, &settings);
    let url = format!("http://127.0.0.1:{}", server.port);
    (server, url)
}

fn xtask(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--package", "xtask", "--"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_cargos = text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_");
        if is_cargos || text.starts_with("PERF_") || text == "STREAM_SECRET" {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    command.output().expect("cargo runs").into()
}

#[test]
fn smoke_run_measures_and_enforces_its_budget() {
    if let Err(lack) = install() {
        return skipped("the smoke run", &lack);
    }
    let temp = TempDir::new().unwrap();
    let (_server, url) = server(&temp);
    let holder = [("STREAM_SECRET", SECRET), ("PERF_BASE_URL", url.as_str())];
    let few = [
        ("PERF_ITERATIONS", "5"),
        ("PERF_BUDGET_MS", "60000"),
        ("PERF_ENFORCE", "1"),
    ];
    let ran = xtask(&["smoke"], &[&holder[..], &few].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let report: Value = ran.last();
    for measure in ["append", "read", "long-poll"] {
        let p95 = report["results"][measure]["p95"].as_f64();
        assert!(p95.is_some_and(|millis| millis > 0.0), "{ran:?}");
    }
    assert_eq!(report["iterations"], 5);
    // No operation meets this budget. A budget that is not enforced is only reported.
    let none = [("PERF_ITERATIONS", "1"), ("PERF_BUDGET_MS", "0.001")];
    let ran = xtask(&["smoke"], &[&holder[..], &none].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("missed"), "{ran:?}");
    let enforced = [&holder[..], &none, &[("PERF_ENFORCE", "1")]].concat();
    assert_ne!(xtask(&["smoke"], &enforced).code, 0);
    // Without the secret, the check measures nothing.
    let ran = xtask(&["smoke", &url], &few);
    assert!(ran.code != 0 && ran.stderr.contains("401"), "{ran:?}");
}

#[test]
fn official_suite_and_client_run_against_an_address() {
    if let Err(lack) = install() {
        return skipped("the suite", &lack);
    }
    let temp = TempDir::new().unwrap();
    let (_server, url) = server(&temp);
    let secret = ("STREAM_SECRET", SECRET);
    let ran = xtask(
        &["conformance"],
        &[secret, ("CONFORMANCE_TEST_URL", url.as_str())],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let named = [secret, ("IMPLEMENTATION_TEST_URL", url.as_str())];
    let ran = xtask(&["implementation"], &named);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("held: documents converge"), "{ran:?}");
    assert!(
        ran.stdout.contains("held: bytes come as they went"),
        "{ran:?}"
    );
    // Without the secret, all of them fail.
    let ran = xtask(&["implementation"], &named[1..]);
    assert_ne!(ran.code, 0, "{ran:?}");
}

#[test]
fn smoke_run_sends_no_secret_by_plain_http() {
    if let Err(lack) = install() {
        return skipped("the smoke run", &lack);
    }
    let ran = xtask(
        &["smoke", "http://api.example.invalid"],
        &[("STREAM_SECRET", SECRET)],
    );
    assert!(ran.code != 0 && ran.stderr.contains("use https"), "{ran:?}");
    assert!(!format!("{ran:?}").contains(SECRET), "{ran:?}");
}
