//! Peer programs of this machine, and their versions.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// A program that `pmx` is compared with, the argument that prints its version, and how to get it.
struct Peer {
    program: &'static str,
    version: &'static str,
    install: &'static str,
}

const PEERS: [Peer; 9] = [
    peer("git", "--version", "apt install git"),
    peer("b3sum", "--version", "apt install b3sum"),
    peer("zstd", "--version", "apt install zstd"),
    peer("rsync", "--version", "apt install rsync"),
    peer("restic", "version", "apt install restic"),
    peer("casync", "--version", "apt install casync"),
    peer("rustic", "--version", "cargo install rustic-rs"),
    peer("nginx", "-v", "apt install nginx"),
    peer("wrk", "-v", "apt install wrk"),
];

const fn peer(program: &'static str, version: &'static str, install: &'static str) -> Peer {
    Peer {
        program,
        version,
        install,
    }
}

/// A peer's program, or an error that says how to get it.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let peer = PEERS.iter().find(|peer| peer.program == program);
    let install = peer.map_or("?", |peer| peer.install);
    on_path(program).with_context(|| format!("{program} is not installed ({install})"))
}

/// Prints the missing peers.
pub(crate) fn print_missing() {
    for peer in PEERS {
        if let Err(error) = find(peer.program) {
            eprintln!("{error:#}: its rows are left out");
        }
    }
}

/// Each peer, with the first line of its version output.
pub(crate) fn versions() -> Vec<(&'static str, String)> {
    PEERS
        .iter()
        .map(|peer| {
            let version = find(peer.program).map(|path| version(path, peer.version));
            let said = version.unwrap_or_else(|_| Some("not installed".to_owned()));
            (peer.program, said.unwrap_or_else(|| "unknown".to_owned()))
        })
        .collect()
}

/// The output of `path` with `argument`. Some programs print it on standard error, and some of
/// those fail.
fn version(path: PathBuf, argument: &str) -> Option<String> {
    let output = Command::new(path).arg(argument).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said).into_owned();
    text.lines()
        .map(str::trim)
        .find(|line| line.contains(|letter: char| letter.is_ascii_digit()))
        .map(|line| line.chars().take(60).collect())
}

/// The program that a shell would find; servers are in folders that a user's `PATH` may lack.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_so() {
        let error = find("no-such-program").unwrap_err();
        assert!(error.to_string().contains("not installed"), "{error}");
        assert!(on_path("sh").is_some());
    }
}
