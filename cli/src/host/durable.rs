//! Durable writes: files and folders that survive a power cut.
//!
//! A file system guarantees a name only after a flush of its folder. So this module flushes a new
//! folder into its parent, and a new file into its folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Creates a folder and its missing parents, readable by the owner only. Each is durable before the
/// next.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = parent_of(folder);
    make_folder(parent)?;
    match new_folder(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => flush_folder(parent),
    }
}

/// Whether an error means that the disk takes no writes, as opposed to a fault.
pub(crate) fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::PermissionDenied
    )
}

/// Flushes the names in a folder.
pub(crate) fn flush_folder(folder: &Path) -> io::Result<()> {
    if cfg!(windows) {
        // Windows cannot flush a folder, and NTFS journals its names automatically.
        return Ok(());
    }
    File::open(folder)?.sync_all()
}

/// Writes a new file as a temporary one in `scratch`, on the same file system, and renames it. So
/// its name appears with all its bytes or not at all, and survives. Fails if the name exists.
pub(crate) fn write_new(scratch: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    // From the first moment, only the owner can read named temporary files.
    let mut file = NamedTempFile::new_in(scratch)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(target).map_err(|e| e.error)?;
    flush_folder(parent_of(target))
}

/// Removes all files that a crash left in a scratch folder.
pub(crate) fn sweep(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(unix)]
fn new_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn new_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_creates_a_name_once() {
        let home = tempfile::tempdir().unwrap();
        let (scratch, deep) = (home.path().join("scratch"), home.path().join("a/b/c"));
        make_folder(&scratch).unwrap();
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        write_new(&scratch, &deep.join("x"), b"one").unwrap();
        let again = write_new(&scratch, &deep.join("x"), b"two").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(deep.join("x")).unwrap(), b"one");
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    }

    #[test]
    fn write_fails_for_a_file_in_the_way() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a"), "").unwrap();
        assert!(make_folder(&home.path().join("a/b")).is_err());
    }
}
