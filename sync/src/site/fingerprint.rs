//! Fingerprinted names: detects files whose name contains a hash of their content, which browsers
//! may cache for a year without revalidation.
//!
//! Bundlers have no common form, so this is a guess, and a wrong yes is far worse than a wrong no:
//! `immutable` cannot be revoked, whereas a missed hash costs a revalidation. So the rules are
//! strict. Only file kinds that bundlers emit count. A name must precede the hash (`deadbeef.js`
//! may be a word, and a bare UUID is a name, not a hash). The hash must look like one:
//!
//! - 8 to 64 lower-case hexadecimal digits, letters and digits both, that are no date, no UUID and
//!   no word with a number (webpack, Parcel, rustdoc, Rails, Django, Phoenix, Hugo): 92 % of those
//!   with 8 digits, 98 % with 12;
//! - 8 characters of base64 or base32 in which upper case, lower case and digits alternate as no
//!   name does (Vite, Rollup, esbuild): a third of them do, the others are missed. Not of an image,
//!   whose name may be an id that such a run is;
//! - of an image, 12 hexadecimal digits or more: 8 are as likely an id or a colour;
//! - any 8 characters of base64url in the folders in which Astro, Nuxt and SvelteKit keep nothing
//!   else.

use crate::path::SitePath;

/// Whether the name of this file changes with its content.
pub fn is_fingerprinted(path: &SitePath) -> bool {
    let mut parts: Vec<&str> = path.name().split('.').collect();
    let kind = parts.pop().unwrap_or_default();
    if !KINDS.contains(&kind) {
        return false;
    }
    while parts.last().is_some_and(|part| INFIXES.contains(part)) {
        parts.pop();
    }
    let stem = parts.join(".");
    let is_hash = if IMAGES.contains(&kind) {
        has_long_hex_tail(&stem)
    } else {
        is_hash_at_the_end(&stem)
    };
    is_hash || (is_in_a_folder_of_hashes(path) && has_short_tail(&stem))
}

/// Whether a name ends in a hash that cannot be an id.
fn has_long_hex_tail(stem: &str) -> bool {
    let tail = stem.rfind(['.', '-', '_']).map(|at| &stem[at + 1..]);
    is_hash_at_the_end(stem) && tail.is_some_and(|tail| tail.len() >= IMAGE_HASH_DIGITS_MIN)
}

/// Fewest hexadecimal digits in the hash of an image.
const IMAGE_HASH_DIGITS_MIN: usize = 12;

/// Extensions that bundlers emit: scripts, styles, fonts and images, never a document, a recording
/// or a download.
const KINDS: &[&str] = &[
    "avif", "css", "eot", "gif", "ico", "jpeg", "jpg", "js", "jxl", "map", "mjs", "otf", "png",
    "svg", "ttf", "wasm", "webp", "woff", "woff2",
];

/// Those of them that are images.
const IMAGES: &[&str] = &[
    "avif", "gif", "ico", "jpeg", "jpg", "jxl", "png", "svg", "webp",
];

/// Suffixes that may separate the hash and the extension.
const INFIXES: &[&str] = &[
    "bundle", "chunk", "css", "js", "legacy", "min", "mjs", "module", "otf", "ttf", "woff",
];

/// Folders in which Astro, Nuxt and SvelteKit put files named after their content.
const FOLDERS_OF_HASHES: &[&str] = &["_app/immutable", "_astro", "_nuxt"];

/// The path of a fingerprinted file, with a `*` in place of the hash.
pub(super) fn pattern(path: &SitePath) -> Option<String> {
    let name = path.name();
    let (stem, hash) = is_fingerprinted(path).then(|| hash_within(name))??;
    let (before, after) = (path.as_str().strip_suffix(name)?, &name[stem + hash..]);
    Some(format!("{before}{}*{after}", &name[..stem]))
}

/// Offset and length of the hash in a fingerprinted name: it is the last part that is no kind and
/// no infix.
fn hash_within(name: &str) -> Option<(usize, usize)> {
    let (mut stem, _kind) = name.rsplit_once('.')?;
    while let Some((before, infix)) = stem.rsplit_once('.')
        && INFIXES.contains(&infix)
    {
        stem = before;
    }
    let at = if is_hash_at_the_end(stem) {
        stem.rfind(['.', '-', '_'])? + 1
    } else {
        stem.len().checked_sub(8)?
    };
    Some((at, stem.len() - at))
}

fn is_in_a_folder_of_hashes(path: &SitePath) -> bool {
    path.folders().any(|folder| {
        let within = |name: &str| folder == name || folder.ends_with(&format!("/{name}"));
        FOLDERS_OF_HASHES.iter().any(|name| within(name))
    })
}

/// `name.xxxxxxxx` or `name-xxxxxxxx`, where the hash may contain hyphens. The tail must not be a
/// word: in some configurations SvelteKit has files such as `_app/immutable/entry/start.js`.
fn has_short_tail(stem: &str) -> bool {
    let Some((name, tail)) = stem
        .len()
        .checked_sub(8)
        .and_then(|at| stem.split_at_checked(at))
    else {
        return false;
    };
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let separated = name.len() > 1 && name.ends_with(['.', '-']);
    let wordlike = tail[1..].bytes().all(|b| b.is_ascii_lowercase());
    separated && tail.bytes().all(base64) && !wordlike
}

fn is_hash_at_the_end(stem: &str) -> bool {
    let Some(at) = stem.rfind(['.', '-', '_']) else {
        return false;
    };
    let (name, tail) = (&stem[..at], &stem[at + 1..]);
    !name.is_empty() && (is_hex_hash(tail) && !ends_in_uuid(stem) || is_alternating(tail))
}

