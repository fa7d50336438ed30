//! Layered file system: the folder on disk, with a site's virtual files over it.
//!
//! The walk lists, stats and opens virtual files as it does others, so the stat cache, threads and
//! checks are the same. A name of the layer hides that name on disk.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::super::pathmx::Mount;
use super::super::stat::{FileKind, Stat};
use super::super::virtual_files::{VirtualFile, VirtualFiles};
use super::{FileSystem, Listing, Virtual, c_name};
use crate::path::SitePath;

/// A file system with virtual files.
pub(in crate::scan) struct LayeredFileSystem<'a, G> {
    inner: &'a G,
    files: &'a VirtualFiles,
}

/// A folder on disk, a virtual one, or both.
pub(in crate::scan) struct LayeredFolder<F> {
    real: Option<F>,
    at: Option<usize>,
}

impl<'a, G: FileSystem> LayeredFileSystem<'a, G> {
    pub(in crate::scan) const fn new(inner: &'a G, files: &'a VirtualFiles) -> Self {
        Self { inner, files }
    }

    fn file(&self, folder: &LayeredFolder<G::Folder>, name: &CStr) -> Option<&'a VirtualFile> {
        self.files.file(folder.at?, name.to_str().ok()?)
    }

    fn parent(&self, path: &SitePath) -> io::Result<(G::Folder, std::ffi::CString)> {
        Ok((self.inner.descend(path.folder())?, c_name(path.name())?))
    }
}

fn real<F>(folder: &LayeredFolder<F>) -> io::Result<&F> {
    folder
        .real
        .as_ref()
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl<G: FileSystem> FileSystem for LayeredFileSystem<'_, G> {
    type Folder = LayeredFolder<G::Folder>;

    fn place(&self) -> &Path {
        self.inner.place()
    }

    /// The folder on disk alone: links and patterns are resolved there.
    fn top(&self) -> io::Result<Self::Folder> {
        Ok(LayeredFolder {
            real: Some(self.inner.top()?),
            at: None,
        })
    }

    fn mounted(&self, mount: &Mount) -> io::Result<Self::Folder> {
        let real = (!mount.is_virtual).then(|| self.inner.descend(&mount.folder));
        Ok(LayeredFolder {
            real: real.transpose()?,
            at: mount.slug.is_empty().then_some(VirtualFiles::TOP),
        })
    }

    fn folder(&self, parent: &Self::Folder, name: &CStr) -> io::Result<Self::Folder> {
        let text = name.to_str().ok();
        let at = parent.at.zip(text);
        let at = at.and_then(|(at, name)| self.files.subfolder(at, name));
        let real = match &parent.real {
            // The virtual folder hides an entry of another kind.
            Some(real) if at.is_some() => self.inner.folder(real, name).ok(),
            Some(real) => Some(self.inner.folder(real, name)?),
            None if at.is_some() => None,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(LayeredFolder { real, at })
    }

    fn list(&self, folder: &Self::Folder) -> io::Result<Listing> {
        let mut listing = match &folder.real {
            Some(real) => self.inner.list(real)?,
            None => Listing::default(),
        };
        let Some(at) = folder.at else {
            return Ok(listing);
        };
        listing.remove(|name| {
            let name = std::str::from_utf8(name);
            name.is_ok_and(|name| {
                self.files.file(at, name).is_some() || self.files.subfolder(at, name).is_some()
            })
        });
        for name in self.files.file_names(at) {
            listing.push(name.as_bytes(), FileKind::File)?;
        }
        for name in self.files.folder_names(at) {
            listing.push(name.as_bytes(), FileKind::Folder)?;
        }
        Ok(listing)
    }

    fn stat(&self, folder: &Self::Folder, name: &CStr) -> io::Result<Stat> {
        match self.file(folder, name) {
            Some(VirtualFile::Generated(bytes)) => Ok(Stat::of_generated(bytes)),
            Some(VirtualFile::Declared(path)) => {
                let (parent, name) = self.parent(path)?;
                self.inner.stat(&parent, &name)
            }
            None => self.inner.stat(real(folder)?, name),
        }
    }

    fn open(&self, folder: &Self::Folder, name: &CStr) -> io::Result<File> {
        match self.file(folder, name) {
            Some(VirtualFile::Generated(_)) => Err(io::ErrorKind::Unsupported.into()),
            Some(VirtualFile::Declared(path)) => {
                let (parent, name) = self.parent(path)?;
                self.inner.open(&parent, &name)
            }
            None => self.inner.open(real(folder)?, name),
        }
    }

    fn generated(&self, folder: &Self::Folder, name: &CStr) -> Option<&Bytes> {
        match self.file(folder, name)? {
            VirtualFile::Generated(bytes) => Some(bytes),
            VirtualFile::Declared(_) => None,
        }
    }

    fn virtual_name(&self, folder: &Self::Folder, name: &CStr) -> Option<Virtual> {
        match self.file(folder, name) {
            Some(VirtualFile::Generated(_)) => Some(Virtual::Generated),
            Some(VirtualFile::Declared(_)) => Some(Virtual::Declared),
            None => {
                let below = self.files.subfolder(folder.at?, name.to_str().ok()?);
                below.map(|_| Virtual::Folder)
            }
        }
    }

    fn is_virtual(&self, folder: &Self::Folder) -> bool {
        folder.at.is_some()
    }

    fn has_virtual(&self, path: &str) -> bool {
        self.files.folder(path).is_some()
    }
}
