//! The commands, one a file, and what they have in common.

mod explain;
mod shell;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, OutputArgs};
use crate::cache::CacheFolder;
use crate::config::Layers;
use crate::env::Environment;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what it should.
    Done,
    /// There was nothing to change, and `--exit-code` wants to know.
    Unchanged,
}

/// Runs the program.
pub fn main(args: impl IntoIterator<Item = OsString>, env: Environment) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &args, &env),
    };
    let ui = Ui::new(&cli.output, &env);
    match run(cli.command, env, &ui) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Unchanged) => ExitCode::from(9),
        Err(failure) => {
            ui.failure(&failure);
            ExitCode::from(failure.exit())
        }
    }
}

fn run(command: Command, env: Environment, ui: &Ui) -> Result<Ended, Failure> {
    match command {
        Command::Completions { shell } => return shell::completions(shell, ui),
        Command::Man { dir } => return shell::man(dir.as_deref(), ui),
        Command::Explain { code } => return explain::run(code.as_deref(), ui),
        _ => {}
    }
    Ok(Ended::Done)
}

/// Prints help, or what is wrong with the command line, the way it was asked for.
fn refuse(error: &clap::Error, args: &[OsString], env: &Environment) -> ExitCode {
    let json = args.iter().any(|arg| arg == "--json");
    if json && error.exit_code() != 0 {
        let text = error.to_string();
        let mut lines = text
            .lines()
            .map(|line| line.trim_start_matches("error: ").trim());
        let message = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let output = OutputArgs {
            json,
            ..OutputArgs::default()
        };
        Ui::new(&output, env).failure(&Failure::usage(message));
    } else {
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
