//! restic and rustic: peers that store folders by content, in a local repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::round::Sample;
use crate::{corpus, peer_programs, run};

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// The original, in Go.
    Restic,
    /// Of the same format, in Rust.
    Rustic,
}

impl Tool {
    fn program(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::Rustic => "rustic",
        }
    }
}

/// A repository in a temporary folder, with the password and the cache beside it.
pub(crate) struct Repository {
    tool: Tool,
    program: PathBuf,
    folder: TempDir,
}

impl Repository {
    /// Creates an empty repository.
    pub(crate) fn new(tool: Tool) -> Result<Self> {
        let repository = Self {
            tool,
            program: peer_programs::find(tool.program())?,
            folder: tempfile::Builder::new().prefix("pmx-backup-").tempdir()?,
        };
        repository.initialise()?;
        Ok(repository)
    }

    /// Creates a repository with one snapshot of `folder`.
    pub(crate) fn holding(tool: Tool, folder: &Path) -> Result<Self> {
        let repository = Self::new(tool)?;
        repository.backup(folder)?;
        Ok(repository)
    }

    /// Deletes the repository's content.
    pub(crate) fn clear(&self) -> Result<()> {
        corpus::empty(self.folder.path())?;
        self.initialise()
    }

    /// Runs `backup folder`, as a whole process.
    pub(crate) fn backup(&self, folder: &Path) -> Result<Sample> {
        let run = run::whole(self.command().arg("backup").arg(folder))?;
        Ok(Sample::from(&run))
    }

    fn initialise(&self) -> Result<()> {
        fs::write(self.folder.path().join("password"), "bench")?;
        run::quietly(self.command().arg("init"))?;
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(match self.tool {
                Tool::Restic => &["--quiet"][..],
                Tool::Rustic => &["--no-progress", "--log-level", "error"],
            })
            .arg("--repo")
            .arg(self.folder.path().join("repository"))
            .arg("--password-file")
            .arg(self.folder.path().join("password"))
            .env("HOME", self.folder.path())
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"));
        command
    }
}
