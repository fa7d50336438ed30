//! Temporary files of contenders: in memory, where there is a folder for that.

use std::path::Path;

/// Memory that is mounted as a folder, on Linux.
const MEMORY_FOLDER: &str = "/dev/shm";

/// Puts all that contenders write into memory, unless `TMPDIR` says otherwise.
///
/// What a disk takes to create fifty thousand files says nothing about the programs that asked,
/// and it differs by an order of magnitude between machines. Leaving it out favours the peers,
/// which write a file for each file; we write a few large ones.
pub(crate) fn choose_folder() {
    let memory = Path::new(MEMORY_FOLDER);
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        // Chosen before already: then that stands.
        let _ = tempfile::env::override_temp_dir(memory);
    }
}
