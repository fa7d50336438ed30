//! Durable writes: files and folders that survive a power cut.
//!
//! A file system promises nothing about a name until the folder that holds it is flushed, so a new
//! folder is flushed into its parent, and a new file into its folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Makes a folder and those above it, each durable before the next, readable by the owner only.
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

/// Whether an error says that a disk takes no writes, rather than that something is wrong with it.
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
        // A folder can't be flushed there, and NTFS journals its names by itself.
        return Ok(());
    }
    File::open(folder)?.sync_all()
}

/// Writes a new file by way of a temporary one in `scratch`, on the same file system: its name
/// appears with all its bytes or not at all, and survives. Fails if the name is taken.
pub(crate) fn write_new(scratch: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    // Named temporary files are readable by their owner only, from the first moment.
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
