//! `pmx`: publish a folder by its content.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use pmx::env::Environment;

fn main() -> ExitCode {
    pmx::run::main(std::env::args_os(), Environment::of_program())
}
