//! Deployment tests: run against a deployed server, by its address alone, as its users do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{npm, root};

/// The folder of the test programs.
const FOLDER: &str = "tests/conformance";

/// The official suite of the protocol.
pub(crate) fn conformance(options: &[&str]) -> Result<()> {
    let url = address(options, "CONFORMANCE_TEST_URL")?;
    let mut suite = node()?;
    suite
        .args(["node_modules/vitest/vitest.mjs", "run"])
        .env("CONFORMANCE_TEST_URL", url)
        // A server may close idle connections.
        .env("FRESH_CONNECTIONS", "1");
    passes(suite, "the official suite")
}

/// Programs that use the protocol: its own client, and documents over it.
pub(crate) fn implementation(options: &[&str]) -> Result<()> {
    let url = address(options, "IMPLEMENTATION_TEST_URL")?;
    for (program, what) in [
        ("client.mjs", "the protocol's own client"),
        ("yjs.mjs", "documents over streams"),
    ] {
        let mut stories = node()?;
        stories
            .arg(program)
            .env("SERVER_URL", &url)
            .env("NO_KILLS", "1");
        passes(stories, what)?;
    }
    Ok(())
}

/// Measures how long appends, reads and long polls take from here.
pub(crate) fn smoke(options: &[&str]) -> Result<()> {
    let url = address(options, "PERF_BASE_URL")?;
    let mut smoke = node()?;
    smoke.arg("smoke.mjs").env("PERF_BASE_URL", url);
    passes(smoke, "the performance smoke run")
}

/// The server's address, from the command line or else from the environment.
fn address(options: &[&str], variable: &str) -> Result<String> {
    let url = match *options {
        [url] => Some(url.to_owned()),
        [] => std::env::var(variable).ok(),
        _ => bail!("one address is expected, not {}", options.join(" ")),
    };
    let url = url.filter(|url| !url.is_empty());
    let url = url.with_context(|| format!("name the server: as an argument, or in {variable}"))?;
    let is_url = url.starts_with("http://") || url.starts_with("https://");
    ensure!(is_url, "{url} is no address: it has to begin with https://");
    Ok(url.trim_end_matches('/').to_owned())
}

fn node() -> Result<Command> {
    npm::install_in(Path::new(FOLDER))?;
    let mut node = Command::new("node");
    node.current_dir(root().join(FOLDER)).stdin(Stdio::null());
    Ok(node)
}

fn passes(mut program: Command, what: &str) -> Result<()> {
    let status = program.status().context("starting node")?;
    ensure!(status.success(), "{what} did not pass: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_an_argument() {
        let of = |options: &[&str]| address(options, "PMX_NO_SUCH_VARIABLE").ok();
        let url = Some("https://api.example.com".to_owned());
        assert_eq!(of(&["https://api.example.com/"]), url);
        for bad in [
            &[][..],
            &[""],
            &["api.example.com"],
            &["https://a", "https://b"],
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
