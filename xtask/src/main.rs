//! The few chores a fresh machine needs, as `cargo xtask CHORE`.

mod test;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments {
        ["test"] => test::run(),
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

  test    everything that has to pass: format, lints, tests, documentation";

/// Says something on the way. What the chores' programs print is theirs.
#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn say(line: &str) {
    eprintln!("{line}");
}
