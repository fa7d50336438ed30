//! Filesystem access for the scanner: list, stat and open, relative to directory descriptors (Unix)
//! or by path.
//!
//! The walk itself is written once, over this trait, so both implementations give the same
//! manifest. No method follows a symbolic link in the last segment. The walk resolves links, and
//! checks their targets.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::pathmx::Mount;
use super::stat::{FileKind, Stat};
use crate::limits::FILES_MAX;

pub(super) mod layered;

/// Kind of a name that a site's virtual files give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Virtual {
    /// A generated file, which no pattern leaves out.
    Generated,
    /// A file that a build declares.
    Declared,
    /// A folder with virtual files.
    Folder,
}

/// Access to the files below one folder.
pub(super) trait FileSystem: Sync {
    /// An open folder: a descriptor, or a path.
    type Folder: Send + Sync;

    /// The path of the whole folder, without any symbolic link.
    fn place(&self) -> &Path;

    /// Opens the whole folder.
    fn top(&self) -> io::Result<Self::Folder>;

    /// Opens a folder in a folder. A link is an error.
    fn folder(&self, parent: &Self::Folder, name: &CStr) -> io::Result<Self::Folder>;

    /// Lists a folder in any order, without `.` and `..`.
    fn list(&self, folder: &Self::Folder) -> io::Result<Listing>;

    /// Stats a name itself, not a link's target.
    fn stat(&self, folder: &Self::Folder, name: &CStr) -> io::Result<Stat>;

    /// Opens a file for reading. MUST NOT block on a FIFO; a link is an error where the platform
    /// can tell.
    fn open(&self, folder: &Self::Folder, name: &CStr) -> io::Result<File>;

    /// Opens the folder at a path of `/`-separated segments below the top. It opens one segment
    /// after the other, and so follows no link on the way.
    fn descend(&self, path: &str) -> io::Result<Self::Folder> {
        let mut folder = self.top()?;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            folder = self.folder(&folder, &c_name(segment)?)?;
        }
        Ok(folder)
    }

    /// Opens the folder of a mount.
    fn mounted(&self, mount: &Mount) -> io::Result<Self::Folder> {
        self.descend(&mount.folder)
    }

    /// The bytes of a generated file.
    fn generated(&self, _folder: &Self::Folder, _name: &CStr) -> Option<&Bytes> {
        None
    }

    /// The kind of a virtual name.
    fn virtual_name(&self, _folder: &Self::Folder, _name: &CStr) -> Option<Virtual> {
        None
    }

    /// Whether a folder has virtual files, or folders with some. Its path may not exist on disk.
    fn is_virtual(&self, _folder: &Self::Folder) -> bool {
        false
    }

    /// Whether the folder at a site path has virtual files, or folders with some.
    fn has_virtual(&self, _path: &str) -> bool {
        false
    }
}

/// A name with the NUL that system calls need.
pub(super) fn c_name(name: &str) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The names of a folder, in one allocation.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    /// One per name, in the order of the listing.
    pub(super) entries: Vec<ListingEntry>,
}

/// One name of a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListingEntry {
    start: u32,
    len: u32,
    pub(super) kind: FileKind,
}

impl Listing {
    pub(super) fn push(&mut self, name: &[u8], kind: FileKind) -> io::Result<()> {
        if self.entries.len() as u64 > FILES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.entries.push(ListingEntry {
            start: self.names.len() as u32,
            len: name.len() as u32,
            kind,
        });
        self.names.extend_from_slice(name);
        self.names.push(0);
        Ok(())
    }

    /// Removes the names that `is_hidden` selects.
    fn remove(&mut self, is_hidden: impl Fn(&[u8]) -> bool) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|&listed| !is_hidden(self.name(listed)));
        self.entries = entries;
    }

    /// The bytes of a name.
    pub(super) fn name(&self, listed: ListingEntry) -> &[u8] {
        let start = listed.start as usize;
        &self.names[start..start + listed.len as usize]
    }

    /// A name with the NUL that system calls need.
    pub(super) fn c_name(&self, listed: ListingEntry) -> &CStr {
        let start = listed.start as usize;
        CStr::from_bytes_with_nul(&self.names[start..=start + listed.len as usize])
            .unwrap_or_default()
    }
}

/// The portable implementation: full paths.
pub(super) struct Paths {
    place: PathBuf,
}

impl Paths {
    /// Starts at a folder whose path has no links.
    pub(super) fn new(place: &Path) -> Self {
        Self {
            place: place.to_owned(),
        }
    }
}

#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
impl FileSystem for Paths {
    type Folder = PathBuf;

