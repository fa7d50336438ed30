//! Test command for everything: format, lints, the Worker, tests on both hosts, documentation.
//! Stops at the first failure.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::fuzz;
use crate::s3;
use crate::say;
use crate::worker::{self, Kind, Shrink};

/// Runs every step.
pub(crate) fn run() -> Result<()> {
    let steps = steps(has_nextest());
    let mut summary = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        say(&format!(
            "\n=== {} of {}: {} (cargo {}) ===",
            number + 1,
            steps.len(),
            step.name,
            step.arguments().join(" ")
        ));
        let started = Instant::now();
        let outcome = step.run();
        summary.push(format!("{} {}", step.name, seconds(started.elapsed())));
        if let Err(error) = outcome {
            say(&format!("\n=== failed: {} ===", summary.join(", ")));
            return Err(error);
        }
    }
    say(&format!("\n=== passed: {} ===", summary.join(", ")));
    Ok(())
}

/// One check.
struct Step {
    name: &'static str,
    run: Run,
    environment: &'static [(&'static str, &'static str)],
}

enum Run {
    Cargo(Vec<&'static str>),
    /// Builds the deployed Worker.
    Worker,
    /// Installs the S3 server.
    S3,
    /// Fuzzes each format for a limited time.
    Fuzz,
}

impl Step {
    fn new(name: &'static str, arguments: &[&'static str]) -> Self {
        Self {
            name,
            run: Run::Cargo(arguments.to_vec()),
            environment: &[],
        }
    }

    /// The arguments with which cargo runs this step alone.
    fn arguments(&self) -> &[&'static str] {
        match &self.run {
            Run::Cargo(arguments) => arguments,
            Run::Worker => &["xtask", "worker"],
            Run::S3 => &["xtask", "s3"],
            Run::Fuzz => &["xtask", "fuzz"],
        }
    }

    fn run(&self) -> Result<()> {
        let arguments = match &self.run {
            Run::Cargo(arguments) => arguments,
            Run::Worker => return worker::build(Kind::Deployed, Shrink::Yes),
            Run::S3 => return s3::install(),
            Run::Fuzz => return fuzz::run(&[]),
        };
        let mut command = cargo(arguments);
        let status = command.envs(self.environment.iter().copied()).status();
        let status = status.with_context(|| format!("starting cargo for: {}", self.name))?;
        if !status.success() {
            bail!("{} did not pass: {status}", self.name);
        }
        Ok(())
    }
}

fn steps(has_nextest: bool) -> Vec<Step> {
    let mut steps = vec![
        Step::new("format", &["fmt", "--all", "--check"]),
        Step::new(
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "--deny",
                "warnings",
            ],
        ),
    ];
    steps.push(Step {
        name: "worker",
        run: Run::Worker,
        environment: &[],
    });
    steps.push(Step {
        name: "s3",
        run: Run::S3,
        environment: &[],
    });
    if has_nextest {
        steps.push(Step::new(
            "tests",
            &["nextest", "run", "--workspace", "--no-fail-fast"],
        ));
        // nextest does not run the examples in the documentation, so cargo does.
        steps.push(Step::new("examples", &["test", "--workspace", "--doc"]));
    } else {
        steps.push(Step::new(
            "tests",
            &["test", "--workspace", "--no-fail-fast"],
        ));
    }
    steps.push(Step {
        name: "fuzzing",
        run: Run::Fuzz,
        environment: &[],
    });
    steps.push(Step {
        environment: &[("RUSTDOCFLAGS", "--deny warnings")],
        ..Step::new("documentation", &["doc", "--workspace", "--no-deps"])
    });
    steps
}

fn has_nextest() -> bool {
    let mut asked = cargo(&["nextest", "--version"]);
    let asked = asked.stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// The cargo that runs this command, in the root of the workspace.
fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    command
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null());
    command
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_an_error() {
        assert!(Step::new("version", &["--version"]).run().is_ok());
        let failed = Step::new("nonsense", &["no-such-command"]).run();
        assert!(failed.unwrap_err().to_string().contains("nonsense"));
    }

    #[test]
    fn warnings_fail_every_step_that_has_any() {
        for has_nextest in [false, true] {
            let steps = steps(has_nextest);
            let names: Vec<_> = steps.iter().map(|step| step.name).collect();
            assert!(
                names.starts_with(&["format", "lints", "worker", "s3", "tests"]),
                "{names:?}"
            );
            assert!(steps[1].arguments().ends_with(&["--deny", "warnings"]));
            let documentation = steps.last().unwrap();
            assert_eq!(
                documentation.environment,
                [("RUSTDOCFLAGS", "--deny warnings")]
            );
        }
    }
}
