//! Publish secret: the token for publishing to this host.
//!
//! A host without a configured secret creates one at its first start, in a file that only its owner
//! can read. A client on the same machine finds it there, so publishing locally needs no setup.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use pmx_core::limits::TOKEN_BYTES_MAX;

use super::durable;
use super::error::{HostError, disk};

/// The file in the data folder that holds the secret.
pub const SECRET_FILE: &str = "secret";

/// Reads the secret that the host with this data folder created; `None` if it created none. A file
/// that others can read is refused, because it is no secret.
pub fn find_secret(data: &Path) -> Result<Option<String>, HostError> {
    let path = data.join(SECRET_FILE);
    let origin = || path.display().to_string();
    // Room for a byte order mark, a line end, and one byte that reveals a longer file.
    let text = match private_text(&path, TOKEN_BYTES_MAX as u64 + 6) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("read", &path)(error)),
    };
    let text = text.map_err(|fault| HostError::Secret {
        origin: origin(),
        fault,
    })?;
    checked(text.trim_end_matches(['\r', '\n']), origin).map(Some)
}

/// The first bytes of a text file that only the user can read; the inner error is a fault of any
/// other file.
pub(crate) fn private_text(path: &Path, most: u64) -> io::Result<Result<String, &'static str>> {
    let file = File::open(path)?;
    if widely_readable(&file)? {
        return Ok(Err("can be read by others"));
    }
    if crate::owner::foreign_owner(path).is_some() {
        return Ok(Err("belongs to another user"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = pmx_sync::text::decode(&bytes);
    Ok(text.map(Into::into).map_err(|_| "is not UTF-8 text"))
}

/// The random id of a data folder, which its first use creates.
pub(crate) fn server_id(data: &Path) -> Result<String, HostError> {
    let path = data.join("server-id");
    loop {
        match fs::read_to_string(&path) {
            Ok(id) => return Ok(id.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(disk("read", &path)(error));
            }
            Err(_) => {}
        }
        match durable::write_new(data, &path, format!("{}\n", random::<16>()?).as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(disk("write", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// The secret of a host: the configured one, or its own, which the first start creates. `None` if
/// the disk takes no writes: then no client can publish anyway.
pub(crate) fn settle(data: &Path, given: Option<&str>) -> Result<Option<String>, HostError> {
    if let Some(given) = given {
        return checked(given, || "PUBLISH_SECRET".to_owned()).map(Some);
    }
    if let Some(secret) = find_secret(data)? {
        return Ok(Some(secret));
    }
    match make(data) {
        Err(HostError::Disk { source, .. }) if durable::is_unwritable(&source) => Ok(None),
        made => made.map(Some),
    }
}

fn make(data: &Path) -> Result<String, HostError> {
    let secret = draw()?;
    let path = data.join(SECRET_FILE);
    durable::write_new(data, &path, format!("{secret}\n").as_bytes())
        .map_err(disk("write", &path))?;
    Ok(secret)
}

/// `pmx_` and 32 random bytes in hexadecimal: scanners for leaked secrets recognise the prefix.
fn draw() -> Result<String, HostError> {
    Ok(format!("pmx_{}", random::<32>()?))
}

/// Random bytes in hexadecimal.
pub(crate) fn random<const BYTES: usize>() -> Result<String, HostError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(HostError::Randomness)?;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes what is written");
    }
    Ok(text)
}

fn checked(text: &str, origin: impl FnOnce() -> String) -> Result<String, HostError> {
    let fault = if text.is_empty() {
        "is empty"
    } else if text.len() > TOKEN_BYTES_MAX {
        "is longer than 512 bytes"
    } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
        "has a character that is not visible ASCII"
    } else {
        return Ok(text.to_owned());
    };
    Err(HostError::Secret {
        origin: origin(),
        fault,
    })
}

#[cfg(unix)]
fn widely_readable(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

/// On other systems, the access list of a user's folder makes it private.
#[cfg(not(unix))]
fn widely_readable(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn secret_is_made_once_and_found() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(find_secret(home.path()).unwrap(), None);
        let made = settle(home.path(), None).unwrap().unwrap();
        assert!(made.starts_with("pmx_") && made.len() == 68, "{made}");
        assert_eq!(settle(home.path(), None).unwrap().as_ref(), Some(&made));
        assert_eq!(find_secret(home.path()).unwrap(), Some(made));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn secret_that_is_given_leaves_no_file() {
        let home = tempfile::tempdir().unwrap();
        let given = settle(home.path(), Some("mine")).unwrap();
        assert_eq!(given.as_deref(), Some("mine"));
        assert_eq!(find_secret(home.path()).unwrap(), None);
        for bad in ["", "two words", "line\n", "\u{fc}", &"x".repeat(513)] {
            assert!(settle(home.path(), Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secret_file_that_is_empty_or_long_is_refused() {
        for bad in [String::new(), "x".repeat(513), "x".repeat(9_999)] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join(SECRET_FILE);
            durable::write_new(home.path(), &path, bad.as_bytes()).unwrap();
            assert!(settle(home.path(), None).is_err(), "{} bytes", bad.len());
        }
    }

    #[cfg(unix)]
    #[test]
    fn secret_file_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        settle(home.path(), None).unwrap();
        let path = home.path().join(SECRET_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = find_secret(home.path()).unwrap_err().to_string();
        assert!(refused.ends_with("can be read by others"), "{refused}");
    }
}
