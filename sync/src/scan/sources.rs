//! Scan sources: opens scanned files again, to send them.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use bytes::Bytes;

use super::Scan;
use super::stat::Stat;
use crate::path::SitePath;

/// An open file of a site.
#[derive(Debug)]
pub enum SourceFile {
    /// A file on disk.
    Disk(File),
    /// A generated file.
    Generated(Cursor<Bytes>),
}

impl SourceFile {
    pub(super) fn stat(&self) -> io::Result<Stat> {
        match self {
            Self::Disk(file) => Stat::of(file),
            Self::Generated(bytes) => Ok(Stat::of_generated(bytes.get_ref())),
        }
    }
}

impl Read for SourceFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Disk(file) => file.read(out),
            Self::Generated(bytes) => bytes.read(out),
        }
    }
}

impl Seek for SourceFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Disk(file) => file.seek(to),
            Self::Generated(bytes) => bytes.seek(to),
        }
    }
}

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
    pub fn open(&mut self, path: &SitePath) -> io::Result<SourceFile> {
        if let Some(bytes) = self.scan.generated(path) {
            return Ok(SourceFile::Generated(Cursor::new(bytes.clone())));
        }
        self.open_on_disk(path).map(SourceFile::Disk)
    }

    #[cfg(unix)]
    fn open_on_disk(&mut self, path: &SitePath) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, open, openat};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        if self.scan.is_declared(path) {
            // The files of a folder of the site may be in several folders on disk.
            let source = self.scan.source(path);
            return Ok(open(&source, flags | OFlags::NOFOLLOW, Mode::empty())?.into());
        }
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

    #[cfg(not(unix))]
    #[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
    fn open_on_disk(&mut self, path: &SitePath) -> io::Result<File> {
        File::open(self.scan.source(path))
    }
}
