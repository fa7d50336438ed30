//! Scan sources: opens scanned files again, to send them.

use std::fs::File;
use std::io;

use super::Scan;
use crate::path::SitePath;

/// Opens files, best in path order: it opens a folder once for all its files, as the scan does.
#[derive(Debug)]
pub struct Sources<'a> {
    scan: &'a Scan,
    /// The folder of the last file: its site path, and its descriptor.
    folder: Option<(String, File)>,
}

impl<'a> Sources<'a> {
    /// Opens files of a scan.
    pub const fn of(scan: &'a Scan) -> Self {
        Self { scan, folder: None }
    }

    /// Opens one file. Its content may differ from the scanned one.
    #[cfg(unix)]
    pub fn open(&mut self, path: &SitePath) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let folder = match self.folder.take() {
            Some((known, folder)) if known == path.folder() => (known, folder),
            Some(_) | None => (path.folder().to_owned(), self.open_folder(path)?),
        };
        let (_, held) = self.folder.insert(folder);
        Ok(openat(held, path.name(), flags, Mode::empty())?.into())
    }

    #[cfg(unix)]
    #[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
    fn open_folder(&self, path: &SitePath) -> io::Result<File> {
        let source = self.scan.source(path);
        File::open(source.parent().unwrap_or(&source))
    }

    /// Opens one file. Its content may differ from the scanned one.
    #[cfg(not(unix))]
    #[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
    pub fn open(&mut self, path: &SitePath) -> io::Result<File> {
        File::open(self.scan.source(path))
    }
}
