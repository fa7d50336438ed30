//! Cache key: proves that this user's `pmx` wrote a stat cache.
//!
//! CI systems restore cache folders that other jobs, or pull requests of strangers, have written. A
//! stat cache lets `pmx` publish files without reading them. So it counts only under this key. The
//! key is stored in the user's state folder, which CI does not cache. A program that cannot store a
//! key draws one for itself, and then trusts only the caches of its own run.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use etcetera::BaseStrategy;

/// The name of the key's file.
const FILE: &str = "cache.key";

/// The key.
#[derive(Clone)]
pub(super) struct CacheKey([u8; 32]);

impl CacheKey {
    /// The user's key, which the first use creates; `cache` is the folder that must not hold it.
    pub(super) fn of_user(cache: Option<&Path>) -> Self {
        let outside = |path: &PathBuf| cache.is_none_or(|cache| !leads_into(path, cache));
        let kept = file().filter(outside).and_then(|path| kept(&path));
        kept.map_or_else(Self::of_run, Self)
    }

    /// The key of this process, which is never stored.
    pub(super) fn of_run() -> Self {
        static KEY: OnceLock<[u8; 32]> = OnceLock::new();
        Self(*KEY.get_or_init(|| drawn().unwrap_or_default()))
    }

    /// The bytes, for a MAC.
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheKey(…)")
    }
}

fn file() -> Option<PathBuf> {
    let dirs = etcetera::choose_base_strategy().ok()?;
    let state = dirs.state_dir().unwrap_or_else(|| dirs.data_dir());
    Some(state.join("pmx").join(FILE))
}

/// Whether a key is stored in the folder that holds `cache`: CI systems restore that folder whole.
fn leads_into(path: &Path, cache: &Path) -> bool {
    let Some(restored) = cache.parent() else {
        return true;
    };
    let is_inside = |path: io::Result<PathBuf>, folder: io::Result<PathBuf>| {
        path.is_ok_and(|path| folder.is_ok_and(|folder| path.starts_with(folder)))
    };
    let folder = path.parent().unwrap_or(path);
    is_inside(std::path::absolute(path), std::path::absolute(restored))
        || is_inside(folder.canonicalize(), restored.canonicalize())
}

/// The key in a file. Creates a key if the file is missing or readable by others.
fn kept(path: &Path) -> Option<[u8; 32]> {
    if let Some(key) = read(path) {
        return Some(key);
    }
    let folder = path.parent()?;
    std::fs::create_dir_all(folder).ok()?;
    // Only their owner can read temporary files.
    let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
    file.write_all(&drawn()?).ok()?;
    let exists = path.symlink_metadata().is_ok();
    let placed = if exists {
        file.persist(path).map(drop).map_err(|error| error.error)
    } else {
        file.persist_noclobber(path)
            .map(drop)
            .map_err(|error| error.error)
    };
    match placed {
        // Another program created one at the same time.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => None,
        Ok(()) | Err(_) => read(path),
    }
}

/// The key in a file that the user owns.
fn read(path: &Path) -> Option<[u8; 32]> {
    let is_own = path.symlink_metadata().ok()?.is_file() && is_private(path);
    let mut bytes = Vec::new();
    let file = File::open(path).ok().filter(|_| is_own)?;
    file.take(33).read_to_end(&mut bytes).ok()?;
    bytes.try_into().ok()
}

#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = path
        .metadata()
        .map(|metadata| metadata.permissions().mode());
    mode.is_ok_and(|mode| mode.trailing_zeros() >= 6) && crate::owner::foreign_owner(path).is_none()
}

/// On other systems, the access list of a user's folder makes it private.
#[cfg(not(unix))]
fn is_private(_path: &Path) -> bool {
    true
}

fn drawn() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).ok().map(|()| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn key_is_made_once_and_again_if_others_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/pmx").join(FILE);
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        let first = kept(&path).unwrap();
        assert_eq!((kept(&path), mode()), (Some(first), 0o600));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let second = kept(&path).unwrap();
        assert_eq!(mode(), 0o600);
        assert_ne!(first, second);
        std::fs::write(&path, b"short").unwrap();
        assert_ne!(kept(&path), Some(second));
        // A link leads to a file that someone else chose.
        let linked = home.path().join("linked");
        std::os::unix::fs::symlink(&path, &linked).unwrap();
        assert_eq!(read(&linked), None);
    }

    #[test]
    fn key_in_the_cache_folder_is_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/pmx").join(FILE);
        for (cache, expected) in [
            ("state/v1", true),
            ("state/pmx/v1", true),
            ("cache/v1", false),
            ("state/other/v1", false),
        ] {
            std::fs::create_dir_all(home.path().join(cache)).unwrap();
            assert_eq!(
                leads_into(&path, &home.path().join(cache)),
                expected,
                "{cache}"
            );
        }
    }
}
