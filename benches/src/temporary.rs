//! Temporary files of contenders: in memory, if the system has a folder for that.

use std::path::Path;

/// Linux's in-memory file system.
const MEMORY_FOLDER: &str = "/dev/shm";

/// Selects memory for all files that contenders write, unless `TMPDIR` names another folder.
///
/// A disk's time to create fifty thousand files says nothing about the programs, and differs by an
/// order of magnitude between machines. Without it, the peers have an advantage: they write a file
/// for each file, and `pmx` writes a few large ones.
pub(crate) fn choose_folder() {
    let memory = Path::new(MEMORY_FOLDER);
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        // An earlier choice remains in effect.
        let _ = tempfile::env::override_temp_dir(memory);
    }
}