fn is_hex_hash(tail: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let letters = tail.bytes().filter(u8::is_ascii_lowercase).count();
    (8..=64).contains(&tail.len())
        && tail.bytes().all(hex)
        && (1..tail.len()).contains(&letters)
        && !starts_with_date(tail)
        && !is_word_with_number(tail)
}

/// `20240131…`: a day, followed by a letter.
fn starts_with_date(tail: &str) -> bool {
    let number = |from: usize, to: usize| tail.get(from..to).and_then(|t| t.parse::<u16>().ok());
    let year = number(0, 4).is_some_and(|year| (1900..2100).contains(&year));
    let month = number(4, 6).is_some_and(|month| (1..=12).contains(&month));
    let day = number(6, 8).is_some_and(|day| (1..=31).contains(&day));
    year && month && day
}

/// `decade80`, `2024face`, `12dec2024`: one word of at least three letters among digits.
fn is_word_with_number(tail: &str) -> bool {
    let word = tail.trim_matches(|c: char| c.is_ascii_digit());
    word.len() >= 3 && word.bytes().all(|b| b.is_ascii_lowercase())
}

/// `550e8400-e29b-41d4-a716-446655440000`: five groups of 8, 4, 4, 4 and 12 digits.
fn ends_in_uuid(stem: &str) -> bool {
    let tail = stem.len().checked_sub(36).and_then(|at| stem.get(at..));
    let groups = tail.map(|tail| tail.split('-').map(str::len).collect::<Vec<_>>());
    groups.as_deref() == Some(&[8, 4, 4, 4, 12])
}

/// Eight letters and digits that change kind more often than any name: five times with all three
/// kinds, thrice with upper case and digits.
fn is_alternating(tail: &str) -> bool {
    let kinds: Option<Vec<Kind>> = tail.bytes().map(Kind::of).collect();
    let Some(kinds) = kinds.filter(|kinds| kinds.len() == 8) else {
        return false;
    };
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let needed = if kinds.contains(&Kind::Lower) { 5 } else { 3 };
    kinds.contains(&Kind::Upper) && kinds.contains(&Kind::Digit) && changes >= needed
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Upper,
    Lower,
    Digit,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            b'A'..=b'Z' => Some(Self::Upper),
            b'a'..=b'z' => Some(Self::Lower),
            b'0'..=b'9' => Some(Self::Digit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> bool {
        is_fingerprinted(&SitePath::parse(text).unwrap())
    }

    #[test]
    fn fingerprinted_names_are_recognised() {
        for text in [
            "app-4f3c2a1b9d.js",
            "index.BfX2a9Qk.css",
            "assets/index-B9JgXdhP.js",
            "chunk-KX4F2ZQO.js",
            "main.8d1f2c3e.chunk.js",
            "main.8d1f2c3e.js.map",
            "static/js/17896441.4b1c5d8e.js",
            "static.files/normalize-9960930a.css",
            "FiraSans-Regular-0fe48ade.woff2",
            "SourceCodePro-Regular-8ba1fe75.ttf.woff2",
            "base.27e20196a850.css",
            "en_3cdcb7ae.wasm",
            "app-4f3c2a1b9d0e8f7a6b5c4d3e2f1a0b9c.css",
            "logo.6ce24c58023c.svg",
            "favicon-32x32-422f7d1d52889060.png",
            "_astro/photo.DiwrgTda.webp",
            "_astro/page.DiwrgTda.js",
            "_astro/hoisted.C-b_x2-D.css",
            "_app/immutable/chunks/index-CDGZ2RCr.js",
        ] {
            assert!(check(text), "{text}");
        }
    }

    #[test]
    fn plain_names_are_not_fingerprinted() {
        for text in [
            "bootstrap.css",
            "jquery-3.7.1.min.js",
            "v1.2.3.js",
            "app.js",
            "chapter-introduction.js",
            "report-20240101.pdf",
            "report-4f3c2a1b9d.pdf",
            "data-4f3c2a1b9d.json",
            "page-4f3c2a1b9d.html",
            "photo-20240101.jpg",
            "photo-20240101a.jpg",
            "photo-12dec2024.jpg",
            "photo-2024face.jpg",
            "music-decade80.mp3",
            "song-4f3c2a1b9d0e8f7a6b5c4d3e2f1a0b9c.mp3",
            "film-4f3c2a1b9d0e.mp4",
            "film-4f3c2a1b9d0e.webm",
            "noise-4f3c2a1b9d0e.ogg",
            "_astro/song.DiwrgTda.mp3",
            "avatar-5f3a9b2c.png",
            "cover-KX4F2ZQO.jpg",
            "hash-deadbeef.js",
            "deadbeef.js",
            "4f3c2a1b9d.js",
            "-4f3c2a1b9d.js",
            "550e8400-e29b-41d4-a716-44665544abcd.png",
            "user-550e8400-e29b-41d4-a716-44665544abcd.png",
            "build-4f3c2a1.js",
            "app-4F3C2A1B9D.js",
            "epoch-1700000000.js",
            // The function misses hashes that look too much like words.
            "SourceCodePro-Regular-8badfe75.ttf.woff2",
            "chunk-3JDNRGDS.js",
            "index-DiwrgTda.js",
            "plugin-DataGrid.js",
            "plugin-Web3Site.js",
            "plugin-Mp3Files.js",
            "plugin-Chapter1.js",
            "photo-iPhone15.jpg",
            "photo-SECTION2.png",
            "photo-IMG12345.png",
            "photo-DSC01234.png",
            "_astro/hoisted.js",
            "immutable/plugin-DataGrid.js",
            "x_astro/plugin-DataGrid.js",
            "_astro/page.renderer.js",
            "4f3c2a1b9d/app.js",
            "a-4f3c2a1b9d",
            ".js",
        ] {
            assert!(!check(text), "{text}");
        }
    }
}
