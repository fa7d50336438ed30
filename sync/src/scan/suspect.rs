//! Suspicious names: files that are rarely meant to be public, by their names alone.

use std::collections::BTreeSet;

/// Most names in a list; a folder of keys need not be listed whole.
const LISTED_MAX: usize = 100;

const NAMES: &[&str] = &[
    ".ds_store",
    ".git",
    ".hg",
    ".svn",
    ".ssh",
    ".aws",
    ".gnupg",
    ".htpasswd",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".git-credentials",
    ".dockercfg",
    ".vault-token",
    ".terraform",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "node_modules",
    "terraform.tfstate",
    "thumbs.db",
    "wp-config.php",
];

const EXTENSIONS: &[&str] = &[
    "pem", "key", "p12", "pfx", "p8", "jks", "keystore", "kdbx", "ppk", "tfvars", "ovpn",
];

/// Folders that are listed once, and not file by file.
const FOLDERS: &[&str] = &[
    "node_modules",
    ".git",
    ".hg",
    ".svn",
    ".ssh",
    ".aws",
    ".gnupg",
];

/// Suspicious paths of a scan: the first in order, and their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    paths: BTreeSet<String>,
    all: u64,
}

impl Suspects {
    /// The first of them, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// The number of suspicious paths.
    pub const fn count(&self) -> u64 {
        self.all
    }

    pub(super) fn add(&mut self, path: String) {
        if self.paths.insert(path) {
            self.all += 1;
        }
        if self.paths.len() > LISTED_MAX {
            self.paths.pop_last();
        }
    }
}

/// Whether a name in the folder with this prefix is suspicious.
pub(super) fn is_suspect(prefix: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_inside = prefix.split('/').any(|above| FOLDERS.contains(&above));
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    let is_named = NAMES.contains(&name.as_str())
        || name == ".env"
        || name.starts_with(".env.")
        || extension.is_some_and(|it| EXTENSIONS.contains(&it));
    is_named && !is_inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_are_recognised_by_name() {
        for (prefix, name, expected) in [
            ("", ".env", true),
            ("app/", ".env.production", true),
            ("", "ID_RSA", true),
            ("", "id_rsa.pub", false),
            ("tls/", "server.pem", true),
            ("tls/", "server.KEY", true),
            ("", "keynote.key.html", false),
            ("", ".git", true),
            (".git/", "config", false),
            ("", "node_modules", true),
            ("node_modules/x/", "test.pem", false),
            ("home/.aws/", "credentials", false),
            ("home/", ".aws", true),
            ("", "environment.html", false),
            ("", ".DS_Store", true),
        ] {
            assert_eq!(is_suspect(prefix, name), expected, "{prefix}{name}");
        }
    }

    #[test]
    fn suspects_list_is_bounded_and_counts_all() {
        let mut suspects = Suspects::default();
        (0..1_000).for_each(|number| suspects.add(format!("{number:04}.pem")));
        assert_eq!(
            (suspects.count(), suspects.paths().count()),
            (1_000, LISTED_MAX)
        );
        assert_eq!(suspects.paths().next(), Some("0000.pem"));
    }
}
