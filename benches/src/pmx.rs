//! Client of the program under test, with a separate home.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::corpus;
use crate::host::Host;
use crate::program::Pmx;
use crate::round::Sample;
use crate::run::{self, Run};

/// A user of `pmx` on a separate machine: home, cache and settings are in a temporary folder.
pub(crate) struct Client {
    pmx: Pmx,
    home: TempDir,
}

impl Client {
    /// A user without any state of `pmx`.
    pub(crate) fn new(pmx: &Pmx) -> Result<Self> {
        Ok(Self {
            pmx: pmx.clone(),
            home: tempfile::Builder::new().prefix("pmx-home-").tempdir()?,
        })
    }

    /// Removes all state of the user.
    pub(crate) fn forget(&self) -> Result<()> {
        corpus::empty(self.home.path())
    }

    /// `pmx` with this client's environment, without the settings of the outer one.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.pmx.path());
        for (name, folder) in [
            ("HOME", ""),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "share"),
            ("XDG_STATE_HOME", "state"),
        ] {
            command.env(name, self.home.path().join(folder));
        }
        for name in [
            "PMX_SERVER",
            "PMX_SPACE",
            "PMX_TOKEN",
            "PATHMX_PUBLISH_TOKEN",
        ] {
            command.env_remove(name);
        }
        // The temporary folder of this process also counts for its child processes.
        command.env("TMPDIR", tempfile::env::temp_dir());
        command.current_dir(self.home.path());
        command
    }

    /// Publishes `folder` to `space` of `host`, as a whole process.
    pub(crate) fn sync(&self, host: &Host, folder: &Path, space: &str) -> Result<Sample> {
        self.sync_through(&host.url(), host, folder, space)
    }

    /// Publishes as [`Self::sync`] does, but to another address of the host, such as a counting
    /// relay's.
    pub(crate) fn sync_through(
        &self,
        server: &str,
        host: &Host,
        folder: &Path,
        space: &str,
    ) -> Result<Sample> {
        self.sync_at((server, host.data()), folder, space)
    }

    /// Publishes to any server; `data` is the folder with its secret.
    pub(crate) fn sync_at(
        &self,
        (server, data): (&str, &Path),
        folder: &Path,
        space: &str,
    ) -> Result<Sample> {
        let mut command = self.command();
        command
            // The host's secret is in its folder, and `pmx` on the same machine finds it there.
            .env("PMX_DATA", data)
            .arg("sync")
            .arg(folder)
            .args(["--server", server, "--space", space, "--json"])
            // The next version of the corpus removes thousands of pages.
            .args(["--max-delete", "100%"])
            // v2 has functions whose names differ only in case, each with its own page.
            .arg("--allow-collisions");
        summarised(&run::whole(&command)?)
    }

    /// Runs `pmx` with `arguments`, as a whole process.
    pub(crate) fn run(&self, arguments: &[&OsStr]) -> Result<Run> {
        run::whole(self.command().args(arguments))
    }
}

/// Numbers of the summary: the name of the fact, and its JSON pointer.
const FACTS: [(&str, &str); 11] = [
    ("sent", "/bytes/sent"),
    ("received", "/bytes/received"),
    ("new", "/bytes/new"),
    ("site", "/bytes/site"),
    ("requests", "/requests"),
    ("total", "/files/total"),
    ("added", "/files/added"),
    ("modified", "/files/modified"),
    ("removed", "/files/removed"),
    ("unchanged", "/files/unchanged"),
    ("deploy", "/deploy"),
];

/// The sample of a run whose last line is a `summary`.
fn summarised(run: &Run) -> Result<Sample> {
    let text = std::str::from_utf8(&run.stdout)?;
    let last = text.trim().lines().last().context("pmx printed nothing")?;
    let summary: Value = serde_json::from_str(last).with_context(|| format!("reading {last:?}"))?;
    ensure!(
        summary["type"] == "summary",
        "the last line is no summary: {last}"
    );
    let mut sample = Sample::from(run);
    for (name, pointer) in FACTS {
        if let Some(value) = summary.pointer(pointer).and_then(Value::as_f64) {
            sample = sample.with(name, value);
        }
    }
    let published = summary["outcome"] == "published";
    Ok(sample.with("published", f64::from(u8::from(published))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample_of(stdout: &str) -> Result<Sample> {
        summarised(&Run {
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_bytes: 0,
            stdout: stdout.into(),
        })
    }

    #[test]
    fn the_last_line_is_the_summary() {
        let sample = sample_of(
            "{\"type\":\"progress\",\"v\":1}\n\
             {\"type\":\"summary\",\"v\":1,\"outcome\":\"unchanged\",\"requests\":1,\
             \"bytes\":{\"sent\":120,\"received\":80},\"files\":{\"total\":3}}\n",
        )
        .unwrap();
        for (name, value) in [("requests", 1.0), ("sent", 120.0), ("received", 80.0)] {
            assert_eq!(sample.facts.get(name), Some(&value), "{name}");
        }
        assert_eq!(sample.facts.get("published"), Some(&0.0));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "hello", "{\"type\":\"error\"}"] {
            assert!(sample_of(text).is_err(), "{text:?} was accepted");
        }
    }
}
