//! File reads: in bounded memory, and consistent, so that no hash mixes two versions.
//!
//! Every write sets a file's change time to the present. If the times after a read precede the
//! start of the scan, no process wrote to the file during the read: one stat shows it. Every other
//! file is stated before and after the read. If size, times or inode differ, or the number of bytes
//! read is not the size, it is read again, three times at most. Times come in kernel ticks, so two
//! writes within one tick look alike. So a file written to after about the start of the scan counts
//! only if a second read gives the same hash.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Mutex, TryLockError};

use pmx_core::hash::Hash;
use pmx_core::id::BlobId;

use crate::limits::BLOB_BYTES_MAX;

use super::content::{HEAD_BYTES, is_secret};
use super::error::{ScanFault, shown};
use super::stat::{FileKind, Stat};

/// Reads of a file before it counts as constantly changing.
const ATTEMPTS: usize = 3;

/// Bytes of a thread's buffer: a smaller file takes one system call.
const BUFFER_BYTES: usize = 512 * 1024;

/// Files above this size may be hashed by all threads together, one file at a time.
const WIDE_BYTES: u64 = 8 * 1024 * 1024;

/// Buffer bytes for a file that all threads hash together: each gets a share.
const WIDE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A file that was read completely.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) stat: Stat,
    pub(super) blob: BlobId,
    /// Whether it begins like a file that must not be published.
    pub(super) is_secret: bool,
}

/// Reads files, from any thread.
#[derive(Debug)]
pub(super) struct FileHasher {
    /// The one buffer of the file that all threads hash together.
    wide: Mutex<Vec<u8>>,
    /// A file with a time at or after this may be in the middle of a write.
    settled_before: i64,
}

impl FileHasher {
    /// Makes a hasher that reads files with a time at or after `settled_before` twice.
    pub(super) const fn new(settled_before: i64) -> Self {
        Self {
            wide: Mutex::new(Vec::new()),
            settled_before,
        }
    }

    /// Hashes the file that `open` opens; problems name it `path`. Calls `passed` with the bytes of
    /// each step of a long file.
    pub(super) fn hash(
        &self,
        path: &str,
        open: impl Fn() -> io::Result<File>,
        passed: &dyn Fn(u64),
    ) -> Result<Content, ScanFault> {
        for _ in 0..ATTEMPTS {
            let file = open().map_err(|error| ScanFault::from_io(path, "open", error))?;
            if let Some(found) = self.untouched(&file) {
                return Ok(found);
            }
            if let Some(found) = self.snapshot(&file, path, passed)? {
                return Ok(found);
            }
        }
        Err(ScanFault::ChangedDuringRead { path: shown(path) })
    }

    /// Only checks that the file can be hashed.
    pub(super) fn probe(
        path: &str,
        open: impl Fn() -> io::Result<File>,
    ) -> Result<Stat, ScanFault> {
        let file = open().map_err(|error| ScanFault::from_io(path, "open", error))?;
        stat(&file, path)
    }

    /// Reads a file once; `None` if it changed since the scan's start, or is no regular file.
    fn untouched(&self, mut file: &File) -> Option<Content> {
        BUFFER.with_borrow_mut(|buffer| {
            make_room(buffer);
            let read = retried(|| file.read(buffer)).ok()?;
            if read == buffer.len() {
                return self.long_untouched(file, buffer);
            }
            let stat = self.quiet(file, read as u64)?;
            Some(Content {
                stat,
                blob: BlobId::of(&buffer[..read]),
                is_secret: is_secret(&buffer[..read]),
            })
        })
    }

    /// Does the same for a longer file whose beginning is in `buffer`; `None` also for one that all
    /// threads may hash together.
    fn long_untouched(&self, file: &File, buffer: &mut [u8]) -> Option<Content> {
        if Stat::of(file).ok()?.size > WIDE_BYTES {
            return None;
        }
        let is_secret = is_secret(buffer);
        let mut hasher = blake3::Hasher::new();
        let mut total = 0;
        let mut filled = buffer.len();
        while filled > 0 && total <= WIDE_BYTES {
            hasher.update(&buffer[..filled]);
            total += filled as u64;
            filled = fill(file, buffer).ok()?;
        }
        let stat = self.quiet(file, total)?;
        Some(Content {
            stat,
            blob: BlobId::from_bytes(*hasher.finalize().as_bytes()),
            is_secret,
        })
    }

    /// The stat of a file, if it has `read` bytes and no write since the scan's start.
    fn quiet(&self, file: &File, read: u64) -> Option<Stat> {
        let stat = Stat::of(file).ok()?;
        let is_quiet = stat.kind == FileKind::File && stat.is_older_than(self.settled_before);
        (is_quiet && stat.size == read).then_some(stat)
    }

