//! Private files: only their owner can read the host's files.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// Creates an empty file that only its owner can read, unless it exists.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Removes the read permissions of others from a data folder: from files of earlier versions, and
/// from the folder itself. It skips the folder if its user works in it.
#[cfg(unix)]
pub(crate) fn tighten(data: &Path) {
    if !is_workplace(data) {
        restrict(data, 0o700);
    }
    for name in [
        "objects",
        "objects/spaces",
        "objects/scratch",
        "spaces",
        "streams",
    ] {
        restrict(&data.join(name), 0o700);
    }
    for name in ["lock", "host.db", "streams.db"] {
        restrict_database(&data.join(name));
    }
    let ledgers = fs::read_dir(data.join("spaces"));
    for ledger in ledgers.into_iter().flatten().flatten() {
        restrict(&ledger.path(), 0o600);
    }
}

/// Whether a folder is the current one or the user's home.
#[cfg(unix)]
fn is_workplace(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else {
        return true;
    };
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    let here = std::env::current_dir().ok();
    home.as_ref() == Some(&folder) || here.as_ref() == Some(&folder)
}

#[cfg(not(unix))]
pub(crate) fn tighten(_: &Path) {}

#[cfg(unix)]
fn restrict_database(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        restrict(Path::new(&name), 0o600);
    }
}

/// Restricts a file's mode. If the file has another owner, it stays unchanged.
#[cfg(unix)]
fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(found) = fs::symlink_metadata(path) else {
        return;
    };
    if !found.is_symlink() && found.permissions().mode() & 0o077 != 0 {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
}
