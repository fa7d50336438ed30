//! git: the peer of a sync without changes.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::peer_programs;
use crate::round::Sample;
use crate::run;

/// A repository beside a folder, in which the whole folder is committed.
///
/// The repository is outside the folder, so that other contenders do not see it. It uses git's
/// default settings (no untracked cache, no file system monitor), without the user's own.
pub(crate) struct Repository<'a> {
    folder: &'a Path,
    store: TempDir,
}

impl<'a> Repository<'a> {
    /// Commits everything in `folder`.
    pub(crate) fn of(folder: &'a Path) -> Result<Self> {
        peer_programs::find("git")?;
        let store = tempfile::Builder::new().prefix("pmx-git-").tempdir()?;
        let repository = Self { folder, store };
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "--all"],
            &["commit", "--quiet", "--message", "all"],
            &["gc", "--quiet"],
        ] {
            run::quietly(repository.command().args(arguments))?;
        }
        Ok(repository)
    }

    /// Runs `git status --porcelain`, with untracked files, as is the default.
    pub(crate) fn status(&self) -> Result<Sample> {
        let run = run::whole(self.command().args(["status", "--porcelain"]))?;
        anyhow::ensure!(run.stdout.is_empty(), "git status finds changes");
        Ok(Sample::from(&run))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .arg("--git-dir")
            .arg(self.store.path())
            .arg("--work-tree")
            .arg(self.folder)
            // The bench runs the commit's background work explicitly, and waits for it.
            .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .current_dir(self.folder);
        for person in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{person}_NAME"), "bench");
            command.env(format!("GIT_{person}_EMAIL"), "bench@localhost");
        }
        command
    }
}
