//! File stat: the metadata by which a scan detects changed files.
//!
//! The device number is left out on purpose, as git does by default. It changes from one mount to
//! the next on network and copy-on-write file systems, and every file would then be read again. Two
//! files on two devices that agree in inode, size and both times to the nanosecond do not occur by
//! accident.

use std::fs::File;
use std::io;

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    Folder,
    Link,
    /// A FIFO, a socket, a device.
    Special,
    /// The listing has no kind; a stat determines it.
    Unknown,
}

/// The part of a stat that changes with the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) kind: FileKind,
    pub(super) size: u64,
    /// Nanoseconds since the epoch.
    pub(super) mtime: i64,
    /// Nanoseconds since the epoch; 0 on platforms without a change time.
    pub(super) ctime: i64,
    /// Inode number; 0 on platforms without one.
    pub(super) ino: u64,
}

impl Stat {
    /// Stats an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        #[cfg(unix)]
        return Ok(Self::from_posix(&rustix::fs::fstat(file)?));
        #[cfg(not(unix))]
        return Ok(Self::from_metadata(&file.metadata()?));
    }

    /// The stat of a generated file. Its times are before every scan, and change with its bytes.
    pub(super) fn of_generated(bytes: &[u8]) -> Self {
        let hash = blake3::hash(bytes);
        let (times, _) = hash.as_bytes().as_chunks::<8>();
        let part = |at: usize| times.get(at).copied().map_or(0, i64::from_le_bytes);
        Self {
            kind: FileKind::File,
            size: bytes.len() as u64,
            mtime: part(0) | i64::MIN,
            ctime: part(1) | i64::MIN,
            ino: part(2).cast_unsigned(),
        }
    }

    /// Whether both times are before `bound`.
    pub(super) const fn is_older_than(&self, bound: i64) -> bool {
        self.mtime < bound && self.ctime < bound
    }

    #[cfg(unix)]
    // Field types differ between platforms, so the casts are needed on some and not on others.
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        clippy::cast_sign_loss
    )]
    #[allow(clippy::cast_possible_wrap, clippy::cast_lossless)]
    pub(super) fn from_posix(stat: &rustix::fs::Stat) -> Self {
        use rustix::fs::FileType;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Folder,
            FileType::Symlink => FileKind::Link,
            _ => FileKind::Special,
        };
        Self {
            kind,
            size: stat.st_size as u64,
            mtime: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            ino: stat.st_ino as u64,
        }
    }

    pub(super) fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        let (mtime, ctime, ino) = times_and_ino(metadata);
        Self {
            kind: kind_of(metadata.file_type()),
            size: metadata.len(),
            mtime,
            ctime,
            ino,
        }
    }
}

/// Stats a path itself, not a link's target.
#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
pub(super) fn of_path(path: &std::path::Path) -> io::Result<Stat> {
    std::fs::symlink_metadata(path).map(|metadata| Stat::from_metadata(&metadata))
}

/// The kind of a file type of the standard library.
pub(super) fn kind_of(kind: std::fs::FileType) -> FileKind {
    if kind.is_file() {
        FileKind::File
    } else if kind.is_dir() {
        FileKind::Folder
    } else if kind.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Special
    }
}

const fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

#[cfg(unix)]
fn times_and_ino(metadata: &std::fs::Metadata) -> (i64, i64, u64) {
    use std::os::unix::fs::MetadataExt;
    (
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        metadata.ino(),
    )
}

#[cfg(not(unix))]
fn times_and_ino(metadata: &std::fs::Metadata) -> (i64, i64, u64) {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let mtime = since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    });
    (mtime, 0, 0)
}
