//! Site corpora: the Rust documentation, as rustup installs it.
//!
//! Two toolchains hold two versions of the same large site. It has everything real sites have: deep
//! folders, a folder of thousands of pages, hashed assets, fonts, a few large search indexes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::files::{self, File};
use crate::run;

/// One version of the site, which no bench writes to.
pub(crate) struct Corpus {
    folder: PathBuf,
    toolchain: String,
    files: Vec<File>,
}

impl Corpus {
    /// v1, the default toolchain's documentation.
    pub(crate) fn first() -> Result<Self> {
        let rustc = || Command::new("rustc");
        Self::of(rustc).context(
            "the corpus is the documentation of the default toolchain: \
             rustup component add rust-docs",
        )
    }

    /// v2, the documentation of nightly.
    pub(crate) fn second() -> Result<Self> {
        let rustc = || {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "rustc"]);
            command
        };
        Self::of(rustc).context("rustup toolchain install nightly --component rust-docs")
    }

    fn of(rustc: impl Fn() -> Command) -> Result<Self> {
        let sysroot = run::quietly(rustc().args(["--print", "sysroot"]))?;
        let toolchain = run::quietly(rustc().arg("--version"))?;
        let folder = Path::new(sysroot.trim()).join("share/doc/rust/html");
        ensure!(folder.is_dir(), "{} is not there", folder.display());
        Ok(Self {
            files: files::walk(&folder)?,
            toolchain: toolchain.trim().to_owned(),
            folder,
        })
    }

    /// Its path.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its files in path order.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// The bytes of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// The toolchain that it belongs to.
    pub(crate) fn toolchain(&self) -> &str {
        &self.toolchain
    }

    /// A copy to be changed, with the modification times of the original.
    pub(crate) fn copy(&self) -> Result<TempDir> {
        let copy = tempfile::Builder::new().prefix("pmx-corpus-").tempdir()?;
        copy_into(&self.folder, copy.path())?;
        Ok(copy)
    }
}

/// Copies `from` to `to`, and shares blocks if the file system can.
pub(crate) fn copy_into(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "--"]);
    run::quietly(command.arg(from.join(".")).arg(to))?;
    Ok(())
}

/// Removes the content of `folder`, and waits until the disk has recorded that. So the next
/// measurement does not pay for the writes of this one.
pub(crate) fn empty(folder: &Path) -> Result<()> {
    let cannot = || format!("emptying {}", folder.display());
    std::fs::remove_dir_all(folder).with_context(cannot)?;
    std::fs::create_dir(folder).with_context(cannot)?;
    settle()
}

/// Flushes the kernel's buffers to disk.
pub(crate) fn settle() -> Result<()> {
    run::quietly(&mut Command::new("sync"))?;
    Ok(())
}
