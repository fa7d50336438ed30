//! casync: stores an archive of the folder, in chunks of about 64 KiB, in a local store.

use std::path::PathBuf;
use std::process::Command;

use super::program::{Programs, Store, run};
use super::report::Cost;
use super::{Contender, Version};
use crate::error::Failure;

/// A store of chunks, and the index of its newest version.
pub(super) struct Casync {
    program: PathBuf,
    folder: PathBuf,
    store: Store,
}

impl Casync {
    /// Creates an empty store.
    pub(super) fn prepare(programs: &Programs<'_>) -> Result<Self, String> {
        let program = programs.find("casync")?;
        let folder = programs.folder("casync")?;
        let store = programs.folder("casync/store")?;
        Ok(Self {
            program,
            folder,
            store: Store::at(store).map_err(|failure| failure.message)?,
        })
    }
}

impl Contender for Casync {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        let index = self.folder.join("site.caidx");
        let mut make = Command::new(&self.program);
        make.arg("make")
            .arg(format!("--store={}", self.folder.join("store").display()))
            .arg(&index)
            .arg(version.folder);
        run(&mut make)?;
        let chunks = self.store.growth()?;
        let index = std::fs::metadata(&index)
            .map_err(|error| Failure::local("can't read", &index, &error))?;
        Ok(Cost {
            sent: chunks.sent + index.len(),
            requests: chunks.requests.map(|requests| requests + 1),
            ..chunks
        })
    }
}
