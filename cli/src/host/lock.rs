//! Data folder lock: one process at a time serves a data folder.
//!
//! The lock belongs to the open file, so the system gives it back however the process ends, and no
//! stale lock is ever left to be judged.

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
    /// Takes the folder, or says who has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, HostError> {
        let path = folder.join("lock");
        let mut file = match writable(&path) {
            Err(error) if durable::is_unwritable(&error) => match File::open(&path) {
                Ok(file) => file,
                // No process can serve the folder of such a disk and write to it.
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
        // The lock holds without it: who has it is for people to read. A disk may take no writes.
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

/// The holder of the lock. Some systems do not let a locked file be read.
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
