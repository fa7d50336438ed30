//! Developer commands of a fresh machine, as `cargo xtask CHORE`.

#![forbid(unsafe_code)]

mod deployed;
mod dev;
mod fuzz;
mod npm;
mod s3;
mod sites;
mod test;
mod unkind;
mod wasm;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use worker::{Kind, Shrink};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments {
        ["test"] => test::run(),
        ["worker"] => worker::build(Kind::Deployed, Shrink::Yes),
        ["worker", "--quick"] => worker::build(Kind::Deployed, Shrink::No),
        ["worker", "--measured"] => worker::build(Kind::Measured, Shrink::Yes),
        ["s3"] => s3::install(),
        ["sites", ref options @ ..] => sites::run(options),
        ["unkind", ref options @ ..] => unkind::run(options),
        ["fuzz", ref options @ ..] => fuzz::run(options),
        ["conformance", ref options @ ..] => deployed::conformance(options),
        ["implementation", ref options @ ..] => deployed::implementation(options),
        ["smoke", ref options @ ..] => deployed::smoke(options),
        ["dev-worker", ref options @ ..] => dev::run(options),
        [] | ["help" | "-h" | "--help"] => {
            say(USAGE);
            Ok(())
        }
        _ => Err(anyhow::anyhow!(
            "no such chore: {}\n\n{USAGE}",
            arguments.join(" ")
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
cargo xtask CHORE

  test                 everything that has to pass: format, lints, the Worker, tests, documentation
  worker [--quick]     builds the Worker into worker/build; --quick does not shrink it
  worker --measured    builds the Worker that the benches measure, into worker/build-measured
  s3                   installs the S3 server of the stories into target/s3
  unkind [--runs N] [--seed N]
                       the stories of the unkind platform, with seeds by chance
  sites [--build]      builds sites with the newest Vite, VitePress, MkDocs and Hugo, into
                       target/sites, and browses them on both hosts; --build does not browse
  fuzz [--seconds N | --executions N]
                       every format that comes from outside, under libFuzzer: 20 s each
  dev-worker [--port N] [--data DIR]
                       builds the Worker and runs it on workerd, here

Against a server that runs somewhere; STREAM_SECRET is its secret, if it has one:

  conformance [URL]    the official suite of Durable Streams; URL or CONFORMANCE_TEST_URL
  implementation [URL] stories of the protocol's own client and of Yjs over it; URL or
                       IMPLEMENTATION_TEST_URL
  smoke [URL]          times of appends, reads and long-polls; URL or PERF_BASE_URL,
                       PERF_ITERATIONS (25), PERF_BUDGET_MS (10, a 95th percentile), PERF_ENFORCE=1";

/// The root of the workspace.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target folder.
fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Prints a progress message. Child programs print their own output.
#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn say(line: &str) {
    eprintln!("{line}");
}
