//! Portable names: finds names that some file system cannot store or distinguish.
//!
//! Two names collide if they are equal after Unicode case folding and normalisation (UAX #15 and
//! section 3.13 of the Unicode standard). Such a site cannot be checked out on macOS or Windows,
//! and readers confuse the two paths. Folding is lower case of upper case, so `ß` and `ss` are
//! equal. The scan compares only folders with changes. The server stores both names, so collisions
//! are a warning unless the user is strict.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

use super::cache::StatCache;
use super::tree::{ScannedFolder, TreeFolder};
use crate::path::SitePath;

/// A name that some file system cannot store, or stores differently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NameFault {
    /// A trailing dot or space, which Windows drops.
    #[error("ends with a dot or a space, which Windows drops")]
    Trailing,
    /// `CON`, `aux.txt`, `COM1` and the like.
    #[error("is the name of a device on Windows")]
    Device,
    /// One of `< > : " | ? *`; on Windows a stream's name follows a colon.
    #[error("has a character that Windows does not allow in names")]
    Character,
    /// `PROGRA~1`.
    #[error("looks like the short form of another name on Windows")]
    Short,
    /// `e` and a combining accent, where most programs write one character.
    #[error("is not in composed form (NFC); requests for the composed name find it too")]
    Decomposed,
    /// macOS and Windows cannot store both.
    #[error("differs from \"{other}\" only in case or Unicode normalisation")]
    Collision {
        /// The other path, later in byte order.
        other: String,
    },
}

/// The fault of a name, if it has one.
pub(super) fn odd(name: &str) -> Option<NameFault> {
    if name.ends_with(['.', ' ']) {
        Some(NameFault::Trailing)
    } else if name.contains(['<', '>', ':', '"', '|', '?', '*']) {
        Some(NameFault::Character)
    } else if is_device(name) {
        Some(NameFault::Device)
    } else if is_short(name) {
        Some(NameFault::Short)
    } else if !name.is_ascii() && !unicode_normalization::is_nfc(name) {
        Some(NameFault::Decomposed)
    } else {
        None
    }
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    if stem.len() > 8 {
        return false;
    }
    let stem = stem.to_uppercase();
    let numbered = |rest: &str| {
        let mut chars = rest.chars();
        let number = chars.next().is_some_and(|c| "123456789¹²³".contains(c));
        number && chars.next().is_none()
    };
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        stem => ["COM", "LPT"]
            .iter()
            .any(|device| stem.strip_prefix(device).is_some_and(numbered)),
    }
}

fn is_short(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    stem.len() <= 8
        && stem.rsplit_once('~').is_some_and(|(head, digits)| {
            let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            !head.is_empty() && number
        })
}

/// The pairs of paths below a folder that collide because of two names in the folder itself.
pub(super) fn collisions(
    prefix: &str,
    folder: &ScannedFolder,
    cache: Option<&StatCache>,
) -> Vec<(String, String)> {
    if !any_alike(folder.file_names().chain(folder.folder_names())) {
        return Vec::new();
    }
    let mut alike: BTreeMap<String, Vec<Named<'_>>> = BTreeMap::new();
    for named in names_beside(prefix, TreeFolder::Fresh(folder, cache)) {
        alike.entry(fold(named.name())).or_default().push(named);
    }
    let mut pairs = Vec::new();
    for group in alike.into_values() {
        for (at, one) in group.iter().enumerate() {
            for other in &group[at + 1..] {
                compare(one, other, &mut pairs);
            }
        }
    }
    pairs
}

/// Whether two files of a site collide: some file system can't store both.
pub fn collide(one: &SitePath, other: &SitePath) -> bool {
    let names = one.as_str().split('/').zip(other.as_str().split('/'));
    one != other && names.into_iter().all(|(one, other)| are_alike(one, other))
}

fn are_alike(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        one.eq_ignore_ascii_case(other)
    } else {
        fold(one) == fold(other)
    }
}

/// A file, or a folder with its content.
struct Named<'a> {
    path: String,
    folder: Option<TreeFolder<'a>>,
}

impl Named<'_> {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