    fn snapshot(
        &self,
        file: &File,
        path: &str,
        passed: &dyn Fn(u64),
    ) -> Result<Option<Content>, ScanFault> {
        let unreadable = |error| ScanFault::from_io(path, "read", error);
        let before = stat(file, path)?;
        io::Seek::rewind(&mut &*file).map_err(unreadable)?;
        let mut head = [0; HEAD_BYTES];
        let filled = fill(file, &mut head).map_err(unreadable)?;
        io::Seek::rewind(&mut &*file).map_err(unreadable)?;
        let hash = self.content(file, before.size, passed);
        let Some(hash) = hash.map_err(unreadable)? else {
            return Ok(None);
        };
        if stat(file, path)? != before {
            return Ok(None);
        }
        if !before.is_older_than(self.settled_before) {
            io::Seek::rewind(&mut &*file).map_err(unreadable)?;
            // The first read counted its bytes.
            let again = self.content(file, before.size, &|_| ());
            let again = again.map_err(unreadable)?;
            if again != Some(hash) || stat(file, path)? != before {
                return Ok(None);
            }
        }
        Ok(Some(Content {
            stat: before,
            blob: BlobId::claimed(hash),
            is_secret: is_secret(&head[..filled]),
        }))
    }

    /// The hash of the whole file, or `None` if it does not have `size` bytes.
    fn content(&self, file: &File, size: u64, passed: &dyn Fn(u64)) -> io::Result<Option<Hash>> {
        if size < BUFFER_BYTES as u64 {
            return BUFFER.with_borrow_mut(|buffer| small(file, size as usize, buffer));
        }
        if size > WIDE_BYTES {
            // While all threads hash this file, one that waits may start another big file. It finds
            // the lock taken and hashes that file alone, so memory stays bounded.
            match self.wide.try_lock() {
                Ok(mut buffer) => return wide(file, size, &mut buffer, passed),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return wide(file, size, &mut poisoned.into_inner(), passed);
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        BUFFER.with_borrow_mut(|buffer| {
            make_room(buffer);
            stream(file, size, buffer, |hasher, bytes| {
                hasher.update(bytes);
                passed(bytes.len() as u64);
            })
        })
    }
}

/// Gives a thread its buffer. Pages that no file fills are never touched.
fn make_room(buffer: &mut Vec<u8>) {
    if buffer.len() < BUFFER_BYTES {
        *buffer = vec![0; BUFFER_BYTES];
    }
}

fn stat(file: &File, path: &str) -> Result<Stat, ScanFault> {
    let stat = Stat::of(file).map_err(|error| ScanFault::from_io(path, "look at", error))?;
    publishable(stat, path)
}

/// Refuses an entry that is no file, and a file that is too large.
pub(super) fn publishable(stat: Stat, path: &str) -> Result<Stat, ScanFault> {
    match stat.kind {
        FileKind::File if stat.size <= BLOB_BYTES_MAX => Ok(stat),
        FileKind::File => Err(ScanFault::TooLarge {
            path: shown(path),
            unit: "bytes",
            actual: stat.size,
            limit: BLOB_BYTES_MAX,
        }),
        FileKind::Folder | FileKind::Link | FileKind::Special | FileKind::Unknown => {
            Err(ScanFault::NotRegular { path: shown(path) })
        }
    }
}

/// Reads one byte beyond the expected size, so that one call detects the end of the file.
fn small(mut file: &File, size: usize, buffer: &mut Vec<u8>) -> io::Result<Option<Hash>> {
    make_room(buffer);
    let mut filled = 0;
    while filled <= size {
        let read = retried(|| file.read(&mut buffer[filled..=size]))?;
        filled += read;
        if read == 0 || filled == size {
            break;
        }
    }
    Ok((filled == size).then(|| Hash::of(&buffer[..size])))
}

fn wide(
    file: &File,
    size: u64,
    buffer: &mut Vec<u8>,
    passed: &dyn Fn(u64),
) -> io::Result<Option<Hash>> {
    buffer.resize(WIDE_BUFFER_BYTES, 0);
    stream(file, size, buffer, |hasher, bytes| {
        hasher.update_rayon(bytes);
        passed(bytes.len() as u64);
    })
}

fn stream(
    file: &File,
    size: u64,
    buffer: &mut [u8],
    update: impl Fn(&mut blake3::Hasher, &[u8]),
) -> io::Result<Option<Hash>> {
    let mut hasher = blake3::Hasher::new();
    let mut total = 0u64;
    loop {
        let filled = fill(file, buffer)?;
        total += filled as u64;
        if filled == 0 || total > size {
            break;
        }
        update(&mut hasher, &buffer[..filled]);
    }
    let hash = Hash::from_bytes(*hasher.finalize().as_bytes());
    Ok((total == size).then_some(hash))
}

/// Reads until the buffer is full, or the file ends: full buffers make the subtrees that BLAKE3
/// hashes at once large.
fn fill(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match retried(|| file.read(&mut buffer[filled..]))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

pub(super) fn retried(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
