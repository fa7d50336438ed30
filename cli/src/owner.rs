//! File owners: whether another user may have written a file.

use std::path::Path;

/// The owner of a file, or of the link with that name, if it is neither the user nor root.
#[cfg(unix)]
pub(crate) fn foreign_owner(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let me = rustix::process::geteuid().as_raw();
    let owners = [path.symlink_metadata(), path.metadata()];
    let mut owners = owners.into_iter().flatten().map(|metadata| metadata.uid());
    owners.find(|&owner| owner != 0 && owner != me && !is_behind_sudo(me, owner))
}

/// Under `sudo`, the files of the calling user count as the user's own, as for git.
#[cfg(unix)]
fn is_behind_sudo(me: u32, owner: u32) -> bool {
    let caller = || std::env::var("SUDO_UID").ok()?.parse::<u32>().ok();
    me == 0 && caller() == Some(owner)
}

/// On other systems, access lists decide who may write.
#[cfg(not(unix))]
pub(crate) fn foreign_owner(_path: &Path) -> Option<u32> {
    None
}