fn names_beside<'a>(prefix: &str, node: TreeFolder<'a>) -> Vec<Named<'a>> {
    let mut named = Vec::new();
    let path = |name: &str| [prefix, name].concat();
    node.each_file(|name, _, _| {
        named.push(Named {
            path: path(name),
            folder: None,
        });
    });
    for (name, child) in node.folders() {
        named.push(Named {
            path: path(name),
            folder: Some(child),
        });
    }
    named
}

/// Two folders with equal names are no collision, but equal names of their contents are.
fn compare(one: &Named<'_>, other: &Named<'_>, pairs: &mut Vec<(String, String)>) {
    let (Some(first), Some(second)) = (one.folder, other.folder) else {
        let (a, b) = (one.path.clone(), other.path.clone());
        pairs.push(if a < b { (a, b) } else { (b, a) });
        return;
    };
    let mut beneath: BTreeMap<String, Vec<Named<'_>>> = BTreeMap::new();
    for named in names_beside(&format!("{}/", one.path), first) {
        beneath.entry(fold(named.name())).or_default().push(named);
    }
    for named in names_beside(&format!("{}/", other.path), second) {
        for alike in beneath.get(&fold(named.name())).into_iter().flatten() {
            compare(alike, &named, pairs);
        }
    }
}

/// Whether two names may collide. It compares hashes, so that ASCII names need no allocation.
fn any_alike<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut hashes: Vec<u64> = names.map(quick).collect();
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
}

/// FNV-1a (Fowler, Noll, Vo) of the folded name.
fn quick(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    if name.is_ascii() {
        let lower = name.bytes().map(|byte| byte.to_ascii_lowercase());
        lower.fold(start, step)
    } else {
        fold(name).bytes().fold(start, step)
    }
}

fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let decomposed: String = name.nfd().collect();
    let folded = decomposed.to_uppercase().to_lowercase();
    folded.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collisions_by_case_and_normalisation() {
        for (one, other) in [
            ("A", "a"),
            ("é", "e\u{301}"),
            ("É", "e\u{301}"),
            ("ß", "ss"),
            ("STRASSE", "straße"),
            ("ﬁ", "FI"),
            ("ΟΔΟΣ", "οδος"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
            assert_eq!(quick(one), quick(other), "{one} {other}");
        }
        for (one, other) in [("a", "b"), ("é", "e"), ("a ", "a")] {
            assert_ne!(fold(one), fold(other), "{one} {other}");
        }
    }

    #[test]
    fn files_collide_in_any_folder() {
        for (one, other, expected) in [
            ("a/b", "A/B", true),
            ("a/b", "a/B", true),
            ("\u{e9}/x", "E\u{301}/X", true),
            ("A", "a/b", true),
            ("a/b", "a/b", false),
            ("a/b", "A/c", false),
            ("a/b/c", "x/B/c", false),
        ] {
            let [one, other] = [one, other].map(|path| SitePath::parse(path).unwrap());
            assert_eq!(collide(&one, &other), expected, "{one} {other}");
            assert_eq!(collide(&other, &one), expected, "{other} {one}");
        }
    }

    #[test]
    fn name_faults() {
        for (name, expected) in [
            ("a.", Some(NameFault::Trailing)),
            ("a ", Some(NameFault::Trailing)),
            ("CON", Some(NameFault::Device)),
            ("aux.txt", Some(NameFault::Device)),
            ("com1", Some(NameFault::Device)),
            ("lpt9.tar.gz", Some(NameFault::Device)),
            ("COM²", Some(NameFault::Device)),
            ("file:stream", Some(NameFault::Character)),
            ("what?", Some(NameFault::Character)),
            ("PROGRA~1", Some(NameFault::Short)),
            ("console", None),
            ("com10", None),
            ("COM", None),
            ("auxiliary.txt", None),
            ("a~b", None),
            ("~1", None),
            ("index.html", None),
            ("e\u{301}t\u{e9}", Some(NameFault::Decomposed)),
            ("\u{e9}t\u{e9}", None),
        ] {
            assert_eq!(odd(name), expected, "{name}");
        }
    }
}
