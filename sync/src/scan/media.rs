//! The media type of a file, from its name alone.
//!
//! `mime_guess` knows the many; the table here settles what matters on the web, so that an update
//! of a dependency can't change how a page is served. The stat cache remembers types: a change of
//! this table needs a new [`FORMAT`](super::cache::FORMAT).

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::media::Media;

/// Extensions, in lower case, whose type does not depend on any other table.
const EXTENSIONS: &[(&str, &str)] = &[
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("cjs", "text/javascript"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("map", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rss", "application/rss+xml"),
    ("svg", "image/svg+xml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("vtt", "text/vtt"),
    ("wasm", "application/wasm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "application/xml"),
    ("zst", "application/zstd"),
];

/// Names without an extension that are text by convention.
const TEXTS: &[&str] = &[
    "AUTHORS",
    "CHANGELOG",
    "CNAME",
    "CONTRIBUTING",
    "COPYING",
    "COPYRIGHT",
    "LICENCE",
    "LICENSE",
    "NOTICE",
    "README",
    "_headers",
    "_redirects",
];

const UNKNOWN: &str = "application/octet-stream";

/// The media types of one scan: each distinct one is made once and shared.
#[derive(Debug, Default)]
pub(super) struct MediaTypes {
    made: RwLock<BTreeMap<&'static str, Media>>,
}

impl MediaTypes {
    /// The media type of a file with this name.
    pub(super) fn of(&self, name: &str) -> Media {
        let essence = essence(name);
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(media) = known.get(essence) {
            return media.clone();
        }
        drop(known);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let media = made.entry(essence).or_insert_with(|| labelled(essence));
        media.clone()
    }
}

fn essence(name: &str) -> &'static str {
    let Some((_, extension)) = name.rsplit_once('.') else {
        return if TEXTS.contains(&name) {
            "text/plain"
        } else {
            UNKNOWN
        };
    };
    if extension.bytes().any(|byte| byte.is_ascii_uppercase()) {
        by_extension(&extension.to_ascii_lowercase())
    } else {
        by_extension(extension)
    }
}

fn by_extension(extension: &str) -> &'static str {
    match EXTENSIONS.binary_search_by_key(&extension, |(known, _)| known) {
        Ok(at) => EXTENSIONS[at].1,
        Err(_) => mime_guess::from_ext(extension)
            .first_raw()
            .unwrap_or(UNKNOWN),
    }
}

/// Text is UTF-8, which browsers do not assume.
fn labelled(essence: &str) -> Media {
    let text = if essence.starts_with("text/") {
        Media::parse(&format!("{essence}; charset=utf-8"))
    } else {
        Media::parse(essence)
    };
    text.unwrap_or_else(|_| Media::unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(EXTENSIONS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(TEXTS.is_sorted());
    }

    #[test]
    fn types_of_names() {
        let types = MediaTypes::default();
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("INDEX.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.min.mjs", "text/javascript; charset=utf-8"),
            ("a.wasm", "application/wasm"),
            ("site.webmanifest", "application/manifest+json"),
            ("a.avif", "image/avif"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.js.map", "application/json"),
            ("sitemap.xml", "application/xml"),
            ("feed.rss", "application/rss+xml"),
            ("feed.atom", "application/atom+xml"),
            ("a.woff2", "font/woff2"),
            ("robots.txt", "text/plain; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("favicon.ico", "image/x-icon"),
            ("a.jpg", "image/jpeg"),
            ("a.tar.gz", "application/gzip"),
            ("a.pdf", "application/pdf"),
            ("CNAME", "text/plain; charset=utf-8"),
            ("LICENSE", "text/plain; charset=utf-8"),
            ("license", "application/octet-stream"),
            ("noextension", "application/octet-stream"),
            ("a.nosuchextension", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            (".nojekyll", "application/octet-stream"),
        ] {
            assert_eq!(types.of(name).as_str(), expected, "{name}");
            assert_eq!(types.of(name).as_str(), expected, "{name}, again");
        }
    }
}
