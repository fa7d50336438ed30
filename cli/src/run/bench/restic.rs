//! restic: chunks of about 1 MiB, packed, compressed and encrypted, in a local repository.

use std::path::PathBuf;
use std::process::Command;

use super::program::{Programs, Store, run};
use super::report::Cost;
use super::{Contender, Version};
use crate::error::Failure;

/// A repository, with the client's cache beside it.
pub(super) struct Restic {
    program: PathBuf,
    repository: PathBuf,
    cache: PathBuf,
    store: Store,
}

impl Restic {
    /// Creates an empty repository.
    pub(super) fn prepare(programs: &Programs<'_>) -> Result<Self, String> {
        let program = programs.find("restic")?;
        let folder = programs.folder("restic")?;
        let (repository, cache) = (folder.join("repository"), folder.join("cache"));
        let mut init = command(&program, &repository, &cache);
        run(init.arg("init")).map_err(|failure| failure.message)?;
        let store = Store::at(repository.clone()).map_err(|failure| failure.message)?;
        Ok(Self {
            program,
            repository,
            cache,
            store,
        })
    }
}

impl Contender for Restic {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        let mut backup = command(&self.program, &self.repository, &self.cache);
        run(backup.args(["backup", "."]).current_dir(version.folder))?;
        self.store.growth()
    }
}

fn command(program: &PathBuf, repository: &PathBuf, cache: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--quiet", "--repo"])
        .arg(repository)
        .arg("--cache-dir")
        .arg(cache)
        // restic requires a password, and no other program reads this repository.
        .env("RESTIC_PASSWORD", "bench")
        .env_remove("RESTIC_PASSWORD_FILE")
        .env_remove("RESTIC_PASSWORD_COMMAND")
        .env_remove("RESTIC_REPOSITORY_FILE");
    command
}
