//! Data folder lock: one process at a time serves a data folder.
//!
//! The lock belongs to the open file, so the system releases it however the process ends. There is
//! never a stale lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use super::error::{HostError, disk};
use super::{durable, private};

/// The right to serve a data folder, until it is dropped.
pub(crate) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Locks the folder. The error names the process that holds the lock.
    pub(crate) fn take(folder: &Path) -> Result<Self, HostError> {
        let path = folder.join("lock");
        let mut file = match writable(&path) {
            Err(error) if durable::is_unwritable(&error) => match File::open(&path) {
                Ok(file) => file,
                // If the disk takes no writes, no other process can write to the folder either.
                Err(_) => return Ok(Self { _file: None }),
            },
            opened => opened.map_err(disk("open", &path))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(HostError::InUse {
                    folder: folder.to_owned(),
                    pid: holder(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(disk("lock", &path)(error)),
        }
        // The lock does not depend on the signature, which names its holder for people. The disk
        // may take no writes.
        let _ = sign(&mut file);
        Ok(Self { _file: Some(file) })
    }
}

fn writable(path: &Path) -> io::Result<File> {
    private::touch(path)?;
    OpenOptions::new().read(true).write(true).open(path)
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The process that holds the lock. Some systems prevent reading a locked file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_has_one_holder_and_names_it() {
        let home = tempfile::tempdir().unwrap();
        let lock = Lock::take(home.path()).unwrap();
        let refused = Lock::take(home.path()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, HostError::InUse { .. }));
        if cfg!(unix) {
            let pid = format!("in use by process {}", std::process::id());
            assert!(refused.to_string().ends_with(&pid), "{refused}");
        }
        drop(lock);
        Lock::take(home.path()).unwrap();
    }
}
