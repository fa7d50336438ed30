//! Match key: a hash that is equal for an address and its file.
//!
//! `/a`, `/a/`, `/a.html`, `a.html` and `a/index.html` have one key. A change of any of them
//! concerns a page at any other, because one may replace another. So neither side has to know which
//! of them exist.

use percent_encoding::percent_decode_str;
use pmx_core::hash::Hash;

/// Match key: 64 bits of a hash. A collision costs one unnecessary reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of an address in a browser's form: a percent-encoded path. Query and fragment do not
    /// count.
    pub fn of_address(address: &str) -> Self {
        let end = address.find(['?', '#']).unwrap_or(address.len());
        let path = address.get(..end).unwrap_or_default();
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        Self::of_file(&decoded)
    }

    /// The key of a file.
    pub fn of_file(file: &str) -> Self {
        let path = file.trim_matches('/');
        let path = path.strip_suffix(".html").unwrap_or(path);
        let path = match path.rsplit_once('/') {
            Some((folder, "index")) => folder,
            None if path == "index" => "",
            Some(_) | None => path,
        };
        let hash = Hash::of(path.as_bytes());
        let bytes = *hash.as_bytes().first_chunk().unwrap_or(&[0; 8]);
        Self(u64::from_be_bytes(bytes))
    }

    /// The key as a number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The key with this [`Key::number`].
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_page_have_one_key() {
        for (file, addresses) in [
            ("index.html", &["/", "/index.html", "/?x=1", "/#top"][..]),
            ("a.html", &["/a", "/a/", "/a.html", "/a/index.html", "/a?b"]),
            ("a/index.html", &["/a", "/a/"]),
            ("a b/\u{fc}.html", &["/a%20b/%C3%BC", "/a b/\u{fc}.html"]),
            ("style.css", &["/style.css", "/style.css?v=3"]),
            ("a/index.css", &["/a/index.css"]),
        ] {
            for address in addresses {
                let (own, asked) = (Key::of_file(file), Key::of_address(address));
                assert_eq!(own, asked, "{file} {address}");
            }
        }
        for (file, address) in [
            ("a.html", "/b"),
            ("a.css", "/a"),
            ("reindex.html", "/re"),
            ("a/b.html", "/a"),
            ("index.html", "/a"),
        ] {
            assert_ne!(Key::of_file(file), Key::of_address(address), "{file}");
        }
    }
}