    fn place(&self) -> &Path {
        &self.place
    }

    fn top(&self) -> io::Result<PathBuf> {
        Ok(self.place.clone())
    }

    fn folder(&self, parent: &PathBuf, name: &CStr) -> io::Result<PathBuf> {
        let path = below(parent, name)?;
        match Stat::from_metadata(&std::fs::symlink_metadata(&path)?).kind {
            FileKind::Folder => Ok(path),
            FileKind::File | FileKind::Link | FileKind::Special | FileKind::Unknown => {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }
    }

    fn list(&self, folder: &PathBuf) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let names = walkdir::WalkDir::new(folder)
            .min_depth(1)
            .max_depth(1)
            .follow_links(false);
        for entry in names {
            let entry = entry?;
            let kind = super::stat::kind_of(entry.file_type());
            listing.push(entry.file_name().as_encoded_bytes(), kind)?;
        }
        Ok(listing)
    }

    fn stat(&self, folder: &PathBuf, name: &CStr) -> io::Result<Stat> {
        std::fs::symlink_metadata(below(folder, name)?)
            .map(|metadata| Stat::from_metadata(&metadata))
    }

    fn open(&self, folder: &PathBuf, name: &CStr) -> io::Result<File> {
        let path = below(folder, name)?;
        // Opening a FIFO would block, so this checks the kind first. The implementation by
        // descriptors has no such gap between check and open.
        match Stat::from_metadata(&std::fs::symlink_metadata(&path)?).kind {
            FileKind::File => File::open(path),
            FileKind::Folder | FileKind::Link | FileKind::Special | FileKind::Unknown => {
                Err(io::ErrorKind::IsADirectory.into())
            }
        }
    }
}

fn below(folder: &Path, name: &CStr) -> io::Result<PathBuf> {
    let name = name.to_str().map_err(|_| io::ErrorKind::InvalidFilename)?;
    Ok(folder.join(name))
}

/// The Unix implementation: descriptors of folders, and names relative to them.
#[cfg(unix)]
pub(super) mod descriptors {
    use std::os::fd::OwnedFd;

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

    use super::{CStr, File, FileKind, FileSystem, Listing, Path, PathBuf, Stat, io};

    const FOLDER: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);

    const FILE: OFlags = OFlags::RDONLY
        .union(OFlags::NOFOLLOW)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY)
        .union(OFlags::CLOEXEC);

    /// Folders by descriptor.
    pub(in crate::scan) struct Descriptors {
        place: PathBuf,
        top: OwnedFd,
    }

    impl Descriptors {
        /// Starts at a folder whose path has no links.
        pub(in crate::scan) fn new(place: &Path) -> io::Result<Self> {
            Ok(Self {
                place: place.to_owned(),
                top: rustix::fs::open(place, FOLDER, Mode::empty())?,
            })
        }
    }

    impl FileSystem for Descriptors {
        type Folder = OwnedFd;

        fn place(&self) -> &Path {
            &self.place
        }

        fn top(&self) -> io::Result<OwnedFd> {
            Ok(openat(&self.top, c".", FOLDER, Mode::empty())?)
        }

        fn folder(&self, parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
            Ok(openat(parent, name, FOLDER, Mode::empty())?)
        }

        fn list(&self, folder: &OwnedFd) -> io::Result<Listing> {
            list(folder)
        }

        fn stat(&self, folder: &OwnedFd, name: &CStr) -> io::Result<Stat> {
            let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(Stat::from_posix(&stat))
        }

        fn open(&self, folder: &OwnedFd, name: &CStr) -> io::Result<File> {
            Ok(openat(folder, name, FILE, Mode::empty())?.into())
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn list(folder: &OwnedFd) -> io::Result<Listing> {
        thread_local! {
            // `getdents` fills the buffer; 32 KiB hold some 700 names, and each thread reuses one
            // buffer.
            static BUFFER: std::cell::RefCell<Vec<u8>> =
                std::cell::RefCell::new(Vec::with_capacity(32 * 1024));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut listing = Listing::default();
            let mut entries = rustix::fs::RawDir::new(folder, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    listing.push(name, kind_of(entry.file_type()))?;
                }
            }
            Ok(listing)
        })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn list(folder: &OwnedFd) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                listing.push(name, kind_of(entry.file_type()))?;
            }
        }
        Ok(listing)
    }

    fn kind_of(kind: FileType) -> FileKind {
        match kind {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Folder,
            FileType::Symlink => FileKind::Link,
            FileType::Unknown => FileKind::Unknown,
            _ => FileKind::Special,
        }
    }
}
